"""Several replicas in words, tables and comparisons: said only where the intervals say it."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support.figures import figure_of
from support.scaled import COMPILED, Line, write_scaled

from bench.reports import selection
from bench.reports.end_of_run import summarize
from bench.reports.formatting import name, replicas, short_names
from bench.reports.plots.compare import draw_comparison
from bench.reports.scaling_data import highest, sweeps
from bench.reports.scaling_words import how_it_scales
from bench.reports.terminal.compare import print_comparison, write_comparison
from bench.reports.terminal.run import print_results
from bench.schema.case import STRONG, WEAK, Case
from bench.schema.runs import MeasuredRun
from bench.schema.warnings import Kind, of_row
from bench.session.attempts import RunOutcome
from bench.store.measured import read_machine, read_run
from bench.store.run_folder import RunFolder
from bench.verdicts.compare import Comparison, compare
from bench.verdicts.scaling import LEVEL, scaled

ON_CPU = replace(COMPILED, device="cpu")
MEANS_NOTHING = "on a CPU the replicas share its cores: a speed-up there means nothing"
Rows = list[dict[str, Any]]


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., MeasuredRun]:
    """A run of these lines, read back."""
    numbers = count()

    def of(*lines: Line, **more: Any) -> MeasuredRun:
        return read_run(write_scaled(tmp_path / f"run{next(numbers)}", *lines, **more))

    return of


@pytest.fixture
def rows(run: Callable[..., MeasuredRun]) -> Callable[..., Rows]:
    """The rows of such a run."""
    return lambda *lines, **more: [dict(row) for row in run(*lines, **more).rows.values()]


def printed(rows: Rows) -> str:
    out = io.StringIO()
    print_results(rows, Console(file=out, width=80))
    return "".join(line.rstrip() + "\n" for line in out.getvalue().splitlines())


def compared(found: Comparison) -> str:
    out = io.StringIO()
    print_comparison(found, Console(file=out, width=80))
    return out.getvalue()


# ---- words


def test_the_gain_its_efficiency_its_cause_and_where_it_stops(rows: Callable[..., Rows]) -> None:
    (said,) = how_it_scales(rows(Line({2: 1.9, 4: 3.12, 8: 3.12})))
    assert said.title == (
        "relu_mlp/adam compiled at batch 512: 4 replicas train 3.1 (3.0 to 3.2) times as fast as "
        "one: efficiency 0.78"
    )
    assert said.more == (
        "The all-reduce alone takes 0.12 of a step, at 1.9 GB/s. From 4 to 8 replicas next to "
        "nothing is gained: at most 1.04 times as fast."
    )
    assert (said.gains, said.on_one_cpu) == (True, False)


def test_what_gets_slower_is_said(rows: Callable[..., Rows]) -> None:
    (said,) = how_it_scales(rows(Line({2: 1.8, 4: 1.2}, share=None)))
    assert "2 replicas train 1.8" in said.title
    assert said.more.startswith("From 2 to 4 replicas it gets slower: 0.6")
    (said,) = how_it_scales(rows(Line({2: 0.6})))
    assert said.title.startswith(
        "relu_mlp/adam compiled at batch 512: from 1 to 2 replicas it gets slower: 0.6"
    )
    assert not said.gains


def test_what_the_intervals_do_not_say_is_not_put_in_words(rows: Callable[..., Rows]) -> None:
    assert how_it_scales(rows(Line({2: 1.3, 4: 1.4}), scatter=0.3)) == []
    unknown = how_it_scales(rows(Line({4: 3.1, 8: 3.3}, share=None), scatter=0.06))
    assert [said.more for said in unknown] == [""]


def test_one_launch_has_no_interval_and_no_words(rows: Callable[..., Rows]) -> None:
    found = rows(Line({2: 1.9, 4: 3.1}), launches=1)
    assert [row["efficiency_low"] for row in found] == [None] * 3
    assert how_it_scales(found) == []


def test_on_a_cpu_the_words_begin_with_that_they_mean_nothing(rows: Callable[..., Rows]) -> None:
    (said,) = how_it_scales(rows(Line({2: 1.4}, ON_CPU, share=None)))
    assert said.on_one_cpu
    assert said.more == "On a CPU the replicas share its cores: a speed-up there means nothing."


def test_every_row_of_several_replicas_on_a_cpu_has_the_warning(rows: Callable[..., Rows]) -> None:
    first, *others = rows(Line({2: 1.4, 4: 2.0}, ON_CPU))
    assert Kind.ONE_CPU.value == MEANS_NOTHING
    assert not of_row(first)
    assert [[warning.kind for warning in of_row(row)] for row in others] == [[Kind.ONE_CPU]] * 2
    assert not any(map(of_row, rows(Line({2: 1.4, 4: 2.0}))))


# ---- lines


def test_a_line_is_named_by_what_tells_it_from_the_others(rows: Callable[..., Rows]) -> None:
    jax = replace(COMPILED, backend="jax")
    found = sweeps(
        rows(
            Line({2: 1.9, 4: 3.1}, jax),
            Line({2: 1.9}, jax, each=True),
            Line({2: 1.8}, replace(jax, batch_size=64)),
            Line({2: 1.5}, replace(jax, loop="fit")),
        )
    )
    assert [sweep.label for sweep in found] == [
        "fit · batch 512",
        "compiled · batch 512",
        "compiled · batch 512 · a process each",
        "compiled · batch 64",
    ]
    assert {sweep.common for sweep in found} == {"relu_mlp, adam, gpu, JAX, float32"}
    assert [sweep.apart for sweep in found] == ["", "", "a process each", ""]
    assert [row["replicas"] for row in found[1].rows] == [2, 4]


def test_the_lines_of_weak_scaling_have_one_batch_of_a_replica(rows: Callable[..., Rows]) -> None:
    found = rows(Line({2: 1.9, 4: 3.5}), scaling=WEAK)
    assert [row["batch_size"] for row in found] == [512, 1024, 2048]
    (sweep,) = sweeps(found)
    assert (sweep.scaling, len(sweep.rows)) == (WEAK, 2)
    (said,) = how_it_scales(found)
    assert said.title.startswith(
        "relu_mlp/adam compiled at batch 512 a replica: 4 replicas train 3.5 (3.4 to 3.6) times "
        "the samples/s of one: efficiency 0.8"
    )


def test_the_words_of_weak_scaling_are_of_another_training(rows: Callable[..., Rows]) -> None:
    one, *others = rows(Line({2: 1.9, 4: 1.9}), scaling=WEAK)
    scores: dict[str, Any] = {"val_score": 0.8312, "score": "accuracy"}
    (said,) = how_it_scales([one, *({**row, **scores} for row in others)])
    assert said.more == (
        "Validation accuracy 0.8312 against 0.8500 of one: -1.88 points. The all-reduce alone "
        "takes 0.12 of a step, at 0.59 GB/s. From 2 to 4 replicas next to nothing is gained: at "
        "most 1.04 times the samples/s."
    )
    (said,) = how_it_scales([one, *({**row, "val_score": None} for row in others)])
    assert "alidation" not in said.more
    loss = {"score": "mae", "better": "min"}
    (said,) = how_it_scales(
        [{**one, **loss, "val_score": 2.0}, *({**row, **loss, "val_score": 2.1} for row in others)]
    )
    assert said.more.startswith("Validation mae 2.1 against 2 of one: +5.00%.")
    (said,) = how_it_scales(rows(Line({2: 0.6}), scaling=WEAK))
    assert said.title.endswith("it gets slower: 0.60 times the samples/s")


def test_an_axis_holds_the_intervals_where_they_are_short(rows: Callable[..., Rows]) -> None:
    (narrow,) = sweeps(rows(Line({2: 1.9})))
    (wide,) = sweeps(rows(Line({2: 1.9}), launches=2, scatter=0.5))
    assert narrow.rows[0]["efficiency_high"] < highest(narrow.rows) < 1.2
    assert highest(wide.rows) == 1.6


# ---- names and panels


def test_a_case_is_named_with_its_replicas(rows: Callable[..., Rows]) -> None:
    found = rows(Line({4: 3.1}), Line({4: 3.0}, each=True))
    names = [name(row) for row in found]
    assert names[0] == "relu_mlp adam compiled batch 512 float32"
    assert names[1:] == [f"{names[0]} 4 replicas", f"{names[0]} 4 processes"]
    assert replicas(1, 1) == ""
    short = short_names({row["case"]: row for row in found})
    assert list(short.values()) == [
        "replicas 1 · processes 1",
        "replicas 4 · processes 1",
        "replicas 4 · processes 4",
    ]


def test_the_panels_tell_replicas_apart(rows: Callable[..., Rows]) -> None:
    found = rows(
        *(Line({2: 1.9}, replace(COMPILED, batch_size=size)) for size in (512, 1024)),
        Line({2: 1.8}, each=True),
    )
    measured = selection.points(found, ())
    groups = selection.throughput_groups(measured, 10)
    (group,) = groups.items
    assert [label for label, _ in group.rows] == [
        "adam · gpu", "adam · gpu, 2 processes", "adam · gpu, 2 replicas"
    ]  # fmt: skip
    series = selection.batch_series(measured, 10)
    assert {line.label for line in series.items} == {"compiled", "compiled · 2 replicas"}
    assert all(len({p.replicas for p in line.points}) == 1 for line in series.items)


def test_in_weak_scaling_the_setting_is_the_batch_of_a_replica(rows: Callable[..., Rows]) -> None:
    measured = selection.points(rows(Line({2: 1.9, 4: 3.5}), scaling=WEAK), ())
    assert selection.base_setting(measured) == (512, "float32")
    assert len(selection.at_base(measured)) == 3


# ---- the terminal


def test_the_table_sets_replicas_side_by_side(rows: Callable[..., Rows]) -> None:
    found = rows(Line({2: 1.9, 4: 3.12}))
    lines = printed(found).splitlines()
    assert lines[0] == "gpu, float32"
    place = next(n for n, line in enumerate(lines) if "replicas samples/s" in line)
    assert lines[place].endswith("efficiency")
    assert [line.split()[2] for line in lines[place + 1 : place + 4]] == ["1", "2", "4"]
    assert "processes" not in lines[place]
    assert "0.78 ±3%" in lines[place + 3]
    assert lines[place + 4].startswith("relu_mlp/adam compiled at batch 512: 4 replicas train 3.1")


def test_a_table_with_every_column_fits_80_columns(rows: Callable[..., Rows]) -> None:
    wide = replace(COMPILED, model="sigmoid_mlp", optimizer="sgd_nesterov", batch_size=8192)
    found = rows(
        *(Line({16: 9.5}, replace(wide, loop=loop)) for loop in ("fit", "compiled")),
        Line({16: 9.5}, wide, each=True),
    )
    lines = printed(found).splitlines()
    table = [line for line in lines if line.startswith(("loop", "fit ", "compiled "))]
    assert "processes" in table[0]
    assert len(table) == 6
    assert max(map(len, table)) <= 80


def test_without_a_case_of_one_replica_the_terminal_says_what_to_name(
    rows: Callable[..., Rows],
) -> None:
    remedy = "speed-up not computed: name 1 among --replicas\n"
    found = rows(Line({2: 1.9, 4: 3.1}))
    lost = dict.fromkeys(("speedup", "efficiency", "efficiency_low", "efficiency_high"))
    several = [{**row, **lost} for row in found if row["replicas"] > 1]
    assert printed(several).count(remedy) == 1
    one = {**found[0], "status": "failed", "reason": "no room"}
    for others in (found, [one, *several], [{**row, "status": "failed"} for row in several]):
        assert "speed-up not computed" not in printed(others)


def test_a_cpu_is_told_in_the_terminal(rows: Callable[..., Rows]) -> None:
    told = printed(rows(Line({2: 1.4, 4: 1.4}, ON_CPU)))
    assert f"-r2 and 1 more: warning: {MEANS_NOTHING}\n" in told


@pytest.mark.parametrize(("gains", "drawn"), [({2: 1.9}, True), ({}, False)])
def test_a_run_draws_its_scaling_where_it_has_an_efficiency(
    tmp_path: Path, gains: dict[int, float], drawn: bool
) -> None:
    folder = RunFolder(write_scaled(tmp_path / "run", Line(gains)))
    plan = folder.plan()
    assert plan is not None
    outcome = RunOutcome(
        folder, plan, folder.results(), folder.launches(), folder.rounds(), False, {}
    )
    out = io.StringIO()
    assert summarize(outcome, Console(file=out, width=200), report=False) == []
    assert (folder.path / "scaling.png").exists() == drawn
    assert (str(folder.path / "scaling.png") in out.getvalue()) == drawn


# ---- comparisons


def test_the_machine_that_scales_better_is_named_where_intervals_are_apart(
    run: Callable[..., MeasuredRun],
) -> None:
    runs = {"a": run(Line({2: 1.9, 4: 3.6})), "b": run(Line({2: 1.9, 4: 2.6}))}
    told = compared(compare(runs))
    case = Case("relu_mlp", "adam", "compiled", "gpu", 512, replicas=4).id
    (line,) = (line for line in told.splitlines() if line.startswith(f"{case}: "))
    assert line.startswith(f"{case}: efficiency 0.6")
    assert line.endswith(": a scales better")
    assert next(line for line in told.splitlines() if "-r2: efficiency" in line).endswith(")")
    assert "warning" not in told


def test_several_machines_have_letters(run: Callable[..., MeasuredRun]) -> None:
    gains = {"a": 2.6, "b": 3.6, "c": 2.6}
    told = compared(compare({name: run(Line({4: gain})) for name, gain in gains.items()}))
    lines = [line for line in told.splitlines() if ": efficiency" in line]
    assert lines[0].startswith("B: relu_mlp")
    assert lines[0].endswith(": B scales better")
    assert lines[1].startswith("C: relu_mlp")
    assert "scales" not in lines[1]


def test_a_comparison_on_cpus_says_that_it_means_nothing(run: Callable[..., MeasuredRun]) -> None:
    runs = {name: run(Line({2: gain}, ON_CPU)) for name, gain in (("a", 1.2), ("b", 1.8))}
    assert compared(compare(runs)).count(f"warning: {MEANS_NOTHING}") == 1


def test_other_replicas_are_other_cases_and_other_scaling_is_not_compared(
    run: Callable[..., MeasuredRun],
) -> None:
    two, four = run(Line({2: 1.9})), run(Line({4: 3.1}))
    found = compare({"two": two, "four": four})
    assert found.differences["replicas"] == ("1, 2", "1, 4")
    assert [pair.case for pair in found.pairs["four"] if pair.ratio] == [COMPILED.id]
    weak = run(Line({2: 1.9}, replace(COMPILED, batch_size=256)), scaling=WEAK)
    strong = run(Line({2: 1.5}))
    assert compare({"strong": strong, "weak": weak}).scaled == {"weak": ()}


def test_the_efficiencies_are_in_comparison_csv(
    run: Callable[..., MeasuredRun], tmp_path: Path
) -> None:
    found = compare({"a": run(Line({2: 1.9})), "b": run(Line({2: 1.5}))})
    write_comparison(found, tmp_path / "comparison.csv")
    with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as lines:
        one, two = csv.DictReader(lines)
    assert (one["efficiency"], one["baseline_efficiency_high"]) == ("", "")
    row = found.runs["b"].rows[two["case"]]
    assert float(two["efficiency_low"]) == row["efficiency_low"]
    assert float(two["baseline_efficiency"]) == found.runs["a"].rows[two["case"]]["efficiency"]


def test_efficiencies_that_cannot_be_compared_are_in_neither_file_nor_picture(
    run: Callable[..., MeasuredRun], tmp_path: Path
) -> None:
    half = replace(COMPILED, batch_size=256)
    one = run(Line({2: 1.9}), Line({2: 1.9, 4: 1.9}, half))
    weak = run(Line({2: 1.9}, half), scaling=WEAK)
    other = run(Line({2: 1.7}), Line({2: 1.7, 4: 1.8}, half))
    # Of the two cases of two replicas, one trained other data and one failed.
    apart, failed, both = (
        replace(case, replicas=number).id for case, number in ((COMPILED, 2), (half, 2), (half, 4))
    )
    rows = {**other.rows, apart: {**other.rows[apart], "data_digest": "other"}}
    rows[failed] = {**rows[failed], "status": "failed"}
    one = replace(one, rows={**one.rows, apart: {**one.rows[apart], "data_digest": "one"}})
    logs = {case: own for case, own in other.logs.items() if case != failed}
    other = replace(other, rows=rows, logs=logs)
    for candidate, shown in ((weak, []), (other, [both])):
        found = compare({"one": one, "other": candidate})
        write_comparison(found, tmp_path / "comparison.csv")
        with (tmp_path / "comparison.csv").open(encoding="utf-8", newline="") as lines:
            told = {row["case"]: row for row in csv.DictReader(lines)}
        for side in ("efficiency", "baseline_efficiency"):
            assert [case for case, row in told.items() if row[side]] == shown
        panels = figure_of(draw_comparison, found).axes
        assert [axes.get_label() for axes in panels][2:] == ["efficiency"] * len(shown)
        if shown:
            assert len([line for line in panels[2].lines if line.get_linestyle() == "None"]) == 2


def test_frameworks_meet_though_each_spreads_its_replicas_in_its_own_form(
    run: Callable[..., MeasuredRun],
) -> None:
    jax, torch = (replace(COMPILED, backend=name) for name in ("jax", "torch"))
    one = run(Line({2: 1.9}, jax))
    found = compare({"jax": one, "torch": run(Line({2: 1.7}, torch, each=True))})
    both = [pair.case for pair in found.pairs["torch"] if pair.ratio]
    assert both == [COMPILED.id, replace(COMPILED, replicas=2).id]
    assert [own.case for own in found.scaled["torch"]] == both[1:]
    assert found.differences["processes"] == ("1", "1, 2")
    # With both forms in one run, they stay apart.
    two = run(Line({2: 1.7}, torch, each=True), Line({2: 1.8}, torch))
    found = compare({"jax": one, "torch": two})
    assert [pair.case for pair in found.pairs["torch"] if pair.ratio] == both


def test_equals_differ_no_more_often_than_is_promised(
    run: Callable[..., MeasuredRun],
) -> None:
    """In families of 20 cases with three launches each; with intervals it was one in ten."""
    draw = np.random.default_rng(3)
    first = run(Line({2: 1.9}))
    (case,) = first.efficiencies
    cases = [f"{case}{number}" for number in range(20)]

    def drawn() -> MeasuredRun:
        logs = {one: tuple(draw.normal(0, 0.02, 3)) for one in cases}
        rows = dict.fromkeys(cases, first.rows[case])
        return replace(first, rows=rows, logs=logs, efficiencies=logs)

    families = 300
    alarms = sum(
        any(found.is_better is not None for found in scaled(drawn(), drawn(), cases))
        for _ in range(families)
    )
    assert alarms / families < 2 * LEVEL


def test_launches_of_one_run_are_not_judged_against_runs(
    run: Callable[..., MeasuredRun], tmp_path: Path
) -> None:
    machines = {}
    for label, gain in (("old", 2.6), ("new", 3.6)):
        for number in range(3):
            write_scaled(tmp_path / label / str(number), Line({4: gain * (1 + number / 1e3)}))
        machines[label] = read_machine(tmp_path / label)
    (case,) = compare(machines).scaled["new"]
    assert case.is_better is True
    one = compare({"old": machines["old"], "new": run(Line({4: 3.6}))})
    (case,) = one.scaled["new"]
    assert case.is_better is None
    assert "scales better" not in compared(one)


def test_two_runs_of_a_machine_have_no_interval_and_strong_is_not_weak(tmp_path: Path) -> None:
    half = replace(COMPILED, batch_size=256)
    for number in range(2):
        write_scaled(tmp_path / f"two/{number}", Line({2: 1.8 + number / 50}))
    row = read_machine(tmp_path / "two").rows[replace(COMPILED, replicas=2).id]
    assert row["efficiency"] == pytest.approx(0.905, abs=1e-4)
    assert row["efficiency_low"] is row["efficiency_high"] is None
    both = tmp_path / "both"
    write_scaled(both / "strong", Line({2: 1.8}), time_utc="2026-01-01T00:00:00+00:00")
    write_scaled(both / "weak", Line({2: 1.8}, half), scaling=WEAK)
    mixed = read_machine(both)
    row = mixed.rows[replace(COMPILED, replicas=2).id]
    assert row["samples_per_s"]
    assert row["efficiency"] is row["speedup"] is None
    assert mixed.efficiencies == {}


def test_several_runs_of_a_machine_have_an_interval_over_runs(tmp_path: Path) -> None:
    gains = (1.8, 1.9, 1.7)
    for number, gain in enumerate(gains):
        write_scaled(tmp_path / f"m/{number}", Line({2: gain}))
    row = read_machine(tmp_path / "m").rows[replace(COMPILED, replicas=2).id]
    assert row["efficiency"] == pytest.approx(0.9, abs=0.03)
    assert row["speedup"] == pytest.approx(2 * row["efficiency"])
    assert 0.75 < row["efficiency_low"] < row["efficiency"] < row["efficiency_high"] < 1.05


@pytest.mark.parametrize("scaling", [STRONG, WEAK])
@pytest.mark.parametrize("launches", [1, 3])
def test_a_run_without_its_plan_has_the_same_efficiencies(
    tmp_path: Path, scaling: str, launches: int
) -> None:
    path = write_scaled(
        tmp_path / "run", Line({2: 1.9, 4: 3.5}), scaling=scaling, launches=launches
    )
    rows = read_run(path).rows
    (path / "plan.json").unlink()
    assert read_run(path).rows == rows
    assert [row["efficiency"] is None for row in rows.values()] == [True, False, False]
