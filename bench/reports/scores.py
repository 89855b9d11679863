"""The scores of a table, a picture or a page: their headings, legends and cells."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache

from bench.reports.formatting import one_line
from bench.schema.columns import Row
from bench.schema.score import ACCURACY, OF_ACCURACY, Scale

# A heading that leaves room for a case in 80 columns.
_LONGEST = 12


@dataclass(frozen=True, slots=True)
class Judged:
    """The scores in one column of changes; names stand in the cells where there are several.

    Where nothing was judged, there is neither a column nor a legend of it.
    """

    scales: tuple[Scale, ...]

    def heading(self, usual: str) -> list[str]:
        """The heading, if any: `usual` for accuracies in points, else the score's name, or `score`
        for several."""
        if not self.scales:
            return []
        return [usual if self.scales == (OF_ACCURACY,) else heading_of(self._names)]

    @property
    def legend(self) -> str:
        """What the column holds, as a part of a legend; empty without a score."""
        if not self.scales:
            return ""
        if self.scales == (OF_ACCURACY,):
            return "points: of validation accuracy"
        units = {
            "in points of 0.01" if scale.unit is None else "in percent" for scale in self.scales
        }
        change = f"change of the validation {self._names[0]}"
        if len(self._names) > 1:
            change = "change on validation data"
        return f"{heading_of(self._names)}: {change}, {' or '.join(sorted(units))}"

    def cell(self, scale: Scale, change: float) -> str:
        """A change of a score in points or percent, with the score's name where it is needed."""
        name = f"{short(scale.name)} " if len(self._names) > 1 else ""
        return f"{name}{change:+.2f}{scale.sign}"

    @property
    def _names(self) -> list[str]:
        """The names of the scores, each once: one may be judged in points and in percent."""
        return list(dict.fromkeys(scale.name for scale in self.scales))


def judged(scales: Iterable[Scale]) -> Judged:
    """The scores of these cases, each once."""
    return Judged(tuple(dict.fromkeys(map(alike, scales))))


@cache
def alike(scale: Scale) -> Scale:
    """The scale without the size of its unit, which does not tell two columns apart."""
    return replace(scale, unit=scale.unit and 1.0)


def heading_of(names: Iterable[str]) -> str:
    """The heading of a column of these scores: the name of the one, or `score` for several."""
    found = dict.fromkeys(names)
    return short(next(iter(found))) if len(found) == 1 else "score"


def short(name: str) -> str:
    """A score's name in a table."""
    return one_line(name, _LONGEST)


def names_of(rows: Iterable[Row], columns: Sequence[str] = ("val_score",)) -> list[str]:
    """The scores that these rows hold a value of in one of `columns`, each once."""
    held = (row for row in rows if any(row[column] is not None for column in columns))
    return list(dict.fromkeys(row["score"] for row in held if row["score"]))


def in_digits(name: str, value: float, places: int) -> str:
    """A score as text: of an accuracy so many decimal places, of another one more digit."""
    return f"{value:.{places}f}" if name == ACCURACY else f"{value:.{places + 1}g}"


def titled(name: str) -> str:
    """A score at the begin of a sentence; a name that a workload gave keeps its letters."""
    return name.capitalize() if name == ACCURACY else name


def directed(name: str, better: str) -> str:
    """A score as the name of an axis, with the good direction where that is not upwards."""
    return f"validation {name}" + " (lower is better)" * (better == "min")
