"""report.html in a real browser: headless Chromium loads, filters, sorts, toggles and prints it.

`FMNIST_SCREENSHOTS=results/reference pytest tests/reports/page/test_browser.py -k pictures` takes
anew the pictures that the manual shows.
"""

from __future__ import annotations

import base64
import csv
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from support.fleets import NODES, fleets
from support.pages import (
    COMPILED,
    FIT,
    HALF,
    HOSTILE,
    REFERENCE,
    SET_UPS,
    SOFTMAX,
    USUAL,
    write_profile,
)
from support.run_folders import write_run
from support.scaled import Line, write_scaled
from support.stored import FIRST

from bench.reports.page import source
from bench.reports.page.fleet import write_fleet_page
from bench.reports.page.page import write_report
from bench.reports.page.records import Point, pareto
from bench.reports.page.source import read_sources
from bench.schema.earlier import in_present_names
from bench.schema.launch import Status
from bench.schema.runs import MeasuredRun
from bench.schema.sizes import Sizes
from bench.store.fleet_runs import fleet_folders, read_fleets
from bench.store.named import named_runs
from bench.verdicts.fleet_check import check_fleet

from support.browser import PATIENCE_S, Reader, needs_browser, webdriver  # isort: skip
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.select import Select

pytestmark = needs_browser
WIDTHS = {"desktop": 1280, "phone": 390}
LINES = (Line({2: 1.9, 4: 3.1, 8: 3.2}), Line({2: 1.8, 4: 2.9, 8: 5.0}, each=True))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reference run, four set-ups beside each other, a run of several replicas, and a fleet."""
    folder = tmp_path_factory.mktemp("pages")
    made = fleets(folder / "days", of={"fox": {"slower": {FIRST: 0.5}}})
    nodes = read_fleets(fleet_folders([made]))
    return {
        "reference": write_report([REFERENCE], folder / "reference.html"),
        "set-ups": write_report([SET_UPS], folder / "set-ups.html"),
        "replicas": write_report([write_scaled(folder / "run", *LINES)], folder / "replicas.html"),
        "fleet": write_fleet_page(check_fleet(["days"], nodes, Sizes.of_check()), folder),
    }


@pytest.fixture
def reference(browser: Reader, pages: dict[str, Path]) -> Reader:
    return browser.open(pages["reference"])


def cells() -> list[dict[str, str]]:
    with (REFERENCE / "results.csv").open(newline="", encoding="utf-8") as lines:
        return [in_present_names(row) for row in csv.DictReader(lines)]


@pytest.mark.parametrize("name", ["reference", "set-ups", "replicas", "fleet"])
@pytest.mark.parametrize("width", WIDTHS.values(), ids=WIDTHS)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_loads_without_an_error_or_a_request(
    browser: Reader, pages: dict[str, Path], name: str, width: int, theme: str
) -> None:
    page = browser.open(pages[name], width, theme=theme)
    assert page.errors() == []
    assert [
        url for url in page.requests() if not url.startswith(("file:", "data:", "about:"))
    ] == []
    # Every chart is drawn, and nothing is wider than the screen.
    assert (
        page.script(
            "return [...document.querySelectorAll('figure.chart')]"
            ".filter(chart => chart.querySelectorAll('.drawing svg [role=graphics-symbol], "
            ".drawing svg path').length < 3).map(chart => chart.id)"
        )
        == []
    )
    assert page.script("return document.documentElement.scrollWidth") <= width
    dark = page.script("return getComputedStyle(document.body).backgroundColor") != (
        "rgb(255, 255, 255)"
    )
    assert dark == (theme == "dark")


def test_it_shows_the_numbers_of_results_csv(reference: Reader) -> None:
    rows = cells()
    assert reference.rows() == [row["case"] for row in rows]
    for heading, column in {
        "samples/s": "samples_per_s",
        "step, ms": "step_ms",
        "val. accuracy": "val_score",
        "of roofline": "roofline_fraction",
        "to target, s": "time_to_score_s",
        "framework": "framework_overhead",
        "bound": "bound",
        "reason": "reason",
        "warnings": "warnings",
        "status": "status",
        "batch": "batch_size",
    }.items():
        assert reference.column(heading) == [row[column] for row in rows]
    shown = reference.one("#table tbody tr").text
    assert f"{float(rows[0]['samples_per_s']):,.0f}" in shown


def test_the_charts_show_the_numbers_of_results_csv(reference: Reader) -> None:
    button = reference.one("#figure-throughput .numbers")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    lines = reference.script(
        "return [...document.querySelectorAll('#figure-throughput .data tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    wanted = {row["case"]: float(row["samples_per_s"]) for row in cells() if row["samples_per_s"]}
    assert {line[0] for line in lines} == set(wanted)
    for case, speed, *_ in lines:
        assert float(speed) == pytest.approx(wanted[case], rel=1e-4)
    button.click()
    assert not reference.one("#figure-throughput .data").is_displayed()


def test_filters_hold_for_table_and_charts(reference: Reader) -> None:
    every = len(cells())
    before = reference.marks("throughput")
    Select(reference.one("select[name=model]")).select_by_visible_text("softmax")
    wanted = [row["case"] for row in cells() if row["model"] == "softmax"]
    reference.until(
        "return document.getElementById('count').textContent === arguments[0]",
        f"{len(wanted)} of {every} cases",
    )
    assert reference.rows() == wanted
    reference.until(
        "return document.querySelectorAll('#figure-throughput .drawing svg "
        ".mark-symbol > path').length === arguments[0]",
        len(wanted),
    )
    reference.one("input[name=loop][value=fit]").click()
    assert all("-compiled-" in case for case in reference.rows())
    reference.one("#filters button[type=reset]").click()
    reference.until(
        "return document.querySelectorAll('#figure-throughput .drawing svg "
        ".mark-symbol > path').length === arguments[0]",
        before,
    )
    assert len(reference.rows()) == every
    reference.one("#search").send_keys("skipped tf32")
    assert len(reference.rows()) == sum(row["status"] == "skipped" for row in cells()) == 2
    assert reference.errors() == []


def test_the_pareto_front_follows_the_filters(reference: Reader) -> None:
    (run,) = read_sources([REFERENCE])
    cases = {id(point): case for case, point in run.points.items()}
    reference.one("#figure-accuracy .numbers").click()

    def wait_for(points: Iterable[Point]) -> list[str]:
        wanted = sorted(cases[id(point)] for point in pareto(points))
        reference.until(
            """const rows = [...document.querySelectorAll('#figure-accuracy .data tbody tr')];
            const front = rows.filter(row => row.cells[row.cells.length - 1].textContent === 'yes');
            return JSON.stringify(front.map(row => row.cells[0].textContent).sort())
              === JSON.stringify(arguments[0]);""",
            wanted,
        )
        return wanted

    everything = wait_for(run.points.values())
    for loop in ("compiled", "multistep", "sklearn"):
        for box in reference.all(f"input[name=loop][value={loop}]"):
            box.click()
    alone = wait_for(point for case, point in run.points.items() if "-fit-" in case)
    assert not set(alone) & set(everything)


def test_a_filter_that_leaves_nothing(reference: Reader) -> None:
    reference.one("#search").send_keys("no such case")
    reference.until("return document.getElementById('count').textContent.startsWith('0 of ')")
    assert reference.rows() == []
    assert reference.errors() == []


def test_it_says_when_its_first_screen_was_shown_and_draws_the_rest(reference: Reader) -> None:
    shown, now, left = reference.script(
        "return [Number(document.documentElement.dataset.drawn), performance.now(), "
        "[...document.querySelectorAll('figure.chart')]"
        ".filter(chart => !chart.querySelector('svg')).length]"
    )
    assert 0 < shown <= now
    assert left == 0


def test_sorting_goes_both_ways_and_leaves_the_empty_last(reference: Reader) -> None:
    head = reference.one("#table th:has(button[title^='samples trained'])")
    head.find_element(By.TAG_NAME, "button").click()
    speeds = [float(cell) for cell in reference.column("samples/s") if cell]
    assert head.get_attribute("aria-sort") == "descending"
    assert speeds == sorted(speeds, reverse=True)
    assert reference.column("samples/s")[len(speeds) :] == ["", ""]
    # And with the keyboard alone.
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    again = [float(cell) for cell in reference.column("samples/s") if cell]
    assert again == sorted(speeds)
    assert reference.column("samples/s")[len(speeds) :] == ["", ""]
    assert sorted(reference.rows()) == sorted(row["case"] for row in cells())


def test_a_chart_changes_with_its_control(reference: Reader) -> None:
    def axis() -> list[str]:
        return reference.script(
            "return [...document.querySelectorAll('#figure-curves-2 .drawing svg "
            ".mark-text.role-axis-label text')].map(text => text.textContent)"
        )

    before = axis()
    Select(reference.one("#figure-curves-2 .across")).select_by_value("seconds")
    end = time.monotonic() + PATIENCE_S
    while axis() == before and time.monotonic() < end:
        time.sleep(0.05)
    assert axis() != before
    case = reference.one(".one-case")
    Select(case).select_by_index(1)
    reference.one("#figure-one-case .numbers").click()
    chosen = Select(case).first_selected_option.text
    shown = reference.until(
        "return [...document.querySelectorAll('#figure-one-case .data tbody tr')]"
        ".map(row => row.cells[0].textContent)"
    )
    assert set(shown) == {chosen}


def test_columns_and_theme_are_the_readers_choice(reference: Reader) -> None:
    hidden = reference.one("#table th:has(button[title^='tracing'])")
    assert not hidden.is_displayed()
    reference.one("details.columns summary").click()
    place = reference.script("return arguments[0].cellIndex", hidden)
    reference.one(f"#columns input[value='{place + 1}']").click()
    assert hidden.is_displayed()
    colour = "return getComputedStyle(document.body).backgroundColor"
    light = reference.script(colour)
    for name, same in (("light", True), ("dark", False), ("as the system", True)):
        reference.one("#theme").click()
        assert reference.one("#theme").text == f"Theme: {name}"
        assert (reference.script(colour) == light) == same


def test_a_screen_reader_finds_a_name_for_everything(reference: Reader) -> None:
    reference.tell("Accessibility.enable")
    nodes = reference.tell("Accessibility.getFullAXTree")["nodes"]
    named = {
        "button",
        "checkbox",
        "combobox",
        "searchbox",
        "textbox",
        "region",
        "figure",
        "link",
        "table",
        "graphics-document",
    }
    seen = set()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in named and not node["ignored"]:
            seen.add(role)
            assert node.get("name", {}).get("value"), node
    assert {"button", "combobox", "region", "figure", "link"} <= seen


def test_the_keyboard_reaches_the_content(reference: Reader) -> None:
    reference.one("body").send_keys(Keys.TAB)
    first = reference.driver.switch_to.active_element
    assert first.text == "Skip to the findings"
    first.send_keys(Keys.ENTER)
    assert reference.script("return document.activeElement.id") == "findings"


def test_the_nodes_of_a_fleet_are_found_with_the_keyboard(
    browser: Reader, pages: dict[str, Path]
) -> None:
    page = browser.open(pages["fleet"])
    assert page.rows() == ["fox"]
    choice = page.one("select[name=show]")
    choice.send_keys(Keys.HOME)
    assert page.until("return document.querySelector('#count').textContent") == "6 of 6 nodes"
    head = page.one("#table th:has(button[title^='name of the node'])")
    for order, names in (("ascending", sorted(NODES)), ("descending", sorted(NODES)[::-1])):
        head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert (head.get_attribute("aria-sort"), page.rows()) == (order, names)
    page.one("#search").send_keys("fox", Keys.TAB)
    assert page.rows() == ["fox"]
    page.one("#filters button[type=reset]").send_keys(Keys.ENTER)
    assert page.one("#count").text == "1 of 6 nodes"


def test_text_of_others_stays_text(
    browser: Reader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_run(
        tmp_path / "run",
        {**USUAL, HALF: (0.8, 0.86)},
        label=HOSTILE,
        reasons={SOFTMAX: (Status.FAILED, HOSTILE)},
        cpu={"model": HOSTILE},
    )

    def with_hostile_models(paths: Sequence[Path]) -> dict[str, MeasuredRun]:
        """A reader that lets such a model pass, as this one does not."""
        found = named_runs(paths)
        return {
            name: replace(
                run,
                rows={
                    case: {**row, "model": HOSTILE} if row["model"] == "relu_mlp" else row
                    for case, row in run.rows.items()
                },
            )
            for name, run in found.items()
        }

    monkeypatch.setattr(source, "named_runs", with_hostile_models)
    profile = write_profile(tmp_path / "profile", HOSTILE)
    page = browser.open(write_report([run, profile]))
    assert page.errors() == []
    assert page.script("return document.querySelectorAll('img').length") == 0
    assert HOSTILE in page.one("h1").text
    assert HOSTILE in page.one("#table tbody th").text
    # In a chart and its tooltip too.
    assert "<img src=x" in page.one("#figure-throughput .drawing").text
    Select(page.one("select[name=model]")).select_by_visible_text(HOSTILE)
    assert set(page.rows()) == {FIT.id, COMPILED.id, HALF.id}
    point = page.one("#figure-throughput .mark-symbol > path")
    webdriver.ActionChains(page.driver).move_to_element(point).perform()
    assert page.errors() == []
    assert page.script("return document.querySelectorAll('img').length") == 0


def test_several_runs_stand_side_by_side(browser: Reader, pages: dict[str, Path]) -> None:
    page = browser.open(pages["set-ups"])
    assert page.marks("ratios") == 3 * 8
    assert page.marks("threads") > 0
    Select(page.one("select[name=run]")).select_by_visible_text("2 threads")
    assert len(page.rows()) == 8
    assert page.errors() == []


def test_a_point_leads_to_its_row(reference: Reader) -> None:
    point = reference.one("#figure-throughput .mark-symbol > path")
    reference.script("arguments[0].scrollIntoView({block: 'center'})", point)
    webdriver.ActionChains(reference.driver).move_to_element(point).click().perform()
    found = reference.until("return document.querySelector('#table .found')?.dataset.case")
    assert found in {row["case"] for row in cells()}


def test_it_prints(browser: Reader, pages: dict[str, Path]) -> None:
    page = browser.open(pages["reference"], theme="dark")
    printed = base64.b64decode(page.tell("Page.printToPDF", printBackground=False)["data"])
    assert printed.startswith(b"%PDF")
    assert page.errors() == []
    page.tell("Emulation.setEmulatedMedia", media="print")
    assert page.script("return getComputedStyle(document.body).backgroundColor") == (
        "rgb(255, 255, 255)"
    )
    assert not page.one("#filters").is_displayed()
    page.tell("Emulation.setEmulatedMedia", media="")


def test_without_javascript_the_words_and_the_table_are_there(
    browser: Reader, pages: dict[str, Path]
) -> None:
    page = browser
    page.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        page.driver.get(pages["reference"].resolve().as_uri())
        assert "need JavaScript" in page.one("noscript").text
        assert page.one(".findings li").is_displayed()
        assert len(page.all("#table tbody tr")) == len(cells())
    finally:
        page.tell("Emulation.setScriptExecutionDisabled", value=False)


@pytest.mark.parametrize(
    ("name", "width", "height", "theme", "at"),
    [
        ("report", 1280, 1330, "light", "#charts"),
        ("report-dark", 1280, 640, "dark", None),
        ("report-phone", 390, 860, "light", "#charts"),
    ],
)
def test_the_pictures_of_the_readme(
    browser: Reader,
    pages: dict[str, Path],
    tmp_path: Path,
    name: str,
    width: int,
    height: int,
    theme: str,
    at: str | None,
) -> None:
    from matplotlib.image import imread

    folder = Path(os.environ.get("FMNIST_SCREENSHOTS") or tmp_path)
    page = browser.open(pages["reference"], width, height, theme)
    top = 0
    if at:
        top = page.script("return document.querySelector(arguments[0]).offsetTop", at)
    pixels = imread(page.picture(folder / f"{name}.png", top, height))
    assert pixels.shape[:2] == (height, width)
    assert pixels.std() > 0.05


def test_replicas_are_filtered_in_the_table_and_in_their_chart(
    browser: Reader, pages: dict[str, Path]
) -> None:
    page = browser.open(pages["replicas"])
    assert page.marks("scaling-strong") == 6
    Select(page.one("#filters select[name=replicas]")).select_by_visible_text("4")
    page.until("return document.getElementById('count').textContent.startsWith('2 of')")
    page.until(
        "return document.querySelectorAll('#figure-scaling-strong .mark-symbol > path').length == 2"
    )
    assert page.column("replicas") == ["4", "4"]
    assert page.column("processes") == ["1", "4"]
    assert page.errors() == []
