"""The roofline picture: a panel a setting, a point a case, nothing cut off."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from matplotlib.image import imread
from support.figures import figure_of, texts_off_the_page
from support.rows import COMPILED, FIT, HALF, ceilings, rows
from support.synthetic import ENVIRONMENT

from bench.reports.plots.roofline import draw_roofline
from bench.schema.case import Case

MEASURED = [ceilings(), ceilings("mixed_bfloat16", plain=2e11, xla=5e10)]
LARGE = Case("relu_mlp", "sgd", "compiled", batch_size=512)


@pytest.fixture
def results() -> list[dict[str, Any]]:
    return rows({FIT: 4.8, COMPILED: 0.48, LARGE: 0.3, HALF: 0.8}, MEASURED)


def test_every_setting_is_a_panel_and_every_case_a_point(results: list[dict[str, Any]]) -> None:
    figure = figure_of(draw_roofline, results, MEASURED, ENVIRONMENT)
    assert [axes.get_label() for axes in figure.axes] == ["cpu, float32", "cpu, mixed_bfloat16"]
    # What Matplotlib says of a line's data is too wide to be indexed.
    drawn: Any = figure.axes[0].get_lines()
    points = {
        (line.get_xdata()[0], line.get_ydata()[0]) for line in drawn if line.get_marker() == "^"
    }
    expected = {
        (row["flops_per_sample"] * row["batch_size"] / row["bytes_per_step"], row["gflops"])
        for row in results[:3]
    }
    assert points == expected
    assert "100 GFLOP/s" in " ".join(text.get_text() for text in figure.axes[0].texts)


def test_each_backend_is_a_panel_under_the_roof_of_the_machine() -> None:
    backends = {Case("relu_mlp", "adam", "compiled", backend=b): 0.5 for b in ("tensorflow", "jax")}
    slower = replace(ceilings(plain=5e9, xla=5e9), backend="jax")
    both = [*MEASURED, slower]
    figure = figure_of(draw_roofline, rows(backends, both), both, ENVIRONMENT)
    names = [axes.get_label() for axes in figure.axes]
    assert names == ["cpu, float32, tensorflow", "cpu, float32, jax"]
    for axes in figure.axes:
        assert len([line for line in axes.get_lines() if line.get_marker() == "^"]) == 1
        assert "100 GFLOP/s" in " ".join(text.get_text() for text in axes.texts)


def test_a_batch_size_is_named_below_all_its_points(results: list[dict[str, Any]]) -> None:
    axes: Any = figure_of(draw_roofline, results, MEASURED, ENVIRONMENT).axes[0]
    (named,) = (text for text in axes.texts if text.get_text() == "32")
    lowest = min(row["gflops"] for row in results[:2])
    top = named.get_window_extent().y1
    assert top < axes.transData.transform((1, lowest))[1]


def test_the_roof_is_the_peak_and_the_slopes_are_the_bandwidths(
    results: list[dict[str, Any]],
) -> None:
    # What Matplotlib says of a line's data is too wide to be indexed.
    axes: Any = figure_of(draw_roofline, results, MEASURED, ENVIRONMENT).axes[0]
    roofs = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
    assert len(roofs) == 2
    for line, rate in zip(roofs, (5e10, 2e10), strict=True):
        for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True):
            assert y == pytest.approx(min(1e11, rate * x) / 1e9)


def test_no_text_is_cut_off(results: list[dict[str, Any]]) -> None:
    assert texts_off_the_page(figure_of(draw_roofline, results, MEASURED, ENVIRONMENT)) == []
    many = [ceilings("float32"), *MEASURED[1:], ceilings("mixed_float16")]
    sixteen = Case("relu_mlp", "sgd", "fit", precision="mixed_float16")
    wide = rows({COMPILED: 0.48, HALF: 0.8, sixteen: 4.0}, many)
    assert texts_off_the_page(figure_of(draw_roofline, wide, many, ENVIRONMENT)) == []


def test_the_picture_is_written_only_where_there_is_something_to_draw(
    results: list[dict[str, Any]], tmp_path: Path
) -> None:
    path = tmp_path / "roofline.png"
    assert not draw_roofline(results, [], ENVIRONMENT, path)
    assert not draw_roofline(rows({COMPILED: 0.48}), MEASURED, ENVIRONMENT, path)
    assert not path.exists()
    assert draw_roofline(results, MEASURED, {}, path)
    assert imread(path).shape[1] > 1000
