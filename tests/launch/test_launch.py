"""Launches end as records, whatever happens to the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from signal import Signals
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support import FAKE_WORKER, ROOT

from bench.launch.channel import LocalChannel
from bench.launch.launcher import CAN_FORK, Launcher
from bench.launch.origin import Origin
from bench.launch.placement import LaunchPlace
from bench.launch.process import Answer, WorkerProcess
from bench.machine.loaded import CHECKOUT
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.requests import LaunchRequest

CASE = Case("relu_mlp", "adam", "fit")
BOTH = [pytest.param(True, marks=pytest.mark.skipif(not CAN_FORK, reason="no fork here")), False]

Launch = Callable[..., tuple[list[LaunchRecord], list[Round]]]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Runs a script of launches; returns their records and all rounds."""

    def run(
        *scripts: dict[str, Any],
        fork: bool = True,
        timeout_s: float = 60.0,
        worker: tuple[str, ...] = FAKE_WORKER,
        origin: Origin | None = None,
    ) -> tuple[list[LaunchRecord], list[Round]]:
        (tmp_path / "script.json").write_text(json.dumps(scripts))
        environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
        place = LaunchPlace(environment, fork, tmp_path / "log", timeout_s)
        rounds: list[Round] = []
        records = []
        with Launcher(worker, origin=origin) as launcher:
            for number in range(len(scripts)):
                request = LaunchRequest(CASE, number, 1, epochs=2, seed=42 + number)
                records.append(launcher.run(request, place, rounds.append))
        return records, rounds

    return run


@pytest.mark.parametrize("fork", BOTH)
def test_rounds_come_as_they_were_measured(launch: Launch, fork: bool) -> None:
    records, rounds = launch({"rounds": [0.1, 1 / 3]}, {"rounds": [0.2]}, fork=fork)
    assert [r.seconds for r in rounds] == [0.1, 1 / 3, 0.2]
    assert [(r.status, r.launch, r.seed) for r in records] == [("ok", 0, 42), ("ok", 1, 43)]
    assert records[0].parameters == 79_510
    assert records[0].total_s is not None
    assert records[0].total_s > 0


@pytest.mark.parametrize("fork", BOTH)
def test_a_crash_is_a_record_and_the_next_launch_goes_on(launch: Launch, fork: bool) -> None:
    records, rounds = launch({"rounds": [0.1], "die": "SIGSEGV"}, {"rounds": [0.2]}, fork=fork)
    assert records[0].status is Status.KILLED
    assert records[0].reason == "killed by SIGSEGV"
    assert records[1].status is Status.OK
    assert len(rounds) == 2


def test_a_kill_names_the_likely_cause(
    launch: Launch,
) -> None:
    records, _ = launch({"rounds": [], "die": "SIGKILL"})
    assert records[0].reason == "killed by SIGKILL (out of memory?)"


@pytest.mark.parametrize("fork", BOTH)
def test_a_hang_ends_at_the_limit(launch: Launch, fork: bool) -> None:
    records, rounds = launch(
        {"rounds": [0.1], "hang": True}, {"rounds": [0.2]}, fork=fork, timeout_s=1.0
    )
    assert records[0].status is Status.TIMED_OUT
    assert "1 s" in records[0].reason
    assert "--timeout" in records[0].reason
    assert records[1].status is Status.OK
    assert len(rounds) == 2


def test_a_failure_keeps_its_status_and_reason(
    launch: Launch,
) -> None:
    failure = {"status": "invalid", "reason": "the training loss became nan in round 2"}
    records, _ = launch({"rounds": [0.1], "failure": failure})
    assert (records[0].status, records[0].reason) == ("invalid", failure["reason"])


@pytest.mark.parametrize("fork", BOTH)
def test_a_launch_that_ends_well_without_a_result_has_failed(launch: Launch, fork: bool) -> None:
    records, _ = launch({"rounds": [0.1], "exit": 0}, {"rounds": [0.2]}, fork=fork)
    assert records[0].status is Status.FAILED
    assert "ended with code 0 and no result" in records[0].reason
    assert records[1].status is Status.OK


LATER = json.dumps(
    {
        "kind": "round",
        "round": 1,
        "samples": 9,
        "updates": 1,
        "seconds": 0.5,
        "between_epochs_s": 0.0,
        "of_a_later_version": [1],
    }
)


def test_fields_of_a_later_version_are_left_out(
    launch: Launch,
) -> None:
    record, rounds = launch({"rounds": [], "send": [LATER], "result": {"later": {"a": 1}}})
    assert record[0].status is Status.OK
    assert rounds[0].seconds == 0.5


@pytest.mark.parametrize("fork", BOTH)
@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"send": ["{half"]}, "sent what is no message: {half"),
        ({"send": ["[1]"]}, "sent what is no message: [1]"),
        ({"send": ["null"]}, "sent what is no message: null"),
        ({"send": ['{"kind": 5}']}, 'sent what is no message: {"kind": 5}'),
        ({"send": ['{"kind": "poem"}']}, "sent a message of kind 'poem'"),
        ({"send": ['{"kind": "round", "round": 1}']}, "sent a round that cannot be read"),
        ({"send": [LATER.replace("0.5", '"x"')]}, "sent a round that cannot be read"),
        ({"send": ['{"kind": "failure", "status": "odd"}']}, "sent a failure that cannot be read"),
        ({"send": ['{"kind": "failure", "status": "ok"}']}, "of kind 'failure' of status ok"),
        ({"result": {"dense_layers": 5}}, "result cannot be read"),
    ],
)
def test_what_is_no_message_fails_its_launch_and_no_other(
    launch: Launch,
    fork: bool,
    script: dict[str, Any],
    reason: str,
) -> None:
    records, _ = launch({"rounds": [], **script}, {"rounds": [0.2]}, fork=fork)
    assert records[0].status is Status.FAILED
    assert reason in records[0].reason
    assert records[1].status is Status.OK


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
@pytest.mark.parametrize(
    ("script", "kind"), [({"twice": True}, "result"), ({"linger": LATER}, "round")]
)
def test_nothing_may_follow_an_answer_but_the_end(
    launch: Launch,
    script: dict[str, str | bool],
    kind: str,
) -> None:
    records, _ = launch({"rounds": [0.1], **script}, {"rounds": [0.2]})
    assert records[0].status is Status.FAILED
    assert f"of kind '{kind}' after its answer" in records[0].reason
    assert records[1].status is Status.OK


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_a_launch_may_end_before_its_template_tells_of_it(
    launch: Launch,
) -> None:
    records, _ = launch({"rounds": [0.1], "late": True}, {"rounds": [0.2]})
    assert [record.status for record in records] == [Status.OK, Status.OK]


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
@pytest.mark.parametrize("hang", [False, True])
def test_a_template_that_stands_still_hangs_no_run(
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    hang: bool,
) -> None:
    """It is killed soon after its launch answered, or was killed at the limit."""
    from bench.launch import process

    monkeypatch.setattr(process, "EXIT_LIMIT_S", 0.5)
    scripts = ({"rounds": [0.1], "stop": "SIGSTOP", "hang": hang}, {"rounds": [0.2]})
    records, _ = launch(*scripts, timeout_s=1.5 if hang else 60.0)
    assert records[0].status is (Status.TIMED_OUT if hang else Status.OK)
    assert records[1].status is Status.OK


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


@pytest.fixture
def at_the_deadline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """Serves one launch of a template, whose limit of 60 s passes while its first round is put
    on disk; returns the answer."""
    from bench.launch import process

    def serve(script: dict[str, Any]) -> Answer:
        (tmp_path / "script.json").write_text(json.dumps([script]))
        environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
        place = LaunchPlace(environment, True, tmp_path / "log", 60.0)
        clock = Clock()
        channel = LocalChannel(FAKE_WORKER, place)
        worker = WorkerProcess(channel, place.log)
        try:
            worker.wait_until_ready(60)
            monkeypatch.setattr(process, "time", clock)

            def on_round(_: Round) -> None:
                if "hang" not in script:
                    _wait_for(lambda: channel.waiting >= 1)
                clock.now = 61.0

            request = LaunchRequest(CASE, 0, 1, epochs=2, seed=42).to_json()
            steps = worker.serve("launch", request, place, on_round, False)
            with pytest.raises(StopIteration) as end:
                next(steps)
            return end.value.value
        finally:
            worker.kill()

    return serve


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_a_result_that_arrived_by_the_deadline_is_ok_however_late_it_is_read(
    at_the_deadline: Callable[..., Answer],
) -> None:
    answer = at_the_deadline({"rounds": [0.1]})
    assert (answer.status, answer.reason) == (Status.OK, "")


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_a_result_that_arrives_after_the_deadline_does_not_count(
    at_the_deadline: Callable[..., Answer],
) -> None:
    late = json.dumps({"kind": "result", "test_score": 0.9})
    answer = at_the_deadline({"rounds": [0.1], "hang": True, "linger": late})
    assert (answer.status, dict(answer.fields)) == (Status.TIMED_OUT, {})
    assert answer.reason == "took longer than 60 s (--timeout)"


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_the_kill_at_the_deadline_cannot_raise(
    at_the_deadline: Callable[..., Answer], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The launch may have ended in that moment, or be another user's."""
    from bench.launch import ending, process

    def refuse(pid: int, number: Signals) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(process, "EXIT_LIMIT_S", 0.5)
    refusing = {**vars(os), "kill": refuse, "killpg": refuse}
    monkeypatch.setattr(ending, "os", SimpleNamespace(**refusing))
    answer = at_the_deadline({"rounds": [0.1], "hang": True})
    assert answer.status is Status.TIMED_OUT


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_worker_whose_parent_ended_while_it_started_ends_as_well() -> None:
    """The signal of a parent's death is asked for too late then; the closed stdin tells."""
    code = "from bench.worker import serve; serve._prepare = lambda folder: 1 / 0; serve.main()"
    read, write = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", code, "--channel", str(write)],
        input=b"",
        pass_fds=(write,),
        check=False,
    )
    os.close(write)
    with os.fdopen(read, "rb") as channel:
        assert channel.read() == b""
    assert done.returncode == 1


def test_a_worker_that_cannot_start_says_why(
    launch: Launch,
) -> None:
    code = "raise SystemExit('no such thing as a worker')"
    records, _ = launch({"rounds": []}, worker=(sys.executable, "-c", code))
    assert records[0].status is Status.FAILED
    assert "no such thing as a worker" in records[0].reason


def test_an_interpreter_that_is_not_there_is_a_record(
    launch: Launch,
) -> None:
    records, _ = launch({"rounds": []}, worker=("/nowhere/python",))
    assert records[0].status is Status.FAILED
    assert "/nowhere/python" in records[0].reason


@pytest.mark.parametrize("fork", BOTH)
def test_a_launch_that_ran_other_files_is_invalid(launch: Launch, fork: bool) -> None:
    right = {"bench.worker.network": [str(CHECKOUT / "bench" / "worker" / "network.py"), "1"]}
    wrong = {"bench.worker.network": ["/other/bench/worker/network.py", "1"]}
    scripts = [{"rounds": [0.1], "result": {"files": files}} for files in (right, wrong)]
    records, _ = launch(*scripts, {"rounds": [0.1]}, fork=fork)
    assert [record.status for record in records] == ["ok", "invalid", "ok"]
    assert records[1].reason.startswith(
        "bench.worker.network came from /other/bench/worker/network.py, not"
    )
    assert records[0].files == {"suite": {"bench/worker/network.py": "1"}}
    # An earlier revision, which tells no files, has no digest of them.
    assert [len(record.code) for record in records] == [64, 0, 0]


def test_a_worker_stands_in_the_checkout_of_its_side(launch: Launch, tmp_path: Path) -> None:
    (tmp_path / "side").mkdir()
    code = "import os; raise SystemExit(f'I stand in {os.path.basename(os.getcwd())}')"
    origin = Origin(CHECKOUT, tmp_path / "side")
    records, _ = launch({"rounds": []}, worker=(sys.executable, "-c", code), origin=origin)
    assert records[0].reason.endswith("I stand in side")


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_launches_of_one_environment_share_a_template(launch: Launch, tmp_path: Path) -> None:
    launch({"rounds": [0.1]}, {"rounds": [0.1]})
    assert (tmp_path / "script.count").read_text() == "2"


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_killed_parent_leaves_no_child_behind(tmp_path: Path) -> None:
    """kill -9 of the parent in the middle of a launch, real workers and all."""
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1], "hang": True}]))
    code = f"""
import os, pathlib
from bench.schema.case import Case
from bench.launch.launcher import Launcher
from bench.launch.process import LaunchPlace
from bench.schema.requests import LaunchRequest
folder = pathlib.Path({str(tmp_path)!r})
place = LaunchPlace(dict(os.environ), True, folder / "log", 60)
def on_round(_):
    (folder / "round").touch()
request = LaunchRequest(Case("softmax", "sgd", "fit"), 0, 1, 1, 42)
Launcher({FAKE_WORKER!r}).run(request, place, on_round)
"""
    environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    try:
        _wait_for(lambda: (tmp_path / "round").exists())
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_ctrl_c_kills_the_worker_and_passes_through(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = set(psutil.Process().children(recursive=True))

    def interrupt(_: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run_with(launch, monkeypatch, interrupt)
    assert set(psutil.Process().children(recursive=True)) <= before


def _run_with(
    launch: Launch,
    monkeypatch: pytest.MonkeyPatch,
    on_round: Callable[..., Any],
) -> None:
    from bench.launch import process

    monkeypatch.setattr(process, "_round", on_round)
    launch({"rounds": [0.1], "hang": True})


def _wait_for(condition: Callable[..., Any], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_launch_stands_still_before_each_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1, 0.2]}]))
    environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
    place = LaunchPlace(environment, CAN_FORK, tmp_path / "log", 60.0)
    request = LaunchRequest(CASE, 0, 1, epochs=2, seed=42)
    rounds: list[Round] = []
    with Launcher(FAKE_WORKER) as launcher:
        steps = launcher.turns(request, place, rounds.append, pauses=True)
        seen, started = [], time.perf_counter()
        for _ in range(2):
            next(steps)
            seen.append(len(rounds))
        time.sleep(0.5)
        with pytest.raises(StopIteration) as end:
            next(steps)
        assert seen == [0, 1]
        assert len(rounds) == 2
        record, whole_s = end.value.value, time.perf_counter() - started
        assert record.status is Status.OK
        # What it waited for its turn is not its own time.
        assert record.total_s <= whole_s - 0.5
        waiting = launcher.turns(request, place, rounds.append, pauses=True)
        next(waiting)
        waiting.close()
        assert launcher.run(request, place, rounds.append).status is Status.OK


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_a_template_outlives_a_launch_that_died_while_it_stood_still() -> None:
    code = "from bench.worker import serve; serve._prepare = lambda folder: None; serve.main()"
    read, write = os.pipe()
    done = subprocess.run(
        [sys.executable, "-c", code, "--channel", str(write)],
        input=b'{"op": "go_on"}\n',
        pass_fds=(write,),
        check=False,
    )
    os.close(write)
    with os.fdopen(read, "rb") as channel:
        assert [json.loads(line) for line in channel] == [{"kind": "ready"}]
    assert done.returncode == 0


@pytest.mark.skipif(sys.platform == "win32", reason="no groups of processes there")
def test_the_end_of_a_worker_is_the_end_of_what_it_started(tmp_path: Path) -> None:
    code = "import subprocess; print(subprocess.Popen(['sleep', '600']).pid, flush=True)"
    place = LaunchPlace(os.environ, False, tmp_path / "log", 60.0)
    worker = WorkerProcess(LocalChannel((sys.executable, "-c", code), place), place.log)
    _wait_for((tmp_path / "log").read_text)
    started = psutil.Process(int((tmp_path / "log").read_text()))
    assert started.status() != psutil.STATUS_ZOMBIE
    worker.kill()
    _wait_for(lambda: not started.is_running() or started.status() == psutil.STATUS_ZOMBIE)
    assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE
