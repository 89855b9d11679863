"""What a check prints and writes, to the letter."""

from __future__ import annotations

import io
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from support.stored import AnySide

from bench.reports.terminal.check import as_json, junit, markdown, print_check, told, write_check
from bench.reports.terminal.confirm import settled_by
from bench.schema.case import Case
from bench.schema.duel import DuelPlan, Spec
from bench.schema.errors import ExitCode
from bench.schema.launch import Better
from bench.schema.plan import RunSettings
from bench.schema.score import Scale
from bench.schema.sizes import Sizes
from bench.session.confirm import Confirmation
from bench.verdicts.check import CheckedCase, CheckReport, Measure, Verdict, settled
from bench.verdicts.duel import DuelReport, Standing
from fmnist_models.errors import UserError

SLOW = CheckedCase(
    "relu_mlp-adam-compiled-cpu-b32-float32",
    Verdict.REGRESSION,
    "20.0% slower",
    Measure(0.2, 0.08, 0.06, 1e-6, True),
    Measure(-0.001, 0.033, 0.03, 1.0, False),
)
FINE = CheckedCase(
    "softmax-sgd-fit-cpu-b32-float32",
    Verdict.PASSED,
    "",
    Measure(-0.012, 0.095, 0.07, 0.9, False),
    Measure(0.00001, 0.045, 0.04, 1.0, False),
)
BLIND = CheckedCase(
    "own:net-sgd-fit-cpu-b32-float32",
    Verdict.BLIND,
    "slow-downs are found from >1000% on, not from the gate",
    Measure(0.01, math.inf, math.inf, 0.5, False),
    brief="the baseline is too noisy or too small to find the gate there",
)
FAILED = CheckedCase("logistic-sklearn-cpu-b1-float64", Verdict.FAILED, "killed: a < b | c\x1b")
SIZES = Sizes.of_check(0.1)
REPORT = CheckReport(("mon", "tue", "wed"), ("now",), SIZES, (SLOW, FINE, BLIND, FAILED))
TABLE = """\
case                                   slower  least points least verdict
relu_mlp-adam-compiled-cpu-b32-float32 +20.0%   8.0%  +0.10  -3.3 regression
softmax-sgd-fit-cpu-b32-float32         -1.2%   9.5%  +0.00  -4.5 passed
own:net-sgd-fit-cpu-b32-float32         +1.0% >1000%              blind
logistic-sklearn-cpu-b1-float64                                   failed
"""
BELOW = """\
slower: time added; points: of validation accuracy; least: the smallest change that is found nine times in ten
relu_mlp-adam-compiled-cpu-b32-float32: regression: 20.0% slower
own:net-sgd-fit-cpu-b32-float32: blind: the baseline is too noisy or too small to find the gate there
logistic-sklearn-cpu-b1-float64: failed: killed: a < b | c\x1b
3 baseline runs find a slow-down from >1000% on in any case, nine times in ten (least sure: own:net-sgd-fit-cpu-b32-float32); the gate is 10.0%, the margin 1.0%; a drop of accuracy from 4.5 points on; its gate is 7.0 points, its margin 2.0 points
regression (exit 1): 1 passed, 1 regression, 1 blind, 1 failed
"""  # noqa: E501 - lines that the terminal folds by itself
MARKDOWN = """\
### fmnist-bench check: regression (exit 1): 1 passed, 1 regression, 1 blind, 1 failed

3 baseline runs find a slow-down from >1000% on in any case, nine times in ten (least sure: \
own:net-sgd-fit-cpu-b32-float32); the gate is 10.0%, the margin 1.0%; a drop of accuracy from 4.5 \
points on; its gate is 7.0 points, its margin 2.0 points.

| case | slower | accuracy points | verdict |
|---|---|---|---|
| `relu_mlp-adam-compiled-cpu-b32-float32` | +20.0% | +0.10 | regression: 20.0% slower |
| `own:net-sgd-fit-cpu-b32-float32` | +1.0% |  | blind: slow-downs are found from \
>1000% on, not from the gate |
| `logistic-sklearn-cpu-b1-float64` |  |  | failed: killed: a < b \\| c\x1b |
"""
XML = """\
<?xml version='1.0' encoding='utf-8'?>
<testsuite name="fmnist-bench check" tests="4" failures="1" errors="1" skipped="1">
  <testcase classname="check" name="relu_mlp-adam-compiled-cpu-b32-float32">
    <failure message="regression: 20.0% slower" />
  </testcase>
  <testcase classname="check" name="softmax-sgd-fit-cpu-b32-float32" />
  <testcase classname="check" name="own:net-sgd-fit-cpu-b32-float32">
    <skipped message="blind: slow-downs are found from &gt;1000% on, not from the gate" />
  </testcase>
  <testcase classname="check" name="logistic-sklearn-cpu-b1-float64">
    <error message="failed: killed: a &lt; b | c " />
  </testcase>
</testsuite>
"""


def test_the_screen_is_this() -> None:
    out = io.StringIO()
    print_check(REPORT, Console(file=out, width=80))
    text = "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())
    assert text == TABLE + BELOW


def test_the_summary_is_this() -> None:
    assert markdown(REPORT) == MARKDOWN


def test_without_a_score_nothing_speaks_of_one() -> None:
    report = replace(REPORT, cases=(replace(SLOW, score=None), BLIND))
    out = io.StringIO()
    print_check(report, Console(file=out, width=80))
    head, *_ = out.getvalue().splitlines()
    assert head.split() == ["case", "slower", "least", "verdict"]
    assert "slower: time added; least: the smallest change" in out.getvalue()
    assert "| case | slower | verdict |\n|---|---|---|\n" in markdown(report)
    assert "points" not in out.getvalue() + markdown(report)


@pytest.mark.parametrize("name", ["iou[car]", "[/x]"])
def test_a_name_with_brackets_is_no_markup(name: str) -> None:
    named = replace(SLOW, scale=Scale(name, Better.MIN, 2.0))
    out = io.StringIO()
    print_check(replace(REPORT, cases=(named, FINE)), Console(file=out, width=80))
    assert f"{name} -0.10%" in out.getvalue() or f"{name} +" in out.getvalue()
    out = io.StringIO()
    print_check(replace(REPORT, cases=(named,)), Console(file=out, width=80))
    assert f" {name} " in out.getvalue().splitlines()[0]


def test_a_bar_in_a_name_does_not_end_a_cell_of_markdown() -> None:
    named = replace(SLOW, scale=Scale("a|b", Better.MIN, 2.0))
    assert "| case | slower | a\\|b | verdict |" in markdown(replace(REPORT, cases=(named,)))


def test_the_junit_file_is_this() -> None:
    assert junit(REPORT) == XML


def test_what_a_duel_says_takes_the_place_of_why_a_case_was_blind() -> None:
    found = settled(REPORT, {BLIND.case: (Verdict.PASSED, "not confirmed by a duel")})
    assert [told(case) for case in found.cases if case.case == BLIND.case] == [
        "not confirmed by a duel"
    ]


def test_a_case_that_failed_in_the_duel_says_so_once() -> None:
    case = Case("own:net", "sgd", "fit")
    plan = DuelPlan(Spec(), Spec(), (case,), RunSettings())
    asked = Confirmation(plan, Path("duel"), False, {}, AnySide())
    standing = Standing(case, failure="side B failed: out of memory")
    found = settled_by(REPORT, asked, DuelReport(plan, (standing,), (0.0,), False))
    assert [(c.verdict, c.reason) for c in found.cases if c.case == case.id] == [
        (Verdict.FAILED, "in the duel, side B failed: out of memory")
    ]


def test_json_holds_no_infinity() -> None:
    text = json.dumps(as_json(REPORT), allow_nan=False)
    found = json.loads(text)
    assert (found["gate"], found["margin"], found["power"]) == (0.1, 0.01, 0.9)
    assert (found["accuracy_gate"], found["smallest_drop"]) == (0.07, 0.045)
    assert found["smallest"] is None
    assert found["cases"][2]["speed"]["smallest"] is None
    assert found["cases"][3] == {
        "case": FAILED.case,
        "verdict": "failed",
        "reason": FAILED.reason,
        "speed": None,
        "accuracy": None,
    }


@pytest.mark.parametrize(
    ("cases", "code"),
    [
        ((FINE,), ExitCode.PASSED),
        ((FINE, BLIND), ExitCode.INCONCLUSIVE),
        ((FINE, BLIND, FAILED), ExitCode.WRONG_USE_OR_FAILED_CASE),
        ((FINE, BLIND, FAILED, SLOW), ExitCode.REGRESSION),
        ((), ExitCode.INCONCLUSIVE),
    ],
)
def test_the_worst_case_gives_the_exit_code(cases: tuple[CheckedCase, ...], code: int) -> None:
    assert CheckReport(("a",), ("b",), SIZES, cases).exit_code == code


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name another --output"):
        write_check(REPORT, tmp_path / "file")
