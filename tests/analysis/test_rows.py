"""What rows say beside their throughput: roofline, siblings, and where the time went."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import ROOT
from support.rows import COMPILED, FIT, HALF, ceilings, rows

from bench.analysis.case_row import case_row
from bench.analysis.rows import time_split
from bench.schema.case import logistic_case
from bench.schema.columns import LATER_COLUMNS
from bench.schema.launch import LaunchRecord, Round, Status, StoredRound
from bench.schema.plan import RunSettings


def test_the_columns_follow_from_layers_traffic_and_ceilings() -> None:
    (row,) = rows({COMPILED: 0.48}, [ceilings()])
    assert row["flops_per_sample"] == 319_600
    assert row["bytes_per_step"] == 2 * 318_040 + 25_088 + 128
    # 100,000 samples/s of 319,600 FLOPs; a step of 32 in 0.32 ms.
    assert row["gflops"] == pytest.approx(31.96)
    assert row["roofline_limit_s"] == pytest.approx(32 * 319_600 / 1e11)
    assert row["roofline_fraction"] == pytest.approx(0.3196)
    assert row["bound"] == "compute"
    assert row["products_limit_s"] == pytest.approx(0.24 / 1500)
    assert row["products_fraction"] == pytest.approx(0.5)
    assert row["framework_overhead"] is None


def test_a_model_that_cannot_be_counted_leaves_the_columns_empty() -> None:
    told = ("score", "better", "replicas", "processes")
    (row,) = rows({COMPILED: 0.48}, [ceilings()], dense_layers=None)
    counted = [name for name in LATER_COLUMNS if name not in told]
    assert {row[name] for name in counted} == {None, ""}
    assert (row["score"], row["better"]) == ("accuracy", "max")
    (row,) = rows({logistic_case(): 0.48}, [ceilings()])
    counted = [name for name in LATER_COLUMNS if name not in told]
    assert {row[name] for name in counted} == {None, ""}
    assert (row["score"], row["better"]) == ("accuracy", "max")


def test_a_model_that_is_no_chain_has_the_columns_of_its_counted_step() -> None:
    (row,) = rows({COMPILED: 0.48}, [ceilings()], dense_layers=None, flops_per_sample=319_600.4)
    (chain,) = rows({COMPILED: 0.48}, [ceilings()])
    products = {"products_limit_s": None, "products_fraction": None}
    assert row == chain | products


def test_counts_that_differ_give_no_roofline() -> None:
    told = "no roofline: 319,600 FLOPs a sample in the lowered step, 159,800 by its layers"
    facts = {"dense_layers": None, "flops_per_sample": 319_600.0, "warnings": (told,)}
    (row,) = rows({COMPILED: 0.48}, [ceilings()], **facts)
    assert row["flops_per_sample"] == 319_600
    assert row["gflops"] == pytest.approx(31.96)
    assert row["bytes_per_step"] > 0
    assert (row["roofline_limit_s"], row["roofline_fraction"], row["bound"]) == (None, None, "")
    assert row["warnings"] == told


def test_what_several_replicas_leave_empty_is_documented() -> None:
    """The ceilings are those of one device; the manual says so where its columns begin."""
    two = replace(COMPILED, replicas=2)
    one, other = rows({COMPILED: 0.48, two: 0.3}, [ceilings()])
    empty = [name for name in LATER_COLUMNS if other[name] is None and one[name] is not None]
    assert empty[0] == "flops_per_sample"
    assert "roofline_fraction" in empty
    manual = (ROOT / "results/README.md").read_text("utf-8").splitlines()
    told = {name: row for row in manual for name in LATER_COLUMNS if row.startswith(f"| `{name}`")}
    assert "for several replicas" in told["flops_per_sample"]
    assert "empty likewise, as are all of the next" in told["bytes_per_step"]
    assert "for several replicas" in told["epoch_j"]


def test_the_rate_with_free_input_is_that_of_the_step_that_was_timed() -> None:
    """Whatever a round's updates are: 32 rows in 0.01 s."""
    record = LaunchRecord(FIT.id, 0, 1, 42, Status.OK, resident_step_s=0.01, waiting_share=0.5)
    gathered = Round(1, 48_000, 375, 5.0, 0.5)
    row = case_row(FIT, RunSettings(epochs=1), 1, [record], [(record, [gathered])])
    assert (row["waiting_share"], row["input_free_samples_per_s"]) == (0.5, 3200.0)


@pytest.mark.parametrize(
    ("images", "own", "target"),
    [(True, None, 0.85), (True, 0.7, 0.7), (False, None, None), (False, 0.7, 0.7)],
)
def test_the_target_of_the_plan_is_of_the_embedded_images(
    images: bool, own: float | None, target: float | None
) -> None:
    (row,) = rows({COMPILED: 0.48}, images=images, score_target=own)
    assert (row["score"], row["score_target"]) == ("accuracy", target)


def test_without_ceilings_the_count_stays() -> None:
    (row,) = rows({COMPILED: 0.48})
    assert row["flops_per_sample"] == 319_600
    assert row["roofline_fraction"] is None
    assert row["bound"] == ""


def test_ceilings_of_other_shapes_leave_the_products_empty() -> None:
    (row,) = rows({COMPILED: 0.48}, [ceilings(other=1.0)])
    assert row["roofline_fraction"] is not None
    assert row["products_fraction"] is None


def test_framework_overhead_is_what_compiled_does_without() -> None:
    fit, compiled = rows({FIT: 4.8, COMPILED: 0.48})
    assert fit["framework_overhead"] == pytest.approx(0.9)
    assert compiled["framework_overhead"] is None
    (alone,) = rows({FIT: 4.8})
    assert alone["framework_overhead"] is None


def test_a_precision_that_loses_says_why() -> None:
    measured = [ceilings(), ceilings("mixed_bfloat16", plain=2e11, xla=5e10)]
    plain, half = rows({COMPILED: 0.4, HALF: 0.8}, measured)
    assert plain["warnings"] == ""
    assert half["warnings"] == (
        "0.50 times as fast as float32: through XLA large products reach 0.50 times the rate of "
        "float32 here"
    )
    _, half = rows({COMPILED: 0.4, HALF: 0.8}, measured, jit_compile=False)
    assert half["warnings"] == (
        "0.50 times as fast as float32: in the framework's own kernels large products reach 2.00 "
        "times the rate of float32 here, and conversions cost more"
    )


def test_what_pytorch_compiles_does_not_go_through_xla() -> None:
    measured = [ceilings(), ceilings("mixed_bfloat16", plain=2e11, xla=5e10)]
    measured = [replace(found, backend="torch") for found in measured]
    torch = [replace(case, backend="torch") for case in (COMPILED, HALF)]
    _, half = rows({torch[0]: 0.4, torch[1]: 0.8}, measured)
    assert "in the framework's own kernels large products reach 2.00 times" in half["warnings"]


def test_the_products_of_a_precision_are_those_of_the_own_framework() -> None:
    """Each framework has kernels of its own, and they gain differently."""
    torch = [replace(case, backend="torch") for case in (COMPILED, HALF)]
    measured = [ceilings(plain=4e11), ceilings("mixed_bfloat16", plain=8e11)]
    through_torch = [ceilings(plain=1e11), ceilings("mixed_bfloat16", plain=4e11)]
    both = [*measured, *(replace(found, backend="torch") for found in through_torch)]
    seconds = {COMPILED: 0.4, HALF: 0.8, torch[0]: 0.4, torch[1]: 0.8}
    _, half, _, half_torch = rows(seconds, both, jit_compile=False)
    assert "reach 2.00 times the rate of float32" in half["warnings"]
    assert "reach 4.00 times the rate of float32" in half_torch["warnings"]
    # Nothing is told of kernels that were not measured.
    _, half_torch = rows({torch[0]: 0.4, torch[1]: 0.8}, measured)
    assert half_torch["warnings"] == "0.50 times as fast as float32"


def test_a_precision_that_wins_or_stands_alone_says_nothing() -> None:
    assert rows({COMPILED: 0.8, HALF: 0.4})[1]["warnings"] == ""
    assert rows({HALF: 0.8})[0]["warnings"] == ""


def test_the_split_adds_up_to_the_whole() -> None:
    record = LaunchRecord(
        "a", 0, 1, 42, Status.OK, warmup_s=3.0, after_training_s=0.5, test_evaluation_s=0.25
    )
    rounds = [
        StoredRound("a", 0, 1, Round(1, 10, 1, 5.0, 0.5, evaluation_s=0.75)),
        StoredRound("a", 0, 1, Round(2, 10, 1, 4.0, 0.0)),
        StoredRound("an earlier run", 0, 1, Round(1, 10, 1, 100.0, 0.0)),
    ]
    split = time_split(20.0, {"import": 2.0, "ceilings": 1.0}, [record], rounds)
    assert split == {
        "training": 9.0,
        "evaluation": 1.0,
        "compilation": 3.0,
        "import": 2.0,
        "ceilings": 1.0,
        "idle": 1.0,
        "other": 3.0,
    }
