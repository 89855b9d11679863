"""The benchmark of the page of a history, on few made runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.browser import needs_browser

from bench.evidence import trend
from bench.evidence.browser import first_screen

WHAT = (
    "reading the history and finding changes",
    "making the page of them",
    "drawing the picture",
    *trend._SCREENS,
)


@needs_browser
def test_a_page_of_made_runs_is_written_and_shown(tmp_path: Path) -> None:
    rows = trend.trend_rows(tmp_path, (36, 70), 1)
    assert tuple(row["what"] for row in rows) == WHAT
    assert all(0 < row["lowest_s"] <= row["median_s"] <= row["highest_s"] for row in rows)
    # What is below the first screen is drawn later.
    drawn = [row["charts_drawn"] for row in rows[-2:]]
    assert 0 < drawn[0] <= drawn[1] < 36
    assert rows[0]["changes"] >= 1
    assert (tmp_path / "trend.html").stat().st_size == rows[0]["page_bytes"]
    for name in ("trend.png", "trend_page.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")


def test_a_browser_that_is_missing_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from fmnist_models.errors import UserError

    monkeypatch.setattr(shutil, "which", lambda _: None)
    with pytest.raises(UserError, match="apt-get install chromium"):
        first_screen(Path("trend.html"))
