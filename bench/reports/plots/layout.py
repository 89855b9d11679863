"""Places the panels of the picture on the page; all lengths are in inches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.reports.plots.header import EDGE, LINE, PAGE_WIDTH, Header
from bench.reports.plots.style import SMALL_PT, TEXT_PT, text_width

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: left and right edges of the columns, heights of bands, least sizes.
FIRST, SECOND = (EDGE, 5.45), (5.85, PAGE_WIDTH - EDGE)
TITLE_BAND, AXIS_BAND, FACET_GAP = 0.6, 0.52, 0.9
BANDS = TITLE_BAND + AXIS_BAND
LEAST_LABELS, LABEL_GAP, TARGET_LABEL = 0.78, 0.12, 0.5
LEAST, SWEEP, SCORE, FACET = 1.3, 2.9, 3.6, 2.3


@dataclass(frozen=True, slots=True)
class Wanted:
    """The space that the panels need: heights of the dot plots' axes, and labels beside axes."""

    throughput: float
    throughput_labels: Sequence[str]
    facets: int
    series_labels: Sequence[str]
    precisions: float
    precision_labels: Sequence[str]


@dataclass(frozen=True, slots=True)
class Rectangle:
    """The place of axes on the page; `top` is the distance from the page's upper edge."""

    left: float
    top: float
    width: float
    height: float


@dataclass(frozen=True, slots=True)
class Page:
    """A figure of the right size and the places of the panels on it.

    Attributes:
        throughput_labels, precision_labels: width left of the axes of the two dot plots.
    """

    figure: Figure
    throughput: Rectangle
    scores: tuple[Rectangle, ...]
    batches: Rectangle
    precisions: Rectangle
    throughput_labels: float
    precision_labels: float

    def axes(self, place: Rectangle, label: str) -> Axes:
        """New axes at `place`; tests find them by `label`."""
        width, height = self.figure.get_size_inches()
        bottom = height - place.top - place.height
        share = (place.left / width, bottom / height, place.width / width, place.height / height)
        return self.figure.add_axes(share, label=label)


def plan_page(figure: Figure, header: Header, wanted: Wanted, footer: str) -> Page:
    """Place the panels in two columns and give the figure its height.

    Throughput is left; scores and batch sizes are right. The precisions are in the column that
    makes the page shorter. Few rows give a grid of two by two; otherwise the shorter column grows
    towards the length of the longer one, so that no gap is left.
    """
    left = max(LEAST_LABELS, text_width(figure, wanted.throughput_labels, TEXT_PT) + LABEL_GAP)
    right = max(LEAST_LABELS, text_width(figure, wanted.precision_labels, TEXT_PT) + LABEL_GAP)
    ends = max(TARGET_LABEL, text_width(figure, wanted.series_labels, SMALL_PT) + LABEL_GAP)
    # The right edges are aligned, unless the names of the series are long.
    after = ends if ends < 2 * TARGET_LABEL else TARGET_LABEL
    throughput, precisions = max(LEAST, wanted.throughput), max(LEAST, wanted.precisions)
    facets = FACET * wanted.facets + FACET_GAP * (wanted.facets - 1)
    facets = max(facets, min(throughput, SCORE))
    sweep = SWEEP if wanted.series_labels else LEAST
    balanced = ([throughput, precisions], [facets, sweep])
    columns = min(balanced, ([throughput], [facets, sweep, precisions]), key=_longest)
    below_left = columns is balanced
    if below_left and throughput <= facets:
        columns = [facets, max(sweep, precisions)], [facets, max(sweep, precisions)]
    length = _longest(columns)
    columns = _grown(columns[0], length), _grown(columns[1], length)
    labels = right
    if below_left:
        left = labels = max(left, labels)
        right = LEAST_LABELS

    top = header.height + TITLE_BAND
    tops = [[top + _length(c[:i]) + (BANDS if i else 0) for i in range(len(c))] for c in columns]
    column, number, blank = (FIRST, 0, 0.0) if below_left else (SECOND, 1, after)
    precision = _inset(column, tops[number][-1], columns[number][-1], labels, blank)
    figure.set_size_inches(
        PAGE_WIDTH, top + length + AXIS_BAND + (LINE + 0.1 if footer else 0) + 0.1
    )
    return Page(
        figure,
        _inset(FIRST, top, columns[0][0], left, 0),
        _facets(_inset(SECOND, top, columns[1][0], right, after), wanted.facets),
        _inset(SECOND, tops[1][1], columns[1][1], right, ends),
        precision,
        left,
        labels,
    )


def _length(heights: Sequence[float]) -> float:
    return sum(heights) + BANDS * (len(heights) - 1)


def _longest(columns: tuple[Sequence[float], Sequence[float]]) -> float:
    return max(_length(column) for column in columns)


def _grown(heights: Sequence[float], length: float) -> list[float]:
    """Heights stretched by one factor towards a column of `length`, by at most two thirds."""
    factor = (length - BANDS * (len(heights) - 1)) / sum(heights)
    return [height * min(factor, 1.67) for height in heights]


def _inset(
    column: tuple[float, float], top: float, height: float, before: float, after: float
) -> Rectangle:
    return Rectangle(column[0] + before, top, column[1] - column[0] - before - after, height)


def _facets(whole: Rectangle, count: int) -> tuple[Rectangle, ...]:
    height = (whole.height - FACET_GAP * (count - 1)) / count
    return tuple(
        Rectangle(whole.left, whole.top + (height + FACET_GAP) * i, whole.width, height)
        for i in range(count)
    )
