"""The scores of a table, a picture or a page: their headings, legends and cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from bench.reports.formatting import one_line
from bench.schema.columns import Row
from bench.schema.score import ACCURACY, OF_ACCURACY, Scale

# A heading that leaves room for a case in 80 columns.
_LONGEST = 12


@dataclass(frozen=True, slots=True)
class Judged:
    """The scores in one column of changes; names stand in the cells where there are several."""

    scales: tuple[Scale, ...]

    @property
    def usual(self) -> bool:
        """Whether the column is that of the accuracy, in points."""
        return self.scales in ((), (OF_ACCURACY,))

    def heading(self, usual: str) -> str:
        """The heading: `usual` for the accuracy, else the score's name, or `score` for several."""
        return usual if self.usual else heading_of(scale.name for scale in self.scales)

    @property
    def legend(self) -> str:
        """What the column holds, as a part of a legend."""
        if self.usual:
            return "points: of validation accuracy"
        if len(self.scales) == 1:
            (scale,) = self.scales
            unit = "in points of 0.01" if scale.unit is None else "in percent"
            return f"{self.heading('')}: change of the validation {scale.name}, {unit}"
        return "score: change on validation data, in percent or in points of 0.01"

    def cell(self, scale: Scale, change: float) -> str:
        """A change of a score in points or percent, with the score's name where it is needed."""
        name = f"{short(scale.name)} " if len(self.scales) > 1 else ""
        return f"{name}{change:+.2f}{scale.sign}"


def judged(scales: Iterable[Scale]) -> Judged:
    """The scores of these cases, each once."""
    return Judged(tuple(dict.fromkeys(replace(s, unit=s.unit and 1.0) for s in scales)))


def heading_of(names: Iterable[str]) -> str:
    """The heading of a column of these scores: the name of the one, or `score` for several."""
    found = dict.fromkeys(names)
    return short(next(iter(found))) if len(found) == 1 else "score"


def short(name: str) -> str:
    """A score's name in a table."""
    return one_line(name, _LONGEST)


def names_of(rows: Iterable[Row]) -> list[str]:
    """The scores that these rows hold a value of, each once."""
    return list(dict.fromkeys(row["score"] for row in rows if row["score"]))


def in_digits(name: str, value: float, places: int) -> str:
    """A score as text: of an accuracy so many decimal places, of another one more digit."""
    return f"{value:.{places}f}" if name == ACCURACY else f"{value:.{places + 1}g}"


def titled(name: str) -> str:
    """A score at the begin of a sentence; a name that a workload gave keeps its letters."""
    return name.capitalize() if name in (ACCURACY, "score") else name


def directed(name: str, better: str) -> str:
    """A score as the name of an axis, with the good direction where that is not upwards."""
    return f"validation {name}" + " (lower is better)" * (better == "min")
