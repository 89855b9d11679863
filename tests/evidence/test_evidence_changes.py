"""The short form of results/evidence/changes.csv, and what that file and candidates.csv say."""

from __future__ import annotations

import csv
import sys
from pathlib import Path

import numpy as np
import pytest
from support import ROOT

from bench.evidence.candidates import CANDIDATES, STEPS, Candidate, candidate_rows
from bench.evidence.changes import Effort, change_rows, false_rows, step_row
from bench.evidence.changes_picture import draw
from bench.evidence.score_changes import SCORES, loss_row, score_row
from bench.evidence.worlds import World, launch_medians
from bench.evidence.years import Years, years
from bench.verdicts.history import SPEED_LEVEL
from fmnist_models.errors import UserError

QUIET = Years(World(0.0, 0.0), cases=6)


def rows_of(name: str) -> list[dict[str, str]]:
    with (ROOT / f"results/evidence/{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_years_without_a_change_show_none() -> None:
    cases, shared, _ = false_rows(QUIET, 30, seed=3)
    assert (cases["of"], cases["alarms"], shared["of"], shared["alarms"]) == (
        "a case",
        0,
        "all cases",
        0,
    )
    assert 0.05 < cases["rate_upper"] < 0.1


def test_step_is_found_where_it_is() -> None:
    row = step_row(QUIET, 0.2, 60, 20, seed=3)
    assert (row["found_in_30"], row["delay_median"] <= 12) == (1.0, True)
    assert row["size_covered"] >= 0.7
    assert row["place_covered"] >= 0.8


def test_loss_of_a_score_is_found_and_its_luck_is_not() -> None:
    few = SCORES[2]
    assert score_row(few, 20, seed=3)["alarms"] == 0
    row = loss_row(few, 0.1, 60, 20, seed=3)
    assert (row["found_in_30"], row["delay_median"] <= 10) == (1.0, True)
    assert row["size_covered"] >= 0.7


def test_years_drift_as_told() -> None:
    rng = np.random.default_rng(1)
    pool = launch_medians(rng, World(0.5, 0.0))
    drifting = Years(World(0.8, 0.3, 0.5), cases=4)
    values = years(rng, drifting, pool, 40, 100)
    assert values.shape == (100, 4, 40)
    assert values.std() == pytest.approx(0.3, abs=0.03)
    own = values - values.mean(1, keepdims=True)
    assert own.std() == pytest.approx(0.3 * np.sqrt(0.5 * 0.75), abs=0.03)
    lagged = np.corrcoef(own[1:].ravel(), own[:-1].ravel())[0, 1]
    assert lagged == pytest.approx(0.8, abs=0.06)
    halved = years(rng, Years(World(0.0, 0.0), 4, switches=0.5, launches=1), pool, 4, 100)
    assert (halved > 0.35).mean() == pytest.approx(0.5, abs=0.1)


def test_recorded_rates_hold_the_promise_but_for_launches_that_switch_or_diverge() -> None:
    years_of = [row for row in rows_of("changes") if row["test"] == "unchanged"]
    broken = [row for row in years_of if float(row["rate_upper"]) > 0.01]
    assert all(float(row["switches"]) > 0 for row in broken)
    of_speed = [row for row in broken if "score" not in row["of"]]
    assert all(row["launches"] == "1" for row in of_speed)
    assert len(years_of) >= 40
    assert min(int(row["suites"]) for row in years_of) >= 1000
    steps = {
        (row["cases"], row["drift"], row["step"], row["before"]): float(row["found_in_10"])
        for row in rows_of("changes")
        if row["test"] == "step" and row["of"] == "a case"
    }
    assert steps["30", "0.0", "0.1", "120"] >= 0.98


def test_no_setting_of_the_candidates_is_right_everywhere() -> None:
    rows = [row for row in rows_of("candidates") if row["of"] == "simulated"]
    by_setting: dict[tuple[str, str], list[dict[str, str]]] = {}
    for row in rows:
        by_setting.setdefault((row["tool"], row["setting"]), []).append(row)
    assert len(by_setting) == len(CANDIDATES)
    own = by_setting.pop(("own", str(SPEED_LEVEL)))
    assert sum(int(row["alarms"]) for row in own) == 0
    worst = min(float(row["found_0.05"]) for row in own)
    for several in by_setting.values():
        assert (
            any(int(row["alarms"]) for row in several)
            or min(float(row["found_0.05"]) for row in several) < worst
        )


def test_candidates_run_in_environments_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen = (Candidate("ruptures", 3.0, (100,)), CANDIDATES[-1])
    monkeypatch.setattr("bench.evidence.candidates.CANDIDATES", chosen)
    monkeypatch.setattr("bench.evidence.candidates.WORLDS", (World(0.0, 0.0),))
    tool = tmp_path / "ruptures.py"
    tool.write_text(
        "class KernelCPD:\n"
        "    def __init__(self, **options): pass\n"
        "    def fit(self, series): return self\n"
        "    def predict(self, pen): return [120, 220]\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    recorded = ROOT / "results/evidence/recorded.csv"
    pythons = {"ruptures": sys.executable}
    simulated, of_recorded, own, _ = candidate_rows(pythons, 1, 5, recorded, lambda _: None)
    assert (simulated["rate"], [simulated[f"found_{step:g}"] for step in STEPS]) == (1, [1, 1])
    assert of_recorded["false_series"] == of_recorded["series"] == 3
    assert (own["tool"], own["alarms"]) == ("own", 0)
    tool.write_text("raise ImportError('no such tool')")
    with pytest.raises(UserError, match=r"ruptures in .*no such tool"):
        candidate_rows(pythons, 1, 5, recorded, lambda _: None)


def test_picture_and_rows_of_little_effort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.evidence.changes.UNCHANGED", (QUIET,))
    monkeypatch.setattr("bench.evidence.changes.STEPPED", (QUIET,))
    monkeypatch.setattr("bench.evidence.changes.STEPS", (0.05, 0.2))
    monkeypatch.setattr("bench.evidence.changes.SCORES", SCORES[2:3])
    rows = change_rows(Effort(2, 2), 1, lambda _: None)
    assert [row["test"] for row in rows] == ["unchanged"] * 4 + ["step"] * 10
    losses = [row["step"] for row in rows if "score" in row["of"]]
    assert losses == [None, 0.05, 0.07, 0.1, 0.05, 0.07, 0.1]
    draw(rows, tmp_path / "changes.png")
    assert (tmp_path / "changes.png").stat().st_size > 10_000
