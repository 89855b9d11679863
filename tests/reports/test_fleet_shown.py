"""The picture and the page of a check of a fleet: outliers first, alike nodes folded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from bench.reports.fleet_data import MOST_NODES, drawn
from bench.reports.page.fleet import fleet_page
from bench.reports.plots import fleet as picture
from bench.reports.plots.style import style
from bench.reports.terminal.fleet_check import as_json, fleet_rows
from bench.schema.sizes import Sizes
from bench.verdicts.check import Measure
from bench.verdicts.fleet_check import CheckedNode, FleetReport, NodeCase, Verdict
from bench.verdicts.set_ups import Difference

CASES = [f"relu_mlp-adam-compiled-cpu-b{2**power}-float32" for power in range(5, 10)]
HOSTILE = "</script><b>노드 1</b>"


def node(name: str, slower: float = 0.0, differs: tuple[Difference, ...] = ()) -> CheckedNode:
    slow = slower > 0.1
    verdict = Verdict.SLOW if slow else Verdict.ALIKE
    cases = [
        NodeCase(
            case, verdict, "slower" * slow, 3, 1e5, 0.85, Measure(change, 0.1, 0.05, 0.5, slow)
        )
        for case, change in ((case, slower + 0.001 * n) for n, case in enumerate(CASES))
    ]
    return CheckedNode(name, verdict, 3, tuple(cases), differs)


def report(slow: int = 1, alike: int = 300) -> FleetReport:
    other = Difference("kernel", "5.15", "6.1")
    nodes = [node(f"slow{n}" if n else HOSTILE, 0.3) for n in range(slow)]
    nodes += [node("differs", 0.01, (other,)), *(node(f"alike{n}", 0.0) for n in range(alike))]
    return FleetReport(("day1", "day2"), tuple(nodes), Sizes.of_check(), 3, None)


@pytest.fixture(scope="module")
def page() -> str:
    return fleet_page(report())


def test_alike_nodes_are_one_row_of_what_is_drawn() -> None:
    found = drawn(report())
    assert [one.name for one in found.nodes] == [HOSTILE, "differs"]
    assert [span.name for span in found.groups] == ["300 alike"]
    assert len(found.spots) == 2 * len(CASES)
    assert [span.name for span in found.cases] == CASES
    assert drawn(report(slow=100)).left_out == (101 - MOST_NODES, 0)


def test_the_picture_has_a_row_a_node_and_a_row_a_case() -> None:
    with style([HOSTILE]):
        figure = picture._figure(report())
        nodes, cases = figure.axes
        assert [text.get_text() for text in nodes.get_yticklabels()] == [
            HOSTILE,
            "differs",
            "300 alike",
        ]
        assert len(cases.get_yticklabels()) == len(CASES)
        triangles = [line for line in nodes.lines if line.get_marker() == "^"]
        assert [len(line.get_xdata()) for line in triangles] == [len(CASES)]  # type: ignore[arg-type]
        figure.canvas.draw()


def test_the_page_holds_each_node_once_and_shows_outliers_first(page: str) -> None:
    rows = re.findall(r'<tr id="case-\d+" data-case="([^"]*)"', page)
    assert len(rows) == 302
    assert rows[:2] == ["&lt;/script&gt;&lt;b&gt;노드 1&lt;/b&gt;", "differs"]
    assert "<option selected>those to look at</option>" in page
    assert HOSTILE not in page
    assert "kernel 5.15, not 6.1" in page
    assert "300 nodes alike" in page
    data: dict[str, Any] = json.loads(page.split('id="data">')[1].split("</script>")[0])
    assert len(data["records"]) == 2 * len(CASES)
    assert {figure["name"] for figure in data["figures"]} == {"nodes", "cases"}


def test_a_thousand_nodes_make_a_page_of_sane_size(page: str) -> None:
    extra = len(fleet_page(report(alike=1_000))) - len(page)
    assert extra < 700 * 600


def test_the_files_of_a_fleet_with_nothing_tested(tmp_path: Path) -> None:
    broken = CheckedNode("a", Verdict.FAILED, 0, (), broken=("it cannot be read",))
    none = NodeCase(CASES[0], Verdict.UNDECIDED, "too few")
    empty = FleetReport(
        ("x",), (broken, CheckedNode("b", Verdict.UNDECIDED, 1, (none,))), Sizes.of_check(), 1, None
    )
    assert [row["reason"] for row in fleet_rows(empty)] == ["it cannot be read", "too few"]
    assert json.loads(json.dumps(as_json(empty), allow_nan=False))["exit_code"] == 2
    picture.draw_fleet(empty, tmp_path / "fleet.png")
    assert "nothing to draw" in fleet_page(empty)
