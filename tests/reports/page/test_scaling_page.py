"""The page of a run with several replicas: findings, table, filters and the charts' data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from support.pages import USUAL
from support.run_folders import write_run
from support.scaled import COMPILED, Line, write_scaled

from bench.reports.page.backend_findings import fastest_backend
from bench.reports.page.charts import case_figures
from bench.reports.page.figure import Key
from bench.reports.page.findings import comparison_findings, findings
from bench.reports.page.page import write_report
from bench.reports.page.records import case_records
from bench.reports.page.scaling_findings import of_efficiencies, of_replicas
from bench.reports.page.source import Source, read_sources
from bench.reports.page.table import case_table
from bench.schema.case import WEAK, Case
from bench.verdicts.compare import compare

ON_CPU = replace(COMPILED, device="cpu")
MEANS_NOTHING = "on a CPU the replicas share its cores: a speed-up there means nothing"


@pytest.fixture
def source(tmp_path: Path) -> Callable[..., Source]:
    """Reads a run of these lines back; its name is its label."""

    def make(*lines: Line, label: str = "run", **more: Any) -> Source:
        return read_sources([write_scaled(tmp_path / label, *lines, label=label, **more)])[0]

    return make


def columns_of(source: Source) -> dict[str, bool]:
    """The names of the table's columns, and which are shown at first."""
    return {column.name: column.at_first for column in case_table([source]).columns}


def test_a_line_is_a_finding_with_its_cause_and_its_end(source: Callable[..., Source]) -> None:
    run = source(Line({2: 1.9, 4: 3.12, 8: 3.12}))
    (said,) = of_replicas(run)
    assert said in findings(run)
    assert said.title == (
        "relu_mlp/adam compiled at batch 512: 4 replicas train 3.1 (3.0 to 3.2) times as fast as "
        "one: efficiency 0.78"
    )
    assert said.kind == "gain"
    alone = "The all-reduce alone takes 0.12 of a step, at 1.9 GB/s."
    assert said.text.startswith(f"{alone} From 4 to 8 replicas")


def test_many_lines_are_one_finding(source: Callable[..., Source]) -> None:
    lines = [
        Line({2: gain}, replace(COMPILED, batch_size=size))
        for size, gain in ((32, 0.7), (64, 1.2), (128, 1.6), (256, 1.8))
    ]
    (said,) = of_replicas(source(*lines))
    assert said.title == "Several replicas train more samples/s than one in 3 of 4 lines"
    assert len(said.text.splitlines()) == 4
    assert "at batch 32: from 1 to 2 replicas it gets slower" in said.text


def test_on_a_cpu_the_finding_is_a_warning(source: Callable[..., Source]) -> None:
    (said,) = of_replicas(source(Line({2: 1.5}, ON_CPU)))
    assert said.kind == "warning"
    assert MEANS_NOTHING[3:] in said.text


def test_nothing_is_found_where_no_interval_says_it(source: Callable[..., Source]) -> None:
    assert of_replicas(source(Line({2: 1.3}), scatter=0.3)) == []


def test_cases_of_other_replicas_are_not_ranked_as_the_same(source: Callable[..., Source]) -> None:
    run = source(
        Line({2: 1.9}, replace(COMPILED, loop="fit")), Line({2: 1.5}), Line({2: 1.4}, each=True)
    )
    (said,) = (f for f in findings(run) if f.title.startswith("The fastest loop"))
    # One replica, and two in one process: those in processes have no other loop.
    assert "of 2 cases that ran in more than one loop" in said.text


def test_the_columns_are_there_for_several_replicas_alone(
    source: Callable[..., Source], tmp_path: Path
) -> None:
    own = columns_of(source(Line({2: 1.9}), Line({2: 1.8}, each=True)))
    for name in ("replicas", "processes", "efficiency", "efficiency_interval", "speedup"):
        assert own[name]
    assert not own["scaling"]
    assert not own["local_batch_size"]
    one_process = columns_of(source(Line({2: 1.9}), label="one"))
    assert "processes" not in one_process
    plain = columns_of(read_sources([write_run(tmp_path / "plain", USUAL)])[0])
    assert not {"replicas", "processes", "scaling", "efficiency", "speedup"} & set(plain)


def test_the_table_has_the_figures_and_the_filters(source: Callable[..., Source]) -> None:
    table = case_table([source(Line({2: 1.9, 4: 3.12}))])
    shown = {
        column.name: [row.cells[n].text for row in table.rows]
        for n, column in enumerate(table.columns)
    }
    assert shown["replicas"] == ["1", "2", "4"]
    assert shown["efficiency"] == ["", "0.95", "0.78"]
    assert shown["speedup"] == ["", "1.90", "3.12"]
    assert shown["all_reduce_share"] == ["", "0.12", "0.12"]
    assert table.choices["replicas"] == ("1", "2", "4")
    assert "processes" not in table.choices


def test_a_record_of_several_replicas_knows_its_line(source: Callable[..., Source]) -> None:
    one, other = source(Line({2: 1.9, 4: 3.1}), label="a"), source(Line({2: 1.5}), label="b")
    records = case_records([one, other])
    assert [r["sweep"] for r in records] == [None, 0, 0, None, 1]
    assert {r["line"] for r in records} == {""}
    assert [r["efficiency"] for r in records][1] == pytest.approx(0.95)
    assert all("replicas" in r["name"] for r in records if r["replicas"] > 1)


def test_threads_are_on_one_line_for_one_number_of_replicas(tmp_path: Path) -> None:
    cases = {
        Case("relu_mlp", "adam", "compiled", threads=threads, replicas=number): (1.0, 0.85)
        for threads in (1, 2)
        for number in (1, 2)
    }
    records = case_records(read_sources([write_run(tmp_path / "run", cases)]))
    assert len({record["threads_series"] for record in records}) == 2


def test_no_two_lines_of_a_chart_look_alike(source: Callable[..., Source]) -> None:
    """There are four dashes: one run has shapes too, and of several the lines are thicker."""
    lines = [
        Line({2: 1.9}, replace(COMPILED, model=model, batch_size=batch))
        for model in ("relu_mlp", "sigmoid_mlp")
        for batch in (128, 256, 512)
    ]
    one, other = (source(*lines, label=label) for label in ("a", "b"))

    def drawn(*sources: Source) -> tuple[list[Key], Any]:
        figures = case_figures(list(sources), case_records(list(sources)))
        (chart,) = (figure for figure in figures if figure.name == "scaling-strong")
        keys = [key for key in chart.legend if "batch" in key.text]
        return keys, chart.spec["layer"][1]["encoding"]

    keys, line = drawn(one)
    assert len({key.sign for key in keys}) == 6
    assert "" not in {key.sign for key in keys}
    assert line["strokeWidth"] == {"value": 1.6}
    keys, line = drawn(one, other)
    assert len({key.text.split(":")[0] for key in keys}) == 6
    # Of other types of field Vega-Lite takes no widths.
    assert line["strokeWidth"]["type"] == "ordinal"
    widths, dashes = (line[name]["scale"]["range"] for name in ("strokeWidth", "strokeDash"))
    assert len({(width, *dash) for width, dash in zip(widths, dashes, strict=True)}) == 6


def test_each_scaling_has_a_chart_that_warns_of_a_cpu(source: Callable[..., Source]) -> None:
    sources = [
        source(Line({2: 1.9}), label="a"),
        source(Line({2: 1.5}, ON_CPU), label="b", scaling=WEAK),
    ]
    figures = {f.name: f for f in case_figures(sources, case_records(sources))}
    strong, weak = figures["scaling-strong"], figures["scaling-weak"]
    assert "strong scaling" in strong.title
    assert MEANS_NOTHING not in strong.caption
    assert f"Warning: {MEANS_NOTHING}." in weak.caption


def test_without_an_efficiency_there_is_no_chart(tmp_path: Path) -> None:
    sources = read_sources([write_run(tmp_path / "run", USUAL)])
    figures = case_figures(sources, case_records(sources))
    assert not [figure for figure in figures if figure.name.startswith("scaling")]


def test_a_comparison_finds_the_run_that_scales_better(source: Callable[..., Source]) -> None:
    runs = [source(Line({2: 1.9, 4: gain}), label=f"gain {gain}") for gain in (3.6, 2.6)]
    (said,) = (
        f
        for f in comparison_findings(compare({s.name: s.run for s in runs}))
        if "scales" in f.title
    )
    assert said.title == "gain 2.6 scales worse in 1 of 2 cases"
    assert said.kind == "loss"
    assert said.text.endswith(": gain 3.6 scales better")
    same = [source(Line({2: 1.9}), label=name) for name in ("x", "y")]
    assert of_efficiencies(compare({s.name: s.run for s in same})) == []


def test_frameworks_are_rivals_though_each_spreads_its_replicas_in_its_own_form(
    source: Callable[..., Source],
) -> None:
    jax, torch = (replace(COMPILED, backend=name) for name in ("jax", "torch"))
    each = Line({2: 1.7}, torch, each=True)
    said = fastest_backend(source(Line({2: 1.9}, jax), each, label="a"))
    assert said is not None
    assert "of 2 cases that ran on every backend" in said.text
    said = fastest_backend(source(Line({2: 1.9}, jax), each, Line({2: 1.8}, torch), label="b"))
    assert said is not None
    assert "of 2 cases that ran on every backend" in said.text


def test_the_whole_page_says_on_a_cpu_that_it_means_nothing(tmp_path: Path) -> None:
    page = write_report([write_scaled(tmp_path / "run", Line({2: 1.5}, ON_CPU))])
    text = page.read_text("utf-8")
    # In the finding, the chart's caption and description, the table, and the warnings.
    assert text.count(MEANS_NOTHING[3:]) >= 5


def test_no_two_lines_over_batch_sizes_look_alike(tmp_path: Path) -> None:
    """Devices, precisions and numbers of replicas are lines of their own, and named."""
    case = Case("relu_mlp", "adam", "compiled", backend="jax")
    kinds = (
        case,
        replace(case, precision="mixed_bfloat16"),
        replace(case, device="gpu"),
        replace(case, device="gpu", replicas=2),
    )
    cases = {replace(kind, batch_size=size): (1.0, 0.85) for kind in kinds for size in (32, 512)}
    records = case_records(read_sources([write_run(tmp_path / "run", cases)]))
    lines = {record["batch_series"]: record["curve"] for record in records}
    assert sorted(lines.values()) == [
        "relu_mlp · adam · jax · cpu · float32",
        "relu_mlp · adam · jax · cpu · mixed_bfloat16",
        "relu_mlp · adam · jax · gpu · float32",
        "relu_mlp · adam · jax · gpu · float32 · 2 replicas",
    ]
