"""The benchmark of the history, on a thousand made runs."""

from __future__ import annotations

from pathlib import Path

from bench.evidence import history
from bench.store.history.history import History


def test_a_thousand_runs_are_made_added_to_and_read(tmp_path: Path) -> None:
    rows = history.history_rows(tmp_path, None, (1_000, 30), 1)
    assert [row["what"] for row in rows] == [
        "adding a run of 30 cases",
        "reading 30 cases of the last 30 runs",
        "reading them and finding changes among the last 30 runs",
    ]
    assert all(0 < row["lowest_s"] <= row["highest_s"] for row in rows)
    with History(tmp_path / "history.sqlite") as kept:
        runs, series = kept.runs(), kept.series(history.MACHINE.id, last=30)
    assert len(runs) == 1_002
    assert {run.label for run in runs} == {"made up", ""}
    assert [len(one.points) for one in series] == [30] * 30
    assert len({run.machine for run in runs}) == 51
