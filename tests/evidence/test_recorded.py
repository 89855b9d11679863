"""What the duels on a real machine recorded, and what is said of it."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats as scipy_stats
from support import ROOT

from bench.evidence import live
from bench.evidence.live import INJECTED, INJECTED_LOOPS, SESSIONS, SETTINGS, SLOWER, LiveDuel
from bench.evidence.recorded import RECORDED, blocks_of, collect, read, two_sided_p, verdicts
from bench.store.tables import write_csv
from bench.verdicts.sequential import LAST_LOOK
from fmnist_models.errors import UserError

EVIDENCE = ROOT / "results" / "evidence"


def launches(
    noise: float,
    slower: float = 0.0,
    cases: Sequence[str] = ("one", "two"),
    sessions: int = 10,
    blocks: int = 8,
) -> list[dict[str, Any]]:
    """Recorded launches whose rounds scatter so much, side B slower by a share."""
    chance = random.Random(3)
    return [
        {
            "session": session,
            "time_utc": "",
            "case": case,
            "slower": 0.0,
            "block": block,
            "side": side,
            "val_accuracy": 0.9,
            "seconds": [math.exp(chance.gauss(0, noise)) * (1 + slower * (side == "b"))] * 3,
        }
        for session in range(sessions)
        for case in cases
        for block in range(blocks)
        for side in "ab"
    ]


def found(rows: list[dict[str, Any]], **wanted: object) -> list[float]:
    return [row["rate"] for row in rows if all(row[k] == v for k, v in wanted.items())]


def test_quiet_launches_show_every_slow_down_and_no_other() -> None:
    rows = verdicts(launches(0.003), 500, 1)
    for case in ("one", "two"):
        assert found(rows, test="duel", case=case, slower=0.0) == [0.0]
        assert found(rows, test="duel", case=case, slower=0.05) == [1.0]
        assert set(found(rows, test="check", case=case, slower=0.0)) == {0.0}
        assert set(found(rows, test="check", case=case, slower=0.20)) == {1.0}
        passed = [row for row in rows if row["case"] == case and row["slower"] == 0.0]
        assert all(row["passed"] == row["trials"] for row in passed)


def test_noisy_launches_show_none() -> None:
    rows = verdicts(launches(0.5), 500, 1)
    assert max(found(rows, slower=0.05)) < 0.2
    assert max(row["rate_upper"] or 0 for row in rows if row["slower"] == 0) > 0


def test_labels_are_tossed_so_that_a_real_difference_is_no_alarm() -> None:
    rows = verdicts(launches(0.01, slower=0.3), 2_000, 1)
    assert max(found(rows, test="duel", slower=0.0)) < 0.02


def test_half_a_block_says_nothing() -> None:
    rows = launches(0.01, cases=("one",), sessions=1)
    assert len(blocks_of(rows)["one"]) == 8
    assert len(blocks_of(rows[1:])["one"]) == 7


def test_it_is_read_as_it_was_written(tmp_path: Path) -> None:
    rows = launches(0.1, sessions=1)
    cells = [row | {"seconds": " ".join(map(str, row["seconds"]))} for row in rows]
    write_csv(tmp_path / "recorded.csv", RECORDED, cells)
    again = read(tmp_path / "recorded.csv")
    assert [row["seconds"] for row in again] == [row["seconds"] for row in rows]


@pytest.mark.parametrize(
    "text", [None, "", "a,b\n1,2\n", "session,slower,block,seconds\n1,x,1,1\n"]
)
def test_a_file_that_is_none(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "recorded.csv"
    if text is not None:
        file.write_text(text)
        if not text:
            assert read(file) == []
            return
    with pytest.raises(UserError, match=r"recorded.csv cannot be read"):
        read(file)


def test_p_is_that_of_students_t() -> None:
    values = np.random.default_rng(2).normal(0.01, 0.03, 8).tolist()
    assert two_sided_p(values) == pytest.approx(scipy_stats.ttest_1samp(values, 0).pvalue)


def test_every_session_has_a_duel_of_equals_of_each_loop() -> None:
    every = list(live.duels())
    equals = {(duel.session, duel.loop) for duel in every if not duel.slower}
    assert len(equals) == SESSIONS * len(SETTINGS)
    slower = [duel for duel in every if duel.slower]
    assert len(slower) == len(INJECTED) * len(INJECTED_LOOPS) * len(SLOWER)
    assert len({duel.name for duel in every}) == len(every)


def test_only_b_burns() -> None:
    plan = LiveDuel(3, "fit", 0.05).plan(20_000)
    assert plan.a.variables == (("FMNIST_BURN_TURNS", "0"),)
    assert plan.b.variables == (("FMNIST_BURN_TURNS", "20000"),)
    equal = LiveDuel(3, "fit").plan(0)
    assert equal.a == equal.b


def test_a_duel_that_was_not_fought_is_named(tmp_path: Path) -> None:
    (tmp_path / "turn_s.json").write_text("3e-9")
    with pytest.raises(UserError, match="01-compiled-0 holds no verdict"):
        collect(tmp_path)


def table(name: str) -> list[dict[str, str]]:
    with (EVIDENCE / f"{name}.csv").open(newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_recorded_launches_are_as_many_as_was_promised() -> None:
    rows = [row for row in read(EVIDENCE / "recorded.csv") if row["slower"] == 0]
    assert len(rows) >= 200
    assert len({row["case"] for row in rows}) == 3
    assert len({row["session"] for row in rows}) >= 10
    assert all(len(logs) >= LAST_LOOK for logs in blocks_of(rows).values())


def test_the_verdicts_follow_from_the_recorded_launches() -> None:
    """The numbers that the documents quote are those that the code counts."""
    again = verdicts(read(EVIDENCE / "recorded.csv"), 20_000, 2026)
    stored = table("verdicts")
    assert [
        (row["test"], row["case"], int(row["found"]), int(row["passed"])) for row in stored
    ] == [(row["test"], row["case"], row["found"], row["passed"]) for row in again]


def test_no_live_duel_of_equals_raised_an_alarm() -> None:
    equals = [row for row in table("live") if float(row["slower"]) == 0]
    for loop in ("fit", "compiled"):
        assert sum(row["loop"] == loop for row in equals) >= 10
    assert "1" not in {row["exit_code"] for row in equals}
    assert "regression" not in {row["verdict"] for row in equals}


def test_p_of_live_duels_of_equals_is_uniform() -> None:
    equals = [row for row in table("live") if float(row["slower"]) == 0]
    p = [float(row["p_equal"]) for row in equals if row["p_equal"]]
    assert len(p) >= 20
    assert scipy_stats.kstest(p, "uniform").pvalue > 0.01
