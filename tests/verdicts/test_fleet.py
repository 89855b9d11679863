"""`fleet check` on made folders: verdicts, exit codes, files, what is named first, odd input."""

from __future__ import annotations

import csv
import json
import math
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support import TypeIn
from support.fleets import NODES, QUICK, fleet, fleets
from support.stored import CASES, FIRST

from bench.schema.fleet import Asked, Node
from bench.schema.plan import Plan, RunSettings
from bench.store.fleet_folder import FleetFolder
from bench.verdicts.fleet import compare_nodes, compare_scores, runs_needed
from bench.verdicts.set_ups import differences

MARGIN, GATE = math.log1p(0.01), math.log1p(0.25)


def logs(seed: int, nodes: int, runs: int, cases: int, sd: float = 0.01) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(-9, sd, (nodes, runs, cases))


class TestCompareNodes:
    def test_a_node_is_compared_with_the_median_of_the_others_by_hand(self) -> None:
        values = np.zeros((5, 2, 1)) + np.array([0.0, 0.1, 0.2, 0.3, 9.0])[:, None, None]
        found = compare_nodes(values, MARGIN, 0.01).found.change[:, 0]
        assert found == pytest.approx([-0.25, -0.15, 0.0, 0.15, 9 - 0.15])

    def test_nodes_of_another_kind_are_not_in_the_median(self) -> None:
        values = logs(1, 6, 3, 4)
        odd = values.copy()
        odd[5] += 1.0
        alike = np.array([True] * 5 + [False])
        found, other = (compare_nodes(v, MARGIN, 0.01, alike).found for v in (values, odd))
        assert found.change[:5] == pytest.approx(other.change[:5])
        assert found.change[5] + 1 == pytest.approx(other.change[5])

    @pytest.mark.parametrize("runs", [1, 2, 3])
    def test_the_slow_node_alone_is_found(self, runs: int) -> None:
        values = logs(2, 12, runs, 8)
        assert not compare_nodes(values, MARGIN, 0.005).slow.any()
        values[3] += math.log(3 if runs == 1 else 1.2)
        assert compare_nodes(values, MARGIN, 0.005).slow.nonzero()[0].tolist() == [3]

    def test_up_to_half_of_the_nodes_may_be_slow(self) -> None:
        values = logs(8, 8, 3, 4)
        values[:4] += math.log(1.3)
        assert compare_nodes(values, MARGIN, 0.005).slow.tolist() == [True] * 4 + [False] * 4

    def test_a_node_without_a_case_is_not_tested_there(self) -> None:
        values = logs(3, 5, 2, 3)
        values[1, :, 2] = math.nan
        found = compare_nodes(values, MARGIN, 0.01)
        assert np.isnan(found.found.change).nonzero()[0].tolist() == [1]
        assert not found.found.rejected[1, 2]

    def test_a_node_that_scatters_more_is_itself_the_least_sure(self) -> None:
        values = logs(4, 10, 4, 20, 0.004)
        values[7] += np.random.default_rng(5).normal(0, 0.2, (4, 20))
        smallest = compare_nodes(values, MARGIN, 0.005).found.smallest
        others = np.delete(smallest, 7, 0)
        assert (smallest[7] > 1.5 * others.max(0)).all()
        assert others.max(0) == pytest.approx(others.min(0))

    def test_the_runs_that_it_asks_for_find_the_gate(self) -> None:
        few = compare_nodes(logs(6, 8, 2, 10, 0.04), MARGIN, 0.005)
        needed = runs_needed(few, MARGIN, GATE, 8, 0.005)
        assert needed is not None
        enough = compare_nodes(logs(7, 8, needed + 1, 10, 0.04), MARGIN, 0.005)
        assert (few.found.smallest > GATE).any()
        assert (enough.found.smallest <= GATE).all()

    def test_too_few_are_refused(self) -> None:
        for shape in ((1, 3, 2), (5, 1, 2)):
            with pytest.raises(ValueError, match="two nodes of two runs"):
                compare_nodes(logs(1, *shape), MARGIN, 0.01)

    def test_runs_of_one_seed_tell_no_more_of_a_score_than_one(self) -> None:
        alike, scatter = np.ones(4, bool), np.array([0.007])
        one, three = (np.zeros((4, runs, 1)) for runs in (1, 3))
        found = [compare_scores(v, scatter, 0.02, 0.001, alike).smallest for v in (one, three)]
        assert found[0] == pytest.approx(found[1])


def test_differences_are_told_from_most_and_unknown_facts_are_none() -> None:
    usual = {"os": {"kernel": "6.1"}, "memory_bytes": 2**36, "driver_version": "570"}
    nodes = [
        [usual],
        [usual | {"memory_bytes": 2**36 - 2**22}],
        [usual | {"driver_version": "550"}],
    ]
    nodes += [[{"os": {"kernel": "6.1"}}], [usual, usual | {"os": {"kernel": "5.15"}}]]
    assert [[str(one) for one in own] for own in differences(nodes)] == [
        [],
        [],
        ["driver 550, not 570"],
        [],
        ["kernel 6.1 and 5.15, not 6.1"],
    ]


@pytest.fixture
def check(type_in: TypeIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`fleet check` without its picture and page; returns (exit code, output, errors)."""
    monkeypatch.setattr("bench.reports.plots.fleet.draw_fleet", lambda *_: None)
    page = tmp_path / "fleet.html"
    monkeypatch.setattr("bench.reports.page.fleet.write_fleet_page", lambda *_: page)
    return lambda *words: type_in("fleet", "check", *words)


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "fleet.csv").open(newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_alike_nodes_pass_and_are_shown_as_one(check: Any, tmp_path: Path) -> None:
    code, out, _ = check(fleets(tmp_path / "f"))
    assert code == 0, out
    assert "6 nodes, slowest" in out
    assert "alike (exit 0): 6 alike" in out
    found = rows(tmp_path / "f")
    assert [len(found), {row["verdict"] for row in found}] == [len(NODES) * len(CASES), {"alike"}]
    assert {row["times"] for row in found} == {"3"}


def test_a_slow_node_is_named_with_what_differs_there_first(check: Any, tmp_path: Path) -> None:
    of = {
        "bee": {"slower": {FIRST: 0.2}, "driver_version": "550"},
        **{name: {"driver_version": "570"} for name in NODES if name != "bee"},
    }
    code, out, _ = check(fleets(tmp_path / "f", of=of))
    assert code == 1
    assert out.splitlines()[:2] == ["not set up as most nodes:", "bee: driver 550, not 570"]
    assert f"bee: slow: {FIRST}: " in out
    assert "it differs: driver 550, not 570" in out
    told = json.loads((tmp_path / "f/fleet-check.json").read_text("utf-8"))
    assert told["exit_code"] == 1
    assert [node["node"] for node in told["nodes"] if node["verdict"] == "slow"] == ["bee"]
    slow = [(row["node"], row["case"]) for row in rows(tmp_path / "f") if row["verdict"] == "slow"]
    assert slow == [("bee", FIRST)]


def test_one_run_of_few_nodes_says_that_it_needs_two(check: Any, tmp_path: Path) -> None:
    code, out, _ = check(fleet(tmp_path / "f", 1, nodes=NODES[:3]))
    assert code == 3
    assert "at least 2 runs of each node, an hour apart" in out


def test_noise_says_how_many_runs_it_takes(check: Any, tmp_path: Path) -> None:
    code, out, _ = check(fleets(tmp_path / "f", 2, noise=0.15))
    assert code == 3
    assert "to find the gate of 25.0% it takes about " in out


def test_a_node_that_seems_slow_is_not_shown_as_one_with_others(check: Any, tmp_path: Path) -> None:
    code, out, _ = check(fleet(tmp_path / "f", 1, of={"cat": {"slower": {FIRST: 0.35}}}, noise=0.1))
    assert code == 3
    assert re.search(r"^cat +softmax", out, re.MULTILINE)
    assert "% slower, not confirmed: slow-downs are found from " in out
    assert "5 nodes, slowest " in out


def test_runs_within_an_hour_count_as_one(check: Any, tmp_path: Path) -> None:
    began = {"time_utc": "2026-03-01T12:00:00+00:00"}
    code, out, _ = check(fleets(tmp_path / "f", 2, nodes=NODES[:3], of=dict.fromkeys(NODES, began)))
    assert code == 3
    assert "most measured once" in out


def test_two_kinds_of_hardware_are_compared_each_within_itself(check: Any, tmp_path: Path) -> None:
    cpu = {"cpu": {"model": "Xeon", "cores_logical": 2}, "slower": {case.id: 1.0 for case in CASES}}
    code, out, _ = check(fleets(tmp_path / "f", of=dict.fromkeys(NODES[3:], cpu)))
    assert code == 0, out
    assert "in 2 kinds of hardware that are compared each within itself" in out


def test_a_node_alone_in_its_kind_is_compared_with_most(check: Any, tmp_path: Path) -> None:
    cpu = {"cpu": {"model": "Xeon", "cores_logical": 2}, "slower": {FIRST: 1.0}}
    code, out, _ = check(fleets(tmp_path / "f", of={"fox": cpu}))
    assert code == 1
    assert "fox: CPU Xeon, not EPYC" in out


def test_scores_that_are_worse_and_those_that_are_only_others(check: Any, tmp_path: Path) -> None:
    of = {"dog": {"accuracy": {FIRST: 0.5}}, "eel": {"accuracy": {FIRST: 0.8501}}}
    code, out, _ = check(fleets(tmp_path / "f", of=of))
    assert code == 1
    assert f"dog: worse: {FIRST}: accuracy fell by 35.0 points" in out
    assert "not those of most nodes to the last digit: dog (1 case), eel (1 case)" in out


def test_nodes_that_did_not_finish_are_named_and_the_others_judged(
    check: Any, tmp_path: Path
) -> None:
    made = fleets(
        tmp_path / "f",
        nodes=(*NODES[:4], "gpu/0", "노드"),
        of={"gpu/0": {"failed": [FIRST]}, "노드": {"cases": CASES[:3]}},
    )
    shutil.rmtree(made / "day2/nodes/dog")
    rounds = made / "day3/nodes/cat/rounds.csv"
    rounds.write_bytes(rounds.read_bytes()[:-20])
    (made / "day1/nodes/%2Enew").mkdir()
    code, out, _ = check(made)
    assert code == 2, out
    assert f"gpu/0: failed: {FIRST}: " in out
    assert "cat: failed: " in out
    assert "rounds.csv line" in out
    assert ".new: failed: " in out
    assert f"노드: missing: {CASES[3].id}: measured on other nodes" in out
    assert "measured at fewer times than most: " in out
    assert "dog (2)" in out
    assert "(exit 2): 3 failed, 1 missing, 3 alike" in out


def test_a_node_that_never_began_is_named_and_one_that_was_replaced_is_not(
    check: Any, tmp_path: Path
) -> None:
    made = fleets(tmp_path / "f", nodes=NODES[:4])
    folder = FleetFolder(made / "day1", Plan(CASES, RunSettings()))
    folder.note(Asked(Node("late", "id")), Asked(Node(NODES[0], "id"), replaced_by=NODES[1]))
    code, out, _ = check(made)
    assert code == 2, out
    assert "late: failed: it has measured nothing in " in out
    folder.note(Asked(Node("late", "id"), replaced_by=NODES[1]))
    shutil.rmtree(made / "day1" / "nodes" / NODES[0])
    code, out, _ = check(made)
    assert code != 2, out


def test_other_work_on_one_node_is_left_out_there(check: Any, tmp_path: Path) -> None:
    of = {
        name: {"record": {"model_digest": ("e" if name == "cat" else "f") * 64}} for name in NODES
    }
    code, out, _ = check(fleets(tmp_path / "f", of=of))
    assert code == 3
    assert "cat: other work: " in out
    assert "it trained another model than on most nodes" in out


def test_what_cannot_be_checked_is_refused_in_one_line(check: Any, tmp_path: Path) -> None:
    one = fleet(tmp_path / "one", 1, nodes=("ant",))
    first = fleet(tmp_path / "first", 1)
    other = fleet(tmp_path / "other", 2, settings=replace(QUICK, epochs=3))
    copy = Path(shutil.copytree(first, tmp_path / "copy"))
    (tmp_path / "empty").mkdir()
    for code, said, *words in (
        (3, "1 node: a node is compared with the others", one),
        (3, "--epochs", first, other),
        (2, "holds the same launches as", first, copy),
        (2, "is named twice", first, first),
        (2, "no folder of fleet run and holds none", tmp_path / "empty"),
        (2, "holds no run of a node", fleet(tmp_path / "none", 1, nodes=())),
        (2, "there is no such folder", tmp_path / "absent"),
        (2, "--gate 0.001", first, "--gate", "0.001"),
    ):
        ended, _, err = check(*words)
        assert (ended, said in err) == (code, True), err
        assert len(err.strip().splitlines()) == 1
