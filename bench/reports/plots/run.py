"""Draws a run: `comparison.png` with its four panels, and the row of sample images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reports import selection
from bench.reports.formatting import one_line
from bench.reports.machine_text import machine_lines, title_of
from bench.reports.palette import model_markers
from bench.reports.plots import dots, panels
from bench.reports.plots.canvas import blank_figure, save_picture, texts_of
from bench.reports.plots.header import Legend, draw_frame, make_header
from bench.reports.plots.layout import SECOND, Page, Wanted, plan_page
from bench.reports.plots.style import (
    ROUND_PT,
    RULE,
    SOFT_INK,
    TEXT_PT,
    line_styles,
    style,
    text_width,
)
from bench.reports.scores import titled
from bench.reports.selection import Chosen, Group, Point, Series
from bench.schema.case import LOOPS
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.launch import Status
from bench.schema.warnings import cpu_lines

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

MOST_ROWS, MOST_SWEEP_ROWS, MOST_SERIES = 120, 16, 12


def comparison(
    results: Sequence[Row],
    rounds: Sequence[Row],
    environment: Mapping[str, Any],
    path: Path,
) -> None:
    """Write the picture of a run to `path` as PNG, in one move.

    The axes of its figure are labelled `throughput`, `SCORE: PLACEMENT`, `batches` and
    `precisions`.

    Args:
        results: rows with the keys `RESULT_COLUMNS`; the footer counts those that are not ok.
        rounds: rows with the keys `ROUND_COLUMNS`.
        environment: contents of environment.json; missing facts are left out.
        path: the file, in an existing folder.

    Raises:
        UserError: the picture cannot be written.
    """
    with style(texts_of(results, environment)):
        save_picture(_comparison_figure(results, rounds, environment), path)


def comparison_figure(
    results: Sequence[Row], rounds: Sequence[Row], environment: Mapping[str, Any]
) -> Figure:
    """The picture of `comparison`, to be shown or saved; other figures keep the user's style."""
    with style(texts_of(results, environment)):
        figure = _comparison_figure(results, rounds, environment)
        # Labels of axes are made when they are drawn, and would have the user's style.
        figure.draw_without_rendering()
    return figure


def sample_row(
    images: np.ndarray, labels: Sequence[int], class_names: Sequence[str], path: Path
) -> None:
    """Write images in a row in `gray_r`, each with its class below it, to `path` as PNG.

    Args:
        images: uint8, shape (images, rows, columns).
        labels: the class of each image, an index into `class_names`.
        class_names: the names of all classes, in the order of their labels.
        path: the file, in an existing folder.

    Raises:
        UserError: the picture cannot be written.
    """
    with style(class_names):
        save_picture(_sample_figure(images, labels, class_names), path)


@dataclass(frozen=True, slots=True)
class _Picture:
    """The contents of the four panels of a picture."""

    points: tuple[Point, ...]
    throughput: Chosen[Group]
    timed: dict[tuple[str, str], list[Point]]
    batches: Chosen[Series]
    precisions: Chosen[Group]
    markers: Mapping[str, str]
    dashes: Mapping[str, str]
    base: str

    @classmethod
    def of(cls, results: Sequence[Row], rounds: Sequence[Row]) -> _Picture:
        """The contents of the panels, from the rows of a run."""
        measured = selection.points(results, rounds)
        base = selection.base_setting(measured)
        return cls(
            tuple(measured),
            selection.throughput_groups(measured, MOST_ROWS),
            selection.timed_by_placement(measured),
            selection.batch_series(measured, MOST_SERIES),
            selection.precision_groups(measured, MOST_SWEEP_ROWS),
            model_markers(dict.fromkeys(point.model for point in measured)),
            line_styles(point.placement for point in measured),
            f"batch {base[0]}{_a_replica(measured)}, {base[1]}" if base else "",
        )


def _comparison_figure(
    results: Sequence[Row], rounds: Sequence[Row], environment: Mapping[str, Any]
) -> Figure:
    picture = _Picture.of(results, rounds)
    figure = blank_figure(1, 1)
    models = dict.fromkeys(point.model for point in picture.points)
    header = make_header(
        figure,
        title_of(models, str(environment.get("label") or "")),
        [
            *machine_lines(environment, [point.device_name for point in picture.points]),
            *cpu_lines(row for row in results if row["status"] == Status.OK),
        ],
        Legend(
            [loop for loop in LOOPS if any(point.loop == loop for point in picture.points)],
            {model: picture.markers[model] for model in models},
            picture.dashes,
            _marks(picture.points),
        ),
    )
    wanted = Wanted(
        throughput=dots.dots_height(picture.throughput.items),
        throughput_labels=dots.dots_labels(picture.throughput.items),
        facets=max(1, len(picture.timed)),
        series_labels=panels.series_labels(picture.batches.items),
        precisions=dots.dots_height(picture.precisions.items),
        precision_labels=dots.dots_labels(picture.precisions.items),
    )
    footer = _footer(results)
    page = plan_page(figure, header, wanted, footer)
    draw_frame(figure, header, footer)
    _draw_throughput(page, picture)
    _draw_scores(page, picture)
    _draw_batches(page, picture)
    _draw_precisions(page, picture)
    return figure


def _a_replica(measured: Sequence[Point]) -> str:
    """What a batch size is of, where some batches grow with the replicas."""
    return " a replica" * any(point.asked_batch != point.batch_size for point in measured)


def _marks(shown: Sequence[Point]) -> dict[str, Mapping[str, Any]]:
    """The marks of the legend beside loops and models."""
    grey = {"color": SOFT_INK}
    marks: dict[str, Mapping[str, Any]] = {}
    marks["one round (epoch)"] = {**grey, "marker": ".", "markersize": ROUND_PT * 2}
    if any(point.low is not None for point in shown):
        marks["interval over launches"] = {**grey, "marker": "|", "linestyle": "-"}
    return marks


def _draw_throughput(page: Page, picture: _Picture) -> None:
    axes = page.axes(page.throughput, "throughput")
    chosen = picture.throughput
    detail = _joined(picture.base, _more(chosen.left_out, "row"))
    panels.title(axes, "Throughput by model, optimizer and loop", detail)
    if chosen.items:
        dots.dots(axes, chosen.items, picture.markers, page.throughput_labels)
    else:
        panels.empty(axes, "no case was timed")


def _draw_scores(page: Page, picture: _Picture) -> None:
    """Draw a panel for each device and score; the panels of a score have the same limits."""
    if not picture.timed:
        axes = page.axes(page.scores[0], "score: none")
        panels.title(axes, "Score against training time")
        panels.empty(axes, "no case has a score and a time")
        return
    several = len({place for place, _ in picture.timed}) > 1
    for ((place, name), mine), rectangle in zip(picture.timed.items(), page.scores, strict=True):
        axes = page.axes(rectangle, f"{name}: {place}")
        every = [p for (_, other), own in picture.timed.items() for p in own if other == name]
        device = next((point.device_name for point in mine if point.device_name), "")
        if several:
            title = f"{titled(name)} against time: {place}"
            panels.title(axes, title, _joined(device, picture.base))
        else:
            panels.title(axes, f"{titled(name)} against training time", picture.base)
        panels.score(axes, mine, every, picture.markers)
    axes.set_xlabel("training time (s), evaluation excluded")


def _draw_batches(page: Page, picture: _Picture) -> None:
    axes = page.axes(page.batches, "batches")
    chosen = picture.batches
    detail = _joined(chosen.common, _more(chosen.left_out, "line"))
    labels = SECOND[1] - page.batches.left - page.batches.width
    panels.title(axes, "Throughput by batch size", detail, beside=labels)
    if chosen.items:
        panels.batches(axes, chosen.items, picture.markers, picture.dashes)
    else:
        panels.empty(axes, "no case was timed at two batch sizes")


def _draw_precisions(page: Page, picture: _Picture) -> None:
    axes = page.axes(page.precisions, "precisions")
    chosen = picture.precisions
    panels.title(
        axes, "Throughput by precision", _joined(chosen.common, _more(chosen.left_out, "row"))
    )
    if chosen.items:
        dots.dots(axes, chosen.items, picture.markers, page.precision_labels)
    else:
        panels.empty(axes, "no case was timed in two precisions")


def _footer(results: Sequence[Row]) -> str:
    missing = selection.not_drawn(results)
    if not missing:
        return ""
    counts = ", ".join(f"{count} {status}" for status, count in sorted(missing.items()))
    return f"Not drawn: {counts}: see results.csv"


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _more(count: int, what: str) -> str:
    if not count:
        return ""
    return f"{counted(count, f'more {what}')} in results.csv"


def _sample_figure(images: np.ndarray, labels: Sequence[int], class_names: Sequence[str]) -> Figure:
    names = [one_line(class_names[int(label)], 16) for label in labels]
    count = max(1, len(names))
    probe = blank_figure(1, 1)
    cell = max(0.95, text_width(probe, names, TEXT_PT) + 0.1)
    width, height = cell * count + 0.2, cell + 0.75
    figure = blank_figure(width, height)
    figure.text(
        0.15 / width,
        1 - 0.3 / height,
        f"The first {len(names)} training images",
        size=TEXT_PT + 2,
        weight="bold",
    )
    for i, (image, name) in enumerate(zip(images, names, strict=True)):
        place = (0.1 + cell * i + 0.04, 0.32, cell - 0.08, cell - 0.08)
        axes = figure.add_axes(
            (place[0] / width, place[1] / height, place[2] / width, place[3] / height)
        )
        axes.imshow(image, cmap="gray_r", vmin=0, vmax=255, interpolation="nearest")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set(visible=True, color=RULE)
        axes.set_xlabel(name, size=TEXT_PT, labelpad=3)
    return figure
