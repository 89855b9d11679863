"""Compares runs in Python, as `fmnist-bench compare` does."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.api import frames
from bench.api.runs import Run
from bench.store.named import named_runs
from bench.verdicts import compare as comparing

if TYPE_CHECKING:
    import pandas as pd

_WIDTH = 100


@dataclass(frozen=True, eq=False)
class Compared:
    """Two runs, case by case.

    Attributes:
        verdict: how much faster the second is, over the cases that both hold; one line.
        text: what `fmnist-bench compare` prints.
    """

    verdict: str
    text: str
    _found: comparing.Comparison

    def __str__(self) -> str:
        return self.text

    @property
    def table(self) -> pd.DataFrame:
        """A row for each case, with the columns of comparison.csv."""
        return frames.frame(comparing.comparison_rows(self._found), frames.COMPARISON)

    def _repr_html_(self) -> str:
        from html import escape

        return f"<pre>{escape(self.text)}</pre>"


def compare(a: Run | str | Path, b: Run | str | Path) -> Compared:
    """Compare the run `b` with `a`, its baseline. Each is a run, or a folder as the verb takes it.

    Raises:
        UserError: a folder holds no run, or both are the same.
        NotComparable: the runs trained on other data or for other epochs.
    """
    from rich.console import Console

    from bench.reports.terminal.compare import print_comparison, verdict_on

    folders = [side.folder if isinstance(side, Run) else Path(side) for side in (a, b)]
    found = comparing.compare(named_runs(folders))
    out = io.StringIO()
    print_comparison(found, Console(file=out, width=_WIDTH))
    (name,) = found.pairs
    return Compared(verdict_on(name, found), out.getvalue(), found)
