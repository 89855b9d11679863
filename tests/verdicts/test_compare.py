"""Runs compared case by case: ratios, intervals, what is missing, what is refused."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from support import Program
from support.run_folders import write_run

from bench.analysis.rows import result_rows
from bench.analysis.stats import welch_interval
from bench.evidence.made_runs import make_run
from bench.reports.page.records import case_records
from bench.reports.page.source import read_sources
from bench.reports.terminal.compare import print_comparison, write_comparison
from bench.schema.case import Case
from bench.schema.errors import NotComparable
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.plan import Plan, RunSettings
from bench.schema.requests import LaunchRequest
from bench.schema.sizes import Sizes
from bench.store.measured import read_run
from bench.store.named import called, named_runs
from bench.store.run_folder import RunFolder
from bench.verdicts.across import across_machines
from bench.verdicts.check import check
from bench.verdicts.compare import COLUMNS, Comparison, compare
from fmnist_models.errors import UserError

FIT, COMPILED = (Case("relu_mlp", "adam", loop) for loop in ("fit", "compiled"))
SOFTMAX = Case("softmax", "sgd", "fit")


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Writes a run: seconds of an epoch of each launch, by case."""

    def write(
        name: str,
        seconds: dict[Case, list[float]],
        accuracy: float = 0.85,
        epochs: int = 1,
        label: str | None = None,
        digest: str = "abc",
        **facts: Any,
    ) -> Path:
        plan = Plan(tuple(seconds), RunSettings(epochs=epochs, launches=None), "test", label)
        run = RunFolder.create(tmp_path / name, plan)
        run.write_environment({"label": label, "dataset_digest": digest, **facts})
        for case, times in seconds.items():
            launches = times * (plan.settings.launches_of(case) if len(times) == 1 else 1)
            for number, epoch_s in enumerate(launches):
                request = LaunchRequest(case, number, 1, epochs, 42)
                for k in range(epochs):
                    timed = Round(k + 1, 48_000, 1500, epoch_s, 0.0, val_score=accuracy)
                    run.append_round(request, timed)
                record = LaunchRecord(case.id, number, 1, 42, Status.OK)
                run.append_launch(record)
        run.write_results(result_rows(plan, run.launches(), run.rounds()))
        return tmp_path / name

    return write


def printed(found: Comparison) -> str:
    out = io.StringIO()
    print_comparison(found, Console(file=out, width=80))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


GOLDEN = """\
different TensorFlow: here: 2.20.0; there: 2.21.0
there over here
case                                   ratio       interval accuracy
relu_mlp-adam-compiled-cpu-b32-float32 2.000 1.890 to 2.117    +1.00
relu_mlp-adam-fit-cpu-b32-float32      0.500                   +1.00
there: 1.000 times the samples/s of here (geometric mean of 2 cases that all runs hold; lowest 0.500, highest 2.000); all of them together 0.537 times as fast
there has no result for softmax-sgd-fit-cpu-b32-float32
"""  # noqa: E501 - lines that the terminal folds by itself


def test_the_table_to_the_letter(folder: Callable[..., Path]) -> None:
    here = {COMPILED: [0.4, 0.41, 0.39], FIT: [4.0], SOFTMAX: [3.0]}
    there = {COMPILED: [0.2, 0.205, 0.195], FIT: [8.0]}
    paths = [
        folder("a", here, 0.85, label="here", versions={"tensorflow": "2.20.0"}),
        folder("b", there, 0.86, label="there", versions={"tensorflow": "2.21.0"}),
    ]
    found = compare(named_runs(paths))
    assert printed(found) == GOLDEN


SEVERAL = """\
A  two threads (baseline)
B  one thread
C  default
D  other
different threads: 2 (A, D); 1 (B); default (C)
samples/s over those of A; ±: half the 95% interval, where there is one
case                                          B           C        D
relu_mlp-adam-compiled-cpu-b32-float32 0.80 ±5% 1.21 ±>999% 2.00 ±6%
softmax-sgd-fit-cpu-b32-float32                                 1.50
geometric mean of cases                    0.80        1.21     2.00
all cases together                         0.80        1.21     2.00
accuracy points, lowest                   +1.00       -1.00    +0.00
... highest                               +1.00       -1.00    +0.00
geometric mean of cases and all cases together: over the 1 that all runs hold
B has no result for softmax-sgd-fit-cpu-b32-float32
C has no result for softmax-sgd-fit-cpu-b32-float32
"""


def test_several_runs_stand_side_by_side_to_the_letter(folder: Callable[..., Path]) -> None:
    """Four runs: a column of each in the first table, what finds no room in the next."""
    one, two = (Case("relu_mlp", "adam", "compiled", threads=n) for n in (1, 2))
    fit = Case("softmax", "sgd", "fit", threads=2)
    paths = [
        folder("a", {two: [0.4, 0.41, 0.39], fit: [3.0]}, label="two threads"),
        folder("b", {one: [0.5, 0.51, 0.49]}, 0.86, label="one thread"),
        folder("c", {COMPILED: [0.1, 0.4, 0.9]}, 0.84, label="default"),
        folder("d", {two: [0.2, 0.205, 0.195], fit: [2.0]}, label="other"),
    ]
    assert printed(compare(named_runs(paths))) == SEVERAL


def test_a_sweep_of_threads_is_matched_by_its_threads(folder: Callable[..., Path]) -> None:
    one, two = (Case("relu_mlp", "adam", "compiled", threads=n) for n in (1, 2))
    sweep, single = folder("a", {one: [0.4], two: [0.2]}), folder("b", {two: [0.1]})
    found = compare(named_runs([sweep, single]))
    assert [pair.case for pair in found.pairs["b"] if pair.ratio] == [two.id]
    assert found.pairs["b"][1].ratio == pytest.approx(2)
    assert found.differences == {"threads": ("1, 2", "2")}


def test_runs_of_one_backend_each_are_matched_without_it(folder: Callable[..., Path]) -> None:
    jax = Case("relu_mlp", "adam", "compiled", backend="jax")
    runs = [folder("a", {COMPILED: [0.4]}), folder("b", {jax: [0.2]})]
    found = compare(named_runs(runs))
    assert [(pair.case, pair.ratio) for pair in found.pairs["b"]] == [
        (COMPILED.id, pytest.approx(2))
    ]
    assert found.differences == {"backend": ("tensorflow", "jax")}


def test_runs_that_differ_in_threads_and_in_backend_are_matched_without_both(
    folder: Callable[..., Path],
) -> None:
    here = Case("relu_mlp", "adam", "compiled", threads=2)
    there = Case("relu_mlp", "adam", "compiled", threads=4, backend="jax")
    found = compare(named_runs([folder("a", {here: [0.4]}), folder("b", {there: [0.2]})]))
    assert [(pair.case, pair.ratio) for pair in found.pairs["b"]] == [
        (COMPILED.id, pytest.approx(2))
    ]
    assert found.differences == {"threads": ("2", "4"), "backend": ("tensorflow", "jax")}


def test_a_run_of_several_backends_is_matched_by_them(folder: Callable[..., Path]) -> None:
    jax = Case("relu_mlp", "adam", "compiled", backend="jax")
    runs = [folder("a", {COMPILED: [0.4], jax: [0.3]}), folder("b", {jax: [0.1]})]
    found = compare(named_runs(runs))
    assert [pair.case for pair in found.pairs["b"] if pair.ratio] == [jax.id]
    assert found.pairs["b"][1].ratio == pytest.approx(3)


@pytest.mark.parametrize("told", [{"overruled": {}}, {}], ids=["now", "an earlier revision"])
def test_of_variables_only_those_that_differ_are_named(
    folder: Callable[..., Path], told: dict[str, dict[str, str]]
) -> None:
    common = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "-x"}
    off = common | {"TF_ENABLE_ONEDNN_OPTS": "0"}
    runs = [
        folder(name, {FIT: [seconds]}, variables=variables, **told)
        for name, seconds, variables in (("a", 4.0, common), ("b", 4.1, off), ("c", 4.2, common))
    ]
    found = compare(named_runs(runs[:2]))
    assert found.differences == {"variables": ("none", "TF_ENABLE_ONEDNN_OPTS=0")}
    assert compare(named_runs(runs[::2])).differences == {}


def test_files_of_ones_own_that_changed_are_named(folder: Callable[..., Path]) -> None:
    def listing(**digests: str) -> dict[str, Any]:
        own = {f"{name}.py": digest * 32 for name, digest in digests.items()}
        return {digest: {"suite": {"s.py": digest}, "models": own} for digest in digests.values()}

    before, after, alone = (
        folder(name, {FIT: [seconds]}, code=code)
        for name, seconds, code in (
            ("before", 4.0, listing(mine="aa", same="cc")),
            ("after", 4.1, listing(mine="bb", same="cc", more="dd")),
            ("alone", 4.2, listing(more="dd")),
        )
    )
    changed = {"files of your own": ("mine.py aaaaaaaa", "mine.py bbbbbbbb")}
    assert compare(named_runs([before, after])).differences == changed
    assert compare(named_runs([after, alone])).differences == {}
    said = compare(named_runs([before, after, alone])).differences["files of your own"]
    assert said == ("mine.py aaaaaaaa", "mine.py bbbbbbbb", "none of these")


def test_the_first_gpu_is_one_device_whatever_its_runs_call_it(tmp_path: Path) -> None:
    runs = {"gpu": [{"index": 0}], "gpu:0": [{"index": 0}, {"index": 1}]}
    for device, gpus in runs.items():
        cases = {Case("relu_mlp", "adam", "fit", device): (1.0, 0.8)}
        other = {Case("relu_mlp", "adam", "fit", "gpu:1"): (2.0, 0.8)} if len(gpus) > 1 else {}
        write_run(tmp_path / device.replace(":", ""), {**cases, **other}, gpus=gpus)
    lone, several = across_machines([read_run(tmp_path / name) for name in ("gpu", "gpu0")])
    assert list(lone.rows) == ["relu_mlp-adam-fit-gpu-b32-float32"]
    assert list(several.rows) == [*lone.rows, "relu_mlp-adam-fit-gpu:1-b32-float32"]
    assert {row["device"] for row in several.rows.values()} == {"gpu", "gpu:1"}
    assert several.logs.keys() == several.rows.keys()
    # A run that used both names measured twice: nothing of it is dropped.
    both = {Case("relu_mlp", "adam", "fit", device): (1.0, 0.8) for device in runs}
    write_run(tmp_path / "both", both, gpus=[{"index": 0}])
    assert len(across_machines([read_run(tmp_path / "both")])[0].rows) == 2


def test_a_run_on_the_first_of_two_gpus_has_a_page_and_a_check(tmp_path: Path) -> None:
    """Its cases keep the names of its plan wherever they are not set beside another machine's."""
    for name in ("a", "b", "c", "d"):
        case = Case("relu_mlp", "adam", "fit", "gpu:0")
        write_run(
            tmp_path / name,
            {case: (1.0 + ord(name) / 1000, 0.8)},
            gpus=[{"index": 0}, {"index": 1}],
            time_utc=f"2026-03-0{ord(name) - 96}T12:00:00+00:00",
        )
    sources = read_sources([tmp_path / "a"])
    assert [record["case"] for record in case_records(sources)] == [case.id]
    runs = [read_run(tmp_path / name) for name in ("a", "b", "c", "d")]
    report = check(runs[:3], runs[3:], Sizes.of_check())
    assert [checked.case for checked in report.cases] == [case.id]


def test_many_runs_take_several_tables_of_80_columns(folder: Callable[..., Path]) -> None:
    paths = [folder(f"run{k}", {COMPILED: [1 + k, 1.1 + k, 1.2 + k]}) for k in range(10)]
    text = printed(compare(named_runs(paths)))
    headings = [line.split()[1:] for line in text.splitlines() if line.startswith("case ")]
    assert "".join(map("".join, headings)) == "BCDEFGHIJ"
    assert len(headings) > 1
    assert max(map(len, text.splitlines())) <= 80


def test_the_csv_holds_a_row_a_case_and_candidate(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    paths = [folder(name, {FIT: [seconds]}) for name, seconds in (("a", 4.0), ("b", 2.0), ("c", 8))]
    found = compare(named_runs(paths), baseline="b")
    write_comparison(found, tmp_path / "new" / "comparison.csv")
    with (tmp_path / "new" / "comparison.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert tuple(rows[0]) == COLUMNS
    assert [(row["run"], row["baseline"], float(row["ratio"])) for row in rows] == [
        ("a", "b", pytest.approx(0.5)),
        ("c", "b", pytest.approx(0.25)),
    ]
    assert rows[0]["ratio_low"] == ""


def test_the_picture_of_a_run_is_not_replaced(folder: Callable[..., Path]) -> None:
    paths = [folder("a", {FIT: [4.0]}), folder("b", {FIT: [2.0]})]
    with pytest.raises(UserError, match=r"holds a run, whose comparison\.png would be replaced"):
        write_comparison(compare(named_runs(paths)), paths[0] / "comparison.csv")


def test_total_time_weighs_cases_by_their_seconds(folder: Callable[..., Path]) -> None:
    paths = [
        folder("a", {FIT: [9.0], COMPILED: [1.0]}),
        folder("b", {FIT: [4.5], COMPILED: [2.0]}),
    ]
    (summary,) = compare(named_runs(paths)).summaries.values()
    assert summary.total_time_ratio == pytest.approx(10 / 6.5)
    assert summary.geometric_mean == pytest.approx(1.0)
    assert (summary.lowest, summary.highest) == (pytest.approx(0.5), pytest.approx(2.0))


def test_only_cases_that_all_runs_hold_are_summarized(folder: Callable[..., Path]) -> None:
    paths = [
        folder("a", {FIT: [4.0], COMPILED: [1.0]}),
        folder("b", {FIT: [4.0], COMPILED: [0.1]}),
        folder("c", {FIT: [4.0]}),
    ]
    found = compare(named_runs(paths))
    assert {summary.cases for summary in found.summaries.values()} == {1}
    assert found.pairs["b"][1].ratio == pytest.approx(10)
    assert found.pairs["b"][1].low == pytest.approx(10)
    assert found.summaries["c"].missing == (COMPILED.id,)
    assert found.baseline_missing == ()


def test_names_are_labels_or_folders_and_each_is_its_own(folder: Callable[..., Path]) -> None:
    paths = [folder(str(k), {FIT: [4.0 + k]}, label=label) for k, label in enumerate("xxy")]
    assert list(named_runs(paths)) == ["0", "1", "y"]


@pytest.mark.parametrize(
    ("other", "told"),
    [
        ({"digest": "xyz"}, r"/b trained on data of SHA-256 xyz\.\.\., .*/a on abc"),
        ({"epochs": 2}, "has epochs 2 in .*/b and 1 in .*/a"),
    ],
)
def test_other_work_is_refused_by_name(
    folder: Callable[..., Path], other: dict[str, int | str], told: str
) -> None:
    runs = named_runs([folder("a", {FIT: [4.0]}), folder("b", {FIT: [5.0]}, **other)])
    with pytest.raises(NotComparable, match=told):
        compare(runs)


def test_folders_of_runs_are_compared_by_runs(folder: Callable[..., Path], tmp_path: Path) -> None:
    here, there = [4.0, 4.4, 4.2], [2.0, 2.1, 2.3]
    for side, times in (("here", here), ("there", there)):
        for k, seconds in enumerate(times):
            folder(f"{side}/{k}", {COMPILED: [seconds]})
    found = compare(named_runs([tmp_path / "here", tmp_path / "there"]))
    (pair,) = found.pairs["there"]
    wanted = welch_interval([math.log(t) for t in there], [math.log(t) for t in here])
    assert wanted is not None
    assert (pair.low, pair.high) == (
        pytest.approx(math.exp(-wanted[1])),
        pytest.approx(math.exp(-wanted[0])),
    )
    write_comparison(found, tmp_path / "c.csv")
    assert ",runs," in (tmp_path / "c.csv").read_text()


def test_runs_and_launches_make_no_interval_together(
    folder: Callable[..., Path], tmp_path: Path
) -> None:
    for k in range(3):
        folder(f"here/{k}", {COMPILED: [4.0 + k]})
    folder("one", {COMPILED: [4.0, 4.2, 4.3]})
    (pair,) = compare(named_runs([tmp_path / "here", tmp_path / "one"])).pairs["one"]
    assert pair.ratio is not None
    assert pair.low is None


def test_two_runs_a_side_make_no_interval(folder: Callable[..., Path], tmp_path: Path) -> None:
    for k in range(4):
        folder(f"{'ab'[k % 2]}/{k}", {COMPILED: [4.0 + k]})
    (pair,) = compare(named_runs([tmp_path / "a", tmp_path / "b"])).pairs["b"]
    assert pair.low is None


def test_runs_without_a_case_in_common_are_refused(folder: Callable[..., Path]) -> None:
    runs = named_runs([folder("a", {FIT: [4.0]}), folder("b", {COMPILED: [4.0]})])
    with pytest.raises(NotComparable, match="a, b: no case ended ok in all of them"):
        compare(runs)


def test_mistakes_are_named(folder: Callable[..., Path], tmp_path: Path) -> None:
    path = folder("a", {FIT: [4.0]})
    with pytest.raises(UserError, match="1 run: name two at least"):
        compare(named_runs([path]))
    with pytest.raises(UserError, match="holds the same launches as"):
        named_runs([path, path])
    with pytest.raises(UserError, match=r"--baseline z: no run of that name; choose from a, b"):
        called("z", named_runs([path, folder("b", {FIT: [1.0]})]))
    with pytest.raises(UserError, match="nowhere: there is no such folder"):
        named_runs([path, tmp_path / "nowhere"])
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="holds no results"):
        named_runs([path, tmp_path / "nothing"])


def test_a_run_that_was_not_finished_is_named_with_its_remedy(tmp_path: Path) -> None:
    whole = make_run(tmp_path / "whole", 1, (FIT,), rounds=6)
    path = make_run(tmp_path / "stopped", 2, (FIT,), rounds=6)
    for name in ("rounds.csv", "launches.jsonl", "results.csv"):
        (path / name).unlink()
    with pytest.raises(NotComparable, match=r"stopped: none of its cases ended ok: .*--resume"):
        compare(named_runs([whole, path]))


def test_the_program_exits_with_3_where_nothing_can_be_compared(
    folder: Callable[..., Path], program: Program
) -> None:
    paths = [folder("a", {FIT: [4.0]}), folder("b", {FIT: [2.0]}), folder("c", {COMPILED: [2.0]})]
    done = program("bench", "compare", paths[0], paths[1])
    assert done.returncode == 0, done.stderr
    assert "b: 2.000 times the samples/s of a" in done.stdout
    done = program("bench", "compare", *paths)
    assert done.returncode == 3
    assert done.stderr.startswith("fmnist-bench: error: a, b, c: no case ended ok")
    done = program("bench", "compare", paths[0])
    assert done.returncode == 2


FINITE = st.floats(-5, 5)


@settings(deadline=None)
@given(st.lists(FINITE, min_size=2, max_size=8), st.lists(FINITE, min_size=2, max_size=8))
def test_welch_is_scipys(some: list[float], others: list[float]) -> None:
    from scipy import stats as scipy_stats

    found = welch_interval(some, others)
    assert found is not None
    if min(max(side) - min(side) for side in (some, others)) > 1e-3:
        wanted = scipy_stats.ttest_ind(some, others, equal_var=False).confidence_interval(0.95)
        assert found == pytest.approx((wanted.low, wanted.high), rel=1e-6, abs=1e-9)
    assert found[0] <= found[1]


def test_welch_needs_two_values_a_side_and_good_numbers() -> None:
    assert welch_interval([1.0], [1.0, 2.0]) is None
    assert welch_interval([1.0, 1.0], [0.5, 0.5]) == (0.5, 0.5)
    with pytest.raises(ValueError, match="not finite"):
        welch_interval([math.nan, 1.0], [1.0, 2.0])
