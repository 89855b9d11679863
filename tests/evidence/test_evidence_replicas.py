"""The evidence of several replicas: its tables as they are committed, and its short forms."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from support import ROOT

from bench.evidence import replicas, scaling
from bench.evidence.gpu import checks
from bench.evidence.gpu.records import Result
from bench.evidence.replicas import forms, replica_rows
from bench.evidence.scaling import slept_s
from bench.machine.placement import why_missing
from bench.schema.case import Case
from fmnist_models.errors import UserError

# Weights after 100 steps, over the distance travelled; losses of an epoch, relative.
BOUND = 1e-3
# Of an efficiency, where the collectives sleep for a known time.
WITHIN = 0.03


def committed(name: str) -> list[dict[str, str]]:
    with (ROOT / f"results/evidence/{name}.csv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines))


def test_the_committed_table_holds_each_form_and_each_agrees_with_one_replica() -> None:
    rows = committed("replicas")
    held = {(r["backend"], r["loop"], r["processes"] != "1", r["replicas"]) for r in rows}
    each = {
        (backend, loop, by_each, number)
        for backend, loop, by_each in (
            ("tensorflow", "fit", False),
            ("jax", "fit", False),
            ("jax", "compiled", False),
            ("jax", "fit", True),
            ("jax", "compiled", True),
            ("torch", "compiled", True),
        )
        for number in ("2", "4")
    }
    assert held == each
    for row in rows:
        assert float(row["start_apart"]) == 0
        assert float(row["apart"]) <= BOUND, row
        assert float(row["loss_apart"]) <= BOUND, row
        assert float(row["val_loss_apart"]) <= BOUND, row


def test_the_committed_sleeps_come_back_as_the_efficiency_that_they_must_give() -> None:
    rows = committed("scaling")
    assert {row["replicas"] for row in rows} == {"2", "4"}
    assert len({row["collective_s"] for row in rows}) > 2
    for row in filter(lambda row: row["expected"], rows):
        assert float(row["efficiency"]) == pytest.approx(float(row["expected"]), rel=WITHIN), row


@pytest.mark.skipif(why_missing("jax") is not None, reason="JAX is not installed here")
def test_replicas_of_jax_end_where_one_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """The short form of results/evidence/replicas.csv."""
    monkeypatch.setattr(replicas, "LOOPS", ("compiled",))
    told: list[str] = []
    pairs = [("softmax", "sgd")]
    rows = replica_rows(["jax"], told.append, pairs, (2,), steps=5, images=1_000)
    assert [(row["replicas"], row["processes"]) for row in rows] == [(2, 1), (2, 2)]
    for row in rows:
        assert row["distance"] > 0
        assert max(row["apart"], row["loss_apart"], row["val_loss_apart"]) <= BOUND
    assert told[0] == "softmax-sgd-compiled-cpu-b128-float32-jax"


def test_a_process_that_fails_is_told_with_its_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replicas, "why_missing", lambda _: None)
    monkeypatch.setattr(replicas, "forms", lambda *_: [Case("softmax", "sgd", "fit")])
    command = ["python3", "-c", "import sys; sys.stdin.read(); print('no room'); sys.exit(3)"]
    monkeypatch.setattr(replicas, "child_command", lambda _: command)
    with pytest.raises(UserError, match="rank 0 ended with code 3: no room"):
        replica_rows(["tensorflow"], lambda _: None, [("softmax", "sgd")])


def test_the_forms_are_those_that_a_backend_trains(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        replicas,
        "skip_reason",
        lambda case, _: "untried" if case.loop == "compiled" and case.processes == 1 else None,
    )
    found = [(c.loop, c.replicas, c.processes) for c in forms(["jax"], ["fit", "compiled"], [2])]
    fit = [("fit", 1, 1), ("fit", 2, 1), ("fit", 2, 2)]
    assert found == [*fit, ("compiled", 1, 1), ("compiled", 2, 2)]


def test_ends_that_are_apart_are_told_over_the_distance(monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(case: Case, *_: Any) -> dict[str, Any]:
        moved = 4.0 if case.replicas == 1 else 4.2
        kept = {"start0": np.zeros(1), "after0": np.full(1, moved)}
        return kept | {"loss": np.array(moved), "val_loss": np.array(2.0)}

    alone = Case("softmax", "sgd", "compiled", backend="jax")
    spread = Case("softmax", "sgd", "compiled", backend="jax", replicas=2)
    monkeypatch.setattr(replicas, "why_missing", lambda _: None)
    monkeypatch.setattr(replicas, "forms", lambda *_: [alone, spread])
    monkeypatch.setattr(replicas, "_ends", ends)
    (row,) = replica_rows(["jax"], lambda _: None, [("softmax", "sgd")])
    assert (row["distance"], row["start_apart"], row["val_loss_apart"]) == (4.0, 0.0, 0.0)
    assert (row["apart"], row["loss_apart"]) == pytest.approx((0.05, 0.05))


def test_a_collective_sleeps_as_long_as_its_processes_noted(tmp_path: Path) -> None:
    (tmp_path / "1.txt").write_text("64 rows 0.25\n64 rows 0.35\ncollective 0.1\n")
    (tmp_path / "2.txt").write_text("64 rows 0.5\ncollective 0.1\ncollective 0.4\n")
    (tmp_path / "3.txt").write_text("32 rows 0.1\ncollective 0.5\n")
    (tmp_path / "4.txt").write_text("128 rows 0.6\n")
    assert slept_s(tmp_path, 64) == pytest.approx(0.2)
    assert slept_s(tmp_path, 32) == pytest.approx(0.5)
    assert slept_s(tmp_path, 128) == 0


def test_the_efficiency_that_a_sleep_must_give_follows_from_the_steps_without_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(_: Path, sleep_s: float, *__: Any) -> list[dict[str, Any]]:
        steps = {1: 0.8, 4: 0.25 + sleep_s}
        return [
            {"replicas": n, "step_s": s, "slept_s": sleep_s * (n > 1), "efficiency": 0.8 / (n * s)}
            for n, s in steps.items()
        ]

    monkeypatch.setattr(scaling, "_measured", measured)
    rows = scaling.scaling_rows(tmp_path, lambda _: None, (0.0, 0.15), (1, 4))
    assert [row["expected"] for row in rows] == [None, pytest.approx(0.5)]
    assert rows[1]["efficiency"] == pytest.approx(0.5)


def test_a_case_that_failed_ends_the_measurement_of_sleeps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = {"status": "failed", "case": "a-case", "reason": "no room"}
    monkeypatch.setattr(scaling.preflight, "begin", lambda *_: None)
    monkeypatch.setattr(scaling, "execute", lambda *_, **__: SimpleNamespace(rows=[row]))
    with pytest.raises(UserError, match="a-case: no room"):
        scaling.scaling_rows(tmp_path, lambda _: None)


ROW = {
    "case": "relu_mlp-adam-compiled-gpu-b8192-float32-jax-r2",
    "status": "ok",
    "reason": "",
    "replicas": "2",
    "processes": "1",
    "device_uuids": "GPU-1 GPU-2",
    "efficiency": "0.8",
    "all_reduce_share": "0.1",
}
ALONE = ROW | {"case": "alone", "replicas": "1", "efficiency": "", "all_reduce_share": ""}


def judged(changes: Mapping[str, str] = ROW, *, on_cpu: bool = False) -> tuple[Result, str]:
    outcome = checks.replicas(
        {"on_cpu": on_cpu, "exit_code": 0, "last_line": "", "rows": [ALONE, {**ROW, **changes}]}
    )
    return outcome.result, outcome.words


def test_two_replicas_on_two_gpus_pass_with_their_efficiency() -> None:
    result, words = judged()
    assert result is Result.PASSED
    assert words == (
        "2 replicas by 1 processes: efficiency 0.80, the all-reduce alone is 0.10 of a step"
    )


def test_a_rehearsal_says_that_the_efficiency_means_nothing() -> None:
    result, words = judged({"device_uuids": ""}, on_cpu=True)
    assert result is Result.PASSED
    assert words.endswith("; virtual devices of one CPU: it means nothing")


@pytest.mark.parametrize(
    "changes",
    [
        {"status": "skipped", "reason": "64 replicas need as many GPUs, and here are 2"},
        {"device_uuids": "GPU-1 GPU-1"},
        {"device_uuids": "GPU-1"},
        {"efficiency": ""},
        {"efficiency": "1.5"},
    ],
)
def test_replicas_that_were_not_measured_on_two_gpus_fail(changes: dict[str, str]) -> None:
    assert judged(changes)[0] is Result.FAILED


def test_one_gpu_has_nothing_to_show() -> None:
    outcome = checks.replicas({"on_cpu": False, "why_not": "there is one GPU"})
    assert outcome.result is Result.NOT_APPLICABLE


def test_of_processes_that_are_killed_nothing_is_left_and_each_is_named() -> None:
    rows = committed("ranks")
    assert Counter(row["backend"] for row in rows) == {"jax": 20, "torch": 20}
    assert {row["named"] for row in rows} == {"true"}
    for left in ("processes", "ports", "shared_files"):
        assert {row[left] for row in rows} == {"0"}
