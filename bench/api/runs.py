"""A run in Python: its tables, its picture, and its files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.api import frames
from bench.schema.runs import WholeRun
from bench.store.derived import read_whole
from bench.store.run_folder import copy_run

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

# What a notebook shows of a run's rows; `rows` holds all.
_SHOWN = ("case", "status", "samples_per_s", "samples_per_s_low", "samples_per_s_high", "step_ms")
_OF_SCORE = ("score", "val_score", "test_score", "reason", "warnings")


@dataclass(frozen=True, eq=False)
class Run:
    """A run that was measured or loaded; nothing changes it.

    Attributes:
        folder: where its files are. A run that was measured without `output` lies in a temporary
            folder, which is removed with the run: `save` keeps it.
    """

    folder: Path
    _whole: WholeRun

    def __repr__(self) -> str:
        return f"<Run of {len(self._whole.rows)} cases in {self.folder}>"

    @property
    def rows(self) -> pd.DataFrame:
        """A row for each case, with the columns of results.csv."""
        return frames.frame(self._whole.rows, frames.RESULTS)

    @property
    def rounds(self) -> pd.DataFrame:
        """A row for each timed round, with the columns of rounds.csv."""
        return frames.frame(self._rounds(), frames.ROUNDS)

    def figure(self) -> Figure:
        """The picture that a run draws, comparison.png, as a figure of matplotlib."""
        from bench.reports.plots.run import comparison_figure

        return comparison_figure(self._whole.rows, self._rounds(), self._whole.environment)

    def save(self, folder: str | Path) -> Path:
        """Copy the run's files into a new or empty folder, which each verb then takes.

        Raises:
            UserError: the folder holds files, or cannot be written.
        """
        copy_run(self.folder, Path(folder))
        return Path(folder)

    def _rounds(self) -> list[Mapping[str, Any]]:
        return [{**asdict(stored), **stored.round.to_json()} for stored in self._whole.rounds]

    def _repr_html_(self) -> str:
        rows = self.rows[[*_SHOWN, *_OF_SCORE]].dropna(axis="columns", how="all")
        return str(rows.to_html(index=False, na_rep="", float_format=_figure_of))


def _figure_of(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def load(folder: str | Path) -> Run:
    """The run in a folder.

    Raises:
        UserError: there is no run, or its files do not agree with each other.
    """
    return Run(Path(folder), read_whole(Path(folder)))
