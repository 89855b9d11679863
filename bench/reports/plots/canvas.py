"""The empty figure of a picture, the texts that it must show, and the file that it becomes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.reports.machine_text import machine_lines
from bench.reports.plots.style import DOTS_PER_INCH
from bench.schema.columns import Row
from bench.store.files import PICTURE, target_of, write_bytes
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def texts_of(results: Sequence[Row], environment: Mapping[str, Any]) -> list[str]:
    """All texts in a picture that come from the user or the machine, for the choice of fonts."""
    columns = ("model", "optimizer", "device_name", "score")
    texts = [str(row[name] or "") for row in results for name in columns]
    return [*texts, str(environment.get("label") or ""), *machine_lines(environment, [])]


def blank_figure(width_in: float, height_in: float) -> Figure:
    """An empty white figure of that size in inches, which a notebook shows."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    figure = _figure_class()(figsize=(width_in, height_in), dpi=DOTS_PER_INCH, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


@cache
def _figure_class() -> type[Figure]:
    from matplotlib.figure import Figure

    class Shown(Figure):
        """IPython itself shows figures only where pyplot is imported; the suite does without."""

        def _repr_png_(self) -> bytes:
            return _as_png(self)

    return Shown


def save_picture(figure: Figure, path: Path) -> None:
    """Replace `path` in one move, so that a crash never leaves half a picture.

    Raises:
        UserError: `path` is no picture of this suite, or cannot be written.
    """
    target = target_of(path, PICTURE)
    drawn = _as_png(figure)
    try:
        write_bytes(target, drawn)
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name a folder that can be written"
        ) from error


def _as_png(figure: Figure) -> bytes:
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=figure.dpi, metadata={"Source": "fmnist-bench"})
    return drawn.getvalue()
