"""What a worker finds out of a user's own model before it is measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from bench.schema.bounds import Count, Epochs, Plain, Text, Word
from bench.schema.launch import Better


@dataclass(frozen=True, slots=True)
class InspectRequest(Plain):
    """The user's own models that a worker is to build, and to describe.

    Attributes:
        models: as `module:function`.
    """

    op: ClassVar[str] = "inspect"
    models: tuple[Word, ...]

    @property
    def own(self) -> tuple[str, ...]:
        """The user's own functions that the worker calls."""
        return self.models


@dataclass(frozen=True, slots=True)
class WorkFacts(Plain):
    """What is known of a user's own model once its function has returned.

    Attributes:
        model: `module:function`.
        reason: why it cannot be trained, as one line; empty where it can, and then the other
            fields count.
        compiled: its function compiled it, so its optimizer is its own.
        stream: its training data are a stream.
        samples: training samples; None for a stream.
        batch_size, epochs: those that its workload names; None where it names none.
        score: the metric that judges.
        better: the direction of it that is good.
        images: it trains on the embedded images.
    """

    model: Word
    reason: Text = ""
    compiled: bool = False
    stream: bool = False
    samples: Count | None = None
    batch_size: Count | None = None
    epochs: Epochs | None = None
    score: Text = "accuracy"
    better: Better = Better.MAX
    images: bool = True
