"""trend.html: what its script reads, and what stands in it without a script."""

from __future__ import annotations

import base64
import html
import json
import math
import re
from dataclasses import replace
from statistics import fmean
from typing import Any

import numpy as np
import pytest
from support.histories import (
    AT,
    CASES,
    DIVERGED,
    FAILED,
    RUNS,
    WARNED,
    WARNING,
    eventful,
    noise,
    series,
)
from support.pages import HOSTILE

from bench.analysis.stats import student_halves, student_interval
from bench.reports.page.trend import trend_page
from bench.reports.trend_data import Standing, Trend, standing, trends
from bench.schema.history import HistorySeries
from bench.schema.sizes import Sizes
from bench.verdicts.history import HistoryReport, judge
from bench.verdicts.history_change import ALL_CASES, What

SIZES = Sizes.of_check()


def read(
    made: list[HistorySeries], notes: dict[str, str] | None = None
) -> tuple[list[Trend], HistoryReport]:
    report = judge(made, SIZES, notes=notes)
    return trends(made, report.changes), report


@pytest.fixture(scope="module")
def page() -> str:
    return trend_page(*read(eventful()))


def data_of(page: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(page.split('id="data">')[1].split("</script>")[0])
    return found


def card_of(page: str, case: str) -> tuple[str, dict[str, Any]]:
    """The card of a case, and its data."""
    cards = re.findall(r'<figure id="case-(\d+)".*?</figure>', page, re.DOTALL)
    blocks = re.findall(r"<figure id=.*?</figure>", page, re.DOTALL)
    (key,) = [k for k, b in zip(cards, blocks, strict=True) if f">{html.escape(case)}</h3>" in b]
    return blocks[int(key)], data_of(page)["series"][int(key)]


def unpacked(text: str, kind: str) -> Any:
    return np.frombuffer(base64.b64decode(text), kind)


def test_every_run_comes_back_from_what_is_packed(page: str) -> None:
    data = data_of(page)
    (machine,) = data["machines"]
    assert machine["name"] == "lab"
    times = np.cumsum(machine["began"])
    assert (len(times), set(np.diff(times))) == (RUNS, {86_400})
    made = eventful()[3]
    _, drawn = card_of(page, CASES[3])
    assert drawn["at"] is None
    held = [n for n in range(RUNS) if n != FAILED]
    speeds = unpacked(drawn["speed"], "<f4")
    wanted = [math.exp(-fmean(made.points[n].logs)) for n in held]
    assert speeds[held] == pytest.approx(wanted, rel=1e-6)
    assert np.isnan(speeds[FAILED])
    half = unpacked(drawn["half"], "<u2")
    ends = student_interval(made.points[0].logs)
    assert ends is not None
    assert half[0] * 1e-4 == pytest.approx((ends[1] - ends[0]) / 2, abs=5e-5)
    assert half[FAILED] == 65_535
    assert [data["statuses"][status] for _, status in drawn["ended"]] == ["failed"]
    assert drawn["diverged"] == [DIVERGED]
    told = {place: [data["warnings"][text] for text in texts] for place, *texts in drawn["warned"]}
    assert told[WARNED] == [WARNING]
    before, after = (data["environments"][machine["environment"][run]][1] for run in (0, AT))
    facts = [[data["facts"][fact] for fact in facts] for facts in (before, after)]
    assert ["driver", "570"] in facts[0]
    assert ["Keras", "3.15.1"] in facts[1]
    assert [machine["commit"][run] for run in (0, AT - 1, AT)] == [0, 0, 1]
    assert machine["labels"][machine["label"][WARNED]] == HOSTILE


def test_changes_are_marked_with_cause_and_levels(page: str) -> None:
    card, drawn = card_of(page, CASES[3])
    ((what, kind, first, low, high, worse, sign, text),) = drawn["marks"]
    assert (what, kind, worse, sign) == ("speed", "loss", True, "C+E")
    assert low < first <= high
    assert abs(first - AT) < 3
    assert "% slower (" in text
    before, after = drawn["levels"]["speed"]
    assert before[2] / after[2] == pytest.approx(math.exp(0.1), rel=0.02)
    assert (before[0], before[1], after[1]) == (0, first, RUNS)
    assert "▼" in card
    gain, drawn = card_of(page, CASES[5])
    assert [mark[1] for mark in drawn["marks"]] == ["gain"]
    assert "▲" in gain
    # New losses come first.
    assert [order[0] for order in (one["order"] for one in data_of(page)["series"])][:2] == [1, 0]


def test_what_was_acknowledged_stays_and_looks_different() -> None:
    made = eventful()
    (loss,) = [change for change in judge(made, SIZES).changes if change.worse]
    page = trend_page(*read(made, {loss.id: f"agreed {HOSTILE}"}))
    card, drawn = card_of(page, CASES[3])
    assert [mark[1] for mark in drawn["marks"]] == ["known"]
    assert "▽" in card
    assert "acknowledged" in card
    assert f"acknowledged: agreed {html.escape(HOSTILE, quote=False)[:20]}" in page
    assert "1 acknowledged" in page


def test_texts_of_others_stay_texts(page: str) -> None:
    assert HOSTILE not in page
    assert "<script>alert" not in page
    assert "onerror=alert(2)>" not in page
    # One style, two scripts, and nothing from elsewhere.
    assert page.count("<script") == 2
    assert not re.findall(r'(?:src|href)="(?!#|data:,)', page)
    assert set(re.findall(r"https?://[^\s\"']+", page)) <= {"http://www.w3.org/2000/svg"}


def test_filters_are_those_of_the_report(page: str) -> None:
    for name in ("model", "optimizer", "batch_size", "changes"):
        assert f'<select name="{name}">' in page
    assert 'name="loop" value="multistep"' in page
    # One machine and one backend: nothing to choose.
    assert '<select name="machine">' not in page
    assert "dir-a/own.py:made</option>" in page
    assert "<option>new losses</option>" in page


def test_runs_and_cases_that_are_left_out_are_judged_all_the_same() -> None:
    made = eventful()
    report = judge(made, SIZES)
    last = trends(made, report.changes, "relu*compiled*", "", 70)
    (trend,) = last
    assert (len(trend.points), len(trend.marks)) == (70, 1)
    assert abs(trend.marks[0].first - (AT - RUNS + 70)) < 3
    (late,) = trends(made, report.changes, "relu*compiled*", "2026-05-01")
    assert (late.points[0].time_utc[:10], late.marks) == ("2026-05-01", ())
    assert trends(made, report.changes, "no such *") == []


def test_what_all_cases_share_is_marked_in_each() -> None:
    logs = noise(12)
    logs[AT:] += 0.3
    shown, report = read(series(logs))
    assert [change.case for change in report.changes] == [ALL_CASES]
    assert [[mark.shared for mark in trend.marks] for trend in shown] == [[True]] * 12
    assert {standing(mark.change) for trend in shown for mark in trend.marks} == {Standing.LOSS}
    page = trend_page(shown, report)
    assert page.count("all cases: ") >= 12


def test_a_case_without_a_figure_is_shown_with_its_status() -> None:
    made = eventful()[:1]
    failed = tuple(
        replace(point, logs=(), scores=(), status="failed") for point in made[0].points[:3]
    )
    shown, report = read([replace(made[0], points=failed)])
    page = trend_page(shown, report)
    assert "last failed" in page
    assert "No change was found." in page
    (drawn,) = data_of(page)["series"]
    assert (drawn["speed"], drawn["levels"]["speed"], len(drawn["ended"])) == ("", [], 3)


def test_a_thousand_points_take_few_bytes() -> None:
    few, many = (len(trend_page(*read(eventful(n)))) for n in (0, 7))
    assert many - few < 7 * (RUNS * 24 + 4_000)


def test_half_intervals_of_many_are_those_of_each() -> None:
    groups = [(1.0, 2.0, 4.0), (1.0,), (), (2.0, 2.5), (1.0, math.nan)]
    halves = student_halves(groups)
    for place in (0, 3):
        ends = student_interval(groups[place])
        assert ends is not None
        assert halves[place] == pytest.approx((ends[1] - ends[0]) / 2, rel=1e-12)
    assert np.isnan(halves[[1, 2, 4]]).all()


def test_series_of_other_work_have_their_own_changes() -> None:
    made = eventful()
    other = replace(
        made[3],
        workload="other",
        points=tuple(replace(point, run=f"x{point.run}") for point in made[3].points),
    )
    report = judge(made, SIZES)
    shown = trends([*made, other], report.changes)
    assert [len(trend.own) for trend in shown if trend.series.case == CASES[3]] == [1, 0]
    page = trend_page(shown, report)
    assert "work other" in page
    assert shown[3].levels[What.SPEED] != shown[-1].levels[What.SPEED]
