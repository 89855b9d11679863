"""What is printed at the end of a run, to the letter, and the page that explains columns."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console
from support import ROOT

from bench.reports.terminal.run import compiled_over_fit, duration, print_results, reference_lines
from bench.schema.case import Case, logistic_case
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from bench.schema.plan import RunSettings
from bench.session import estimate
from bench.verdicts import compare


def row(case: Case, rate: float | None, **more: Any) -> dict[str, Any]:
    values = dict.fromkeys(RESULT_COLUMNS) | case.to_json()
    values |= {"case": case.id, "status": "ok", "reason": "", "warnings": ""}
    values |= {"score": "accuracy", "better": "max"}
    values |= {"samples_per_s": rate, "step_ms": 32e3 / rate if rate else None}
    return values | more


FIT = row(Case("relu_mlp", "adam", "fit"), 9_000.0, val_score=0.8712)
COMPILED = row(
    Case("relu_mlp", "adam", "compiled"),
    162_345.6,
    val_score=0.8699,
    samples_per_s_low=150_000.0,
    samples_per_s_high=175_000.0,
    warnings="unsteady",
)
LOGISTIC = row(logistic_case(), 45_000.0, val_score=0.8441, step_ms=1e3 / 45_000)
SKIPPED = [
    row(Case("relu_mlp", "adam", loop, device="gpu"), None, status="skipped", reason="no GPU")
    for loop in ("fit", "compiled")
]
FAILED = row(Case("own:net", "sgd", "fit"), None, status="invalid", reason="the loss is nan")
FIT_OF = [Case("softmax", optimizer, "fit") for optimizer in ("sgd", "adam")]
ROWS = [COMPILED, FIT, LOGISTIC, *SKIPPED, FAILED]

GOLDEN = """\
cpu, float32
model    optimizer loop     batch samples/s  ±% step ms val acc x fit
relu_mlp adam      fit         32     9,000        3.56   0.871
relu_mlp adam      compiled    32   162,346 8.0   0.197   0.870  18.0
cpu, float64
model    optimizer loop    batch samples/s ±% step ms val acc x fit
logistic           sklearn     1    45,000     0.0222   0.844
relu_mlp-adam-compiled-cpu-b32-float32: warning: unsteady
relu_mlp-adam-fit-gpu-b32-float32 and 1 more: skipped: no GPU
own:net-sgd-fit-cpu-b32-float32: invalid: the loss is nan
"""


def printed(rows: list[dict[str, Any]]) -> str:
    out = io.StringIO()
    print_results(rows, Console(file=out, width=80))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def test_the_tables_are_these() -> None:
    assert printed(ROWS) == GOLDEN


def test_each_backend_has_a_table_of_its_own() -> None:
    case = Case("relu_mlp", "adam", "fit")
    three = [
        row(replace(case, backend=name), speed)
        for name, speed in (("tensorflow", 3e3), ("torch", 1e3), ("jax", 2e3))
    ]
    lines = printed([*three, LOGISTIC]).splitlines()
    titles = ["cpu, float32", "cpu, float32, JAX", "cpu, float32, PyTorch", "cpu, float64"]
    assert [line for line in lines if line.startswith("cpu")] == titles
    assert ["3,000" in lines[2], "2,000" in lines[5], "1,000" in lines[8]] == [True] * 3


def test_the_longest_documented_names_fit_80_columns() -> None:
    wide = [
        row(
            Case("sigmoid_mlp", "sgd_nesterov", loop, batch_size=8192),
            1_234_567.8,
            val_score=0.8,
            samples_per_s_low=1e6,
            samples_per_s_high=1.5e6,
        )
        for loop in ("fit", "multistep", "compiled")
    ]
    text = printed(wide)
    assert max(map(len, text.splitlines())) <= 80
    assert "1,234,568" in text
    assert "sgd_nesterov" in text


def test_a_busy_machine_is_one_line_that_names_the_worst() -> None:
    shares = {"sgd": 6, "adam": 31, "rmsprop": 12}
    took = "disturbed: other processes took {}% of the cores in launch {}"
    busy = [
        row(Case("softmax", optimizer, "fit"), 9_000.0, warnings=took.format(share, k))
        for k, (optimizer, share) in enumerate(shares.items(), 1)
    ]
    busy[0]["warnings"] += "; disturbed: throttled for heat, times a core: 4 in launch 1"
    notes = [line for line in printed(busy).splitlines() if "warning" in line]
    assert notes == [
        f"softmax-adam-fit-cpu-b32-float32 and 2 more: warning: {took.format(31, 2)}",
        "softmax-sgd-fit-cpu-b32-float32: warning: disturbed: throttled for heat, times a core: "
        "4 in launch 1",
    ]


def test_optimizers_that_differ_in_their_last_argument_can_be_told_apart() -> None:
    names = [f"adam:learning_rate=3e-4,weight_decay=0.01,clipnorm={n}" for n in (1, 2)]
    text = printed([row(Case("relu_mlp", name, "fit"), 9_000.0) for name in names])
    assert [line for line in text.splitlines() if "adam" in line] == [
        f"relu_mlp, {name}" for name in names
    ]


def test_names_that_are_too_long_for_a_column_stand_above_their_cases() -> None:
    cases = [Case("examples/tabular.py:prices", "own", loop) for loop in ("fit", "compiled")]
    cases.append(Case("other/tabular.py:prices", "own", "fit", batch_size=1024))
    rates = (9_000.0, 162_345.6, 90_000.0)
    rows = [row(case, rate, val_score=0.5) for case, rate in zip(cases, rates, strict=True)]
    assert (
        printed(rows)
        == """\
cpu, float32
examples/tabular.py:prices, own
loop     batch samples/s ±% step ms val acc x fit
fit         32     9,000       3.56   0.500
compiled    32   162,346      0.197   0.500  18.0
other/tabular.py:prices, own
fit       1024    90,000      0.356   0.500
"""
    )


def test_what_has_no_number_stays_in_the_order_of_its_cases() -> None:
    slowed = "disturbed: the GPU was slowed by hw_slowdown in launch {}"
    unknown = "disturbed: the moon was full"
    busy = [
        row(FIT_OF[0], 9_000.0, warnings=f"{slowed.format(1)}; {unknown}"),
        row(FIT_OF[1], 9_000.0, warnings=f"{slowed.format(2)}; {unknown}"),
    ]
    first = f"{FIT_OF[0].id} and 1 more: warning: "
    assert [line for line in printed(busy).splitlines() if "warning" in line] == [
        first + slowed.format(1),
        first + unknown,
    ]


def test_compiled_is_compared_with_its_own_sibling() -> None:
    assert compiled_over_fit(COMPILED, ROWS) == pytest.approx(162_345.6 / 9_000)
    assert compiled_over_fit(FIT, ROWS) is None
    assert compiled_over_fit(COMPILED, [COMPILED, {**FIT, "batch_size": 64}]) is None
    assert compiled_over_fit(COMPILED, [COMPILED, {**FIT, "status": "failed"}]) is None


def test_the_reference_is_compared_over_the_same_work_only() -> None:
    reference = [{**FIT, "samples_per_s": 4_500.0}, {**COMPILED, "samples_per_s": 162_345.6}]
    lines = reference_lines(ROWS, reference, True, "a CPU, TensorFlow 2.21.0")
    assert lines[0] == "Throughput beside the reference run (a CPU, TensorFlow 2.21.0):"
    assert "fit: 2.00 times the reference, 1 case" in lines
    assert "compiled: 1.00 times the reference, 1 case" in lines
    assert reference_lines(ROWS, reference, False, "a CPU") == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.9, "1 min 00 s"),
        (61, "1 min 01 s"),
        (3599.9, "1 h 00 min"),
        (7_260, "2 h 01 min"),
        (float("inf"), "?"),
    ],
)
def test_durations_read_well(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_an_estimate_needs_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(estimate, "reference_rows", tuple)
    case = Case("relu_mlp", "adam", "fit")
    one = estimate.launch_seconds(case, RunSettings(epochs=1))
    five = estimate.launch_seconds(case, RunSettings(epochs=5))
    assert five > 2 * one > 0


def test_an_estimate_is_the_cases_own_row_where_there_is_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    measured = FIT | {"total_s": 30.0, "epoch_s": 5.0, "rounds": 5, "launches": 1}
    monkeypatch.setattr(estimate, "reference_rows", lambda: (measured,))
    case = Case("relu_mlp", "adam", "fit")
    assert estimate.launch_seconds(case, RunSettings(epochs=5)) == pytest.approx(30.0)
    assert estimate.launch_seconds(case, RunSettings(epochs=1)) == pytest.approx(10.0)


@pytest.mark.parametrize(
    ("heading", "columns"),
    [
        ("results.csv", RESULT_COLUMNS),
        ("rounds.csv", ROUND_COLUMNS),
        ("comparison.csv", compare.COLUMNS),
    ],
)
def test_the_page_explains_every_column_in_order(heading: str, columns: tuple[str, ...]) -> None:
    page = (ROOT / "results/README.md").read_text("utf-8")
    section = page.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == columns
