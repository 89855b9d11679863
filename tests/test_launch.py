"""Launches end as records, whatever happens to the worker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from bench.case import Case
from bench.launch import CAN_FORK, Launcher
from bench.origin import CHECKOUT, Origin
from bench.record import LaunchRequest, Status
from bench.worker_process import LaunchPlace

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))
CASE = Case("relu_mlp", "adam", "fit")
BOTH = [pytest.param(True, marks=pytest.mark.skipif(not CAN_FORK, reason="no fork here")), False]


@pytest.fixture
def launch(tmp_path):
    """Runs a script of launches; returns their records and all rounds."""

    def run(*scripts, fork=True, timeout_s=60.0, worker=FAKE, origin=None):
        (tmp_path / "script.json").write_text(json.dumps(scripts))
        environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
        place = LaunchPlace(environment, fork, tmp_path / "log", timeout_s)
        rounds, records = [], []
        with Launcher(worker, origin=origin) as launcher:
            for number in range(len(scripts)):
                request = LaunchRequest(CASE, number, 1, epochs=2, seed=42 + number)
                records.append(launcher.run(request, place, rounds.append))
        return records, rounds

    return run


@pytest.mark.parametrize("fork", BOTH)
def test_rounds_come_as_they_were_measured(launch, fork):
    records, rounds = launch({"rounds": [0.1, 1 / 3]}, {"rounds": [0.2]}, fork=fork)
    assert [r.seconds for r in rounds] == [0.1, 1 / 3, 0.2]
    assert [(r.status, r.launch, r.seed) for r in records] == [("ok", 0, 42), ("ok", 1, 43)]
    assert records[0].parameters == 79_510
    assert records[0].total_s > 0


@pytest.mark.parametrize("fork", BOTH)
def test_a_crash_is_a_record_and_the_next_launch_goes_on(launch, fork):
    records, rounds = launch({"rounds": [0.1], "die": "SIGSEGV"}, {"rounds": [0.2]}, fork=fork)
    assert records[0].status is Status.KILLED
    assert records[0].reason == "killed by SIGSEGV"
    assert records[1].status is Status.OK
    assert len(rounds) == 2


def test_a_kill_names_the_likely_cause(launch):
    records, _ = launch({"rounds": [], "die": "SIGKILL"})
    assert records[0].reason == "killed by SIGKILL (out of memory?)"


@pytest.mark.parametrize("fork", BOTH)
def test_a_hang_ends_at_the_limit(launch, fork):
    records, rounds = launch(
        {"rounds": [0.1], "hang": True}, {"rounds": [0.2]}, fork=fork, timeout_s=1.0
    )
    assert records[0].status is Status.TIMED_OUT
    assert "1 s" in records[0].reason
    assert "--timeout" in records[0].reason
    assert records[1].status is Status.OK
    assert len(rounds) == 2


def test_a_failure_keeps_its_status_and_reason(launch):
    failure = {"status": "invalid", "reason": "the training loss became nan in round 2"}
    records, _ = launch({"rounds": [0.1], "failure": failure})
    assert (records[0].status, records[0].reason) == ("invalid", failure["reason"])


def test_a_worker_that_cannot_start_says_why(launch):
    code = "raise SystemExit('no such thing as a worker')"
    records, _ = launch({"rounds": []}, worker=(sys.executable, "-c", code))
    assert records[0].status is Status.FAILED
    assert "no such thing as a worker" in records[0].reason


def test_an_interpreter_that_is_not_there_is_a_record(launch):
    records, _ = launch({"rounds": []}, worker=("/nowhere/python",))
    assert records[0].status is Status.FAILED
    assert "/nowhere/python" in records[0].reason


@pytest.mark.parametrize("fork", BOTH)
def test_a_launch_that_ran_other_files_is_invalid(launch, fork):
    right = {"bench.measure": [str(CHECKOUT / "bench" / "measure.py"), "1"]}
    wrong = {"bench.measure": ["/other/bench/measure.py", "1"]}
    scripts = [{"rounds": [0.1], "result": {"files": files}} for files in (right, wrong)]
    records, _ = launch(*scripts, {"rounds": [0.1]}, fork=fork)
    assert [record.status for record in records] == ["ok", "invalid", "ok"]
    assert records[1].reason.startswith("bench.measure came from /other/bench/measure.py, not")
    assert records[0].files == {"suite": {"bench/measure.py": "1"}}
    # An earlier revision, which tells no files, has no digest of them.
    assert [len(record.code) for record in records] == [64, 0, 0]


def test_a_worker_stands_in_the_checkout_of_its_side(launch, tmp_path):
    (tmp_path / "side").mkdir()
    code = "import os; raise SystemExit(f'I stand in {os.path.basename(os.getcwd())}')"
    origin = Origin(CHECKOUT, tmp_path / "side")
    records, _ = launch({"rounds": []}, worker=(sys.executable, "-c", code), origin=origin)
    assert records[0].reason.endswith("I stand in side")


@pytest.mark.skipif(not CAN_FORK, reason="no fork here")
def test_launches_of_one_environment_share_a_template(launch, tmp_path):
    launch({"rounds": [0.1]}, {"rounds": [0.1]})
    assert (tmp_path / "script.count").read_text() == "2"


@pytest.mark.skipif(sys.platform != "linux", reason="the parent-death signal is Linux's")
def test_a_killed_parent_leaves_no_child_behind(tmp_path):
    """kill -9 of the parent in the middle of a launch, real workers and all."""
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1], "hang": True}]))
    code = f"""
import os, pathlib
from bench.case import Case
from bench.launch import Launcher
from bench.worker_process import LaunchPlace
from bench.record import LaunchRequest
folder = pathlib.Path({str(tmp_path)!r})
place = LaunchPlace(dict(os.environ), True, folder / "log", 60)
def on_round(_):
    (folder / "round").touch()
request = LaunchRequest(Case("softmax", "sgd", "fit"), 0, 1, 1, 42)
Launcher({FAKE!r}).run(request, place, on_round)
"""
    root = Path(__file__).parent.parent
    environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=root, env=environment)
    try:
        _wait_for(lambda: (tmp_path / "round").exists())
        children = psutil.Process(parent.pid).children(recursive=True)
        assert len(children) == 2
    finally:
        parent.kill()
        parent.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert alive == []


def test_ctrl_c_kills_the_worker_and_passes_through(launch, monkeypatch):
    before = set(psutil.Process().children(recursive=True))

    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _run_with(launch, monkeypatch, interrupt)
    assert set(psutil.Process().children(recursive=True)) <= before


def _run_with(launch, monkeypatch, on_round):
    from bench import worker_process

    monkeypatch.setattr(worker_process, "Round", lambda **_: on_round(None))
    launch({"rounds": [0.1], "hang": True})


def _wait_for(condition, limit_s=60.0):
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_launch_stands_still_before_each_round(tmp_path, monkeypatch):
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1, 0.2]}]))
    environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(tmp_path / "script.json")}
    place = LaunchPlace(environment, CAN_FORK, tmp_path / "log", 60.0)
    request = LaunchRequest(CASE, 0, 1, epochs=2, seed=42)
    rounds = []
    with Launcher(FAKE) as launcher:
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
def test_a_template_outlives_a_launch_that_died_while_it_stood_still():
    code = "from bench import worker; worker._prepare = lambda folder: None; worker.main()"
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
