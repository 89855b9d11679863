"""Launches whose replicas have a process each: they train, pause, fail and end as one."""

from __future__ import annotations

import json
import math
import os
import random
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from support import FAKE_WORKER

from bench.launch import meeting, process, ranks
from bench.launch.launcher import CAN_FORK, Launcher
from bench.launch.meeting import PORT_VARIABLE, meeting_point, refuse_taken_port
from bench.launch.placement import LaunchPlace
from bench.machine.counters import Close
from bench.machine.nvml import Gpu
from bench.schema.case import Case
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.noise import Noise, Usage
from bench.schema.requests import LaunchRequest
from fmnist_models.errors import UserError

BOTH = [pytest.param(True, marks=pytest.mark.skipif(not CAN_FORK, reason="no fork here")), False]
RANKS = 3
Launch = Callable[..., tuple[LaunchRecord, list[Round]]]


@pytest.fixture(autouse=True)
def little_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "GRACE_S", 0.5)


def case_of(processes: int = RANKS) -> Case:
    case = Case("relu_mlp", "adam", "compiled", batch_size=48, backend="jax")
    return replace(case, replicas=processes, processes=processes)


def place_of(folder: Path, *, fork: bool, timeout_s: float, processes: int) -> LaunchPlace:
    environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(folder / "script.json")}
    others = (environment,) * (processes - 1)
    return LaunchPlace(environment, fork, folder / "log.txt", timeout_s, others=others)


def usage_alone(pid: int, gpus: Mapping[Gpu, int], forks: bool = True) -> Close:
    """Reads what the launch reports of itself, and nothing of the machine."""

    def close(usage: Usage | None) -> Noise:
        return Noise() if usage is None else Noise(**usage.to_json())

    return close


@contextmanager
def nothing_left() -> Iterator[None]:
    """Within the context, every process that is started also ends."""
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield
    children = psutil.Process().children(recursive=True)
    assert not [child for child in children if child.pid not in before]


@pytest.fixture
def launch(tmp_path: Path) -> Launch:
    """Runs scripted launches of several processes; returns the last record and all rounds."""

    def run(
        *scripts: dict[str, Any],
        fork: bool = False,
        timeout_s: float = 60.0,
        processes: int = RANKS,
    ) -> tuple[LaunchRecord, list[Round]]:
        (tmp_path / "script.json").write_text(json.dumps(scripts))
        place = place_of(tmp_path, fork=fork, timeout_s=timeout_s, processes=processes)
        rounds: list[Round] = []
        with nothing_left(), Launcher(FAKE_WORKER, watch=usage_alone) as launcher:
            for number in range(len(scripts)):
                request = LaunchRequest(case_of(processes), number, 1, epochs=1, seed=1)
                record = launcher.run(request, place, rounds.append)
        return record, rounds

    return run


@pytest.mark.parametrize("fork", BOTH)
def test_a_round_takes_as_long_as_that_of_the_slowest_rank(launch: Launch, fork: bool) -> None:
    slow = {"2": {"rounds": [0.3, 0.1]}}
    record, rounds = launch({"rounds": [0.1, 0.2], "ranks": slow}, fork=fork)
    assert record.status is Status.OK, record.reason
    assert [round_.seconds for round_ in rounds] == [0.3, 0.2]
    assert [round_.samples for round_ in rounds] == [48_000, 48_000]


def test_memory_is_added_up_and_the_slowest_warm_up_counts(launch: Launch) -> None:
    usage = {"cpu_s": 2.0, "wall_s": 4.0, "voluntary_switches": 5, "involuntary_switches": None}
    told = {"warmup_s": 4.5, "warnings": ["told by rank 1"], "usage": {**usage, "cpu_s": 3.0}}
    plain = {"usage": usage}
    ranks = {"1": {"result": told}}
    record, _ = launch({"rounds": [0.1], "result": plain, "ranks": ranks})
    assert record.peak_host_memory_bytes == RANKS * 1_000_000
    assert record.warmup_s == 4.5
    assert record.warnings == ("told by rank 1",)
    assert record.noise == Noise(cpu_s=2 + 3 + 2, wall_s=4, voluntary_switches=15)


@pytest.mark.parametrize("fork", BOTH)
def test_a_rank_that_is_killed_ends_the_launch_and_its_siblings(launch: Launch, fork: bool) -> None:
    # The others wait for it, as in a collective.
    script = {"rounds": [0.1], "hang": True, "ranks": {"1": {"hang": False, "die": "SIGKILL"}}}
    began = time.perf_counter()
    record, rounds = launch(script, fork=fork)
    assert time.perf_counter() - began < 30
    assert record.status is Status.KILLED
    assert record.reason == f"rank 1 of {RANKS}: killed by SIGKILL (out of memory?)"
    assert len(rounds) == 1


def test_a_killed_rank_is_told_before_those_that_failed_because_of_it(launch: Launch) -> None:
    broken = {"failure": {"status": "failed", "reason": "Connection closed by peer"}}
    script = {"rounds": [], **broken, "ranks": {"2": {"wait": 0.2, "die": "SIGKILL"}}}
    record, _ = launch(script)
    assert record.status is Status.KILLED
    assert record.reason.startswith(f"rank 2 of {RANKS}: ")


@pytest.mark.parametrize("fork", BOTH)
def test_a_rank_that_fails_is_told_with_its_reason(launch: Launch, fork: bool) -> None:
    failure = {"status": "failed", "reason": "ValueError: at the end of the second shard"}
    script = {"rounds": [], "hang": True, "ranks": {"2": {"failure": failure, "hang": False}}}
    record, _ = launch(script, fork=fork)
    assert record.status is Status.FAILED
    assert record.reason == f"rank 2 of {RANKS}: {failure['reason']}"


def test_a_rank_that_hangs_ends_the_launch_at_its_limit(launch: Launch) -> None:
    record, _ = launch({"rounds": [0.1], "ranks": {"1": {"hang": True}}}, timeout_s=1.0)
    assert record.status is Status.TIMED_OUT
    assert record.reason == (
        f"rank 1 of {RANKS}: took longer than 1 s (--timeout); rank 1 last printed: it printed "
        "nothing"
    )


def test_of_ranks_that_all_hang_the_one_that_came_least_far_is_told(launch: Launch) -> None:
    script = {"rounds": [0.1], "hang": True, "ranks": {"2": {"rounds": [], "says": "no route"}}}
    record, _ = launch(script, timeout_s=1.0)
    assert record.status is Status.TIMED_OUT
    assert record.reason == (
        f"rank 2 of {RANKS}: took longer than 1 s (--timeout); rank 2 last printed: no route"
    )


def test_where_none_came_further_the_last_words_of_all_are_told(launch: Launch) -> None:
    script = {"rounds": [], "hang": True, "says": "waits", "ranks": {"1": {"says": "no route"}}}
    record, _ = launch(script, timeout_s=1.0)
    assert record.reason == (
        f"ranks 0, 1, 2 of {RANKS}: took longer than 1 s (--timeout); rank 0 last printed: waits; "
        "rank 1 last printed: no route; rank 2 last printed: waits"
    )


@pytest.mark.parametrize("fork", BOTH)
def test_the_launch_after_a_bad_one_has_workers_of_its_own(launch: Launch, fork: bool) -> None:
    bad = {"rounds": [0.5], "hang": True, "ranks": {"1": {"hang": False, "die": "SIGKILL"}}}
    record, rounds = launch(bad, {"rounds": [0.25]}, fork=fork)
    assert record.status is Status.OK, record.reason
    assert rounds[-1].seconds == 0.25


def test_ranks_that_trained_other_models_are_invalid(launch: Launch) -> None:
    record, rounds = launch({"rounds": [0.1], "ranks": {"1": {"samples": 24_000}}})
    assert record.status is Status.INVALID
    assert "samples is 48000 on rank 0 and 24000 on rank 1" in record.reason
    assert not rounds


def test_ranks_of_other_versions_are_invalid(launch: Launch) -> None:
    one, other = ({"software": {"jax": version}} for version in ("0.10.1", "0.9.0"))
    script = {"rounds": [0.1], "result": one, "ranks": {"2": {"result": other}}}
    record, _ = launch(script)
    assert record.status is Status.INVALID
    assert record.reason == (
        "rank 2 of 3 has another software than rank 0 (jax 0.10.1, and 0.9.0): let all processes "
        "run the same files and versions"
    )


def test_ranks_that_ended_with_other_weights_did_not_train_one_model(launch: Launch) -> None:
    one, other = ({"final_norms": [1.0, norm]} for norm in (2.0, 2.01))
    script = {"rounds": [0.1], "result": one, "ranks": {"1": {"result": other}}}
    record, _ = launch(script)
    assert record.status is Status.INVALID
    assert record.reason == (
        "rank 1 of 3 has another final_norms than rank 0: the processes did not train one model: "
        "seed what your functions draw"
    )


def test_rounding_and_nan_are_no_difference(launch: Launch) -> None:
    one, other = (
        {"test_loss": math.nan, "test_score": score, "final_norms": [norm, math.nan]}
        for score, norm in ((0.5, 2.0), (0.500001, 2.00001))
    )
    script = {"rounds": [0.1], "result": one, "ranks": {"1": {"result": other}}}
    record, _ = launch(script)
    assert record.status is Status.OK, record.reason


def test_an_abort_is_told_after_the_failure_that_it_follows(launch: Launch) -> None:
    """Frameworks abort a process whose sibling has failed."""
    failure = {"failure": {"status": "failed", "reason": "RESOURCE_EXHAUSTED: no room"}}
    aborted = {"hang": False, "wait": 0.2, "die": "SIGABRT"}
    ranks = {"0": aborted, "1": {"hang": False, **failure}}
    record, _ = launch({"rounds": [], "hang": True, "ranks": ranks})
    assert record.reason == f"rank 1 of {RANKS}: RESOURCE_EXHAUSTED: no room"


def test_an_error_of_a_thread_that_follows_a_rank_is_raised(
    launch: Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(message: object) -> Round:
        raise MemoryError("in the parent")

    monkeypatch.setattr(process, "_round", broken)
    with pytest.raises(MemoryError, match="in the parent"):
        launch({"rounds": [0.1]})


def test_all_ranks_pause_before_each_round_of_all(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1, 0.2]}]))
    place = place_of(tmp_path, fork=False, timeout_s=60, processes=RANKS)
    rounds: list[Round] = []
    with nothing_left(), Launcher(FAKE_WORKER) as launcher:
        request = LaunchRequest(case_of(), 0, 1, epochs=1, seed=1)
        turns = launcher.turns(request, place, rounds.append, pauses=True)
        told = []
        while True:
            try:
                next(turns)
            except StopIteration as end:
                record = end.value
                break
            time.sleep(0.1)
            told.append(len(rounds))
    assert record.status is Status.OK, record.reason
    # No rank goes on before the launch is resumed.
    assert told == [0, 1]
    assert len(rounds) == 2


def test_a_launch_that_is_given_up_in_a_pause_leaves_no_process(tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1, 0.2]}]))
    place = place_of(tmp_path, fork=False, timeout_s=60, processes=RANKS)
    with nothing_left(), Launcher(FAKE_WORKER) as launcher:
        request = LaunchRequest(case_of(), 0, 1, epochs=1, seed=1)
        turns = launcher.turns(request, place, lambda _: None, pauses=True)
        next(turns)
        began = psutil.Process().children()
        turns.close()
        assert len(began) == RANKS
        assert not [worker for worker in began if worker.is_running()]


def test_ranks_killed_at_random_moments_leave_nothing(tmp_path: Path) -> None:
    draw = random.Random(18)
    (tmp_path / "script.json").write_text(json.dumps([{"rounds": [0.1] * 3, "wait": 0.2}]))
    place = place_of(tmp_path, fork=False, timeout_s=20, processes=RANKS)
    shared = set(Path("/dev/shm").iterdir()) if Path("/dev/shm").is_dir() else set()
    threads = threading.active_count()
    statuses = set()
    for _ in range(20):
        with nothing_left(), Launcher(FAKE_WORKER) as launcher:
            after_s, which = draw.uniform(0.0, 1.0), draw.randrange(RANKS)
            killer = threading.Timer(after_s, kill_a_worker, [which])
            killer.start()
            request = LaunchRequest(case_of(), 0, 1, epochs=1, seed=1)
            record = launcher.run(request, place, lambda _: None)
            killer.cancel()
            killer.join()
        statuses.add(record.status)
        assert record.status is Status.OK or "rank " in record.reason
    assert Status.KILLED in statuses
    assert threading.active_count() == threads
    if shared:
        assert set(Path("/dev/shm").iterdir()) <= shared


def kill_a_worker(which: int) -> None:
    """Kill one of the workers, which may end by themselves meanwhile."""
    workers = sorted(psutil.Process().children(), key=lambda child: child.pid)
    with suppress(psutil.Error):
        if which < len(workers):
            workers[which].kill()


def test_processes_meet_at_a_free_port_or_at_the_users() -> None:
    with meeting_point({}) as meeting:
        host, port = meeting.split(":")
        with socket.create_server((host, int(port))):
            pass
    with meeting_point({PORT_VARIABLE: " 4711 "}) as meeting:
        assert meeting == f"{host}:4711"


def test_launches_that_take_turns_meet_at_ports_of_their_own() -> None:
    users = {PORT_VARIABLE: "4711"}
    with meeting_point(users) as first, meeting_point(users) as second:
        assert [point.rpartition(":")[2] for point in (first, second)] == ["4711", "4712"]
    with meeting_point(users) as again:
        assert again == first


@pytest.mark.parametrize("text", ["0", "65536", "http", "-1", "1.5"])
def test_a_port_that_is_no_number_of_a_port_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="must be a number from 1 to 65535"):
        refuse_taken_port({PORT_VARIABLE: text})


def test_a_taken_port_is_refused_with_what_helps() -> None:
    refuse_taken_port({})
    with socket.create_server((meeting.HOST, 0)) as server:
        taken = str(server.getsockname()[1])
        with pytest.raises(UserError, match=f"{PORT_VARIABLE}={taken}: the port cannot be used"):
            refuse_taken_port({PORT_VARIABLE: taken})
    refuse_taken_port({PORT_VARIABLE: taken})
