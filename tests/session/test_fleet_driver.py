"""A fleet on scripted nodes: what comes home, who is left, and what is refused at first."""

from __future__ import annotations

import json
import os
import queue
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench.machine.lock import the_folder
from bench.reports.terminal.fleet import FleetLines, FleetTable
from bench.schema.case import Case
from bench.schema.fleet import ENDS, REFUSED, Asked, Node, NodeFacts, Told
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.session.fleet import driver
from bench.session.fleet.cluster import NodeAway, NodeLost
from bench.session.fleet.driver import Fleet
from bench.session.fleet.on_node import OnNode, as_the_node
from bench.store.fleet_folder import FleetFolder, asked_nodes, news, node_runs
from bench.verdicts.alike import refuse_unlike
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled")
PLAN = Plan((CASE,), RunSettings(launches=2), "test")
ENVIRONMENT = {"dataset_digest": "d1", "python": {"version": "3.11.7"}, "versions": {"jax": "1"}}
DONE = Told(ENDS, (0,))


def launch(number: int) -> tuple[Told, Told]:
    """What a node tells when a launch has ended; its line is a byte for each launch so far."""
    record = LaunchRecord(CASE.id, number, 1, 42, Status.OK, score="accuracy", test_score=0.8)
    lines = {"launches.jsonl": (number, b"x"), "plan.json": (0, b"{}")}
    ended = Told("launch_ends", (record,), (Round(1, 100, 4, 0.5, 0.0),), lines)
    return Told("launch_begins", (CASE, number)), ended


def begins() -> Told:
    return Told("run_begins", (PLAN, [(CASE, 0), (CASE, 1)]))


class Scripted:
    """A cluster whose nodes tell what a script says; an exception is the end of the node.

    Attributes:
        begun: what each node held when it began, by its name.
        joins: nodes that are found only at a later look.
    """

    def __init__(self, **scripts: Sequence[Told | Exception]) -> None:
        self.scripts = {name: deque(told) for name, told in scripts.items()}
        self.facts = {name: NodeFacts(ENVIRONMENT, "suite", time.time()) for name in scripts}
        self.there = [Node(name, f"id-{name}") for name in scripts]
        self.joins: list[Node] = []
        self.begun: dict[str, dict[str, bytes]] = {}
        self.ended: list[str] = []
        self.sent: tuple[str, ...] = ()
        self.never: set[str] = set()
        self._looks = 0

    def nodes(self) -> list[Node]:
        self._looks += 1
        return self.there + (self.joins if self._looks > 3 else [])

    def place(self, node: Node) -> str:
        return node.node_id.removeprefix("id-")

    def ask(self, process: str, question: str, *words: Any) -> tuple[str, str, int]:
        if question == "begin":
            self.begun[process] = dict(words[1])
        return (process, question, time.monotonic_ns())

    def answered(self, asked: Sequence[Any], limit_s: float) -> list[Any]:
        return [one for one in asked if one[0] not in self.never][:1]

    def answer(self, asked: tuple[str, str, int]) -> Any:
        name, question, _ = asked
        if question == "begin":
            return None
        if question == "devices":
            return ["cpu"]
        if question == "facts":
            return self.facts[name]
        told = self.scripts[name].popleft()
        if isinstance(told, NodeLost):
            self.there = [node for node in self.there if node.name != name]
        if isinstance(told, Exception):
            raise told
        return told

    def end(self, process: str) -> None:
        self.ended.append(process)


def console() -> Console:
    return Console(width=80, record=True, force_terminal=False)


def measured(
    cluster: Scripted, path: Path, shown: Console | None = None, **words: Any
) -> dict[str, str]:
    """Measure the plan on the scripted nodes; why nodes did not end, by name."""
    fleet = Fleet(cluster, FleetLines(shown or console()), **words)  # type: ignore[arg-type]
    fleet.gather()
    return fleet.measure(FleetFolder(path, PLAN))


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(driver, "_POLL_S", 0.01)
    monkeypatch.setattr(driver, "READY_S", 0.2)


def test_each_node_has_a_run_folder_that_grows_with_each_launch(tmp_path: Path) -> None:
    cluster = Scripted(a=[begins(), *launch(0), *launch(1), DONE], b=[begins(), *launch(0), DONE])
    shown = console()
    assert measured(cluster, tmp_path / "fleet", shown) == {}
    runs = node_runs(tmp_path / "fleet")
    assert {name: (run / "launches.jsonl").read_bytes() for name, run in runs.items()} == {
        "a": b"xx",
        "b": b"x",
    }
    assert [asked.node.name for asked in asked_nodes(tmp_path / "fleet")] == ["a", "b"]
    assert sorted(cluster.ended) == ["a", "b"]
    text = shown.export_text()
    assert "a: [1/2] relu_mlp-adam-compiled-cpu-b32-float32 launch 1/2: 200 samples/s" in text
    assert "b: done" in text


def test_a_node_that_dies_loses_nothing_that_was_told_and_the_others_finish(
    tmp_path: Path,
) -> None:
    cluster = Scripted(
        a=[begins(), *launch(0), NodeLost("x")],
        b=[begins(), *launch(0), *launch(1), DONE],
    )
    failed = measured(cluster, tmp_path / "fleet")
    assert failed == {"a": "the node has ended, or cannot be reached"}
    runs = node_runs(tmp_path / "fleet")
    assert (runs["a"] / "launches.jsonl").read_bytes() == b"x"
    assert (runs["b"] / "launches.jsonl").read_bytes() == b"xx"
    # The rest, on a node of that name: it is given what is at home.
    again = Scripted(a=[begins(), *launch(1), DONE], b=[DONE])
    assert measured(again, tmp_path / "fleet") == {}
    assert again.begun["a"] == {"launches.jsonl": b"x", "plan.json": b"{}"}
    assert (runs["a"] / "launches.jsonl").read_bytes() == b"xx"


def test_a_node_whose_network_comes_back_goes_on_and_one_that_stays_away_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cluster = Scripted(a=[begins(), NodeAway(), *launch(0), NodeAway(), *launch(1), DONE])
    assert measured(cluster, tmp_path / "fleet") == {}
    assert (node_runs(tmp_path / "fleet")["a"] / "launches.jsonl").read_bytes() == b"xx"
    monkeypatch.setattr(driver, "AWAY_S", 0.05)
    cluster = Scripted(a=[begins(), *[NodeAway()] * 100])
    assert measured(cluster, tmp_path / "other") == {"a": driver._GONE}
    assert "a" in cluster.ended


def test_an_answer_that_was_lost_is_given_again(tmp_path: Path) -> None:
    on_node = OnNode.__new__(OnNode)
    on_node._events, on_node._told, on_node._number = queue.SimpleQueue(), None, 0
    for told in (begins(), DONE):
        on_node._events.put(told)
    assert [on_node.tell(number).event for number in (1, 1, 2, 2)] == [
        *["run_begins"] * 2,
        *[ENDS] * 2,
    ]


def test_a_node_that_takes_the_place_of_a_lost_one_measures_the_whole_plan(tmp_path: Path) -> None:
    path = tmp_path / "fleet"
    lost = Scripted(a=[begins(), *launch(0), NodeLost("x")], b=[begins(), *launch(0), DONE])
    assert measured(lost, path) == {"a": driver._GONE}
    # Nobody has taken its place yet.
    without = measured(Scripted(b=[DONE]), path)
    assert without["a"].startswith("it is not in the cluster any more")
    shown = console()
    assert measured(Scripted(b=[DONE], c=[begins(), *launch(0), DONE]), path, shown) == {}
    assert "a: c has measured in its place" in shown.export_text()
    states = {asked.node.name: (asked.done, asked.replaced_by) for asked in asked_nodes(path)}
    assert states == {"a": (False, "c"), "b": (True, ""), "c": (True, "")}
    assert measured(Scripted(b=[DONE], c=[DONE]), path) == {}


def test_a_node_that_cannot_go_on_is_named_with_its_reason(tmp_path: Path) -> None:
    full = Told(REFUSED, ("cannot write its run: No space left on device",))
    cluster = Scripted(a=[begins(), *launch(0), full], b=[Told(ENDS, (2,))])
    assert measured(cluster, tmp_path / "fleet") == {
        "a": "cannot write its run: No space left on device",
        "b": "a case failed",
    }
    assert (node_runs(tmp_path / "fleet")["a"] / "launches.jsonl").read_bytes() == b"x"


def test_a_node_that_joins_later_is_taken_in(tmp_path: Path) -> None:
    cluster = Scripted(a=[begins(), *launch(0), DONE], late=[begins(), *launch(0), DONE])
    cluster.joins = [cluster.there.pop()]
    assert measured(cluster, tmp_path / "fleet", wanted=2) == {}
    assert sorted(node_runs(tmp_path / "fleet")) == ["a", "late"]


def test_a_late_node_of_a_name_that_was_there_gets_a_name_of_its_own(tmp_path: Path) -> None:
    cluster = Scripted(a=[NodeLost("x")], b=[begins(), *launch(0), DONE])
    cluster.there.pop()
    cluster.joins = [Node("a", "id-b")]
    cluster.facts["b"] = cluster.facts["a"]
    assert measured(cluster, tmp_path / "fleet", wanted=2) == {"a": driver._GONE}
    assert [asked.node.name for asked in asked_nodes(tmp_path / "fleet")] == ["a", "a-2"]


def test_nodes_of_one_name_have_names_and_folders_of_their_own(tmp_path: Path) -> None:
    cluster = Scripted(a=[begins(), *launch(0), DONE], b=[DONE], c=[DONE])
    cluster.there = [Node("x", "id-a"), Node("x", "id-b"), Node("x-2", "id-c")]
    assert measured(cluster, tmp_path / "fleet") == {}
    assert [each.node.name for each in asked_nodes(tmp_path / "fleet")] == ["x", "x-2", "x-2-2"]


def test_it_does_not_wait_for_ever_for_nodes_that_never_join(tmp_path: Path) -> None:
    cluster = Scripted(a=[begins(), *launch(0), DONE])
    failed = measured(cluster, tmp_path / "fleet", wanted=3, patience_s=0.05)
    assert failed == {"--wait-nodes": "2 of 3 have not joined"}
    assert (node_runs(tmp_path / "fleet")["a"] / "launches.jsonl").read_bytes() == b"x"


def test_a_late_node_that_is_not_like_the_others_is_left_out(tmp_path: Path) -> None:
    cluster = Scripted(a=[begins(), *launch(0), DONE], late=[])
    cluster.joins = [cluster.there.pop()]
    cluster.facts["late"] = replace(cluster.facts["late"], suite="another")
    failed = measured(cluster, tmp_path / "fleet", wanted=2)
    assert failed["late"].startswith("node late has other files of fmnist-bench than node a")
    assert "late" not in node_runs(tmp_path / "fleet")


def test_no_node_of_those_that_are_unlike_begins_and_no_folder_is_made(tmp_path: Path) -> None:
    cluster = Scripted(a=[], b=[])
    cluster.facts["b"] = NodeFacts({**ENVIRONMENT, "dataset_digest": "d2"}, "suite", time.time())
    with pytest.raises(UserError, match=r"node b has data of SHA-256 d2, and node a d1"):
        measured(cluster, tmp_path / "fleet")
    assert not cluster.begun
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"refused": "data/x: no such folder"}, "node b: data/x: no such folder"),
        ({"suite": "other"}, "node b has other files of fmnist-bench than node a"),
        ({"ahead_s": 7300.0}, r"node b: its clock is 2\.0 h ahead of the one here"),
        ({"ahead_s": -7300.0}, r"node b: its clock is 2\.0 h behind the one here"),
        ({"environment": {**ENVIRONMENT, "versions": {"jax": "2"}}}, "node b has JAX 2, and"),
    ],
)
def test_what_must_be_alike(changed: dict[str, Any], words: str) -> None:
    facts = NodeFacts(ENVIRONMENT, "suite")
    assert refuse_unlike({"a": facts, "b": replace(facts, ahead_s=5.0)}) == []
    with pytest.raises(UserError, match=words):
        refuse_unlike({"a": facts, "b": replace(facts, **changed)})


def test_other_hardware_is_no_reason_to_refuse_and_niceness_is_told() -> None:
    one = NodeFacts({**ENVIRONMENT, "cpu": {"model": "X"}}, "suite")
    two = replace(one, environment={**ENVIRONMENT, "cpu": {"model": "Y"}}, niceness=15)
    assert refuse_unlike({"a": one, "b": two}) == [
        "launches give way to other work (niceness above 0, as Ray starts processes) on b (15): "
        "start those nodes with RAY_worker_niceness=0"
    ]


def test_two_fleets_do_not_write_to_one_folder(tmp_path: Path) -> None:
    path = tmp_path / "fleet"
    with the_folder(path), pytest.raises(UserError, match=f"another run writes to {path}"):
        measured(Scripted(a=[DONE]), path)
    FleetFolder(path, PLAN).open()
    with pytest.raises(UserError, match=f"finish them with --resume {path}"):
        FleetFolder.refuse_taken(path)


def test_a_node_that_others_use_is_named(tmp_path: Path) -> None:
    cluster = Scripted(a=[DONE], b=[DONE])
    cluster.never = {"b"}
    with pytest.raises(UserError, match="node b: others of the cluster use it"):
        measured(cluster, tmp_path / "fleet")


def test_a_cluster_without_processors_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="the cluster has no node with processors"):
        measured(Scripted(), tmp_path / "fleet")


@pytest.mark.parametrize("name", ["a/b", "..", "Zürich 1", "%2F", "c:d", ".hidden"])
def test_any_name_of_a_node_is_a_folder_that_gives_it_back(tmp_path: Path, name: str) -> None:
    folder = FleetFolder(tmp_path, PLAN)
    folder.open()
    folder.keep(name, {"plan.json": (0, b"{}")})
    folder.note(Asked(Node(name, "id")))
    assert list(node_runs(tmp_path)) == [name]
    assert node_runs(tmp_path)[name].parent == tmp_path / "nodes"
    assert asked_nodes(tmp_path)[0].node.name == name


def test_only_what_is_new_is_sent(tmp_path: Path) -> None:
    sent: dict[str, int] = {}
    (tmp_path / "plan.json").write_text("{}")
    (tmp_path / "rounds.csv").write_text("one\n")
    assert news(tmp_path, sent) == {"rounds.csv": (0, b"one\n"), "plan.json": (0, b"{}")}
    assert news(tmp_path, sent) == {}
    with (tmp_path / "rounds.csv").open("a") as lines:
        lines.write("two\n")
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "x.log").write_text("why")
    assert news(tmp_path, sent) == {"rounds.csv": (4, b"two\n"), "logs/x.log": (0, b"why")}


def test_a_table_of_more_nodes_than_lines_shows_those_with_warnings_first() -> None:
    shown = Console(width=80, height=12, force_terminal=True, record=True, color_system=None)
    table = FleetTable(shown)
    nodes = [Node(f"node-{number:03}", f"id-{number}") for number in range(100)]
    table.nodes_found(nodes)
    table.node_told(nodes[70], begins())
    table.node_told(nodes[70], Told("launch_begins", (CASE, 0)))
    record = LaunchRecord(CASE.id, 0, 1, 42, Status.INVALID, "other work took the CPU")
    table.node_told(nodes[70], Told("launch_voided", (record,)))
    table.node_lost(nodes[80], "the node has ended, or cannot be reached")
    table.ends()
    lines = shown.render_lines(table.table(), pad=False)
    text = ["".join(segment.text for segment in line).rstrip() for line in lines]
    assert all(len(line) <= 80 for line in text)
    assert [line.split()[0] for line in text[1:3]] == ["node-070", "node-080"]
    assert "relu_mlp-adam-compiled-cpu-b32" in text[1]
    assert text[-1].startswith("94 more")
    assert "node-080: does not go on" in shown.export_text()


def test_a_plan_is_kept_and_read_again(tmp_path: Path) -> None:
    FleetFolder(tmp_path, PLAN).open()
    assert FleetFolder.resume(tmp_path).plan == PLAN
    (tmp_path / "fleet.json").write_text(json.dumps({"version": 99}))
    with pytest.raises(UserError, match="version 99, newer than"):
        FleetFolder.resume(tmp_path)
    with pytest.raises(UserError, match="no-such"):
        FleetFolder.resume(tmp_path / "no-such")


class Daemon:
    """A node's daemon, as psutil shows it."""

    pid = 1

    def environ(self) -> dict[str, str]:
        return {"XLA_FLAGS": "--node", "LD_PRELOAD": "libjemalloc.so", "HOME": os.environ["HOME"]}

    def nice(self) -> int:
        return os.getpriority(os.PRIO_PROCESS, 0)


def test_launches_see_the_variables_of_the_node_and_none_that_ray_adds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ray gives its processes one thread, and a breakpoint of its own."""
    added = {"OMP_NUM_THREADS": "1", "PYTHONBREAKPOINT": "ray", "RAY_JOB_ID": "01"}
    for name, value in {**added, "XLA_FLAGS": "--ray"}.items():
        monkeypatch.setenv(name, value)
    changed = {**os.environ}
    monkeypatch.setattr(os, "environ", changed)
    as_the_node(Daemon())
    assert changed == {
        "XLA_FLAGS": "--node",
        "HOME": changed["HOME"],
        **{name: value for name, value in changed.items() if name.startswith("RAY_")},
    }
    assert changed["RAY_JOB_ID"] == "01"
