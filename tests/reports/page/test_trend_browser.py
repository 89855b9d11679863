"""trend.html in a real browser: it draws what is on the screen, and answers mouse and keyboard."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest
from support.browser import Reader, needs_browser, webdriver
from support.histories import CASES, WARNED, WARNING, eventful, series
from support.pages import HOSTILE

from bench.reports.page.trend import write_trend
from bench.reports.trend_data import trends
from bench.schema.sizes import Sizes
from bench.verdicts.history import judge

from selenium.webdriver.common.by import By  # isort: skip
from selenium.webdriver.common.keys import Keys  # isort: skip
from selenium.webdriver.support.select import Select  # isort: skip

pytestmark = needs_browser
OTHERS = 40
DRAWN = "return document.querySelectorAll('figure.trend svg .dots').length"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some with changes, one of them acknowledged, and many without."""
    made = eventful(OTHERS)
    report = judge(made, Sizes.of_check())
    (gain,) = [change for change in report.changes if not change.worse]
    report = judge(made, Sizes.of_check(), notes={gain.id: "known"})
    file = tmp_path_factory.mktemp("trend") / "trend.html"
    write_trend(trends(made, report.changes), report, file)
    return file


@pytest.fixture
def opened(browser: Reader, page: Path) -> Reader:
    return browser.open(page, 1400)


def shown(reader: Reader) -> list[str]:
    """The cases of the charts that the filters leave, in order."""
    found: list[str] = reader.script(
        "return [...document.querySelectorAll('figure.trend')].filter(card => !card.hidden)"
        ".map(card => card.querySelector('h3').textContent)"
    )
    return found


def told(reader: Reader) -> str:
    text: str = reader.until("return document.getElementById('told').innerText")
    return text


@pytest.mark.parametrize("width", [1400, 400])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_draws_the_first_screen_and_the_rest_on_scroll(
    browser: Reader, page: Path, width: int, theme: str
) -> None:
    reader = browser.open(page, width, theme=theme)
    assert reader.errors() == []
    assert [
        url for url in reader.requests() if not url.startswith(("file:", "data:", "about:"))
    ] == []
    first = reader.script(DRAWN)
    assert first < len(CASES) + OTHERS
    assert reader.script("return document.documentElement.scrollWidth") <= width
    background = reader.script("return getComputedStyle(document.body).backgroundColor")
    assert (background != "rgb(255, 255, 255)") == (theme == "dark")
    reader.script("document.querySelector('figure.trend:last-child').scrollIntoView()")
    reader.until("return document.querySelector('figure.trend:last-child svg .dots')")
    assert reader.script(DRAWN) > first


def test_the_mouse_is_told_of_a_run(opened: Reader) -> None:
    drawing = opened.one("figure.trend .drawing")
    opened.script("arguments[0].scrollIntoView({block: 'center'})", drawing)
    webdriver.ActionChains(opened.driver).move_to_element(drawing).perform()
    text = told(opened)
    for part in ("began 2026-0", "commit aaaaaaaaa", "samples/s", "±", "driver 570"):
        assert part in text
    # What a mouse passes is not spoken.
    assert opened.script("return document.getElementById('spoken').textContent") == ""
    head = opened.one("h1")
    webdriver.ActionChains(opened.driver).scroll_to_element(head).move_to_element(head).perform()
    assert not opened.one("#told").is_displayed()


def test_a_finger_that_is_lifted_leaves_what_it_showed(opened: Reader) -> None:
    told_after = """const drawing = document.querySelector('figure.trend .drawing');
      const place = {clientX: drawing.getBoundingClientRect().left + 90, pointerType: arguments[0]};
      for (const name of ['pointerdown', 'pointerleave']) {
        drawing.dispatchEvent(new PointerEvent(name, place));
      }
      return !document.getElementById('told').hidden;"""
    assert opened.script(told_after, "touch")
    assert not opened.script(told_after, "mouse")


def test_the_keyboard_goes_along_the_runs(opened: Reader) -> None:
    drawing = opened.one("figure.trend .drawing")
    drawing.send_keys("c")
    spoken = "return document.getElementById('spoken').textContent"
    text = opened.script(spoken)
    assert "slower (" in text
    assert "differs: code and environment" in text
    assert HOSTILE in text
    drawing.send_keys(Keys.ARROW_LEFT)
    assert opened.script(spoken) != text
    drawing.send_keys(Keys.ARROW_RIGHT)
    assert opened.script(spoken) == text
    drawing.send_keys(Keys.HOME)
    assert "began 2026-01-01 00:00 UTC" in opened.script(spoken)
    drawing.send_keys(*[Keys.PAGE_DOWN] * (WARNED // 10))
    assert WARNING in opened.script(spoken)
    drawing.send_keys(*[Keys.PAGE_UP] * (WARNED // 20))
    assert "samples/s failed" in opened.script(spoken)
    drawing.send_keys(Keys.END, Keys.ARROW_RIGHT)
    assert "began 2026-06-09" in opened.script(spoken)
    assert opened.one("#told").is_displayed()
    drawing.send_keys(Keys.ESCAPE)
    assert not opened.one("#told").is_displayed()
    outline = "return getComputedStyle(document.activeElement).outlineStyle"
    assert opened.script(outline) == "solid"
    assert opened.errors() == []


def test_filters_order_and_what_is_shown(opened: Reader) -> None:
    every = len(CASES) + OTHERS
    assert shown(opened)[:2] == [CASES[3], CASES[5]]
    Select(opened.one("select[name=changes]")).select_by_visible_text("acknowledged")
    assert shown(opened) == [CASES[5]]
    assert opened.one("#count").text == f"1 of {every} charts"
    # A link of the table to a chart that is hidden shows all again.
    opened.one(f"#changes a[href='#case-{0}']").click()
    opened.until(
        "return document.getElementById('count').textContent.startsWith(arguments[0])",
        f"{every} of",
    )
    place = "const {top} = arguments[0].getBoundingClientRect(); return top >= 0 && top < 100"
    opened.until(place, opened.one("#case-0"))
    opened.one("input[name=loop][value=fit]").click()
    assert {CASES[0], CASES[5]}.isdisjoint(shown(opened))
    opened.one("#filters button[type=reset]").click()
    opened.one("#search").send_keys("softmax 512")
    assert shown(opened) == [name for name in shown(opened) if "b512" in name] != []
    opened.one("#search").clear()
    Select(opened.one("#order")).select_by_value("name")
    assert shown(opened)[0] == HOSTILE
    Select(opened.one("#what")).select_by_value("score")
    card = opened.one("figure.trend")
    opened.script("arguments[0].scrollIntoView({block: 'center'})", card)
    opened.until("return document.querySelector('figure.trend svg .dots')")
    assert "0.87" in card.find_element(By.CSS_SELECTOR, "svg").text
    Select(opened.one("#across")).select_by_value("runs")
    opened.until("return document.querySelector('figure.trend svg .dots')")
    assert opened.errors() == []


@pytest.mark.parametrize(("size", "tick"), [(1e-5, "1.0e-5"), (1.0, "1.0"), (1e30, "1.0e+30")])
def test_scores_and_speeds_of_any_size_have_an_axis(
    browser: Reader, tmp_path: Path, size: float, tick: str
) -> None:
    scores = np.full((9, 1), size)
    scores[5:] *= 2
    # From 12 to 99 samples/s there is no power of ten.
    logs = -np.log(np.linspace(12, 99, 9))[:, None]
    made = series(logs, scores=scores, names=CASES[:1])
    write_trend(trends(made, ()), judge(made, Sizes.of_check()), tmp_path / "trend.html")
    reader = browser.open(tmp_path / "trend.html")
    texts = "return [...document.querySelectorAll('figure.trend svg text')].map(e => e.textContent)"
    assert {"20", "50"} <= set(reader.script(texts))
    Select(reader.one("#what")).select_by_value("score")
    found = reader.until(f"{texts}.some(text => text === '{tick}')") and reader.script(texts)
    assert not any("NaN" in text for text in found)
    height = reader.script("return document.querySelector('.trend svg .dots').getBBox().height")
    assert height > 50
    assert reader.errors() == []


def test_marks_differ_in_shape_and_not_in_colour_alone(opened: Reader) -> None:
    looks = opened.script(
        """return ['loss', 'known'].map(kind => {
          const badge = getComputedStyle(document.querySelector(`.trend .badge.${kind}`));
          const line = getComputedStyle(document.querySelector(`.trend .line.${kind}`));
          return [badge.fill === badge.stroke, line.strokeDasharray];
        });"""
    )
    assert looks == [[True, "none"], [False, "2px, 2px"]]
    texts = [text.text for text in opened.all("figure.trend text.sign")]
    assert texts == ["C+E", "C+E✓"]


def test_text_of_others_stays_text_in_the_browser(opened: Reader) -> None:
    opened.one("#search").send_keys("alert")
    assert shown(opened) == [HOSTILE]
    drawing = opened.one("figure.trend:not([hidden]) .drawing")
    drawing.send_keys(Keys.HOME, *[Keys.PAGE_DOWN] * (WARNED // 10))
    assert HOSTILE in told(opened)
    opened.one("figure.trend:not([hidden]) .numbers").click()
    assert HOSTILE in opened.one("figure.trend:not([hidden]) .data").text
    assert opened.script("return document.querySelectorAll('img').length") == 0
    assert opened.errors() == []


def test_the_numbers_are_a_table_too(opened: Reader) -> None:
    button = opened.one("figure.trend .numbers")
    button.click()
    assert button.get_attribute("aria-expanded") == "true"
    rows = opened.script(
        "return [...document.querySelectorAll('figure.trend .data tbody tr')]"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    assert len(rows) == 160
    assert rows[0][0] == "2026-06-09 00:00"
    assert "slower" in " ".join(row[-1] for row in rows)
    button.click()
    assert not opened.one("figure.trend .data").is_displayed()


def test_a_screen_reader_finds_a_name_for_every_chart(opened: Reader) -> None:
    opened.tell("Accessibility.enable")
    nodes = opened.tell("Accessibility.getFullAXTree")["nodes"]
    names = {"application", "button", "combobox", "figure", "region", "table", "searchbox"}
    found = set()
    for node in nodes:
        role = node.get("role", {}).get("value")
        if role in names and not node["ignored"]:
            found.add(role)
            assert node.get("name", {}).get("value"), node
    assert {"application", "figure", "combobox"} <= found


def test_it_prints_every_chart_on_white(opened: Reader) -> None:
    printed = base64.b64decode(opened.tell("Page.printToPDF", printBackground=False)["data"])
    assert printed.startswith(b"%PDF")
    assert opened.errors() == []


def test_without_a_script_the_changes_are_there(browser: Reader, page: Path) -> None:
    browser.tell("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.driver.get(page.resolve().as_uri())
        assert "need JavaScript" in browser.one("noscript").text
        assert "slower (" in browser.one("#changes tbody").text
        assert browser.one("figure.trend .marks").is_displayed()
    finally:
        browser.tell("Emulation.setScriptExecutionDisabled", value=False)
