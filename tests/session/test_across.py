"""One case over several nodes: hosts in this process stand for the nodes of a cluster."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from support import FAKE_WORKER

from bench.launch import ranks
from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine import counters, lock
from bench.machine.nvml import Gpu, Inventory
from bench.schema.case import Case
from bench.schema.fleet import Node, NodeFacts
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.noise import Noise, Usage, worst
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.session.fleet import far, rank_host
from bench.session.fleet.across import begin, chosen, resume
from bench.session.fleet.cluster import NodeLost
from bench.session.fleet.far import Member
from bench.session.fleet.nodes import Nodes
from bench.session.fleet.rank_host import RankFacts, RankHost
from bench.session.fleet.spreadable import refuse_uneven, refuse_unspreadable
from bench.verdicts.alike import differences, hardware_digest, refuse_unlike
from fmnist_models.errors import UserError

ONE = Case("relu_mlp", "adam", "compiled", batch_size=48, backend="jax")
TWO = replace(ONE, replicas=2, processes=2)
ENVIRONMENT: dict[str, Any] = {
    "dataset_digest": "d" * 64,
    "cpu": {"model": "A CPU", "cores_logical": 8, "affinity": [0, 1], "cgroup_quota_cpus": None},
    "gpus": [],
    "driver_version": None,
    "versions": {"jax": "0.10.1", "fmnist-bench": "1"},
    "variables": {},
    "overruled": {},
}


class Near:
    """A `RankHost` in this process, which can be lost as a node is."""

    def __init__(self, host: Any) -> None:
        self.host = host
        self.lost = threading.Event()
        self.asked: list[str] = []

    def call(self, method: str, *arguments: Any, limit_s: float | None = None, **words: Any) -> Any:
        if method != "lines":
            self.asked.append(method)
        if not self.lost.is_set():
            found = getattr(self.host, method)(*arguments, **words)
        if self.lost.is_set():
            raise NodeLost("Ray tells ActorDiedError")
        return found


def facts(name: str = "a", **more: Any) -> RankFacts:
    alike = NodeFacts(ENVIRONMENT)
    told = RankFacts(alike, Inventory(), {}, "A CPU", f"lock of {name}", 1, "eth0")
    return replace(told, **more)


def node(name: str, cpus: int = 1) -> Node:
    return Node(name, f"id of {name}", cpus=cpus)


@pytest.fixture
def nodes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Two nodes that start scripted workers."""
    monkeypatch.setattr(ranks, "GRACE_S", 0.5)
    monkeypatch.setattr(far, "_LISTEN_S", 0.2)
    monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(tmp_path / "script.json"))
    hosts = [RankHost("127.0.0.1", FAKE_WORKER) for _ in "ab"]
    before = {child.pid for child in psutil.Process().children(recursive=True)}
    yield Nodes(
        [
            Member(node(name), Near(host), facts(name))
            for name, host in zip("ab", hosts, strict=True)
        ],
        {},
    )
    for host in hosts:
        host.close()
    left = psutil.Process().children(recursive=True)
    assert not [child for child in left if child.pid not in before]


def launched(
    nodes: Nodes,
    folder: Path,
    script: dict[str, Any],
    case: Case = TWO,
    after_round: Callable[[], None] = lambda: None,
) -> tuple[LaunchRecord, list[Round]]:
    (folder / "script.json").write_text(json.dumps([script]))
    place = nodes.place(case, folder / "log.txt", RunSettings(timeout_s=30), ())
    rounds: list[Round] = []

    def on_round(round_: Round) -> None:
        rounds.append(round_)
        after_round()

    with Launcher((), watch=nodes.watch, where=nodes) as launcher:
        record = launcher.run(LaunchRequest(case, 0, 1, epochs=1, seed=1), place, on_round)
    return record, rounds


def of(nodes: Nodes, which: int) -> Near:
    remote = nodes.members[which].remote
    assert isinstance(remote, Near)
    return remote


def test_each_rank_is_started_on_its_node_and_one_record_comes_home(
    nodes: Nodes, tmp_path: Path
) -> None:
    slow = {"1": {"rounds": [0.3, 0.1]}}
    record, rounds = launched(nodes, tmp_path, {"rounds": [0.1, 0.2], "ranks": slow})
    assert record.status is Status.OK, record.reason
    assert [round_.seconds for round_ in rounds] == [0.3, 0.2]
    assert record.peak_host_memory_bytes == 2_000_000
    assert [of(nodes, which).asked.count("open") for which in (0, 1)] == [1, 1]
    # They meet on the first node.
    assert [of(nodes, which).asked.count("meet") for which in (0, 1)] == [1, 0]
    assert [of(nodes, which).asked.count("watched") for which in (0, 1)] == [1, 1]


def test_of_four_ranks_two_neighbours_share_a_node(nodes: Nodes, tmp_path: Path) -> None:
    record, _ = launched(nodes, tmp_path, {"rounds": [0.1]}, replace(TWO, replicas=4, processes=4))
    assert record.status is Status.OK, record.reason
    assert [of(nodes, which).asked.count("open") for which in (0, 1)] == [2, 2]
    assert [nodes.named(rank, 4) for rank in range(4)] == [" on a", " on a", " on b", " on b"]


def test_a_case_of_one_process_runs_on_the_first_node(nodes: Nodes, tmp_path: Path) -> None:
    record, _ = launched(nodes, tmp_path, {"rounds": [0.1]}, ONE)
    assert record.status is Status.OK, record.reason
    assert [of(nodes, which).asked.count("open") for which in (0, 1)] == [1, 0]
    assert nodes.warnings(ONE) == ()
    assert nodes.warnings(TWO) == ("trained across 2 nodes: a, b",)


def test_a_rank_that_dies_is_told_with_its_node_and_its_last_words_come_home(
    nodes: Nodes, tmp_path: Path
) -> None:
    dies = {"1": {"hang": False, "says": "no route to host", "exit": 3}}
    record, _ = launched(nodes, tmp_path, {"rounds": [0.1], "hang": True, "ranks": dies})
    assert record.status is Status.FAILED
    assert record.reason.startswith("rank 1 of 2 on b: the worker ended with code 3")
    assert record.reason.endswith("no route to host")
    assert "no route to host" in (tmp_path / "log-rank1.txt").read_text()


def test_a_node_that_is_lost_ends_the_launch_and_the_run_can_be_resumed(
    nodes: Nodes, tmp_path: Path
) -> None:
    script = {"rounds": [0.1], "hang": True}
    record, rounds = launched(nodes, tmp_path, script, after_round=of(nodes, 1).lost.set)
    assert record.status is Status.KILLED
    assert record.reason == "rank 1 of 2 on b: node b was lost: Ray tells ActorDiedError"
    assert len(rounds) == 1
    # The sibling on the node that lives is ended.
    assert "wait_for_end" in of(nodes, 0).asked
    with pytest.raises(UserError, match=r"node b was lost .*--resume goes on once 2 nodes"):
        nodes.place(TWO, tmp_path / "log", RunSettings(), ())


def test_a_rank_that_is_late_is_told_with_its_node(nodes: Nodes, tmp_path: Path) -> None:
    (tmp_path / "script.json").write_text(
        json.dumps([{"rounds": [0.1], "ranks": {"1": {"hang": True, "says": "waits"}}}])
    )
    place = nodes.place(TWO, tmp_path / "log.txt", RunSettings(timeout_s=1.5), ())
    with Launcher((), watch=nodes.watch, where=nodes) as launcher:
        request = LaunchRequest(TWO, 0, 1, epochs=1, seed=1)
        record = launcher.run(request, place, lambda _: None)
    assert record.status is Status.TIMED_OUT
    assert record.reason.endswith("; rank 1 on b last printed: waits")


def test_ranks_of_other_files_are_invalid(nodes: Nodes, tmp_path: Path) -> None:
    def ran(digest: str, folder: Path = rank_host.CHECKOUT) -> dict[str, Any]:
        return {"result": {"files": {"bench.worker": [str(folder / "bench/worker.py"), digest]}}}

    script = {"rounds": [0.1], **ran("aa"), "ranks": {"1": ran("bb")}}
    record, _ = launched(nodes, tmp_path, script)
    assert record.reason == (
        "rank 1 of 2 ran another bench.worker than rank 0: let all processes run the same files "
        "and versions"
    )
    script = {"rounds": [0.1], **ran("aa"), "ranks": {"1": ran("aa", Path("/other"))}}
    record, _ = launched(nodes, tmp_path, script)
    assert record.status is Status.INVALID
    assert "rank 1 of 2 on b: bench.worker came from" in record.reason
    record, _ = launched(nodes, tmp_path, {"rounds": [0.1], **ran("aa")})
    assert record.status is Status.OK, record.reason
    assert record.files == {"suite": {"bench/worker.py": "aa"}}


def test_files_of_a_node_are_named_as_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rank_host, "CHECKOUT", Path("/far/suite"))
    roots = {"suite": "/home/suite", "models": "/home/models"}
    assert rank_host._at_home("/far/suite/bench/a.py", roots) == "/home/suite/bench/a.py"
    assert rank_host._at_home(str(Path("own.py").absolute()), roots) == "/home/models/own.py"
    assert rank_host._at_home("/elsewhere/b.py", roots) == "/elsewhere/b.py"


def test_a_node_adds_its_own_variables_to_those_of_the_case(
    nodes: Nodes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[LaunchPlace] = []

    class Channel:
        pid, waiting = 7, 0

        def __init__(self, command: Any, place: LaunchPlace) -> None:
            started.append(place)

    monkeypatch.setattr(rank_host, "LocalChannel", Channel)
    monkeypatch.setattr(rank_host, "_interface", lambda address: "eth7")
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "ib0")
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")
    host = RankHost("127.0.0.1")
    host.open((), {"KERAS_BACKEND": "jax"}, "log.txt")
    host._channels.clear()
    host.close()
    environment = started[0].environment
    assert environment["KERAS_BACKEND"] == "jax"
    assert environment["GLOO_SOCKET_IFNAME"] == "eth7"
    # The user's own holds.
    assert environment["NCCL_SOCKET_IFNAME"] == "ib0"
    assert "TF_USE_LEGACY_KERAS" not in environment


def test_each_process_gets_the_gpu_of_its_own_node() -> None:
    own = {name: Gpu(0, "A GPU", f"GPU-{name}") for name in "ab"}
    near = Near(SimpleNamespace(alive=lambda: None))
    members = [
        Member(node(name), near, facts(name, inventory=Inventory((gpu,))))
        for name, gpu in own.items()
    ]
    nodes, case = Nodes(members, {}), replace(TWO, device="gpu")
    alone = replace(case, replicas=1, processes=1)
    place = nodes.place(case, Path("log"), RunSettings(), (case, alone))
    environments = (place.environment, *place.others)
    assert [e["CUDA_VISIBLE_DEVICES"] for e in environments] == ["GPU-a", "GPU-b"]
    # The case of one replica takes turns with it, on the first node.
    assert place.gpus == {own["a"]: 2, own["b"]: 1}
    assert nodes.skip_reason(case, Plan((case,), RunSettings())) is None
    same = [replace(m, facts=replace(m.facts, inventory=Inventory((own["a"],)))) for m in members]
    reason = Nodes(same, {}).skip_reason(case, Plan((case,), RunSettings()))
    assert reason == "nodes a and b have one GPU, A GPU"


def test_nodes_on_one_machine_are_locked_and_watched_once() -> None:
    def member(name: str, machine: str) -> Member:
        def watch(*asked: Any) -> int:
            told.append((name, asked))
            return len(told)

        host = SimpleNamespace(
            hold=lambda wait: None,
            watch=watch,
            watched=lambda number: Noise(other_work_share=number / 10, cpu_clock_hz=10.0 - number),
        )
        return Member(node(name), Near(host), facts(machine, pid=ord(name)))

    told: list[Any] = []
    nodes = Nodes([member("a", "one"), member("b", "one"), member("c", "two")], {})
    nodes.hold(told.append)
    assert [of(nodes, which).asked for which in range(3)] == [["hold"], [], ["hold"]]
    noise = nodes.watch(5, {}, False)(Usage(cpu_s=4.0, wall_s=2.0))
    assert told == [("a", (5, {}, [ord("b")])), ("c", (0, {}, []))]
    assert (noise.other_work_share, noise.cpu_clock_hz, noise.cpu_cores) == (0.2, 8.0, 2.0)


def test_a_node_that_another_run_uses_is_waited_for() -> None:
    asked = []

    def hold(wait: bool) -> None:
        asked.append(wait)
        if not wait:
            raise UserError("another run is measuring on this machine: wait for it with --wait")

    told: list[str] = []
    Nodes([Member(node("a"), Near(SimpleNamespace(hold=hold)), facts())], {}).hold(told.append)
    assert asked == [False, True]
    assert told == ["node a: another run is measuring on this machine"]


def test_the_lock_is_known_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path))
    mine = lock.lock_identity()
    assert mine == lock.lock_identity()
    (tmp_path / "other").mkdir()
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path / "other"))
    assert lock.lock_identity() != mine


def test_the_worst_of_several_machines_counts() -> None:
    found = worst(
        [
            Noise(steal_share=0.1, gpu_clock_hz=5.0, gpu_throttle_reasons=("x",)),
            Noise(steal_share=0.3, gpu_clock_hz=4.0, gpu_throttle_reasons=("x", "y")),
            Noise(),
        ]
    )
    assert found == Noise(steal_share=0.3, gpu_clock_hz=4.0, gpu_throttle_reasons=("x", "y"))


def test_no_reading_of_another_machine_is_forgotten() -> None:
    """Those of a launch's own work are summed over its processes elsewhere."""
    own = set(counters.of_usage(None))
    for reading in {field.name for field in fields(Noise)} - own - {"gpu_throttle_reasons"}:
        one: dict[str, Any] = {reading: 1}
        for every in ((Noise(), Noise(**one)), (Noise(**one), Noise())):
            assert getattr(worst(every), reading) == 1, reading


def test_nodes_of_other_hardware_are_named() -> None:
    other = {**ENVIRONMENT, "cpu": {**ENVIRONMENT["cpu"], "model": "B CPU"}}
    one = NodeFacts(ENVIRONMENT)
    assert differences({"a": one, "b": NodeFacts(other)}) == (
        "nodes differ: b has the CPU 'B CPU', and a 'A CPU'",
    )
    assert hardware_digest(other) != hardware_digest(ENVIRONMENT)
    assert refuse_unlike({"a": one, "b": NodeFacts(other)}) == []


@pytest.mark.parametrize(
    ("cases", "words"),
    [
        ((replace(ONE, backend="tensorflow", replicas=2),), "name --backends jax, torch"),
        ((replace(TWO, backend="torch", loop="fit"),), "cannot be spread"),
        ((ONE,), "it has one replica"),
        ((TWO, replace(ONE, optimizer="sgd")), "relu_mlp-sgd-.*it has one replica"),
    ],
)
def test_a_plan_that_cannot_be_spread_is_refused(cases: tuple[Case, ...], words: str) -> None:
    assert re.search(words, why_not(cases))


def test_the_case_of_one_replica_is_compared_with_those_that_are_spread() -> None:
    assert why_not((ONE, TWO)) == ""


def why_not(cases: tuple[Case, ...]) -> str:
    """Why a plan of these cases is refused; empty where it is not."""
    try:
        refuse_unspreadable(Plan(cases, RunSettings()))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("count", "words"),
    [(1, "the cluster has 1 node"), (3, "--replicas 2: .* a multiple of 3"), (4, "multiple of 4")],
)
def test_replicas_that_are_no_multiple_of_the_nodes_are_refused(count: int, words: str) -> None:
    with pytest.raises(UserError, match=words):
        refuse_uneven(Plan((ONE, TWO), RunSettings()), count)
    refuse_uneven(Plan((ONE, TWO), RunSettings()), 2)


def test_a_run_goes_on_on_as_many_nodes_and_names_them(tmp_path: Path) -> None:
    def ready(*names: str) -> Nodes:
        host = SimpleNamespace(refuse_taken=lambda port: None, refuse_changed=lambda *_: None)
        return Nodes([Member(node(name), Near(host), facts(name)) for name in names], {})

    path, plan = tmp_path / "run", Plan((TWO,), RunSettings())
    folder = begin(plan, path, ready("a", "b")).open()
    named = folder.environment()
    assert named is not None
    assert [each["name"] for each in named["nodes"]] == ["a", "b"]
    there = (node("a"), node("b"), node("c"))
    assert [each.name for each in chosen(there, None)] == ["a", "b", "c"]
    assert [each.name for each in chosen(there, path)] == ["a", "b"]
    of_one_name = (node("a"), replace(node("a"), node_id="other"))
    assert [each.name for each in chosen(of_one_name, None)] == ["a", "a-2"]
    # A node is replaced in its place.
    assert [each.name for each in chosen((node("b"), node("c")), path)] == ["c", "b"]
    with pytest.raises(UserError, match="began on 2 nodes, and 1 are there"):
        chosen((node("a"),), path)
    assert (resume(path, ready("c", "b")).open().environment() or {})["nodes"][0]["name"] == "c"
    other = ready("c")
    with pytest.raises(UserError, match="began with nodes"):
        resume(path, other)


def test_a_run_across_nodes_is_not_resumed_on_one_machine(tmp_path: Path) -> None:
    from bench.session import preflight

    nodes = Nodes([Member(node("a"), Near(SimpleNamespace(refuse_taken=len)), facts())], {})
    path = tmp_path / "run"
    begin(Plan((TWO,), RunSettings()), path, nodes).open()
    with pytest.raises(UserError, match="go on with fleet run --resume"):
        preflight.resume(path)


def test_a_port_is_chosen_on_the_first_node(nodes: Nodes) -> None:
    with nodes.meeting() as point:
        host, _, port = point.partition(":")
        assert (host, int(port) > 0) == ("127.0.0.1", True)
    assert of(nodes, 0).asked == ["meet", "part"]
    assert os.environ.get("FMNIST_RENDEZVOUS_PORT") is None
