"""The evidence for a user's own work: what must follow is computed, and the short forms run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.evidence import large, overhead, waiting
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from fmnist_models.errors import UserError


def record(**more: Any) -> LaunchRecord:
    given = {"resident_step_s": 0.01, "waiting_share": 0.7}
    return LaunchRecord("case", 0, 1, 1, Status.OK, **(given | more))


ROUND = Round(round=1, samples=100, updates=10, seconds=0.5, between_epochs_s=0.0)


@pytest.mark.parametrize(("ahead", "wait_s"), [(0, 0.03), (4, 0.02)])
def test_the_wait_follows_from_the_sleep(ahead: int, wait_s: float) -> None:
    row = waiting.waiting_row(record(), [ROUND], slept_s=0.03, sleep_s=0.03, ahead=ahead)
    assert row["expected_wait_s"] == pytest.approx(wait_s)
    assert row["round_step_s"] == 0.05
    assert row["waited_s"] == pytest.approx(0.7 * 0.05)


def test_a_pipeline_that_is_faster_than_the_step_makes_none_wait() -> None:
    row = waiting.waiting_row(record(), [ROUND], slept_s=0.004, sleep_s=0.004, ahead=4)
    assert row["expected_wait_s"] == 0.0


def test_a_step_of_a_real_launch_takes_at_least_the_sleep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A slow machine makes the step longer, and a sleep is never shorter than asked for."""
    monkeypatch.setattr(waiting, "AHEADS", (0,))
    monkeypatch.setattr(waiting, "BATCH", 32)
    (row,) = waiting.waiting_rows(tmp_path, lambda _: None, (0.02,), 10)
    assert row["slept_s"] >= 0.02
    assert row["round_step_s"] >= 0.02
    assert row["waiting_share"] > 0


def test_epochs_of_the_suite_and_of_a_bare_script_are_both_timed(tmp_path: Path) -> None:
    case = Case("examples/tabular.py:prices", "adam", "fit", "cpu", 32)
    (row,) = overhead.overhead_rows([case], tmp_path, lambda _: None, processes=2, seconds=0)
    assert (row["processes"], row["pairs"]) == (2, 4)
    assert row["bare_epoch_s"] > 0


def test_a_process_counts_as_the_totals_of_its_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ratios of 2 and of 8, whose geometric mean is 4; of CPU time, 1 and 1."""
    pair = overhead.Pair
    pairs = iter([[pair(3.0, 1.0, 2.0, 1.0), pair(1.0, 1.0, 1.0, 2.0)], [pair(8.0, 1.0, 1.0, 1.0)]])
    monkeypatch.setattr(overhead, "_in_child", lambda *_: next(pairs))
    case = Case("softmax", "adam", "fit", "cpu", 32)
    (row,) = overhead.overhead_rows([case], tmp_path, lambda _: None, processes=2)
    assert row["suite_over_bare"] == pytest.approx(4.0)
    low, high = row["suite_over_bare_low"], row["suite_over_bare_high"]
    assert low < 2.0 < 8.0 < high
    assert low * high == pytest.approx(16.0)
    assert (row["cpu"], row["cpu_low"], row["cpu_high"]) == (1.0, 1.0, 1.0)
    assert row["bare_epoch_s"] == 1.0 / overhead.EPOCHS


def test_a_case_that_fails_is_one_line(tmp_path: Path) -> None:
    case = Case("examples/tabular.py:absent", "adam", "fit", "cpu", 32)
    with pytest.raises(UserError, match="has no function 'absent'"):
        overhead.overhead_rows([case], tmp_path, lambda _: None, seconds=0)


def test_compiled_copies_data_once_and_fit_as_a_bare_script_does(tmp_path: Path) -> None:
    """Half a GiB, beside which what TensorFlow needs for itself is small."""
    rows = large.memory_rows(2**29, tmp_path)
    copies = {row["way"]: row["copies"] for row in rows}
    bare = copies.pop("bare Model.fit")
    assert 0.9 < copies.pop("compiled") < 1.3
    assert copies == {
        "fit": pytest.approx(bare, abs=0.3),
        "multistep": pytest.approx(bare, abs=0.3),
    }
