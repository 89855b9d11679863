"""`fmnist-bench history`, and what `run --history` does, as typed."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import FAKE_WORKER, TypeIn
from support.repositories import git
from support.run_folders import write_run

from bench.cli import history as verbs
from bench.cli.verb import command_line
from bench.launch.launcher import CAN_FORK, Launcher
from bench.schema.case import Case
from bench.schema.plan import Plan, RunSettings
from bench.session import run as session_run
from bench.session.outcome import RunOutcome
from bench.store.fleet_folder import FleetFolder
from bench.store.history.history import History
from bench.store.history.reading import KnownRun
from bench.store.history.record import kept
from bench.store.measured import read_run
from fmnist_models.errors import UserError

COMPILED = Case("relu_mlp", "adam", "compiled")


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The place of a history that is not there yet, named by the variable."""
    place = tmp_path / "made" / "history.sqlite"
    monkeypatch.setenv(verbs.STORE_VARIABLE, str(place))
    return place


def measured(path: Path, day: int, seconds: float = 4.0) -> Path:
    told = {"time_utc": f"2026-03-0{day}T12:00:00+00:00", "git": None}
    return write_run(path, {COMPILED: (seconds, 0.87)}, **told)  # type: ignore[arg-type]


def test_runs_come_and_go(type_in: TypeIn, store: Path, tmp_path: Path) -> None:
    code, _, err = type_in("history", "list")
    assert (code, "history add makes one" in err) == (2, True)
    for day in (1, 2, 3):
        measured(tmp_path / "runs" / f"run{day}", day)
    (tmp_path / "runs" / "run2" / "rounds.csv").write_text("case\n")
    (tmp_path / "none").mkdir()
    code, out, err = type_in("history", "add", tmp_path / "none", tmp_path / "runs")
    assert (code, out.count(": added: run "), err.count("\n")) == (2, 2, 2)
    assert "none holds no run: name the folder" in err
    code, out, _ = type_in("history", "add", tmp_path / "runs" / "run1", "--machine", "lab")
    assert (code, "brought up to date" in out) == (0, True)
    code, out, _ = type_in("history", "show", COMPILED.id, "--machine", "lab")
    assert (code, "2026-03-01 12:00" in out, "2026-03-03" in out) == (0, True, False)
    code, out, _ = type_in("history", "prune", "--before", "2026-03-03")
    assert (code, "1 run would go: add --yes" in out) == (0, True)
    with History(store) as history:
        assert history.count() == 2
        first = next(run for run in history.runs() if run.machine.name == "lab")
    code, out, _ = type_in("history", "restore", first.id, "--output", tmp_path / "again")
    assert code == 0
    again, was = (f / "results.csv" for f in (tmp_path / "again", tmp_path / "runs" / "run1"))
    assert again.read_text() == was.read_text()
    code, _, err = type_in("history", "restore", first.id, "--output", tmp_path / "again")
    assert (code, "already holds a run" in err) == (2, True)
    assert type_in("history", "prune", "--keep", "1", "--before", "2026-03-03", "--yes")[0] == 0
    with History(store) as history:
        assert history.count() == 2
    assert type_in("history", "prune", "--keep", "0", "--machine", "lab", "--yes")[0] == 0
    code, out, _ = type_in("history", "remove", "0000")
    assert code == 2
    with History(store) as history:
        (left,) = history.runs()
    code, out, _ = type_in("history", "remove", left.id)
    assert (code, out) == (0, f"removed {left.id} of 2026-03-03T12:00:00+00:00\n")
    assert type_in("history", "list")[1] == "no runs\n"


def test_prune_takes_out_no_run_that_is_added_meanwhile(
    type_in: TypeIn, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in (1, 2, 3):
        measured(tmp_path / f"run{day}", day)
    type_in("history", "add", tmp_path / "run1", tmp_path / "run2")
    runs = History.runs

    def meanwhile(self: History, *words: Any, **more: Any) -> list[KnownRun]:
        """Read the runs; then somebody adds one."""
        found = runs(self, *words, **more)
        self.add(kept(read_run(tmp_path / "run3")))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(History, "runs", meanwhile)
        assert type_in("history", "prune", "--keep", "1", "--yes")[0] == 0
    with History(store) as history:
        assert [run.time_utc[8:10] for run in history.runs()] == ["02", "03"]
    # Of fewer runs than are kept, none goes.
    code, out, _ = type_in("history", "prune", "--keep", "3", "--yes")
    assert (code, "0 runs removed" in out) == (0, True)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_commit_of_a_run_can_be_told(type_in: TypeIn, store: Path, tmp_path: Path) -> None:
    repository = tmp_path / "repository"
    repository.mkdir()
    git(repository, "init", "-q")
    for word in ("first", "second"):
        git(repository, "commit", "-q", "--allow-empty", "-m", word)
    first, second = (git(repository, "rev-parse", name) for name in ("HEAD~", "HEAD"))
    run = measured(tmp_path / "run", 1)
    where = ("--checkout", repository)
    code, _, err = type_in("history", "add", run, *where)
    assert (code, "records no commit: name it with --revision" in err) == (2, True)
    assert type_in("history", "add", run, *where, "--revision", "HEAD")[0] == 0
    with History(store) as history:
        told = history.runs()[0].revision
    assert told is not None
    assert (told.id, told.parents, bool(told.time_utc)) == (second, (first,), True)
    # It is the same of each run, so it is told once.
    code, _, err = type_in("history", "add", run, run, *where, "--revision", "nowhere")
    assert (code, err.count("nowhere"), err.count("\n")) == (2, 1, 1)


def test_the_nodes_of_a_fleet_are_machines(type_in: TypeIn, store: Path, tmp_path: Path) -> None:
    fleet = FleetFolder(tmp_path / "fleet", Plan((COMPILED,), RunSettings()))
    fleet.path.mkdir()
    fleet.open()
    for day, name in enumerate(("node/1", "node 2"), 1):
        measured(fleet.of_node(name), day)
    assert type_in("history", "add", tmp_path / "fleet")[0] == 0
    with History(store) as history:
        assert sorted(run.machine.name for run in history.runs()) == ["node 2", "node/1"]


@pytest.fixture
def run(
    type_in: TypeIn, tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int, str, str]]:
    """Types `run` of one case, whose scripted launches end at once, into the folder `run`."""
    if not CAN_FORK:
        pytest.skip("the fake worker forks")
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"rounds": [1.0, 1.0]}]))
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
    monkeypatch.setattr(session_run, "Launcher", lambda data=None: Launcher(FAKE_WORKER, data))
    axes = ("--models", "softmax", "--optimizers", "adam", "--loops", "fit", "--devices", "cpu")
    more = ("--batch-sizes", "32", "--precisions", "float32", "--epochs", "2", "--no-report")
    words = ("run", *axes, *more, "--data", small_data, "--output", tmp_path / "run")
    return lambda *also: type_in(*words, *also)


def test_a_run_is_added_when_it_has_ended(
    type_in: TypeIn, run: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    place = tmp_path / "of a team" / "history.sqlite"
    code, out, _ = run("--history", place)
    assert (code, out.count(": added: run ")) == (0, 1)
    code, out, _ = type_in("history", "add", tmp_path / "run", "--store", place)
    assert (code, "is there already" in out) == (0, True)
    with History(place) as history:
        (one,) = history.runs()
    assert (one.ok, one.cases) == (1, 1)
    # The command that a run records repeats it.
    command = json.loads((tmp_path / "run" / "plan.json").read_text("utf-8"))["command"]
    assert shlex.split(command)[-2:] == ["--history", str(place)]


def test_a_history_that_is_gone_at_the_end_of_a_run_loses_nothing(
    type_in: TypeIn,
    run: Callable[..., tuple[int, str, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    place, execute = tmp_path / "a history", session_run.execute

    def executed(*words: Any, **more: Any) -> RunOutcome:
        """Measures; meanwhile somebody makes a folder of the history."""
        outcome = execute(*words, **more)
        place.unlink()
        place.mkdir()
        return outcome

    monkeypatch.setattr(session_run, "execute", executed)
    code, out, err = run("--history", place)
    assert (code, err.splitlines()[-1].startswith("fmnist-bench: error: ")) == (2, True)
    assert "softmax-adam-fit-cpu-b32-float32" in out
    assert read_run(tmp_path / "run").logs
    _, remedy = err.splitlines()[-1].split("is whole; add it by fmnist-bench ")
    place.rmdir()
    code, out, _ = type_in(*shlex.split(remedy))
    assert (code, ": added: run " in out) == (0, True)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("mysql://me:w0rd@host/x", "mysql://me:***@host/x: choose a path"),
        ("postgresql://me:w0rd@/x?host=/nowhere", "is the server running"),
        (".", ". is a folder"),
    ],
)
def test_a_wrong_history_is_refused_before_anything_is_measured(
    run: Callable[..., tuple[int, str, str]], tmp_path: Path, wrong: str, told: str
) -> None:
    code, _, err = run("--history", wrong)
    assert (code, told in err, "w0rd" in err, err.count("\n")) == (2, True, False, 1)
    assert not (tmp_path / "run").exists()


def test_no_run_records_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    url = "postgresql+psycopg://me:se%40cr/et@host/db?sslpassword=key&password=word"
    monkeypatch.setattr("sys.argv", ["fmnist-bench", "run", "--history", url, f"--store={url}"])
    line = command_line()
    assert not [word for word in ("se%40", "cr/et", "key", "=word") if word in line]
    assert line.count("postgresql+psycopg://me:***@host/db?sslpassword=***&password=***") == 2
    # All of which SQLAlchemy takes.
    for url in ("postgresql://my self:a b@host/db", "postgresql://host/db?password=a b&user=me"):
        monkeypatch.setattr("sys.argv", ["fmnist-bench", "run", "--history", url, "--epochs", "1"])
        line = command_line()
        assert "a b" not in line
        assert line.endswith("' --epochs 1")
    monkeypatch.setattr("sys.argv", ["fmnist-bench", "run", "--models", "a b"])
    assert command_line() == "fmnist-bench run --models 'a b'"


def test_what_a_history_needs_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verbs, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs sqlalchemy and alembic: pip install 'fmnist"):
        verbs.history_at(None)
