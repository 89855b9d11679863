"""Histories judged: size, place, cause, acknowledgement, and the exit code; and their lines."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support import TypeIn
from support.histories import AT, DAY, RUNS, noise, series, slower

from bench.reports.terminal.history_changes import print_changes
from bench.schema.errors import ExitCode
from bench.schema.history import HistorySeries
from bench.schema.sizes import Sizes
from bench.store.history.history import History
from bench.verdicts.history import PROBE, HistoryReport, chosen, judge, since_time
from bench.verdicts.history_change import ALL_CASES, Cause, Change, Shape, What
from fmnist_models.errors import UserError

SIZES = Sizes.of_check()


def told(report: HistoryReport) -> list[tuple[str, Shape]]:
    return [(change.case, change.shape) for change in report.changes]


def one(report: HistoryReport) -> Change:
    (change,) = report.changes
    return change


def test_slow_down_has_size_place_and_cause_of_code() -> None:
    change = one(judge(series(slower(), revision=lambda run: "ab"[run >= AT] * 40), SIZES))
    assert (change.case, change.what, change.worse, change.alarms) == ("c3", What.SPEED, True, True)
    assert change.low < 0.1 < change.high < change.low + 0.05
    assert change.chance < 1e-5
    place = change.place
    assert place.before.run < f"run{AT:04d}" <= place.after.run
    assert place.cause is Cause.CODE
    assert place.between == ("b" * 40,)


@pytest.mark.parametrize(
    ("revision", "driver", "cause"),
    [
        (lambda _: "a" * 40, lambda run: "5" if run < AT else "6", Cause.ENVIRONMENT),
        (lambda run: "ab"[run >= AT] * 40, lambda run: "56"[run >= AT], Cause.BOTH),
        (lambda _: "a" * 40, lambda _: "5", Cause.UNRECORDED),
    ],
    ids=["environment", "both", "neither"],
)
def test_what_else_differs_there(
    revision: Callable[[int], str], driver: Callable[[int], str], cause: Cause
) -> None:
    found = series(slower(), revision=revision, facts=lambda run: {"driver": driver(run)})
    place = one(judge(found, SIZES)).place
    assert place.cause is cause
    expected = (("driver", "5", "6"),) if cause in (Cause.ENVIRONMENT, Cause.BOTH) else ()
    assert place.facts == expected


def test_exit_codes_and_acknowledgement() -> None:
    runs = series(slower())
    found = judge(runs, SIZES)
    assert found.exit_code is ExitCode.REGRESSION
    known = judge(runs, SIZES, notes={found.changes[0].id: "more layers"})
    assert (known.exit_code, one(known).note) == (ExitCode.PASSED, "more layers")
    assert judge(series(noise(8)), SIZES).exit_code is ExitCode.PASSED
    few = judge(series(noise(8, 12)), SIZES)
    assert (few.exit_code, len(few.blind)) == (ExitCode.INCONCLUSIVE, 8)
    assert judge([], SIZES).exit_code is ExitCode.INCONCLUSIVE
    faster = judge(series(slower(size=-0.1)), SIZES)
    assert (one(faster).worse, faster.exit_code) == (False, ExitCode.PASSED)


def test_id_stays_as_runs_come_and_what_was_taken_back_is_over() -> None:
    logs = slower()
    early = one(judge(series(logs[:130]), SIZES))
    logs[140:, 3] -= np.log1p(0.1)
    first, second = judge(series(logs), SIZES).changes
    assert (early.id, early.over, early.alarms) == (first.id, False, True)
    assert (first.over, first.alarms, second.worse) == (True, False, False)


def test_change_within_the_margin_is_told_and_does_not_count() -> None:
    report = judge(series(slower(size=0.05)), replace(SIZES, margin=0.08))
    assert (one(report).counts, report.exit_code) == (False, ExitCode.PASSED)


def test_all_cases_together_and_the_few_that_stayed() -> None:
    logs = noise(12)
    logs[AT:, :9] += 0.3
    report = judge(series(logs), SIZES)
    assert [(c.case, c.worse, c.controlled) for c in report.changes] == [(ALL_CASES, True, False)]
    # The frozen case got slower too: it was the machine.
    logs[AT:, 9:] += 0.3
    assert judge(series(logs), SIZES, ("c11",)).changes == ()


def test_creep_is_a_drift_unless_a_control_shows_that_it_is_its_own() -> None:
    logs = noise(8)
    logs[60:, 2] += 0.002 * np.arange(RUNS - 60)
    alone, against = (judge(series(logs), SIZES, control) for control in ((), ("c7",)))
    assert told(alone) == [("c2", Shape.DRIFT)]
    assert alone.exit_code is ExitCode.PASSED
    assert told(against) == [("c2", Shape.CREEP)]
    assert against.exit_code is ExitCode.REGRESSION


def test_the_probe_tells_the_machine_from_the_code() -> None:
    """All cases get slower at once; runs of an earlier version have no reading of the probe."""
    logs = noise(8)
    logs[AT:] += 0.3
    jitter = 0.01 * np.random.default_rng(5).standard_normal(RUNS)

    def probe(size: float) -> Callable[[int], float | None]:
        """Log seconds of the probe, which is slower by `size` too."""
        return lambda run: None if run < 20 else -4.0 + jitter[run] + size * (run >= AT)

    of_machine, of_code = (series(logs, control=probe(size)) for size in (0.3, 0.0))
    assert [c.controlled for c in judge(of_code, SIZES).changes] == [False]
    assert judge(of_machine, SIZES, (PROBE,)).changes == ()
    found = one(judge(of_code, SIZES, (PROBE,)))
    assert (found.case, found.controlled, found.alarms) == (ALL_CASES, True, True)


def test_a_creep_before_there_was_a_probe_stays_a_drift() -> None:
    logs = noise(8)
    logs[40:, 2] += 0.002 * np.arange(RUNS - 40)
    late = series(logs, control=lambda run: None if run < RUNS - 5 else -4.0)
    assert told(judge(late, SIZES, (PROBE,))) == [("c2", Shape.DRIFT)]


def test_two_steps_of_one_case_are_no_creep() -> None:
    logs = slower(size=0.08)
    logs[130:, 3] += 0.08
    report = judge(series(logs), SIZES)
    assert told(report) == [("c3", Shape.STEP), ("c3", Shape.STEP)]
    assert report.exit_code is ExitCode.REGRESSION


def test_few_cases_are_held_against_the_control() -> None:
    logs = np.concatenate([noise(2), np.zeros((RUNS, 1))], axis=1)
    shared = np.where(np.arange(RUNS) >= AT, 0.3, 0.0)[:, None]
    logs[:, 2:] += 0.005 * np.random.default_rng(2).standard_normal((RUNS, 1))
    assert told(judge(series(logs + shared), SIZES, ("c2",))) == []
    assert {case for case, _ in told(judge(series(logs + shared), SIZES))} == {"c0", "c1", "c2"}


def test_loss_of_accuracy_counts_and_luck_of_seeds_does_not() -> None:
    scores = np.full((RUNS, 6), 0.87)
    scores[AT:, 1] -= 0.06
    scores[AT:, 2] -= 0.01
    scores[AT:, 4] = np.nan
    report = judge(series(noise(6), scores=scores), SIZES)
    assert [(c.case, c.what) for c in report.changes] == [("c1", What.SCORE), ("c4", What.SCORE)]
    assert report.changes[0].size == pytest.approx(0.06)
    assert report.exit_code is ExitCode.REGRESSION


def test_scores_are_judged_after_some_weeks() -> None:
    """Alone, each would need half a year for what the noise of all shows together."""
    runs, cases = 70, 12
    scores = 0.87 + 0.004 * np.random.default_rng(4).standard_normal((runs, cases))
    report = judge(series(noise(cases, runs), scores=scores), SIZES)
    assert len(report.reaches) == 2 * cases
    assert [reach for reach in report.blind if reach.what is What.SCORE] == []


def test_runs_of_too_few_cases_are_left_out() -> None:
    logs = slower()
    logs[50, 3:] = np.nan
    logs[70, 5] = np.nan
    report = judge(series(logs), SIZES)
    assert report.left_out == {"lab": 1}
    assert one(report).place.first.run >= "run0098"


def test_since_and_cases_choose_what_is_told_not_what_is_judged() -> None:
    runs = series(slower())
    report = judge(runs, SIZES)
    assert len(chosen(report, since_time(runs, "2026-04-01")).changes) == 1
    assert chosen(report, since_time(runs, "2026-05-30")).changes == ()
    assert since_time(runs, f"{60:040d}") == (DAY + timedelta(days=120)).isoformat()
    assert chosen(report, since_time(runs, f"{60:040d}")).exit_code is ExitCode.PASSED
    assert len(chosen(report, cases="c3").changes) == 1
    assert chosen(report, cases="c[12]").changes == ()
    assert since_time(runs, "2026-05-30T01:00:00+02:00") == "2026-05-29T23:00:00+00:00"
    # Several revisions begin so.
    for text in ("soon", "0" * 39):
        with pytest.raises(UserError, match=f"--since '{text}': name a day"):
            since_time(runs, text)


def test_lines_say_what_where_and_how_sure(tmp_path: Path) -> None:
    logs = slower()
    found = series(logs, facts=lambda run: {"driver": "56"[run >= AT]})
    report = judge([*found, HistorySeries("m", "lab", "new", "w", found[0].points[:5])], SIZES)
    with (tmp_path / "lines").open("w+") as file:
        print_changes(report, Console(file=file, width=80, color_system=None))
        file.seek(0)
        lines = file.read().splitlines()
    change = one(report)
    assert lines[0].startswith(f"{change.id} c3 on lab: ")
    assert "% slower (" in lines[0]
    assert "driver 5 -> 6" in "".join(lines)
    assert "new (speed, 5 runs)" in lines[-2]
    assert lines[-1].startswith("a new loss (exit 1): 1 change, 1 new for the worse")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history whose notes are kept, and whose runs are made."""
    file = tmp_path / "history.sqlite"
    with History(file) as history:
        history.make_ready()
    monkeypatch.setattr(History, "series", lambda *_, **__: series(slower()))
    return file


def test_typed_changes_and_ack(type_in: TypeIn, store: Path) -> None:
    at = ("--store", str(store))
    code, lines, _ = type_in("history", "changes", *at)
    found = lines.split()[0]
    assert (code, " c3 on lab: " in lines) == (1, True)
    assert type_in("history", "changes", *at, "--cases", "c1")[0] == 0
    assert type_in("history", "changes", *at, "--since", "2026-06-01")[0] == 0
    assert type_in("history", "ack", found[:4], "--note", "wanted", *at)[0] == 0
    code, lines, _ = type_in("history", "changes", *at)
    assert (code, "acknowledged: wanted" in lines, found in lines) == (0, True, True)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("changes", "--since", "soon"), "--since 'soon': name a day"),
        (("changes", "--control", "x*"), "--control 'x*': no case is called so; there are c0, c1"),
        (("changes", "--control", "probe"), "--control probe: no run has a reading of the probe"),
        (("changes", "--cases", "x*"), "--cases 'x*': no case"),
        (("ack", "a", "--note", "why", "--control", "x*"), "--control 'x*': no case"),
        (("ack", "a", "--note", "a\nb"), "--note 'a\\nb': leave out"),
        (("changes", "--gate", "0"), "--gate 0"),
        (("ack", "zzz", "--note", "why"), "'zzz' is no id of a change"),
        (("ack", "", "--note", "why"), "empty"),
        (("ack", "a", "--note", " "), "empty"),
    ],
    ids=lambda words: "-".join(words) if isinstance(words, tuple) else "",
)
def test_typed_mistakes(type_in: TypeIn, store: Path, words: tuple[str, ...], told: str) -> None:
    code, _, error = type_in("history", *words, "--store", str(store))
    assert (code, told in error, error.count("\n")) == (2, True, 1)
