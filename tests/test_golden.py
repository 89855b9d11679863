"""What each verb prints and writes, to the letter, from fixed records.

`pytest tests/test_golden.py --refresh-goldens` writes tests/golden anew; read the difference before
it is committed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import ROOT, TypeIn, histories
from support.fleets import NODES, fleets
from support.profiles import OPERATIONS, scripted
from support.run_folders import write_run
from support.stored import CASES, FIRST, AnySide, stored

from bench import cli
from bench.analysis import phases, trace_events
from bench.analysis.profile_rows import Profile
from bench.cli.options import HELP
from bench.machine.nvml import Inventory
from bench.reports import end_of_run
from bench.reports.exports.formats import FORMATS, export
from bench.reports.terminal.bisect import BisectLines, print_bisect
from bench.reports.terminal.confirm import confirmation_lines, settled_by
from bench.reports.terminal.describe import describe_data
from bench.reports.terminal.doctor import render
from bench.reports.terminal.duel import DuelLines, print_duel
from bench.reports.terminal.fleet_check import print_fleet
from bench.reports.terminal.history import added_line, print_runs, print_series
from bench.reports.terminal.history_changes import print_changes
from bench.reports.terminal.profile import print_profiles
from bench.reports.terminal.progress import progress_for
from bench.schema.bisect import BisectPlan, Finding, Purpose, Trial, What
from bench.schema.case import Case
from bench.schema.duel import DuelPlan, Spec
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.profile import ProfileRecord
from bench.schema.sizes import Sizes
from bench.session.confirm import Confirmation
from bench.session.outcome import RunOutcome
from bench.session.profile import ProfileOutcome
from bench.store.fleet_runs import fleet_folders, read_fleets
from bench.store.history.history import History
from bench.store.history.record import kept
from bench.store.measured import read_baseline, read_run
from bench.store.run_folder import RunFolder
from bench.verdicts.bisect_search import BisectReport, Ended, Outcome, Wanted
from bench.verdicts.check import check
from bench.verdicts.duel import DuelReport, Standing
from bench.verdicts.fleet_check import check_fleet
from bench.verdicts.history import judge
from bench.verdicts.sequential import look
from bench.verdicts.validity import Check, Report, Verdict, not_applicable

GOLDEN = ROOT / "tests" / "golden"
REFRESH = "pytest tests/test_golden.py --refresh-goldens"
WIDTHS = (80, 120)
SET_UPS = sorted(
    str(path) for path in (ROOT / "results/examples/set-ups").iterdir() if path.is_dir()
)
SIZES = Sizes.of_check()
COMPILED, FIT = (Case("relu_mlp", "adam", loop) for loop in ("compiled", "fit"))
SOFTMAX = Case("softmax", "sgd", "fit")
PLAN = Plan((COMPILED, FIT, SOFTMAX), RunSettings(epochs=2), "test", "golden", "fmnist-bench run")
VERBS = tuple(cli.cli.commands)


@pytest.fixture
def golden(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """A text as it is kept, and what its file holds, which is written first where that is asked."""

    def pair(name: str, text: str) -> tuple[str, str]:
        told = text.replace(str(tmp_path), "OUT").replace(str(ROOT), "CLONE")
        file = GOLDEN / name
        if request.config.getoption("--refresh-goldens"):
            file.parent.mkdir(exist_ok=True)
            file.write_text(told, encoding="utf-8")
        return told, file.read_text("utf-8")

    return pair


def of_run(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines while a run goes on, and what stands at its end; pictures are drawn elsewhere."""
    progress = progress_for(console)
    monkeypatch.setattr("bench.reports.terminal.progress.monotonic", lambda: 0.0)
    progress.waits("another run measures")
    progress.run_begins(PLAN, [(COMPILED, 0), (FIT, 0)])
    progress.ceilings_begin("before")
    progress.launch_begins(COMPILED, 0)
    progress.round_ends(Round(1, 48_000, 1_500, 0.5, 0.1))
    progress.launch_voided(
        LaunchRecord(COMPILED.id, 0, 1, 42, Status.INVALID, "disturbed: work of others 40%")
    )
    progress.round_ends(Round(1, 48_000, 1_500, 0.4, 0.1))
    progress.launch_ends(LaunchRecord(COMPILED.id, 0, 2, 42, Status.OK, test_score=0.8711))
    progress.launch_begins(FIT, 0)
    progress.launch_ends(LaunchRecord(FIT.id, 0, 1, 42, Status.KILLED, "killed by signal 9"))
    progress.run_ends()
    path = write_run(
        tmp_path / "run",
        {COMPILED: (0.4, 0.87), FIT: (4.0, 0.86)},
        reasons={SOFTMAX: (Status.FAILED, "out of memory [a line of a log]")},
        cpu={"model": "Test CPU"}, versions={"tensorflow": "2.21.0"},
        overruled={"KERAS_BACKEND": "jax"},
    )  # fmt: skip
    folder = RunFolder(path)
    plan = folder.plan()
    assert plan is not None
    for name in ("_draw_comparison", "_draw_roofline"):
        monkeypatch.setattr(end_of_run, name, lambda *_, name=name: [f"{name[6:]}.png"])
    outcome = RunOutcome(
        folder, plan, folder.results(), folder.launches(), folder.rounds(), False,
        {"rounds": 10.0, "warm-up": 2.0},
    )  # fmt: skip
    end_of_run.summarize(outcome, console, report=False)


def of_duel(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines while a duel goes on, and its table: slower, not worse, open, failed."""
    cases = (COMPILED, FIT, SOFTMAX, replace(SOFTMAX, batch_size=512))
    sides = Spec(checkout="/clone", revision="a" * 40), Spec(variables=(("TF_X", "0"),))
    plan = DuelPlan(*sides, cases, RunSettings(epochs=2), budget_s=600, rows=1_000)
    slower, same = [0.2 + k / 1e3 for k in range(8)], [0.001 * (-1) ** k for k in range(8)]
    logs: list[list[float]] = [slower, same, [0.06, -0.07] * 4, []]
    standings = [Standing(case, list(own)) for case, own in zip(cases, logs, strict=True)]
    for standing in standings[:3]:
        standing.speed_look = look(standing.speed, 0.01, 0.05, 0.25)
        standing.score = (
            [0.03 + k / 1e4 for k in range(8)] if standing.case is FIT else [0.001, 0.0] * 4
        )
        standing.score_look = look(standing.score, 0.005, 0.02, 0.25)
    standings[3].failure = "B failed: out of memory"
    lines = DuelLines(console)
    lines.waits("another run measures")
    lines.duel_begins(plan, tmp_path / "duel")
    lines.block_voided(COMPILED, "disturbed: work of others 40%")
    lines.block_ends(standings[0], 0.001)
    lines.looked(standings[0])
    print_duel(DuelReport(plan, tuple(standings), (0.001,) * 8, False), console)
    stopped = DuelReport(plan, tuple(standings[1:2]), (0.1,) * 8, True, "the budget is spent")
    print_duel(stopped, console)


def of_bisect(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines while a bisection goes on, and each way in which it ends."""
    a, b = (Spec(checkout="/my repo", revision=letter * 40) for letter in "ab")
    plan = BisectPlan(DuelPlan(a, b, (COMPILED,), RunSettings(epochs=2), rows=1_000))
    lines = BisectLines(console)
    lines.waits("another run measures")
    lines.bisect_begins(plan, tmp_path / "bisect", 40, 1)
    lines.setup_begins("c" * 40)
    lines.trial_begins(1, Wanted(Purpose.STEP, "a" * 40, "c" * 40, 0.001), "2026-11-28 [faster]")
    lines.block_voided(COMPILED, "disturbed: work of others 40%")
    slower, same = [0.2 + k / 1e3 for k in range(8)], [0.001 * (-1) ** k for k in range(8)]
    lines.block_ends(plan, Standing(COMPILED, slower), 0.001)
    steps = [
        Trial(
            purpose,
            commits[0] * 40,
            commits[1] * 40,
            0.001,
            finding,
            reason,
            tuple(values),
            tuple(0.03 + value / 10 for value in values),
        )
        for purpose, commits, finding, reason, values in (
            (Purpose.CONFIRM, "ab", Finding.WORSE, "", slower),
            (Purpose.STEP, "ad", Finding.NOT_WORSE, "", same),
            (Purpose.STEP, "ae", Finding.SKIPPED, "side B failed: no [module]", []),
            (Purpose.STEP, "af", Finding.UNDECIDED, "", same),
            (Purpose.PROOF, "dc", Finding.WORSE, "", slower),
        )
    ]
    for step in steps:
        lines.trial_ends(plan, step)
    ends = (
        Ended(Outcome.NAMED, "c" * 40),
        Ended(Outcome.RANGE, candidates=tuple(f"{n:040}" for n in range(12)), reason="undecided"),
        Ended(Outcome.FAILED, reason="side A failed: out of memory"),
        Ended(Outcome.STOPPED, reason="interrupted"),
    )
    for end in ends:
        print_bisect(BisectReport(plan, tuple(steps), end, 40), console, "2026-11-28 {:.1}".format)
    for what in What:
        told = replace(plan, what=what)
        unsure = (replace(steps[0], speed=tuple(-v for v in slower), finding=Finding.NOT_WORSE),)
        report = BisectReport(told, unsure, Ended(Outcome.NO_CHANGE), 40)
        print_bisect(report, console, str)
    lowered = replace(plan, what=What.ACCURACY)
    lines.block_ends(lowered, Standing(COMPILED, slower, [0.03] * 8), 0.001)
    print_bisect(BisectReport(lowered, tuple(steps), ends[0], 40), console, str)


def of_confirm(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `check --confirm` says before its duel, and the reasons after it."""
    for seed in range(4):
        stored(tmp_path / "base" / str(seed), seed)
    now = stored(tmp_path / "now", 9, slower={FIRST: 0.5, CASES[1].id: 0.5})
    report = check(read_baseline(tmp_path / "base"), [read_run(now)], Sizes.of_check(0.5))
    plan = DuelPlan(Spec(), Spec(), (CASES[0],), RunSettings())
    left = {CASES[1].id: "no gpu here"}
    asked = Confirmation(plan, tmp_path / "duel", False, left, AnySide())
    for line in confirmation_lines(asked):
        console.print(line, soft_wrap=True)
    standing = Standing(CASES[0], [0.2 + k / 1e3 for k in range(8)])
    standing.speed_look = look(standing.speed, 0.01, 0.05, 1)
    settled = settled_by(report, asked, DuelReport(plan, (standing,), (0.0,) * 8, False))
    for case in settled.cases:
        console.print(f"{case.case}: {case.verdict}: {case.reason}", soft_wrap=True)


def of_doctor(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One check of each verdict."""
    checks = (
        Check("timer", Verdict.OK, "perf_counter resolves 67 ns"),
        Check(
            "noise", Verdict.WARNING, "a fixed computation varies by 37.0%", "stop other programs"
        ),
        Check("versions", Verdict.FAILED, "TensorFlow cannot be imported: [Errno 2]", "install it"),
        not_applicable("TF32", "a CPU has none"),
    )
    render(Report("cpu", checks), console)


def of_profile(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of two loops, the story of each, and a case that failed."""
    trace = trace_events.Trace(0.5, 1.0, OPERATIONS, (), tmp_path / "trace.json.gz")
    profiles = []
    for loop in ("fit", "compiled"):
        readings = scripted(loop, rest_s=1e-4)
        split = phases.split(loop, readings.wall_s, readings.cpu_s)
        record = ProfileRecord(Case("relu_mlp", "adam", loop), Status.OK, readings=readings)
        profiles.append(Profile(record, split, trace))
    profiles.append(Profile(ProfileRecord(SOFTMAX, Status.FAILED, "out of [luck]")))
    environment = {"overruled": {"KERAS_BACKEND": "jax"}}
    print_profiles(ProfileOutcome(tmp_path, tuple(profiles), environment, False), console)


def of_fleet_check(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow node that differs, one that failed, and three that are shown as one."""
    of: dict[str, dict[str, Any]] = {
        "bee": {"slower": {FIRST: 0.3}, "os": {"kernel": "5.15"}},
        "fox": {"failed": [CASES[1].id]},
    }
    usual: dict[str, Any] = {"os": {"kernel": "6.1"}}
    made = fleets(tmp_path / "fleets", of={name: usual | of.get(name, {}) for name in NODES})
    print_fleet(check_fleet(["fleets"], read_fleets(fleet_folders([made])), SIZES), console)


def of_describe(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data; the models are Keras's own summaries."""
    monkeypatch.setattr("bench.reports.terminal.describe.sample_row", lambda *_: None)
    describe_data(None, tmp_path / "samples.png", console)


def of_history(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of a machine, and the series of a case: a new driver, a change of code, a failure."""
    cpu = {"model": "Test CPU", "cores_logical": 2}
    with History(tmp_path / "history.sqlite") as history:
        for day, seconds in enumerate((4.0, 4.1, 4.6, 0), 1):
            failed = {FIT: (Status.FAILED, "out of memory")}
            path = write_run(
                tmp_path / f"run{day}",
                {COMPILED: (0.4, 0.87), **({FIT: (seconds, 0.86)} if seconds else {})},
                label="실험실 [lab]",
                reasons=None if seconds else failed,
                time_utc=f"2026-03-0{day}T12:00:00+00:00",
                cpu=cpu,
                driver_version="570" if day < 3 else "580",
                git={"revision": f"{day}f" * 20, "dirty": day == 2},
            )
            new = kept(read_run(path))
            console.print(added_line(path, new, history.add(new)), soft_wrap=True)
        print_runs(history.runs(), console)
        print_series(history.series(), console)


def of_history_changes(console: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of code and environment that was taken back, one that is known, a drift, a loss of
    accuracy, and a case of too few runs."""
    logs = histories.slower(size=0.2)
    logs[140:, 3] -= np.log1p(0.2)
    logs[histories.AT :, 5] += np.log1p(0.1)
    logs[60:, 2] += 0.002 * np.arange(len(logs) - 60)
    scores = np.full_like(logs, 0.87)
    scores[histories.AT :, 1] -= 0.06
    found = histories.series(
        logs,
        scores=scores,
        revision=lambda run: f"{run // 2:07d}".ljust(40, "f"),
        facts=lambda run: {"driver": "570" if run < histories.AT else "580"},
    )
    found.append(replace(found[0], case="new", points=found[0].points[:5]))
    known = judge(found, SIZES)
    acknowledged = next(change.id for change in known.changes if change.case == "c5")
    print_changes(judge(found, SIZES, notes={acknowledged: "one layer more [agreed]"}), console)


def history_of(path: Path) -> None:
    """A history of three stored runs."""
    with History(path) as history:
        for seed in range(3):
            history.add(kept(read_run(path.parent / "base" / f"run{seed}")))


SCENES: dict[str, Callable[[Console, Path, pytest.MonkeyPatch], None]] = {
    "run": of_run,
    "duel": of_duel,
    "bisect": of_bisect,
    "confirm": of_confirm,
    "doctor": of_doctor,
    "profile": of_profile,
    "fleet-check": of_fleet_check,
    "describe": of_describe,
    "history": of_history,
    "history-changes": of_history_changes,
}
TYPED: dict[str, tuple[str, ...]] = {
    "list": ("list", "--matrix", "quick", "--devices", "cpu,gpu:7"),
    "compare": ("compare", *SET_UPS, "--output", "OUT/compared"),
    "compare-price": (
        *("compare", *SET_UPS[:2], "--output", "OUT/compared", "--currency", "EUR"),
        *("--price", "one-thread=0.30/h", "one-thread-no-onednn=0.53/h"),
    ),
    "export": ("export", "OUT/now", "--format", "benchmark-action-bigger", "-o", "OUT/x.json"),
    "check": ("check", "--baseline", "OUT/base", "OUT/now", "--gate", "0.5"),
    "baseline-add": ("baseline", "add", "OUT/kept", "OUT/base/run0"),
    "baseline-add-failed": ("baseline", "add", "OUT/kept", "OUT/now"),
    "baseline-list": ("baseline", "list", "OUT/base"),
    "baseline-remove": ("baseline", "remove", "OUT/base", "run1"),
    "report": ("report", "OUT/now"),
    "history-prune": ("history", "prune", "--keep", "1", "--store", "OUT/history"),
    "history-few": ("history", "changes", "--store", "OUT/history"),
    "history-ack": ("history", "ack", "0123", "--note", "agreed", "--store", "OUT/history"),
    "unknown-verb": ("measure",),
    "unknown-option": ("run", "--modells", "x"),
    "mistake": ("run", "--models", "resnet", "--devices", "cpu"),
}


@pytest.mark.parametrize("colour", [False, True], ids=["plain", "colour"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("scene", SCENES)
def test_what_is_shown(
    golden: Callable[..., tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scene: str,
    width: int,
    colour: bool,
) -> None:
    with (tmp_path / "screen").open("w+", encoding="utf-8") as out:
        console = Console(
            file=out,
            width=width,
            color_system="truecolor" if colour else None,
            legacy_windows=False,
        )
        SCENES[scene](console, tmp_path, monkeypatch)
    text = (tmp_path / "screen").read_text("utf-8")
    told, kept = golden(f"{scene}-{width}{'-colour' if colour else ''}.txt", text)
    assert told == kept, REFRESH


@pytest.mark.parametrize("colour", [False, True], ids=["plain", "colour"])
@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("verb", TYPED)
def test_what_is_typed(
    golden: Callable[..., tuple[str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    verb: str,
    width: int,
    colour: bool,
) -> None:
    for seed in range(4):
        stored(tmp_path / "base" / f"run{seed}", seed)
    if verb.startswith("history"):
        history_of(tmp_path / "history")
    stored(tmp_path / "now", 9, slower={FIRST: 0.9}, failed=[CASES[3].id])
    monkeypatch.setenv("COLUMNS", str(width))
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    if colour:
        monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setattr("bench.machine.devices.inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr("bench.reports.plots.compare.draw_comparison", lambda *_: None)
    monkeypatch.setattr("bench.reports.plots.cost.draw_costs", lambda *_: None)
    monkeypatch.setattr("bench.reports.page.page.write_report", lambda *_: tmp_path / "page.html")
    words = [word.replace("OUT", str(tmp_path)) for word in TYPED[verb]]
    monkeypatch.setattr("sys.argv", ["fmnist-bench", *words])
    with pytest.raises(SystemExit) as end:
        cli.main()
    shown = capsys.readouterr()
    text = f"exit code {end.value.code}\n--- output\n{shown.out}--- error\n{shown.err}"
    told, kept = golden(f"{verb}-{width}{'-colour' if colour else ''}.txt", text)
    assert told == kept, REFRESH


@pytest.mark.parametrize("verb", VERBS)
def test_the_help_of_each_verb(
    golden: Callable[..., tuple[str, str]], monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    context = cli.cli.commands[verb].make_context(verb, [], resilient_parsing=True, **HELP)
    context.terminal_width = 80
    told, kept = golden(f"help-{verb}.txt", cli.cli.commands[verb].get_help(context) + "\n")
    assert told == kept, REFRESH


def test_the_files_of_a_run_and_of_a_check(
    golden: Callable[..., tuple[str, str]], tmp_path: Path, type_in: TypeIn
) -> None:
    """results.csv, and what a check leaves: JSON, JUnit XML and Markdown."""
    for seed in range(4):
        stored(tmp_path / "base" / f"run{seed}", seed)
    now = stored(tmp_path / "now", 9, slower={FIRST: 0.9}, failed=[CASES[3].id])
    code, _, _ = type_in("check", "--baseline", tmp_path / "base", now, "--gate", "0.5")
    assert code == 1
    for name in ("check.json", "check.xml", "check.md", "results.csv"):
        text = (now / name).read_text("utf-8")
        told, kept = golden(name, re.sub(r'timestamp="[^"]+"', 'timestamp="WHEN"', text))
        assert told == kept, REFRESH


@pytest.mark.parametrize("name", FORMATS)
def test_the_exports_of_a_run(
    golden: Callable[..., tuple[str, str]], tmp_path: Path, name: str
) -> None:
    """A file for each format; a case failed, and another has no interval."""
    cases = {COMPILED: (0.4, 0.87), FIT: (4.0, 0.86)}
    reasons = {SOFTMAX: (Status.FAILED, "out of memory")}
    facts: dict[str, Any] = {
        "cpu": {"model": "Test CPU"},
        "versions": {"tensorflow": "2.21.0"},
        "gpus": [],
    }
    run = read_run(write_run(tmp_path / "run", cases, label="golden", reasons=reasons, **facts))
    fields = {"status": "Preview"} if FORMATS[name].takes_fields else {}
    told, kept = golden(f"export-{name}", export(run, name, fields).text)
    assert told == kept, REFRESH
