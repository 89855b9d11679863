"""What a reader of a row must know: a value until it is shown, and the text that files hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

# Begins what tells of others' work on the machine; a voided launch's reason as well.
DISTURBED = "disturbed: "
_BETWEEN = "; "
_NUMBER, _NAMES = "{:d}", "{:s}"
# More digits are no reading.
_DIGITS = "[1-9][0-9]{0,17}"


class Kind(Enum):
    """What a warning tells of, as its words, with a place for its number or its names.

    `DISTURBANCE` and `SENTENCE` take whatever the others do not: a text of another version stays
    as it is. A row with `NO_ROOFLINE` has no roofline fraction. `ONE_CPU` is said wherever several
    replicas on a CPU are shown.
    """

    ONE_CPU = "on a CPU the replicas share its cores: a speed-up there means nothing"

    UNSTEADY = "unsteady"
    OTHER_WORK = DISTURBED + "other processes took {:d}% of the cores"
    RAY = DISTURBED + "Ray's own daemons among them took {:d}% of the cores"
    STEAL = DISTURBED + "the hypervisor took {:d}% of the cores' time"
    GPU_PROCESSES = DISTURBED + "processes of others on the GPU: {:d}"
    QUOTA = DISTURBED + "the control group's CPU quota cut {:d}% of its periods short"
    HEAT = DISTURBED + "throttled for heat, times a core: {:d}"
    CPU_PRESSURE = DISTURBED + "threads waited for a core in {:d}% of the time"
    MEMORY_PRESSURE = DISTURBED + "threads waited for memory in {:d}% of the time"
    GPU_SLOWED = DISTURBED + "the GPU was slowed by {:s}"
    DISTURBANCE = DISTURBED + "{:s}"
    NO_ROOFLINE = "no roofline: {:s}"
    SENTENCE = "{:s}"

    def severity(self, reading: float) -> int:
        """A reading as the kind tells it: shares between 0 and 1 in percent, numbers as such."""
        return round(100 * reading if f"{_NUMBER}%" in self.value else reading)


@dataclass(frozen=True, slots=True)
class CaseWarning:
    """One warning of a case; equal ones have the same text.

    Attributes:
        severity: percent or number, the more the worse; None where the kind has none.
        launch: in which it was seen, or was worst, 0 for the first; None where that is not told.
        words: what the kind names, or the whole sentence.
    """

    kind: Kind
    severity: int | None = None
    launch: int | None = None
    words: str = ""

    @property
    def disturbs(self) -> bool:
        """Whether others' work, or a slowed machine, disturbed the measurement."""
        return self.kind.value.startswith(DISTURBED)

    @property
    def phrase(self) -> str:
        """What was seen, without the launch and that it disturbed."""
        return self._seen().removeprefix(DISTURBED)

    def __str__(self) -> str:
        where = "" if self.launch is None else f" in launch {self.launch + 1}"
        return f"{self._seen()}{where}"

    def _seen(self) -> str:
        return self.kind.value.format(self.words if self.severity is None else self.severity)


def _form(kind: Kind) -> re.Pattern[str]:
    form = re.escape(kind.value)
    form = form.replace(re.escape(_NUMBER), f"(?P<severity>0|{_DIGITS})")
    form = form.replace(re.escape(_NAMES), "(?P<words>.*?)")
    return re.compile(f"{form}(?: in launch (?P<launch>{_DIGITS}))?", re.DOTALL)


_FORMS: Mapping[Kind, re.Pattern[str]] = {kind: _form(kind) for kind in Kind}


def read(text: str) -> CaseWarning:
    """The warning whose text this is, of whatever version."""
    matches = ((kind, form.fullmatch(text)) for kind, form in _FORMS.items())
    kind, told = next((kind, match.groupdict()) for kind, match in matches if match)
    severity, launch = told.get("severity"), told["launch"]
    return CaseWarning(
        kind,
        None if severity is None else int(severity),
        None if launch is None else int(launch) - 1,
        told.get("words", ""),
    )


def of_row(row: Mapping[str, Any]) -> list[CaseWarning]:
    """The warnings of a row of results.csv, in its order."""
    return [read(text) for text in (row.get("warnings") or "").split(_BETWEEN) if text]


def on_one_cpu(row: Mapping[str, Any]) -> bool:
    """Whether a row has several replicas on a CPU, of which `Kind.ONE_CPU` warns."""
    return bool(row["replicas"] > 1 and row["device"] == "cpu")


def cpu_lines(rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The warning `Kind.ONE_CPU` as a line, where one of these rows needs it."""
    return [f"warning: {Kind.ONE_CPU.value}"] if any(map(on_one_cpu, rows)) else []


def as_text(warnings: Iterable[CaseWarning]) -> str:
    """Warnings as a row of results.csv holds them."""
    return _BETWEEN.join(map(str, warnings))
