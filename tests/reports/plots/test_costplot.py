"""The picture of costs: every figure is in it, and no text is off the page."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.figures import drawn, figure_of, panel, texts, texts_off_the_page
from support.run_folders import write_run

from bench.reports.plots.cost import draw_costs
from bench.schema.case import Case
from bench.store.named import named_runs
from bench.verdicts.compare import Comparison, compare, priced
from bench.verdicts.cost import Prices

CASES = [Case("relu_mlp", "adam", loop) for loop in ("compiled", "fit")]


def made(tmp_path: Path, score: float) -> Comparison:
    folders = [
        write_run(tmp_path / f"run{k}", dict.fromkeys(CASES, (0.4 + k / 10, score)))
        for k in range(3)
    ]
    prices = Prices("$", {f"run{k}": 0.5 + k for k in range(3)})
    return priced(compare(named_runs(folders)), prices)


def test_every_cost_is_drawn(tmp_path: Path) -> None:
    found = made(tmp_path, 0.87)
    figure = figure_of(draw_costs, found)
    assert found.costs is not None
    costs = [cost for own in found.costs.of_run.values() for cost in own.values()]
    wanted = {
        "money": [cost.samples_per_money.value / 1e6 for cost in costs],
        "epoch": [cost.epoch.value * 1e3 for cost in costs if cost.epoch],
        "target": [cost.target.value * 1e3 for cost in costs if cost.target],
    }
    for label, values in wanted.items():
        assert len(values) == 6
        shown = sorted(x for x, _ in drawn(panel(figure, label)))
        assert shown == pytest.approx(sorted(values))
    # `compiled` has three launches, and `fit` has one.
    bars = [c for c in panel(figure, "target").collections if c.get_gid() == "interval"]
    assert sum(len(bar.get_segments()) for bar in bars) == 3
    assert texts_off_the_page(figure) == []
    told = [text.get_text() for text in texts(figure)]
    assert "prices: A 0.5 $/h, B 1.5 $/h, C 2.5 $/h" in told


def test_without_a_target_there_is_no_panel_of_it(tmp_path: Path) -> None:
    figure = figure_of(draw_costs, made(tmp_path, 0.5))
    assert [axes.get_label() for axes in figure.axes] == ["money", "epoch"]


def test_the_file_of_costs_is_a_picture_of_the_suite(tmp_path: Path) -> None:
    path = tmp_path / "costs.png"
    for _ in range(2):
        draw_costs(made(tmp_path / str(path.exists()), 0.87), path)
    assert b"Source\0fmnist-bench" in path.read_bytes()
