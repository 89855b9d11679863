"""The history in both engines: nothing is lost, whoever writes, and whatever goes wrong."""

from __future__ import annotations

import contextlib
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, text
from support import ROOT, postgres
from support.run_folders import write_run

from bench.schema.case import Case
from bench.schema.history import Revision
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.requests import LaunchRequest
from bench.schema.runs import MeasuredRun
from bench.store.history import engine, record
from bench.store.history import history as history_module
from bench.store.history.history import History, Outcome
from bench.store.history.place import place_of
from bench.store.history.record import kept
from bench.store.history.tables import METADATA, NOTES, RUNS, VERSION_TABLE, VERSIONS
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from bench.verdicts.facts import Fact, Purpose, facts
from fmnist_models.errors import UserError

COMPILED, FIT = Case("relu_mlp", "adam", "compiled"), Case("relu_mlp", "adam", "fit")
CPU: dict[str, Any] = {
    "cpu": {"model": "EPYC", "cores_logical": 4, "affinity": [0, 1], "cgroup_quota_cpus": None}
}
KERNEL: dict[str, Any] = {"os": {"name": "Debian", "kernel": "6.1"}}
KILLED = """
import os, signal, sys
from pathlib import Path
from bench.store.history import history
from bench.store.history.record import kept
from bench.store.measured import read_run
put = history._put_contents
def killed(*words):
    put(*words)
    os.kill(os.getpid(), signal.SIGKILL)
history._put_contents = killed
history.History(sys.argv[1]).add(kept(read_run(Path(sys.argv[2]))))
"""
HINT = "\nHINT: a word\nmore"
MakeRun = Callable[..., MeasuredRun]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    if postgres.program("initdb") is None:
        pytest.skip("PostgreSQL is not installed")
    with postgres.server() as socket:
        yield socket


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty place for a history, in each engine."""
    if request.param == "sqlite":
        return str(tmp_path / "a history é.sqlite")
    socket: str = request.getfixturevalue("server")
    postgres.empty(socket)
    return postgres.url(socket)


@pytest.fixture
def run(tmp_path: Path) -> MakeRun:
    """Makes a run of one day of March, read."""

    def make(day: int = 1, seconds: float = 4.0, **facts: Any) -> MeasuredRun:
        """A run, with so many seconds an epoch."""
        told = {"time_utc": f"2026-03-{day:02d}T12:00:00+00:00", **CPU, **KERNEL, **facts}
        path = tmp_path / f"run-{day}-{seconds}"
        if not path.exists():
            write_run(path, {COMPILED: (seconds, 0.87)}, **told)
        return read_run(path)

    return make


def same(run: MeasuredRun, again: MeasuredRun) -> bool:
    """Whether every figure and record of two runs is the same; NaN is NaN."""
    assert run.whole is not None
    assert again.whole is not None
    pairs = [(replace(run, path=Path(), whole=None), replace(again, path=Path(), whole=None))]
    pairs += [(run.whole(), again.whole())]  # type: ignore[list-item]
    return all(repr(one) == repr(other) for one, other in pairs)


def test_every_figure_comes_back(store: str, tmp_path: Path) -> None:
    """Of a run with a loss of NaN, a failed case, and a round whose launch has not ended."""
    path = write_run(
        tmp_path / "run",
        {COMPILED: (0.4, 0.87), FIT: (4.0, 0.86)},
        reasons={Case("softmax", "sgd", "fit"): (Status.FAILED, "out of [luck] \u2028 é")},
        label="lab 실험실",
        **CPU,
        **KERNEL,
    )
    folder = RunFolder(path)
    begun = LaunchRequest(COMPILED, 3, 1, 2, 42)
    folder.append_round(begun, Round(1, 48_000, 1_500, 1 / 3, 0.1, train_loss=math.nan))
    before = {file.name: file.read_bytes() for file in path.glob("*.*")}
    with History(store) as history:
        new = kept(read_run(path))
        assert history.add(new) is Outcome.ADDED
        history.restore(new.id[:8], tmp_path / "again")
        assert same(read_run(path), read_run(tmp_path / "again"))
        for name, content in before.items():
            assert (tmp_path / "again" / name).read_bytes() == content, name


def test_a_run_of_an_earlier_version_comes_back(tmp_path: Path) -> None:
    path = next((ROOT / "results/examples/guard/stored").iterdir())
    with History(tmp_path / "h") as history:
        new = kept(read_run(path))
        history.add(new)
        history.restore(new.id, tmp_path / "again")
    assert same(read_run(path), read_run(tmp_path / "again"))


def test_a_later_version_of_the_suite_finds_and_restores_what_this_one_added(
    store: str, run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such a version knows one more field of a launch, and one more column of each table."""
    one, to_json = run(), LaunchRecord.to_json
    with History(store) as history:
        assert history.add(kept(one)) is Outcome.ADDED
        later = lambda launch: {**to_json(launch), "new": None}  # noqa: E731
        monkeypatch.setattr(LaunchRecord, "to_json", later)
        for name in ("RESULT_COLUMNS", "ROUND_COLUMNS"):
            monkeypatch.setattr(record, name, ("new", *getattr(record, name)))
        history.restore(kept(one).id, tmp_path / "again")
        assert same(one, read_run(tmp_path / "again"))
        assert history.add(kept(one)) is Outcome.UPDATED
        assert history.count() == 1


def test_a_run_is_there_once_and_as_far_as_it_came(store: str, run: MakeRun) -> None:
    first = run()
    assert first.whole is not None
    whole = first.whole()
    part = replace(whole, launches=whole.launches[:1])
    half = replace(first, whole=lambda: part)
    with History(store) as history:
        assert history.add(kept(half)) is Outcome.ADDED
        assert history.add(kept(first)) is Outcome.UPDATED
        assert history.add(kept(first)) is Outcome.THERE
        assert history.add(kept(half)) is Outcome.EARLIER
        assert history.count() == 1
        assert len(history.series()[0].points[0].logs) == 3
        # What a user told of it stays, until it is told anew.
        told = Revision("c1", "2026-02-28T00:00:00+00:00", ("c0",))
        assert history.add(kept(first, "lab", told)) is Outcome.UPDATED
        assert history.add(kept(first)) is Outcome.THERE
        assert [(r.machine.name, r.revision) for r in history.runs()] == [("lab", told)]
        # No run is of the machine that it was kept under before.
        with pytest.raises(UserError, match=r"name one of: lab \(lab\)"):
            history.runs("EPYC")


def test_what_is_known_of_a_commit_is_not_lost(store: str, run: MakeRun) -> None:
    """A run of an earlier version recorded no time of its commit; a later one may."""
    whole = Revision("c1", "2026-02-28T00:00:00+00:00", ("c0", "b7"))
    with History(store) as history:
        history.add(kept(run(1, git={"revision": "c1", "dirty": True})))
        history.add(kept(run(2), revision=whole))
        history.add(kept(run(3, git={"revision": "c1", "dirty": False})))
        found = [each.revision for each in history.runs()]
    assert found == [replace(whole, dirty=True), whole, whole]


def test_series_of_a_case(store: str, run: MakeRun, tmp_path: Path) -> None:
    newer = {"os": {"name": "Debian", "kernel": "6.2"}}
    failed = tmp_path / "failed"
    write_run(
        failed,
        {},
        reasons={COMPILED: (Status.FAILED, "no luck")},
        time_utc="2026-03-03T12:00:00+00:00",
        **CPU,
        **KERNEL,
    )
    with History(store) as history:
        for one in (run(4, 4.4, **newer), run(1), read_run(failed), run(2, label=None)):
            history.add(kept(one))
        other = tmp_path / "other"
        write_run(other, {COMPILED: (9.0, 0.8)}, epochs=3, **CPU, **KERNEL)
        history.add(kept(read_run(other)))
        history.add(kept(run(5), machine="lab"))
        found = {(one.machine, len(one.points)): one for one in history.series()}
        own = next(one for (_, points), one in found.items() if points == 4)
        longer, lab = found[own.machine, 1], found["lab", 1]
        assert len(found) == 3
        assert [p.time_utc[8:10] for p in own.points] == ["01", "02", "03", "04"]
        assert [p.status for p in own.points] == ["ok", "ok", "failed", "ok"]
        assert own.points[0].logs[0] == pytest.approx(math.log(4.0 / 48_000))
        assert own.points[0].scores == pytest.approx((0.87,) * 3)
        assert own.points[0].environment == own.points[1].environment
        assert [p.facts["kernel"] for p in own.points] == ["6.1", "6.1", "6.1", "6.2"]
        assert (own.machine_name, own.score, own.case) == (
            "EPYC, 4 threads",
            "accuracy",
            COMPILED.id,
        )
        assert own.workload == lab.workload != longer.workload
        (last,) = history.series("EPYC", [COMPILED.id], since="2026-03-02", last=2)
        assert [p.time_utc[8:10] for p in last.points] == ["03", "04"]
        assert len(history.runs("EPYC", since="2026-03-03T00:00:00-20:00")) == 1
        with pytest.raises(UserError, match="no run has it: choose from relu_mlp"):
            history.series(cases=["x"])
        # So many runs of the case, whatever others ran meanwhile.
        write_run(tmp_path / "fit", {FIT: (4.0, 0.8)}, time_utc="2026-03-09T00:00:00+00:00")
        history.add(kept(read_run(tmp_path / "fit"), machine="lab"))
        (last,) = history.series("lab", [COMPILED.id], last=1)
        assert [p.time_utc[8:10] for p in last.points] == ["05"]
        with pytest.raises(UserError, match="but others have: leave out --machine or --since"):
            history.series("EPYC", [FIT.id])
        with pytest.raises(UserError, match=r"name one of: EPYC, 4 threads .*, lab \(lab\)"):
            history.series("")


def test_the_probe_of_a_run_is_kept(store: str, run: MakeRun) -> None:
    with History(store) as history:
        history.add_all([kept(run(1, control_s=[0.02, 0.5, 0.03])), kept(run(2))])
        (one,) = history.series()
    assert [point.control for point in one.points] == [math.log(0.03), None]


def test_runs_go_and_the_others_stay(store: str, run: MakeRun) -> None:
    with History(store) as history:
        for day in (1, 2, 3):
            history.add(kept(run(day)))
        first, *_ = history.runs()
        with pytest.raises(UserError, match="which of"):
            history.chosen([first.id, ""])
        with pytest.raises(UserError, match="no run has that id"):
            history.chosen(["%___"])
        history.remove([first])
        assert [r.time_utc[8:10] for r in history.runs()] == ["02", "03"]
        assert [len(s.points) for s in history.series()] == [2]
        assert history.add(kept(run(1, 4.5))) is Outcome.ADDED


def test_no_other_run_goes_in_place_of_one_that_is_gone(store: str, run: MakeRun) -> None:
    """SQLite gives the number of a run that was taken out to the next one."""
    with History(store) as history:
        history.add(kept(run(1)))
        found = history.runs()
        history.remove(found)
        history.add(kept(run(2)))
        history.remove(found)
        assert [r.time_utc[8:10] for r in history.runs()] == ["02"]


def test_a_run_is_added_that_another_takes_out_meanwhile(
    server: str, run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a server, where others write too; a file has one writer at a time."""
    postgres.empty(server)
    put = history_module._put

    def taken_out(connection: Any, table: Any, **values: Any) -> int | None:
        number = put(connection, table, **values)
        if table is RUNS and number is None:
            monkeypatch.undo()
            with History(postgres.url(server)) as other:
                other.remove(other.runs())
        return number

    with History(postgres.url(server)) as history:
        history.add(kept(run()))
        monkeypatch.setattr(history_module, "_put", taken_out)
        assert history.add(kept(run())) is Outcome.ADDED
        assert history.count() == 1


def test_a_file_gets_smaller(tmp_path: Path, run: MakeRun) -> None:
    with History(tmp_path / "h") as history:
        history.add(kept(run(1, notes=os.urandom(200_000).hex())))
        history.remove(history.runs())
    assert (tmp_path / "h").stat().st_size < 200_000


def test_notes(store: str, run: MakeRun) -> None:
    with History(store) as history:
        history.add(kept(run()))
        history.note("change-1", "a new driver")
        history.note("change-1", "a new driver, é")
        assert [(n.id, n.note) for n in history.notes().values()] == [
            ("change-1", "a new driver, é")
        ]


def test_a_note_is_kept_that_another_writes_too(server: str, run: MakeRun) -> None:
    postgres.empty(server)
    url = postgres.url(server)
    with History(url) as history, History(url) as other:
        history.add(kept(run()))
        mine = threading.Thread(target=history.note, args=["change-1", "mine"])
        with other._store.writing() as connection:
            connection.execute(insert(NOTES).values(id="change-1", time_utc="T", note="theirs"))
            mine.start()
            waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
            while mine.is_alive() and not connection.execute(waiting).scalar():
                time.sleep(0.01)
        mine.join()
        assert [note.note for note in other.notes().values()] == ["mine"]


def test_many_writers_at_once(store: str, run: MakeRun) -> None:
    """Four add the same run, four another each, and the first of all makes the tables."""
    runs = [kept(one) for one in (*[run(1)] * 4, *(run(day) for day in range(2, 6)))]
    start, ended = threading.Barrier(len(runs)), list[Outcome | UserError]()

    def add(new: record.KeptRun) -> None:
        """Add one, when all are there."""
        with History(store) as history:
            start.wait()
            try:
                ended.append(history.add(new))
            except UserError as error:
                ended.append(error)

    threads = [threading.Thread(target=add, args=[new]) for new in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, ended)) == ["added"] * 5 + ["is there already"] * 3
    with History(store) as history:
        assert [len(s.points) for s in history.series()] == [5]


def test_a_killed_writer_leaves_nothing_and_blocks_nobody(store: str, run: MakeRun) -> None:
    first, second = run(1), run(2)
    with History(store) as history:
        history.add(kept(first))
        words = [sys.executable, "-c", KILLED, store, str(second.path)]
        done = subprocess.run(words, cwd=ROOT, check=False)
        assert done.returncode == -signal.SIGKILL
        assert history.count() == 1
        assert history.add(kept(second)) is Outcome.ADDED


def test_a_history_of_a_later_version(store: str, run: MakeRun) -> None:
    with History(store) as history:
        history.add(kept(run()))
        with history._store.writing() as connection:
            connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
        for use in (history.runs, lambda: history.add(kept(run(2)))):
            with pytest.raises(
                UserError, match=r"version 9999, newer than .*: update fmnist-bench"
            ):
                use()


def test_a_history_of_an_earlier_version_is_brought_up_to_date(store: str, run: MakeRun) -> None:
    history = History(store)
    history._store.place.make_ready()
    with history._store._engine(writes=True).begin() as connection:
        engine._migrate(connection, VERSIONS[0])
        connection.exec_driver_sql("INSERT INTO fmnist_machines VALUES ('m', 'lab')")
    assert history.notes() == {}
    assert history.add(kept(run(), "m")) is Outcome.ADDED
    assert [r.machine.name for r in history.runs()] == ["lab"]
    history.close()


def test_the_steps_lead_to_the_tables_that_are_used(store: str) -> None:
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    steps = ScriptDirectory(str(Path(engine.__file__).with_name("migrations"))).walk_revisions()
    assert tuple(step.revision for step in steps)[::-1] == VERSIONS
    history = History(store)
    with history._store.writing() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, METADATA) == []
    history.close()


def test_without_a_history(store: str, run: MakeRun) -> None:
    with History(store) as history, pytest.raises(UserError, match="history add makes one"):
        history.runs()


def line_of(store: str | Path, run: MeasuredRun) -> str:
    """What a user is told who adds a run there; one line, without a password."""
    with pytest.raises(UserError) as error, History(store) as history:
        history.add(kept(run))
    line = str(error.value)
    assert "\n" not in line
    assert "w0rd" not in line
    assert "secret" not in line
    return line


def test_a_wrong_password_and_no_server(server: str, tmp_path: Path, run: MakeRun) -> None:
    wrong = line_of(postgres.url(server, "postgres", "secret"), run())
    assert "***" in wrong
    assert 'authentication failed for user "bench"; give the right one in PGPASSWORD' in wrong
    assert "is the server running" in line_of(postgres.url(str(tmp_path)), run())
    assert "make it with createdb" in line_of(postgres.url(server, "nowhere"), run())


@pytest.mark.parametrize(
    "url",
    [
        "mysql://me:secret@host/x",
        "postgresql+asyncpg://me:secret@host/x",
        "postgresql://me:very@secret@host:1:2/x",
        "sqlite://",
        "postgresql://host:x/y?password=secret",
    ],
)
def test_an_address_that_is_none(url: str, run: MakeRun) -> None:
    assert "postgresql+psycopg://USER@HOST/DATABASE" in line_of(url, run())


def test_what_is_no_history(tmp_path: Path, run: MakeRun) -> None:
    text = tmp_path / "text"
    text.write_text("a diary, not a history " * 100)
    assert "file is not a database; name another history" in line_of(text, run())
    assert text.read_text().startswith("a diary")
    assert "is a folder, and a history is a file" in line_of(tmp_path, run())
    assert "/dev/null is a device or a pipe, and" in line_of("/dev/null", run())
    other = tmp_path / "other.sqlite"
    with sqlite3.connect(other) as connection:
        connection.execute("CREATE TABLE birds (name)")
    connection.close()
    assert "of another program, with a table birds" in line_of(other, run())
    with pytest.raises(UserError, match="holds no history"):
        History(other).runs()
    assert "is no folder" in line_of(text / "h.sqlite", run())


def test_a_full_disk(tmp_path: Path, run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "h"
    with History(place) as history:
        history.add(kept(run()))
    full = (*engine._PRAGMAS, "PRAGMA max_page_count=1")
    with monkeypatch.context() as patched:
        patched.setattr(engine, "_PRAGMAS", full)
        large = run(2, notes=os.urandom(200_000).hex())
        assert "database or disk is full; make room, then do it again" in line_of(place, large)
    with History(place) as history:
        assert history.count() == 1
        assert history.add(kept(large)) is Outcome.ADDED


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('could not extend file "base/1/2": No space left on device', "make room, then do it"),
        ('FATAL: Peer authentication failed for user "bench"', "ask who runs the server"),
        ("consuming input failed: server closed the connection", "is the server running"),
    ],
)
def test_what_a_server_tells(said: str, remedy: str) -> None:
    place = place_of("postgresql://me:secret@host/x")
    assert f"host/x: {said} HINT: a word; " in (line := str(place.refused(OSError(said + HINT))))
    assert remedy in line


def test_a_file_that_may_only_be_read(
    tmp_path: Path, run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write everywhere, so the file is opened as SQLite opens one that is read-only."""
    place = tmp_path / "h"
    with History(place) as history:
        history.add(kept(run()))
    monkeypatch.setattr(engine, "_PRAGMAS", ("PRAGMA query_only=ON",))
    assert "attempt to write a readonly database; get the right" in line_of(place, run(2))
    monkeypatch.setattr(os, "access", lambda *_: False)
    with History(place) as history:
        assert history.count() == 1
        assert not place.with_name("h-wal").exists()


def test_another_writer_is_waited_for(
    store: str, run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "BUSY_S", 0.05)
    with History(store) as history, History(store) as other:
        history.add(kept(run()))
        with other._store.writing() as connection:
            history_module._add(connection, kept(run(2)))
            # Readers do not wait.
            assert history.count() == 1
            assert "; another program keeps it" in line_of(store, run(2))


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
def test_a_database_of_another_encoding(server: str, run: MakeRun, encoding: str) -> None:
    """What Debian makes where the language is C, and what some teams still have."""
    postgres.empty(server, encoding)
    with History(postgres.url(server)) as history:
        history.add(kept(run(), "é"))
        assert history.runs()[0].machine.name == "é"
    if encoding == "LATIN1":
        far = replace(run(2), environment={**run(2).environment, "label": "실험실"})
        assert "; make a database with createdb -E UTF8" in line_of(postgres.url(server), far)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE fmnist_runs SET label = CAST(x'ff' AS TEXT)",
        "UPDATE fmnist_runs SET record = x'00'",
        "UPDATE fmnist_launches SET record = substr(record, 1, 50)",
        "UPDATE fmnist_cases SET logs = '['",
    ],
)
def test_a_damaged_history(tmp_path: Path, run: MakeRun, damage: str) -> None:
    """Where SQLite does not see it."""
    place = tmp_path / "h"
    with History(place) as history:
        history.add(kept(run()))
        with contextlib.closing(sqlite3.connect(place)) as connection, connection:
            connection.execute(damage)
        read = history.restore if "record" in damage else lambda *_: history.series()
        with pytest.raises(UserError, match="; name another history, or take it from a copy"):
            read(kept(run()).id, tmp_path / "again")


def test_a_run_without_launches_or_a_time(tmp_path: Path, run: MakeRun) -> None:
    one = run()
    assert one.whole is not None
    whole = replace(one.whole(), launches=())
    with pytest.raises(UserError, match="holds no launch"):
        kept(replace(one, whole=lambda: whole))
    with pytest.raises(UserError, match="no time_utc"):
        kept(replace(one, environment={}))


def test_a_new_fact_in_the_table_makes_no_other_machine(
    run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = run().environment
    before = record.machine_of(environment)
    new = Fact("cooling", ("cooling",), frozenset({Purpose.BASELINE}))
    monkeypatch.setattr(record, "facts", lambda purpose: (*facts(purpose), new))
    assert record.machine_of(environment) == before
    assert record.machine_of({**environment, "cooling": "air"}).id != before.id


def test_the_environment_and_the_code_are_told_apart(run: MakeRun) -> None:
    """The suite's version is environment where one's own models are measured, else code."""
    suite = {"versions": {"fmnist-bench": "1.0"}}
    git, own = {"revision": "s1", "dirty": False}, {"revision": "m1", "time_utc": "T"}
    of_suite, of_own = run(1, **suite, git=git), run(2, **suite, git=git, revision=own)
    assert "suite" not in record.facts_of(of_suite.environment)
    assert record.facts_of(of_own.environment)["suite"] == "1.0"
    assert record.revision_of(of_suite.environment) == Revision("s1")
    assert record.revision_of(of_own.environment) == Revision("m1", "T")
    # A run across nodes is of another machine than one of its first node alone.
    alone = run(6).environment
    across = {**alone, "nodes": [{"hardware": "a"}, {"hardware": "b"}]}
    assert record.machine_of(across).name == f"2 nodes: {record.machine_of(alone).name}"
    assert record.machine_of(across).id != record.machine_of(alone).id
    # Each start of a kernel leaves other bytes.
    one, other = (run(3 + k, memory_bytes=25_276_502_016 + 4096 * k) for k in range(2))
    assert record.facts_of(one.environment) == record.facts_of(other.environment)
