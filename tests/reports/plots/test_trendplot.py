"""The picture of the largest changes of a history."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from matplotlib.image import imread
from support.histories import AT, CASES, eventful

from bench.reports.plots import trend as picture
from bench.reports.plots.style import style
from bench.reports.trend_data import Trend, trends
from bench.schema.history import HistorySeries
from bench.schema.sizes import Sizes
from bench.verdicts.history import HistoryReport, judge

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIZES = Sizes.of_check()


def drawn(made: list[HistorySeries], notes: dict[str, str] | None = None) -> Figure:
    report = judge(made, SIZES, notes=notes)
    return figure_of(trends(made, report.changes), report)


def figure_of(shown: list[Trend], report: HistoryReport) -> Figure:
    with style([]):
        figure = picture._figure(picture._chosen(shown), shown, report)
        figure.canvas.draw()
    return figure


def marks(figure: Figure) -> list[tuple[str, str]]:
    """(case, marker) of each change."""
    return [
        (str(axes.get_label()), str(line.get_marker()))
        for axes in figure.axes
        for line in axes.lines
        if line.get_gid() == "change"
    ]


def told_of_bars(figure: Figure) -> bool:
    return any("grey bars" in text.get_text() for text in figure.texts)


def test_the_largest_changes_come_first_and_alone() -> None:
    figure = drawn(eventful(20))
    assert marks(figure) == [(CASES[3], "v"), (CASES[5], "^")]
    (mark,) = [line for line in figure.axes[0].lines if line.get_gid() == "change"]
    assert mark.get_markerfacecolor() == mark.get_color()
    told = [text.get_text() for text in figure.axes[0].texts]
    assert CASES[3] in told
    assert any("slower (" in text and "2026-04-1" in text for text in told)
    assert "C+E" in told


def test_what_was_acknowledged_is_hollow() -> None:
    made = eventful()
    (loss,) = [change for change in judge(made, SIZES).changes if change.worse]
    figure = drawn(made, {loss.id: "known"})
    (mark,) = [line for line in figure.axes[0].lines if line.get_gid() == "change"]
    assert mark.get_markerfacecolor() == "white"
    assert any("acknowledged" in text.get_text() for text in figure.axes[0].texts)


def test_without_a_change_the_first_are_shown(tmp_path: Path) -> None:
    made = eventful()
    early = [replace(one, points=one.points[: AT // 2]) for one in made]
    figure = drawn(early)
    assert (len(figure.axes), marks(figure)) == (len(CASES), [])
    # Few runs have their intervals, but for the one that failed.
    (bars,) = [found for found in figure.axes[0].collections if found.get_gid() == "interval"]
    assert len(bars.get_paths()) == AT // 2 - 1
    assert (told_of_bars(figure), told_of_bars(drawn(made))) == (True, False)
    failed = [
        replace(made[0], points=tuple(replace(p, logs=()) for p in made[0].points[:2])),
        replace(made[2], points=made[2].points[:1]),
    ]
    report = judge(failed, SIZES)
    shown = trends(failed, report.changes)
    assert "no run ended ok" in [text.get_text() for text in figure_of(shown, report).axes[0].texts]
    (day,) = figure_of(shown, report).axes[1].get_xticklabels()
    assert day.get_text() == "2026-01-01"
    picture.draw_trends(shown, report, tmp_path / "trend.png")
    assert imread(tmp_path / "trend.png").std() > 0.01


def test_a_fact_that_only_later_runs_recorded_is_no_other_environment() -> None:
    (one, *_) = eventful()
    late = tuple(
        replace(point, environment=f"{point.environment} new", facts={**point.facts, "new": "1"})
        for point in one.points[: AT // 2]
    )
    figure = drawn([replace(one, points=(*one.points[:9], *late[9:], *one.points[AT // 2 :]))])
    (ticks,) = [line for line in figure.axes[0].lines if line.get_gid() == "environment"]
    # That of the driver alone.
    assert np.size(ticks.get_xdata()) == 1


def test_no_two_texts_of_a_panel_overlap() -> None:
    made = eventful()
    other = [replace(one, machine="n", machine_name="a machine " * 20) for one in made]
    figure = drawn([*made, *other])
    assert len(figure.axes) == 4
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts[:3]]
        for one, next_one in pairwise(boxes):
            assert not one.overlaps(next_one)
            assert one.x1 <= figure.bbox.x1


@pytest.mark.parametrize("what", ["folder", "text"])
def test_another_file_is_not_replaced(tmp_path: Path, what: str) -> None:
    from fmnist_models.errors import UserError

    place = tmp_path / "trend.png"
    if what == "folder":
        place.mkdir()
    else:
        place.write_text("mine")
    made = eventful()
    report = judge(made, SIZES)
    with pytest.raises(UserError, match=r"trend\.png"):
        picture.draw_trends(trends(made, report.changes), report, place)
