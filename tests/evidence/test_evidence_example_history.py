"""The made history of the examples is what the command writes, with the changes put in."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ROOT

from bench.evidence.example_history import (
    DRIVER_FROM,
    RUNS,
    SLOWER_FROM,
    WORSE_FROM,
    write_example,
)
from bench.schema.history import HistorySeries
from bench.schema.sizes import Sizes
from bench.store.history.history import History
from bench.verdicts.history import judge
from bench.verdicts.history_change import Cause, What
from fmnist_models.errors import UserError

MADE = ROOT / "results/examples/history/made.sqlite"


def series(file: Path) -> list[HistorySeries]:
    with History(file) as history:
        return history.series(last=None)


def test_it_is_written_anew_alike(tmp_path: Path) -> None:
    file = tmp_path / "made.sqlite"
    write_example(file, 3)
    assert [one.points for one in series(file)] == [one.points[:3] for one in series(MADE)]
    assert [path.name for path in tmp_path.iterdir()] == ["made.sqlite"]
    with pytest.raises(UserError, match="exists: name a new --output"):
        write_example(file, 3)


def test_its_changes_are_found_where_they_were_put() -> None:
    found = series(MADE)
    assert {len(one.points) for one in found} == {RUNS}
    runs = {point.run: number for number, point in enumerate(found[0].points)}
    changes = judge(found, Sizes.of_check()).changes
    assert [change.what for change in changes] == [What.SPEED] * 3 + [What.SCORE]
    put_in = [SLOWER_FROM, DRIVER_FROM, DRIVER_FROM, WORSE_FROM]
    for change, truth in zip(changes, put_in, strict=True):
        assert runs[change.place.before.run] < truth <= runs[change.place.after.run]
        assert abs(runs[change.place.first.run] - truth) <= 1
    by_code, *by_driver, score = changes
    assert by_code.place.cause is Cause.CODE
    assert by_code.size == pytest.approx(0.12, abs=0.02)
    for change in by_driver:
        assert ("driver", "570.86", "580.65") in change.place.facts
    assert score.size == pytest.approx(0.11, abs=0.01)
