"""What the suite itself costs is timed on commands that do their work."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.evidence import own_cost
from bench.store.measured import read_run

SCALE = own_cost.Scale(cases=20, most_cases=40, runs=2, launches=12, part=5)


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[own_cost.Row]]:
    """The folder and the rows of a small measurement, with a browser that shows a page at once."""
    folder = tmp_path_factory.mktemp("self")
    pages: list[Path] = []

    def shown(page: Path, *_: object, **__: object) -> tuple[float, int]:
        """As if a browser had shown the page."""
        pages.append(page)
        return 0.5, 3

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(own_cost, "first_screen", shown)
        rows = own_cost.cost_rows(folder, SCALE, 1, lambda _: None)
    assert [page.read_text().count('id="case-') for page in pages] == [20, 40]
    return folder, rows


def test_each_command_does_its_work(measured: tuple[Path, list[own_cost.Row]]) -> None:
    folder, _ = measured
    assert (folder / "now/check.json").exists()
    lines = (folder / "compared/comparison.csv").read_text().count("\n")
    assert lines == 9 * 30 + 1
    assert (folder / "compared-large/comparison.csv").read_text().count("\n") == 20 + 1
    assert (folder / "report.html").read_text().count('id="case-') == 20


def test_every_figure_is_held_against_the_empty_loop(
    measured: tuple[Path, list[own_cost.Row]],
) -> None:
    _, rows = measured
    assert rows[0]["what"] == own_cost.LOOP
    for row in rows:
        assert 0 < row["lowest_s"] <= row["median_s"] <= row["highest_s"]
        assert row["over_loop"] == pytest.approx(row["median_s"] / rows[0]["median_s"])
    large = next(row for row in rows if row["target_bytes"])
    assert large["peak_memory_bytes"] > 10 * 2**20


def test_the_run_of_launches_that_end_at_once_is_a_whole_run(
    measured: tuple[Path, list[own_cost.Row]],
) -> None:
    folder, rows = measured
    run = read_run(folder / "launches" / "0")
    assert [row["status"] for row in run.rows.values()] == ["ok"] * 12
    launches = [row for row in rows if row["what"].startswith("a launch")]
    assert [row["target_s"] for row in launches] == [0.02, 0.02]
