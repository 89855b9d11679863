"""A part of GPU evidence, and what it needs of those before it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bench.evidence.gpu.box import Asked, Box
from bench.evidence.gpu.records import Outcome, Records


@dataclass(slots=True)
class Context:
    """What parts share.

    Attributes:
        box: the machine.
        records: those so far.
        measured: values by part and backend, without a fault.
        end_s: when the part must have ended, by `time.monotonic`.
        stretch: by how much the most that a part may take is longer than in 8 minutes.
    """

    box: Box
    records: Records
    measured: dict[tuple[str, str], Mapping[str, Any]] = field(default_factory=dict)
    end_s: float = 0.0
    stretch: float = 1.0
    _child: tuple[str, Asked] | None = None

    @property
    def left_s(self) -> float:
        """Seconds that the part may still take, of which its child took some already."""
        return self.end_s - time.monotonic()

    def child(self, backend: str) -> Asked:
        """The child of a backend, which is started where it is not there."""
        if self._child is None or self._child[0] != backend:
            self.close_child()
            self._child = backend, self.another(backend)
        return self._child[1]

    def another(self, backend: str) -> Asked:
        """A further child, which whoever starts it closes."""
        return Asked(backend, self.box, lambda: self.left_s)

    def close_child(self) -> None:
        """End the child: no launch may have another process beside it on the GPU."""
        if self._child is not None:
            self._child[1].close()
            self._child = None


@dataclass(frozen=True, slots=True)
class Part:
    """One part.

    Attributes:
        name: its name.
        measure: called with the context, the backend and whether the fault is put in; returns
            plain values.
        check: what must hold for these values.
        fault: the fault, in words.
        seconds: those that it takes on a GPU, by estimate; it begins only where they are left.
        most_s: seconds after which it is told to end; where there are more than 8 minutes, as many
            times more.
        in_child: it uses the context's child; otherwise that is ended first.
        first_only: it is measured with the first backend alone.
    """

    name: str
    measure: Callable[[Context, str, bool], dict[str, Any]]
    check: Callable[[Mapping[str, Any]], Outcome]
    fault: str
    seconds: float
    most_s: float
    in_child: bool = False
    first_only: bool = False
