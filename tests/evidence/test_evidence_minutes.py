"""The yardstick tells what is known to be so of made blocks, and records what a duel measures."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bench.evidence.minutes import live, record
from bench.evidence.minutes.designs import CHANGES, DESIGNS, design_rows
from bench.evidence.minutes.picture import draw
from bench.evidence.minutes.sample import (
    Block,
    Launch,
    compare_fail,
    duel,
    hyperfine,
    minute_rows,
    read,
    sessions_of,
)
from bench.evidence.simulate import ended
from bench.reports.terminal.duel import DuelLines
from bench.schema.duel import Block as Measured
from bench.verdicts.sequential import LAST_LOOK
from fmnist_models.errors import UserError

PAIRS = 8


def rows(scatter: float, minutes: float = 0.5) -> list[dict[str, Any]]:
    """Two sessions of equals whose blocks scatter by so much, as read from a table."""
    rng = np.random.default_rng(7)
    found = []
    for session in (1, 2):
        for block in range(LAST_LOOK):
            for side, size in (("a", 0.0), ("b", scatter * rng.standard_normal())):
                seconds = 0.1 * np.exp(size + 0.001 * rng.standard_normal(PAIRS))
                found.append(
                    {
                        "session": str(session),
                        "loop": "fit",
                        "load": "0",
                        "block": str(block),
                        "side": side,
                        "order": "a" + "ab" * (PAIRS // 2),
                        # The first block waits for imports.
                        "block_s": str(60 * minutes + 90 * (block == 0)),
                        "launch_s": str(1.0 + seconds.sum()),
                        "seconds": " ".join(f"{value:.6f}" for value in seconds),
                    }
                )
    return found


def told(found: list[dict[str, Any]], change: float, rule: str = "duel") -> dict[str, Any]:
    (row,) = [row for row in found if (row["change"], row["rule"]) == (change, rule)]
    return row


def test_steady_blocks_are_decided_at_the_first_look_and_rightly() -> None:
    found = minute_rows(sessions_of(rows(0.002)), 100, seed=1)
    assert len(found) == 20
    for change, column in ((0.0, "not_worse"), (0.01, "not_worse"), (0.10, "worse")):
        assert told(found, change)[column] == 1.0
        # Of four blocks none is called worse.
        blocks = 8 if change > 0.05 else 4
        assert told(found, change)["minutes_90"] == pytest.approx(1.5 + blocks * 0.5)
        assert told(found, change, "three looks")["minutes_90"] == pytest.approx(1.5 + 8 * 0.5)
    assert told(found, 0.0)["worse_upper"] == pytest.approx(1 - 0.05 ** (1 / 100))


def test_noisy_blocks_take_longer_and_are_decided_less_often() -> None:
    steady, noisy = (
        told(minute_rows(sessions_of(rows(scatter)), 100, seed=1), 0.05) for scatter in (0.002, 0.1)
    )
    assert (
        steady["minutes_median"] < noisy["minutes_median"] == pytest.approx(1.5 + LAST_LOOK * 0.5)
    )
    assert noisy["undecided"] > 0.5 > steady["undecided"] == 0.0


def test_rules_of_other_tools() -> None:
    launches = [Launch(1.0 + 0.001 * number, (0.1,) * PAIRS) for number in range(8)]
    # Seconds of a whole launch that do not belong to its rounds hide part of a change.
    assert compare_fail(launches, launches, 0.06)
    assert not compare_fail(launches, launches, 0.04)
    assert hyperfine(launches, launches, 0.06)
    assert not hyperfine(launches, launches, 0.0)
    # Faster is no alarm.
    assert not hyperfine(launches, launches, -0.06)


def test_a_picture_of_it_and_wrong_files(tmp_path: Path) -> None:
    draw(minute_rows(sessions_of(rows(0.01)), 100, seed=1), tmp_path / "minutes.png")
    assert (tmp_path / "minutes.png").stat().st_size > 10_000
    with pytest.raises(UserError, match=r"cannot be read: .* record duels with --sessions"):
        read(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("a,b\n1,2\n")
    with pytest.raises(UserError, match=r"other\.csv is no minutes_recorded"):
        read(tmp_path / "other.csv")
    with pytest.raises(UserError, match="no finished duel"):
        record.recorded(tmp_path)


def test_a_finished_duel_is_not_measured_again_and_a_half_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []

    def begin(plan: Any, path: Path) -> Any:
        """Note the duel, and make its folder."""
        begun.append(path.name)
        path.mkdir(parents=True)
        return replace(plan, entropy="0")

    @contextmanager
    def sides(*_: Any) -> Any:
        """No sides."""
        yield {}

    class Scripted:
        """Blocks that end at once; those of a third duel fail."""

        def __init__(self, path: Path, *_: Any) -> None:
            self.fails = len(begun) == 3

        def measured(self, *_: Any) -> Measured:
            """One block."""
            return Measured(0.0, None, 0.0, "a launch crashed" if self.fails else "")

    monkeypatch.setattr(record, "begin", begin)
    monkeypatch.setattr(record, "sides_under_way", sides)
    monkeypatch.setattr(record, "Blocks", Scripted)
    with pytest.raises(UserError, match="block 0: a launch crashed"):
        record.record(tmp_path, 1, lambda _: None)
    record.record(tmp_path, 1, lambda _: None)
    assert len(begun) == 5
    assert begun[2] == begun[3]
    assert len({*begun}) == 4


def test_a_live_duel_burns_in_the_step_of_b_alone() -> None:
    setting = record.SETTINGS[0]
    plan = live.LiveDuel(setting, 0.05, 2).plan(700)
    assert [dict(side.variables)[live.TURNS] for side in (plan.a, plan.b)] == ["0", "700"]
    (case,) = plan.cases
    assert (case.loop, case.batch_size) == (setting.loop, setting.case.batch_size)
    names = {live.LiveDuel(s, c, 1).name for s in record.SETTINGS for c in live.CHANGES}
    assert len(names) == 20


def test_a_fought_duel_is_not_fought_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fought: list[str] = []

    def fight(_: Any, path: Path, *__: Any, **___: Any) -> None:
        """Leave a verdict; the third duel is killed."""
        fought.append(path.name)
        path.mkdir()
        if len(fought) == 3:
            raise KeyboardInterrupt
        (path / "verdict.json").write_text("{}")

    monkeypatch.setattr(live, "fight", fight)
    monkeypatch.setattr(live, "begin", lambda plan, _: plan)
    monkeypatch.setattr(live, "turn_seconds", lambda _: 1e-8)
    monkeypatch.setattr(live, "_step_s", lambda *_: 1e-3)
    told = dict.fromkeys(live._KEPT, 1)
    monkeypatch.setattr(live, "duel_row", lambda _, __, s: {**told, "truth": s / 1e-3})
    lines = DuelLines(Console(quiet=True))
    with pytest.raises(KeyboardInterrupt):
        live.fight_all(tmp_path, 1, lines, lambda _: None)
    rows = live.fight_all(tmp_path, 1, lines, lambda _: None)
    assert len(rows) == 20
    assert len(fought) == 21
    assert fought[2] == fought[3]
    assert all(row["truth"] == pytest.approx(row["change"], abs=1e-5) for row in rows)
    assert all(row["minutes"] >= 0 for row in rows)


@pytest.mark.parametrize("name", DESIGNS)
def test_a_design_decides_many_duels_as_one_by_one(name: str) -> None:
    looks = DESIGNS[name]
    values = np.random.default_rng(5).normal(0.03, 0.03, (60, LAST_LOOK))
    codes, blocks = ended(values, looks=looks)
    flat = [Block(0.0, 1.0, (Launch(1.0, (1.0,)),) * 2)] * LAST_LOOK
    for code, taken, own in zip(codes, blocks, values.tolist(), strict=True):
        verdict, number = duel(flat, own, looks)
        assert (number, verdict.minutes) == (taken, taken)
        assert (verdict.worse, verdict.passed) == (code == 1, code == 0)


def test_designs_judge_the_same_duels_of_either_half() -> None:
    chance = np.random.default_rng(1)
    recorded = [
        {
            "case": "a case",
            "slower": 0.0,
            "session": session,
            "block": block,
            "side": side,
            "seconds": [1.0 if side == "a" else float(np.exp(0.0003 * chance.standard_normal()))],
        }
        for session in (1, 2)
        for block in range(30)
        for side in "ab"
    ]
    found = list(design_rows(recorded, 100, seed=1))
    assert len(found) == 2 * len(CHANGES) * len(DESIGNS)
    assert {row["sessions"] for row in found} == {"odd", "even"}
    for row in found:
        if row["change"] in (0.0, 0.10):
            looks = DESIGNS[row["design"]]
            assert row["blocks_mean"] == min(looks.spending if row["change"] else looks.passing)
            assert row["worse" if row["change"] else "not_worse"] == 1.0
    # Of fewer blocks than a duel may take, none is drawn.
    assert not list(design_rows(recorded[:40], 100, seed=1))
