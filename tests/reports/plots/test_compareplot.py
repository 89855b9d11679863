"""The picture of a comparison: every ratio and rate is in it, and no text is cut or covered."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from matplotlib.axes import Axes
from matplotlib.image import imread
from support import synthetic
from support.figures import drawn, figure_of, panel, texts
from support.stored import stored

from bench.reports.plots.compare import draw_comparison
from bench.schema.case import Case
from bench.store.named import named_runs
from bench.verdicts.compare import Comparison, compare

MANY = [case for case in synthetic.documented() if case.model != "logistic"]
FEW = [Case("relu_mlp", "adam", "fit"), Case("relu_mlp", "adam", "compiled")]


@pytest.fixture
def comparison(tmp_path: Path) -> Callable[..., Comparison]:
    def make(runs: int, cases: list[Case]) -> Comparison:
        folders = []
        for k in range(runs):
            folder = tmp_path / f"run{k}"
            own = cases if k != 1 or len(cases) < 3 else cases[2:]
            stored(folder, k, cases=own, label=f"set-up {k}: é $x$")
            folders.append(folder)
        return compare(named_runs(folders))

    return make


def letters(axes: Axes) -> list[float]:
    """Letters carry no gid; intervals are a collection, and the line at 1 has no marker."""
    return sorted(x for x, _ in drawn(axes, None))


@pytest.mark.parametrize("cases", [FEW, MANY], ids=["few", "many"])
@pytest.mark.parametrize("runs", [2, 3, 10])
def test_no_text_is_cut_or_covers_another(
    comparison: Callable[..., Comparison], runs: int, cases: list[Case]
) -> None:
    figure = figure_of(draw_comparison, comparison(runs, cases))
    shown = texts(figure)
    page = figure.bbox
    boxes = [text.get_window_extent() for text in shown]
    for text, box in zip(shown, boxes, strict=True):
        assert box.x0 >= 0 <= box.y0, text.get_text()
        assert box.x1 <= page.x1, text.get_text()
        assert box.y1 <= page.y1, text.get_text()
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            across = min(one.x1, other.x1) - max(one.x0, other.x0)
            down = min(one.y1, other.y1) - max(one.y0, other.y0)
            assert across <= 1 or down <= 2, (shown[i].get_text(), across, down)


def test_every_ratio_and_rate_is_drawn(comparison: Callable[..., Comparison]) -> None:
    found = comparison(3, MANY)
    figure = figure_of(draw_comparison, found)
    ratios = [p.ratio for pairs in found.pairs.values() for p in pairs if p.ratio is not None]
    assert letters(panel(figure, "ratio")) == pytest.approx(sorted(ratios))
    rates = [run.rows[c]["samples_per_s"] for run in found.runs.values() for c in run.logs]
    assert letters(panel(figure, "throughput")) == pytest.approx(sorted(rates))
    assert panel(figure, "ratio").get_xscale() == "log"
    assert "1" in [label.get_text() for label in panel(figure, "ratio").get_xticklabels()]


def test_what_finds_no_room_is_counted(comparison: Callable[..., Comparison]) -> None:
    figure = figure_of(draw_comparison, comparison(10, MANY))
    assert any("cases more in comparison.csv" in text.get_text() for text in texts(figure))


def test_the_file_is_a_png(comparison: Callable[..., Comparison], tmp_path: Path) -> None:
    path = tmp_path / "comparison.png"
    draw_comparison(comparison(2, FEW), path)
    assert imread(path).shape[1] == 1760
