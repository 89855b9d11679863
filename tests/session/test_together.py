"""Cases that differ in their replicas are measured in turns, and compared round by round."""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from support import FAKE_WORKER

from bench.launch.launcher import Launcher
from bench.machine import counters, devices, hardware
from bench.machine.nvml import Gpu, Inventory
from bench.reports.terminal.progress import progress_for
from bench.schema.case import Case
from bench.schema.launch import Status
from bench.schema.noise import Noise
from bench.schema.plan import Plan, RunSettings
from bench.session import preflight
from bench.session.events import Progress
from bench.session.outcome import RunOutcome
from bench.session.run import execute
from bench.session.together import in_groups
from bench.store.measured import read_run
from fmnist_models import dataset

ONE = Case("relu_mlp", "adam", "compiled", batch_size=512, backend="jax")
TWO, FOUR = (replace(ONE, replicas=number) for number in (2, 4))
OTHER = Case("softmax", "adam", "fit", backend="jax")
Run = Callable[..., RunOutcome]


def test_cases_that_differ_in_replicas_alone_are_one_group() -> None:
    cases = (ONE, OTHER, TWO, FOUR)
    order = [(TWO, 0), (OTHER, 0), (ONE, 0), (FOUR, 0), (ONE, 1)]
    assert list(in_groups(order, cases, "strong")) == [
        ((ONE, TWO, FOUR), 0),
        ((OTHER,), 0),
        ((ONE, TWO, FOUR), 1),
    ]


def test_in_weak_scaling_the_share_of_one_replica_is_the_same() -> None:
    larger = replace(ONE, batch_size=1024, replicas=2)
    assert list(in_groups([(larger, 0)], (ONE, larger), "weak")) == [((ONE, larger), 0)]
    assert list(in_groups([(larger, 0)], (ONE, larger), "strong")) == [((larger,), 0)]


def test_without_several_replicas_there_are_no_groups() -> None:
    batches = (ONE, replace(ONE, batch_size=32))
    order = [(case, 0) for case in batches]
    assert list(in_groups(order, batches, "strong")) == [((case,), 0) for case in batches]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs cases against scripted launches, each with the rounds of its number of replicas."""
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    dataset.write(tmp_path / "data", images, labels, images, labels)
    monkeypatch.setattr(devices, "inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr(hardware, "cpu_model", lambda: "Test CPU")

    def go(
        *cases: Case,
        scripts: dict[str, dict[str, Any]],
        noises: list[Noise] | None = None,
        folder: preflight.Opening | None = None,
        ceilings: bool = False,
        progress: Progress | None = None,
        **settings: Any,
    ) -> RunOutcome:
        chosen = RunSettings(data=str(tmp_path / "data"), epochs=1, fork=False, **settings)
        plan = Plan(cases, chosen, "test")
        script = tmp_path / "script.json"
        script.write_text(json.dumps([{"rounds": [], "replicas": scripts}]))
        monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
        watch = None
        if noises is not None:
            readings = iter(noises)

            def watch(pid: int, gpus: Mapping[Gpu, int], forks: bool) -> counters.Close:
                return lambda usage: next(readings)

        opening = folder or preflight.begin(plan, tmp_path / "run")
        launcher = Launcher(FAKE_WORKER, watch=watch)
        shown = progress or Progress()
        return execute(plan, opening, shown, launcher=launcher, trial=not ceilings)

    return go


def row_of(outcome: RunOutcome, case: Case) -> dict[str, Any]:
    return next(row for row in outcome.rows if row["case"] == case.id)


def test_the_speed_up_is_that_of_rounds_of_one_number(run: Run, tmp_path: Path) -> None:
    # The ratios of the rounds are 1.6, 3.2 and 1.2; that of the medians is 2.4.
    scripts = {
        "1": {"rounds": [1.0, 4.0, 3.0]},
        "2": {
            "rounds": [0.625, 1.25, 2.5],
            "result": {"all_reduce_s": 0.01, "all_reduce_bytes": 4_000_000},
        },
    }
    outcome = run(ONE, TWO, scripts=scripts, launches=2)
    row = row_of(outcome, TWO)
    assert row["speedup"] == pytest.approx(1.6)
    assert row["efficiency"] == pytest.approx(0.8)
    assert (row["efficiency_low"], row["efficiency_high"]) == pytest.approx((0.8, 0.8))
    assert (row["scaling"], row["local_batch_size"]) == ("strong", 256)
    step_ms = 1e3 / (48_000 / 1.25) * 512
    assert row["all_reduce_bytes_per_s"] == pytest.approx(4e8)
    assert row["all_reduce_share"] == pytest.approx(10 / row["step_ms"])
    assert row["step_ms"] == pytest.approx(step_ms, rel=0.01)
    alone = row_of(outcome, ONE)
    assert alone["speedup"] is alone["efficiency"] is None
    words: dict[int, set[str]] = {record.launch: set() for record in outcome.launches}
    for record in outcome.launches:
        words[record.launch].add(record.turns)
    # One word for each number of launch, and another for the next.
    assert [len(found) for found in words.values()] == [1, 1]
    assert words[0] != words[1]
    stored = read_run(tmp_path / "run").rows[TWO.id]
    assert stored["efficiency"] == row["efficiency"]


def test_one_launch_gives_an_efficiency_without_an_interval(run: Run) -> None:
    scripts = {"1": {"rounds": [1.0]}, "4": {"rounds": [0.5]}}
    row = row_of(run(ONE, FOUR, scripts=scripts, launches=1), FOUR)
    assert row["efficiency"] == pytest.approx(0.5)
    assert row["efficiency_low"] is row["efficiency_high"] is None


def test_without_a_case_of_one_replica_there_is_no_speed_up(run: Run) -> None:
    scripts = {"2": {"rounds": [1.0]}, "4": {"rounds": [0.5]}}
    outcome = run(TWO, FOUR, scripts=scripts, launches=1)
    assert [row["efficiency"] for row in outcome.rows] == [None, None]
    assert [row["status"] for row in outcome.rows] == ["ok", "ok"]


def test_one_that_fails_leaves_the_others_their_rows(run: Run) -> None:
    failure = {"failure": {"status": "failed", "reason": "no room"}}
    scripts = {"1": {"rounds": [1.0]}, "2": {"rounds": [], **failure}, "4": {"rounds": [0.5]}}
    outcome = run(ONE, TWO, FOUR, scripts=scripts, launches=1)
    assert [row["status"] for row in outcome.rows] == ["ok", "failed", "ok"]
    assert row_of(outcome, FOUR)["efficiency"] == pytest.approx(0.5)


def test_what_was_disturbed_is_measured_again_with_its_group(run: Run) -> None:
    quiet = Noise()
    loud = Noise(wall_s=10.0, steal_share=0.5)
    scripts = {"1": {"rounds": [1.0]}, "2": {"rounds": [0.5]}}
    out = io.StringIO()
    outcome = run(
        ONE,
        TWO,
        scripts=scripts,
        launches=1,
        noises=[quiet, loud, quiet, quiet],
        progress=progress_for(Console(file=out, width=80)),
    )
    told = [(record.case, record.attempt, record.status) for record in outcome.launches]
    assert told == [
        (ONE.id, 1, Status.INVALID),
        (TWO.id, 1, Status.INVALID),
        (ONE.id, 2, Status.OK),
        (TWO.id, 2, Status.OK),
    ]
    again = "disturbed: the hypervisor took 50% of the cores' time (measured again)"
    _, *lines = out.getvalue().splitlines()
    begins = [ONE.id, TWO.id, f"[1/2] {ONE.id}", f"[2/2] {TWO.id}"]
    assert [line.partition(": ")[0] for line in lines] == begins
    assert all(line.endswith(again) for line in lines[:2]), lines
    assert math.isclose(row_of(outcome, TWO)["efficiency"], 1.0)


def test_where_the_memory_does_not_hold_all_at_once_each_is_measured_alone(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []
    monkeypatch.setattr(
        Progress, "launch_voided", lambda _, record: told.append(f"{record.case}: {record.reason}")
    )
    crowded = {"failure": {"status": "failed", "reason": "RESOURCE_EXHAUSTED: no room"}}
    scripts = {"1": {"rounds": [1.0]}, "2": {"rounds": [0.5], "once": crowded}}
    outcome = run(ONE, TWO, scripts=scripts, launches=1)
    assert [(record.case, record.status) for record in outcome.launches] == [
        (ONE.id, Status.INVALID),
        (TWO.id, Status.FAILED),
        (ONE.id, Status.OK),
        (TWO.id, Status.OK),
    ]
    assert row_of(outcome, TWO)["efficiency"] == pytest.approx(1.0)
    assert told == [
        f"{ONE.id}: the memory does not hold all launches that were to take turns: each is "
        "measured alone"
    ]


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_ceilings_are_those_of_one_device(
    run: Run, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    failed: list[str] = []
    monkeypatch.setattr(Progress, "ceilings_fail", lambda _, reason: failed.append(reason))
    spread = replace(TWO, processes=2)
    scripts = {"1": {"rounds": [1.0]}, "2": {"rounds": [0.5]}}
    outcome = run(spread, ONE, scripts=scripts, launches=1, seed=seed, ceilings=True)
    assert failed == []
    assert [row["status"] for row in outcome.rows] == ["ok", "ok"]
    assert len((outcome.folder.environment() or {})["ceilings"]) == 2


def test_a_run_of_several_replicas_alone_measures_no_ceilings(run: Run) -> None:
    outcome = run(TWO, scripts={"2": {"rounds": [1.0]}}, launches=1, ceilings=True)
    assert "ceilings" not in (outcome.folder.environment() or {})


def test_a_finished_run_with_a_case_that_is_left_out_is_not_measured_again(
    run: Run, tmp_path: Path
) -> None:
    # Several replicas of TensorFlow train in fit alone.
    left_out, alone = (replace(case, backend="tensorflow") for case in (TWO, ONE))
    scripts = {"1": {"rounds": [1.0]}, "2": {"rounds": [0.5]}}
    first = run(alone, left_out, scripts=scripts, launches=2)
    assert [row["status"] for row in first.rows] == ["ok", "skipped"]
    opening, _ = preflight.resume(tmp_path / "run")
    again = run(alone, left_out, scripts=scripts, launches=2, folder=opening)
    assert [record.attempt for record in again.launches if record.case == alone.id] == [1, 1]


def test_a_resumed_run_measures_the_whole_group_again(run: Run, tmp_path: Path) -> None:
    failure = {"failure": {"status": "failed", "reason": "no room"}}
    first = {"1": {"rounds": [1.0]}, "2": {"rounds": [], **failure}}
    run(ONE, TWO, scripts=first, launches=1)
    scripts = {"1": {"rounds": [2.0]}, "2": {"rounds": [1.0]}}
    opening, _ = preflight.resume(tmp_path / "run")
    outcome = run(ONE, TWO, scripts=scripts, launches=1, folder=opening)
    assert row_of(outcome, TWO)["efficiency"] == pytest.approx(1.0)
    last = outcome.launches[-2:]
    assert [record.attempt for record in last] == [2, 2]
    assert last[0].turns == last[1].turns
