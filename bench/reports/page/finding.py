"""What a finding is, and the rows that findings are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from bench.reports.page.source import Source
from bench.schema.columns import Row
from bench.schema.launch import Status

Kind = Literal["fact", "gain", "loss", "warning"]


@dataclass(frozen=True, slots=True)
class Finding:
    """A headline and the sentences that explain it.

    Attributes:
        kind: decides its colour, and the word that a screen reader says before it.
        text: its lines are shown as such.
    """

    kind: Kind
    title: str
    text: str


def measured(source: Source) -> list[Row]:
    """The rows of a run that ended ok and have a throughput."""
    return [row for row in source.rows if row["status"] == Status.OK and row["samples_per_s"]]
