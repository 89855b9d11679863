"""The picture of efficiency against replicas: a panel a scaling, a line a case, nothing cut off."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread
from matplotlib.text import Text
from support.figures import drawn, figure_of, panel, texts, texts_off_the_page
from support.scaled import COMPILED, Line, rows_of, write_scaled
from support.synthetic import ENVIRONMENT

from bench.reports.plots.compare import draw_comparison
from bench.reports.plots.scaling import MOST_LINES, draw_scaling
from bench.reports.scaling_data import sweeps
from bench.schema.case import WEAK
from bench.store.measured import read_run
from bench.verdicts.compare import compare

MEANS_NOTHING = "warning: on a CPU the replicas share its cores: a speed-up there means nothing"
MANY = [
    Line({2: 1.9, 4: 3.6, 8: 6.9}, replace(COMPILED, model=model, batch_size=batch, loop=loop))
    for model in ("sigmoid_mlp", "company.research.vision.models:build_network_variant")
    for batch in (32, 512, 4096)
    for loop in ("fit", "compiled")
]
RUNS: Mapping[str, Callable[[Path], Path]] = {
    "one line": lambda path: write_scaled(path, Line({2: 1.9, 4: 3.1})),
    "one point": lambda path: write_scaled(path, Line({2: 1.9}, share=None), launches=1),
    "wide": lambda path: write_scaled(path, Line({2: 1.9, 4: 2.0}), launches=2, scatter=0.5),
    "weak": lambda path: write_scaled(path, Line({2: 1.9, 4: 3.1}), scaling=WEAK),
    "super-linear": lambda path: write_scaled(path, Line({2: 4.9})),
    "cpu": lambda path: write_scaled(path, Line({2: 1.1, 4: 0.9}, replace(COMPILED, device="cpu"))),
    "processes": lambda path: write_scaled(
        path, Line({2: 1.9, 64: 60}), Line({2: 1.8, 64: 50}, each=True)
    ),
    "many lines": lambda path: write_scaled(path, *MANY, Line({2: 1.5}, each=True)),
}


@pytest.fixture(params=RUNS, scope="module")
def figure(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Figure:
    path = RUNS[request.param](tmp_path_factory.mktemp("run") / "run")
    return figure_of(draw_scaling, rows_of(path), ENVIRONMENT)


def picture_of(path: Path, *lines: Line, **more: Any) -> Figure:
    return figure_of(draw_scaling, rows_of(write_scaled(path, *lines, **more)), ENVIRONMENT)


def said(figure: Figure) -> list[str]:
    return [text.get_text() for text in texts(figure)]


def test_no_text_leaves_the_page_or_covers_another(figure: Figure) -> None:
    assert texts_off_the_page(figure) == []
    boxes = [(text.get_text(), Text.get_window_extent(text)) for text in texts(figure)]
    for (name, box), (other_name, other) in itertools.combinations(boxes, 2):
        across = min(box.x1, other.x1) - max(box.x0, other.x0)
        down = min(box.y1, other.y1) - max(box.y0, other.y0)
        assert across <= 0.5 or down <= 1.5, f"{name!r} covers {other_name!r}"


def test_every_efficiency_lies_inside_its_panel(figure: Figure) -> None:
    for axes in figure.axes:
        (left, right), (below, above) = axes.get_xlim(), axes.get_ylim()
        for gid in (None, "interval"):
            for x, y in drawn(axes, gid):
                assert left < x < right
                assert below <= y <= above


def test_a_line_begins_with_one_and_has_a_point_for_each_number(tmp_path: Path) -> None:
    figure = picture_of(tmp_path / "run", Line({2: 1.9, 4: 3.12}))
    axes = panel(figure, "efficiency: strong")
    (points,) = [[(round(x), y) for x, y in drawn(axes)]]
    assert points == [(2, pytest.approx(0.95)), (4, pytest.approx(0.78))]
    (line,) = (line for line in axes.lines if len(line.get_xdata()) == 3)
    assert (line.get_xdata()[0], line.get_ydata()[0]) == (1, 1)
    (ideal,) = (line for line in axes.lines if line.get_gid() == "ideal")
    assert set(ideal.get_ydata()) == {1.0}
    assert {x for x, _ in drawn(axes, "interval")} == {x for x, _ in drawn(axes)}
    share = panel(figure, "all-reduce: strong")
    assert [y for _, y in drawn(share)] == [pytest.approx(0.12)] * 2


def test_strong_and_weak_are_told_apart(tmp_path: Path) -> None:
    strong = picture_of(tmp_path / "strong", Line({2: 1.9}))
    weak = picture_of(tmp_path / "weak", Line({2: 1.9}), scaling=WEAK)
    labels = [[axes.get_label() for axes in figure.axes] for figure in (strong, weak)]
    assert labels == [
        ["efficiency: strong", "all-reduce: strong"],
        ["efficiency: weak", "all-reduce: weak"],
    ]
    assert any("the batch of all replicas together stays the same" in t for t in said(strong))
    assert any("the batch of each replica stays the same" in t for t in said(weak))
    assert any("batch 512 a replica" in text for text in said(weak))


def test_without_an_interval_none_is_drawn_or_explained(tmp_path: Path) -> None:
    figure = picture_of(tmp_path / "run", Line({2: 1.9}, share=None), launches=1)
    (axes,) = figure.axes
    assert drawn(axes, "interval") == []
    assert not [text for text in said(figure) if "interval" in text]


def test_lines_are_named_and_look_different_without_colour(tmp_path: Path) -> None:
    lines = [
        Line({2: 1.9}),
        Line({2: 1.7}, each=True),
        Line({2: 1.5}, replace(COMPILED, loop="fit")),
    ]
    figure = picture_of(tmp_path / "run", *lines)
    axes = panel(figure, "efficiency: strong")
    named = [text.get_text() for text in axes.texts if "compiled" in text.get_text()]
    assert sorted(named) == ["compiled", "compiled · a process each"]
    long = [line for line in axes.lines if line.get_marker() in ("None", "")]
    dashes = {line.get_linestyle() for line in long if line.get_gid() is None}
    assert len(dashes) == 3
    assert len({round(x, 3) for x, _ in drawn(axes)}) == 3


def test_a_picture_of_a_cpu_says_that_it_means_nothing(tmp_path: Path) -> None:
    on_cpu = replace(COMPILED, device="cpu")
    assert MEANS_NOTHING in said(picture_of(tmp_path / "cpu", Line({2: 1.1}, on_cpu)))
    assert MEANS_NOTHING not in said(picture_of(tmp_path / "gpu", Line({2: 1.1})))


def test_too_many_lines_are_counted(tmp_path: Path) -> None:
    path = write_scaled(tmp_path / "run", *MANY, Line({2: 1.5}, each=True))
    rows = rows_of(path)
    left = len(sweeps(rows)) - MOST_LINES
    assert f"{left} more line in results.csv" in said(figure_of(draw_scaling, rows, ENVIRONMENT))


def test_it_is_written_only_where_there_is_an_efficiency(tmp_path: Path) -> None:
    rows = rows_of(write_scaled(tmp_path / "run", Line({2: 1.9})))
    path = tmp_path / "scaling.png"
    assert not draw_scaling([row for row in rows if row["replicas"] == 1], ENVIRONMENT, path)
    assert not path.exists()
    assert draw_scaling(rows, {}, path)
    assert imread(path).shape[1] > 1000


def test_a_comparison_has_a_panel_of_efficiencies_where_there_are_some(tmp_path: Path) -> None:
    on_cpu = replace(COMPILED, device="cpu")
    gains = {"a": 1.9, "b": 1.5}
    for case in (COMPILED, on_cpu):
        runs = {
            name: read_run(write_scaled(tmp_path / case.device / name, Line({2: gain}, case)))
            for name, gain in gains.items()
        }
        figure = figure_of(draw_comparison, compare(runs))
        axes = panel(figure, "efficiency")
        assert [x for x, _ in drawn(axes)] == [pytest.approx(gain / 2) for gain in gains.values()]
        assert texts_off_the_page(figure) == []
        assert (MEANS_NOTHING in said(figure)) == (case is on_cpu)
    plain = {
        name: replace(run, logs={case: own for case, own in run.logs.items() if "-r2" not in case})
        for name, run in runs.items()
    }
    figure = figure_of(draw_comparison, compare(plain))
    assert [axes.get_label() for axes in figure.axes] == ["ratio", "throughput"]
