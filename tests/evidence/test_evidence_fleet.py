"""The evidence of `fleet check`: few simulated fleets, a small made one, and the kept table."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from support import ROOT

from bench.evidence.fleet import CASES, RUNS, fleet_rows, scale_row
from bench.evidence.fleet_picture import draw
from bench.evidence.fleets import MadeFleet, cases_of


def test_alike_fleets_raise_few_alarms_and_a_slow_node_is_found(tmp_path: Path) -> None:
    rows = list(fleet_rows(25, 7, nodes=(8,), runs=(1, 3)))
    assert [row["fleets"] for row in rows] == [75, 25] * 3
    assert sum(row["alarms"] for row in rows) <= 3
    three = [row for row in rows if row["runs"] == 3]
    assert min(row["found_20"] for row in three) > 0.9
    quiet = three[0]
    assert quiet["drift"] == 0
    assert quiet["gate_found"] > 0.9
    draw(rows, tmp_path / "fleet.png")
    assert (tmp_path / "fleet.png").stat().st_size > 10_000


def test_a_made_fleet_is_checked_as_a_whole_command(tmp_path: Path) -> None:
    like = MadeFleet(7, 2, launches=2, rounds=20, slower={"node0003": 20.0})
    row = scale_row(tmp_path, like, lambda _: None)
    assert row["page_bytes"] > row["table_bytes"] > 0
    assert 0 < row["peak_memory_bytes"] < 2**30
    text = (tmp_path / "fleet/nodes/node0003/environment.json").read_text("utf-8")
    assert "made, not measured" in text


def test_so_many_cases_as_there_are() -> None:
    assert len({case.id for case in cases_of(50)}) == 50
    with pytest.raises(ValueError, match="9999 cases"):
        cases_of(9_999)


def test_the_kept_table_holds_what_is_promised() -> None:
    with (ROOT / "results/evidence/fleet.csv").open(newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert {int(row["runs"]) for row in rows} == set(RUNS)
    assert {int(row["cases"]) for row in rows} == {CASES}
    assert max(float(row["rate"]) for row in rows) <= 0.01
    told = [row for row in rows if int(row["able"] or 0) >= 100]
    assert min(float(row["gate_found"]) for row in told) >= 0.9
    with (ROOT / "results/evidence/fleet_scale.csv").open(newline="", encoding="utf-8") as lines:
        (scale,) = csv.DictReader(lines)
    assert (scale["nodes"], scale["cases"]) == ("1000", "50")
    assert float(scale["cpu_s"]) < 60
    assert int(scale["peak_memory_bytes"]) < 10**9
