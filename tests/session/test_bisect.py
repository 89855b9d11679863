"""Bisections of real repositories whose launches are scripted: the search, skips, and resuming."""

from __future__ import annotations

import itertools
import json
import math
import os
import random
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import lock_descriptor
from support import FAKE_WORKER
from support.repositories import git, history
from support.watching import WatchingBisect

from bench.launch.launcher import Launcher
from bench.launch.origin import Origin
from bench.machine import devices, hardware, lock
from bench.machine.nvml import Inventory
from bench.schema.bisect import BisectPlan, Finding, Purpose, Trial, What
from bench.schema.case import Case
from bench.schema.duel import Block, DuelPlan, Spec
from bench.schema.errors import ExitCode
from bench.schema.plan import RunSettings
from bench.session import bisect as bisecting
from bench.session import blocks as measuring
from bench.session import duel as duelling
from bench.session import under_way
from bench.session.commits import GitHistory
from bench.session.sides import Side
from bench.store.bisect_folder import BisectFolder
from bench.verdicts.bisect_search import BisectReport, Ended, Outcome
from fmnist_models import dataset
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled", batch_size=512)
QUICK, SLOW = json.dumps({"slower": 1.0}), json.dumps({"slower": 2.0})


@pytest.fixture(autouse=True)
def scripted_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine and workers that do what the file in the checkout says."""
    images = np.zeros((400, 28, 28), dtype=np.uint8)
    labels = np.arange(400, dtype=np.uint8) % 10
    dataset.write(tmp_path / "data", images, labels, images, labels)
    script = tmp_path / "script.json"
    chance = random.Random(5)
    levels = [math.exp(chance.gauss(-1, 0.005)) for _ in range(400)]
    script.write_text(json.dumps([{"rounds": [level] * 2} for level in levels]))
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
    for module in (devices, duelling, under_way):
        monkeypatch.setattr(module, "inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr(hardware, "cpu_model", lambda: "Test CPU")
    monkeypatch.setattr(measuring, "control_probe", lambda: lambda passes: 0.01)
    monkeypatch.setattr(bisecting, "new_entropy", lambda: "0")
    monkeypatch.setattr(Side, "launcher", scripted_launcher)
    monkeypatch.setattr(
        Side, "describe", lambda side, label, digest, packages: {"cpu": {"model": "EPYC"}}
    )


def scripted_launcher(side: Side, data: str | None, templates: Any) -> Launcher:
    return Launcher(FAKE_WORKER, data, Origin(None, side.models), templates=templates)


class ScriptedBlocks:
    """Blocks of known truth in place of measured ones; every launch scatters with heavy tails."""

    chance = random.Random(20)

    def __init__(
        self, folder: Path, sides: dict[str, dict[str, float]], *_: Any, **__: Any
    ) -> None:
        self._a, self._b = sides["a"], sides["b"]

    def measured(self, case: Case, number: int, draw: Any) -> Block:
        chance = self.chance
        heavy = chance.gauss(0, 0.02) / math.sqrt(chance.gammavariate(2, 0.5))
        logs = [math.log(side.get("slower", 1.0)) for side in (self._a, self._b)]
        scores = 0.8 - self._a.get("drop", 0.0), 0.8 - self._b.get("drop", 0.0)
        return Block(logs[1] - logs[0] + heavy, scores, chance.gauss(0, 0.002))


@pytest.fixture
def no_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a trial are what fake.json in each commit says."""

    @contextmanager
    def sides(plan: DuelPlan, *_: Any, **__: Any) -> Iterator[dict[str, Any]]:
        told = {"a": plan.a, "b": plan.b}
        yield {
            name: json.loads(git(Path(str(spec.checkout)), "show", f"{spec.revision}:fake.json"))
            for name, spec in told.items()
        }

    monkeypatch.setattr(bisecting, "sides_under_way", sides)
    monkeypatch.setattr(bisecting, "Blocks", ScriptedBlocks)


@pytest.fixture
def search(tmp_path: Path) -> Callable[..., BisectReport]:
    """Bisects the commits of a repository from the first to the last, or goes on."""

    def go(
        repository: Path, seen: WatchingBisect | None = None, resume: bool = False, **changes: Any
    ) -> BisectReport:
        path = tmp_path / "found"
        if resume:
            return bisecting.bisect(bisecting.resume(path), path, seen or WatchingBisect())
        ends = changes.pop("ends", None) or commits_of(repository)
        sides = (Spec(checkout=str(repository), revision=end) for end in (ends[0], ends[-1]))
        a, b = sides
        settings = RunSettings(epochs=2, data=str(tmp_path / "data"))
        plan = BisectPlan(DuelPlan(a, b, (CASE,), settings), **changes)
        plan = bisecting.fixed(plan, path)
        return bisecting.bisect(plan, path, seen or WatchingBisect(), new=True)

    return go


def commits_of(repository: Path) -> list[str]:
    return git(repository, "rev-list", "--reverse", "--first-parent", "HEAD").split()


def test_the_commit_is_named_and_no_launch_is_measured_twice(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    """A bisection that is stopped twice, in the middle of a trial, ends as one that is not."""
    repository = tmp_path / "my repo"
    commits = history(repository, [QUICK] * 6 + [SLOW] * 6)
    stopped = search(repository, WatchingBisect(stop_after=2))
    assert stopped.exit_code == ExitCode.INTERRUPTED
    again = WatchingBisect(stop_after=7)
    assert search(repository, again, resume=True).end.outcome is Outcome.STOPPED
    launches = {file: file.read_text() for file in (tmp_path / "found").rglob("launches.jsonl")}
    report = search(repository, resume=True)
    assert (report.end.outcome, report.end.commit) == (Outcome.NAMED, commits[6])
    assert report.exit_code == ExitCode.REGRESSION
    assert [trial.purpose for trial in report.trials] == ["confirm", *["step"] * 3, "proof"]
    for file, before in launches.items():
        assert file.read_text().startswith(before)
    numbers = [
        json.loads(line)["launch"]
        for file in (tmp_path / "found").rglob("launches.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert len(numbers) == 2 * sum(len(trial.speed) for trial in report.trials)
    verdict = json.loads((tmp_path / "found" / "verdict.json").read_text())
    assert verdict["commit"] == commits[6]
    assert verdict["parent"] == commits[5]
    assert 1.8 < verdict["speed"]["low"] < 2 < verdict["speed"]["high"] < 2.2
    assert verdict["score"] == {
        "name": "accuracy",
        "unit": "points",
        "change": 0.0,
        "low": 0.0,
        "high": 0.0,
    }
    words = shlex.split(verdict["see_again"])
    assert Spec.parse(words[words.index("--b") + 1]) == Spec(
        checkout=str(repository), revision=commits[6]
    )
    # Once more: it has ended, and nothing is measured.
    seen = WatchingBisect()
    assert search(repository, seen, resume=True).end == report.end
    assert seen.tried == []


def killed(bisection: Callable[[], Any]) -> None:
    """Runs a bisection in a process of its own, which something kills."""
    pid = os.fork()
    if pid == 0:
        try:
            bisection()
        finally:
            os._exit(1)
    assert os.WTERMSIG(os.waitpid(pid, 0)[1]) == signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="no fork, and no kill -9")
def test_a_bisection_that_is_killed_at_any_moment_goes_on(
    tmp_path: Path, search: Callable[..., BisectReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a block of the confirmation, while a step is set up, and in a block of that step."""
    repository, path = tmp_path / "a", tmp_path / "found"
    commits = history(repository, [QUICK] * 3 + [SLOW] * 3)
    went_on, once = tmp_path / "go on", tmp_path / "once"
    # The command kills the bisection in the first step, and is not ended by that.
    command = (
        f"case $PWD in *{commits[3][:12]}*) if mkdir '{once}'; then kill -9 $PPID; "
        f"for n in $(seq 600); do test -e '{went_on}' && break; sleep 0.05; done; "
        'touch "$VIRTUAL_ENV/half"; fi;; esac; '
        'test ! -e "$VIRTUAL_ENV/half"'
    )

    def killing(after: int) -> None:
        """Kills the process at a reading of the control: before a round."""
        left = itertools.count(after, -1)
        probe = lambda passes: 0.01 if next(left) else os.kill(os.getpid(), signal.SIGKILL)  # noqa: E731
        monkeypatch.setattr(measuring, "control_probe", lambda: probe)

    killing(after=9)
    killed(lambda: search(repository, setup=command))
    killing(after=10**9)
    killed(lambda: search(repository, resume=True))
    assert once.exists()
    with pytest.raises(UserError, match=r"was killed still runs, .*: wait for its end"):
        search(repository, resume=True)
    went_on.touch()
    with (path / "logs" / f"setup-{commits[3][:12]}.log").open() as log:
        lock_descriptor(log.fileno(), blocking=True)
    killing(after=9)
    killed(lambda: search(repository, resume=True))
    killing(after=10**9)
    report = search(repository, resume=True)
    assert (report.end.outcome, report.end.commit) == (Outcome.NAMED, commits[3])
    assert all(trial.finding is not Finding.SKIPPED for trial in report.trials)
    kept = [
        json.loads(line)
        for file in path.rglob("launches.jsonl")
        for line in file.read_text().splitlines()
    ]
    assert {one["status"] for one in kept} == {"ok"}
    assert len(kept) == 2 * sum(len(trial.speed) for trial in report.trials)


def test_commits_that_cannot_be_measured_are_skipped(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    """Around the cause: the range is told, with the reason of each; elsewhere: it is named."""
    broken = json.dumps({"failure": {"status": "failed", "reason": "ModuleNotFoundError: x"}})
    commits = history(tmp_path / "a", [QUICK] * 3 + [broken] * 2 + [SLOW] * 3)
    report = search(tmp_path / "a")
    assert report.end.outcome is Outcome.RANGE
    assert report.end.candidates == tuple(commits[3:6])
    assert report.exit_code == ExitCode.INCONCLUSIVE
    skipped = [trial for trial in report.trials if trial.finding is Finding.SKIPPED]
    assert {trial.commit for trial in skipped} == set(commits[3:5])
    assert all("ModuleNotFoundError: x" in trial.reason for trial in skipped)


def test_a_good_that_cannot_be_measured_ends_it_and_is_tried_again(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    broken = json.dumps({"failure": {"status": "failed", "reason": "no such layer"}})
    history(tmp_path / "a", [broken, SLOW, SLOW])
    report = search(tmp_path / "a")
    assert report.exit_code == ExitCode.WRONG_USE_OR_FAILED_CASE
    assert "no such layer" in report.end.reason
    assert BisectFolder.opened(tmp_path / "found").trials() == []


@pytest.mark.usefixtures("no_processes")
def test_no_change_is_said_and_a_loss_of_accuracy_is_found(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    drop = json.dumps({"drop": 0.05})
    commits = history(tmp_path / "a", ["{}"] * 3 + [drop] * 2)
    report = search(tmp_path / "a", what=What.ACCURACY)
    assert (report.end.outcome, report.end.commit) == (Outcome.NAMED, commits[3])
    assert report.change is not None
    assert report.change.mean == pytest.approx(0.05)
    (tmp_path / "found").rename(tmp_path / "before")
    report = search(tmp_path / "a")
    assert report.end.outcome is Outcome.NO_CHANGE
    assert report.exit_code == ExitCode.INCONCLUSIVE
    assert len(report.trials) == 1


def test_another_model_may_be_what_lowered_the_score(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    """Its score compares, but its time does not."""
    models = [json.dumps({"result": {"model_digest": f"2:{n}"}, "drop": n * 0.2}) for n in (0, 1)]
    commits = history(tmp_path / "a", models)
    report = search(tmp_path / "a", what=What.ACCURACY)
    assert (report.end.outcome, report.end.commit) == (Outcome.NAMED, commits[1])
    (tmp_path / "found").rename(tmp_path / "before")
    report = search(tmp_path / "a")
    assert report.end == Ended(Outcome.FAILED, reason="B trained another model than A")


def merged(repository: Path) -> dict[str, str]:
    """main: good, then a merge of `side`, then bad; the second commit of `side` is slow."""
    history(repository, [QUICK, QUICK])
    git(repository, "reset", "-q", "--hard")
    named = {"good": git(repository, "rev-parse", "HEAD")}

    def commit(name: str, slower: float, file: str = "fake.json") -> None:
        (repository / file).write_text(json.dumps({"slower": slower}))
        git(repository, "add", "-A")
        git(repository, "commit", "-qm", name)
        named[name] = git(repository, "rev-parse", "HEAD")

    git(repository, "switch", "-qc", "side")
    commit("side 1", 1.01)
    commit("cause", 2.0)
    commit("side 3", 2.01)
    git(repository, "switch", "-q", "main")
    commit("main 1", 1.0, "notes")
    git(repository, "merge", "-q", "--no-ff", "-m", "merge", "side")
    named["merge"] = git(repository, "rev-parse", "HEAD")
    commit("last", 1.0, "more notes")
    return named


@pytest.mark.usefixtures("no_processes")
@pytest.mark.parametrize(
    ("changes", "cause"),
    [({}, "cause"), ({"first_parent": True}, "merge"), ({"paths": ("fake.json",)}, "cause")],
    ids=["all parents", "first parents", "paths"],
)
def test_merges_and_paths(
    tmp_path: Path, search: Callable[..., BisectReport], changes: dict[str, Any], cause: str
) -> None:
    named = merged(tmp_path / "a")
    seen = WatchingBisect()
    report = search(tmp_path / "a", seen, ends=(named["good"], named["last"]), **changes)
    assert report.end.commit == named[cause]
    if "paths" in changes:
        # BAD is measured, but is no candidate.
        assert {"main 1", "last"}.isdisjoint(
            name for name, commit in named.items() if commit in seen.tried[1:]
        )


@pytest.mark.usefixtures("no_processes")
def test_paths_that_the_cause_does_not_touch(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    named = merged(tmp_path / "a")
    ends = named["good"], named["last"]
    report = search(tmp_path / "a", ends=ends, paths=("notes",))
    assert report.end.outcome is Outcome.RANGE
    assert report.end.reason == "no commit that touches the paths made it worse"


def test_what_cannot_be_searched_is_refused(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    named = merged(tmp_path / "a")
    good, bad = named["good"], named["last"]
    refused: list[tuple[str, dict[str, Any]]] = [
        ("GOOD and BAD are both", {"ends": (good, good)}),
        ("name them the other way round", {"ends": (bad, good)}),
        ("is no ancestor of .*: name an ancestor", {"ends": (named["main 1"], named["cause"])}),
        ("git rev-parse nosuch", {"ends": (good, "nosuch")}),
        ("not on the line of first parents", {"ends": (named["cause"], bad), "first_parent": True}),
        ("nothing: no commit from GOOD", {"ends": (good, bad), "paths": ("nothing",)}),
    ]
    for words, changes in refused:
        with pytest.raises(UserError, match=words):
            search(tmp_path / "a", **changes)
    git(tmp_path, "clone", "-q", "--depth", "2", f"file://{tmp_path / 'a'}", "shallow")
    ends = commits_of(tmp_path / "shallow")
    with pytest.raises(UserError, match="the clone is shallow"):
        search(tmp_path / "shallow", ends=ends)
    with pytest.raises(UserError, match="not a git repository"):
        search(tmp_path / "data", ends=ends)
    assert not (tmp_path / "found").exists()


def test_two_bisections_never_share_a_folder(
    tmp_path: Path, search: Callable[..., BisectReport], monkeypatch: pytest.MonkeyPatch
) -> None:
    history(tmp_path / "a", [QUICK, SLOW])
    search(tmp_path / "a", WatchingBisect(stop_after=1))
    with pytest.raises(UserError, match="already holds a bisection"):
        search(tmp_path / "a")
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path))
    with (
        lock.the_folder(tmp_path / "found"),
        pytest.raises(UserError, match="another run writes to"),
    ):
        search(tmp_path / "a", resume=True)


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_the_users_command_runs_in_each_checkout_with_its_own_environment(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    """What it writes decides here how fast a commit is; where it fails, the commit is skipped."""
    commits = history(tmp_path / "a", ["1.0", "broken", "2.0"], name="speed")
    command = (
        'python -c "import sys, numpy; assert sys.prefix != sys.base_prefix; print(sys.prefix)" '
        "> prefix && grep -qv broken speed || { echo cannot build; exit 3; }; "
        'echo "{\\"slower\\": $(cat speed)}" > fake.json'
    )
    report = search(tmp_path / "a", setup=command)
    assert report.end.outcome is Outcome.RANGE
    assert report.end.candidates == tuple(commits[1:])
    (skipped,) = (trial for trial in report.trials if trial.finding is Finding.SKIPPED)
    assert skipped.reason.startswith("--setup ended with code 3: cannot build (")
    prefixes = {file.read_text() for file in (tmp_path / "found/checkouts").glob("*/prefix")}
    assert len(prefixes) == len(commits)
    lines = (tmp_path / "found" / "setups.jsonl").read_text().splitlines()
    assert len(lines) == len(prefixes)


@pytest.mark.usefixtures("no_processes")
def test_no_wrong_commit_is_named(tmp_path: Path, search: Callable[..., BisectReport]) -> None:
    """Of 40 commits each; large changes are found, and of a small one the range may be told."""
    effects = {1: 0.2, 9: 0.1, 20: 0.2, 31: 0.1, 39: 0.2, 5: 0.03, 25: 0.05, 38: 0.0}
    for cause, slower in effects.items():
        told = [json.dumps({"slower": 1 + slower * (n >= cause), "n": n}) for n in range(40)]
        commits = history(tmp_path / f"from {cause}", told)
        report = search(tmp_path / f"from {cause}")
        (tmp_path / "found").rename(tmp_path / f"found{cause}")
        if slower >= 0.1:
            assert report.end.commit == commits[cause]
        else:
            assert report.end.commit in (commits[cause] if slower else "", "")
            assert not report.end.candidates or commits[cause] in report.end.candidates


def test_a_history_is_read_as_git_bisects_it(tmp_path: Path) -> None:
    named = merged(tmp_path / "a")
    told = GitHistory(str(tmp_path / "a"), named["good"], named["last"])
    found = dict(told.candidates(named["last"], [named["good"]]))
    assert found == {
        named["side 1"]: 1,
        named["cause"]: 2,
        named["side 3"]: 3,
        named["main 1"]: 1,
        named["merge"]: 1,
        named["last"]: 0,
    }
    assert told.in_order([named["last"], named["cause"]]) == [named["cause"], named["last"]]
    assert told.parent(named["merge"]) == named["main 1"]
    line = replace(told, first_parent=True)
    assert len(line.candidates(named["last"], [named["good"]])) == 3


@pytest.mark.usefixtures("no_processes")
def test_a_trial_without_its_blocks_is_refused(
    tmp_path: Path, search: Callable[..., BisectReport]
) -> None:
    history(tmp_path / "a", [QUICK, SLOW, SLOW])
    search(tmp_path / "a")
    file = tmp_path / "found" / "trials.jsonl"
    first, *others = file.read_text().splitlines(keepends=True)
    damaged = json.dumps({**json.loads(first), "speed": [0.5, 0.5]})
    file.write_text("".join([f"{damaged}\n", *others]))
    with pytest.raises(
        UserError, match=r"trials\.jsonl line 1: 2 blocks, and a trial ends after 4, 8"
    ):
        search(tmp_path / "a", resume=True)


def test_a_trial_is_kept_as_it_was(tmp_path: Path) -> None:
    trial = Trial(Purpose.STEP, "a", "b", 0.001, Finding.WORSE, "", (0.5, 0.25), (0.0, 0.5))
    folder = BisectFolder.opened(tmp_path)
    folder.keep_trial(trial)
    with (tmp_path / "trials.jsonl").open("a") as lines:
        lines.write('{"purpose": "st')
    assert BisectFolder.opened(tmp_path).trials() == [trial]
