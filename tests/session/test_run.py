"""A run from plan to folder, with a worker whose times are scripted."""

from __future__ import annotations

import csv
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

import filelock
import numpy as np
import psutil
import pytest
from rich.console import Console
from support import FAKE_WORKER, ROOT, TypeIn

from bench.analysis import rows
from bench.analysis.rows import result_rows
from bench.launch.launcher import CAN_FORK, Launcher
from bench.machine import counters, devices, hardware, lock, placement
from bench.machine.loaded import CHECKOUT
from bench.machine.nvml import Gpu, Inventory
from bench.reports import end_of_run
from bench.reports.end_of_run import summarize
from bench.reports.terminal.progress import progress_for
from bench.schema.case import Case, logistic_case
from bench.schema.columns import RESULT_COLUMNS, ROUND_COLUMNS
from bench.schema.errors import ExitCode
from bench.schema.launch import LaunchRecord, Round, Status
from bench.schema.noise import Noise, Usage
from bench.schema.plan import Plan, RunSettings
from bench.session import attempts, preflight
from bench.session import run as running
from bench.session.estimate import IMPORT_S, launch_seconds, run_seconds
from bench.session.events import Progress
from bench.session.outcome import RunOutcome
from bench.store import tables
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from fmnist_models import dataset
from fmnist_models.errors import UserError

FIT = Case("relu_mlp", "adam", "fit")
COMPILED = Case("relu_mlp", "adam", "compiled")


Execute = Callable[..., RunOutcome]


class Quiet(Progress):
    """A progress that shows nothing, and can stop the run after some rounds."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.stop_after = stop_after
        self.rounds = 0
        self.lines: list[str] = []
        self.moments: list[str] = []
        self.voided: list[str] = []

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        self.lines += [f"{case.id} {launch}" for case, launch in remaining]

    def waits(self, reason: str) -> None:
        self.lines.append(reason)

    def ceilings_begin(self, moment: str) -> None:
        self.moments.append(moment)

    def ceilings_fail(self, reason: str) -> None:
        self.lines.append(reason)

    def launch_begins(self, case: Case, launch: int) -> None:
        self.moments.append(case.id)

    def round_ends(self, round_: Round) -> None:
        self.rounds += 1
        if self.rounds == self.stop_after:
            raise KeyboardInterrupt

    def launch_voided(self, record: LaunchRecord) -> None:
        self.voided.append(record.reason)

    def launch_lost(self, case_id: str, launch: int, reason: str) -> None:
        self.lines.append(f"{case_id} {launch}: {reason}")

    def launch_ends(self, record: LaunchRecord) -> None:
        pass

    def run_ends(self) -> None:
        self.lines.append("end")


@pytest.fixture(autouse=True)
def own_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock, data and device list of the test's own."""
    draw = np.random.default_rng(1)
    images = draw.integers(0, 256, (20, 28, 28), dtype=np.uint8)
    labels = np.arange(20, dtype=np.uint8) % 10
    dataset.write(tmp_path / "data", images, labels, images, labels)
    monkeypatch.setattr(devices, "inventory", lambda: Inventory(problem="a test"))
    monkeypatch.setattr(hardware, "cpu_model", lambda: "Test CPU")


@pytest.fixture
def execute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Execute:
    """Runs a plan against scripted launches."""

    def go(
        plan: Plan,
        scripts: list[dict[str, Any]],
        progress: Progress | None = None,
        folder: preflight.Opening | None = None,
        noises: list[Noise] | None = None,
        watch: counters.Watch | None = None,
    ) -> RunOutcome:
        script = tmp_path / "script.json"
        script.write_text(json.dumps(scripts))
        script.with_suffix(".count").unlink(missing_ok=True)
        monkeypatch.setenv("FAKE_WORKER_SCRIPT", str(script))
        folder = folder or preflight.begin(plan, tmp_path / "run")
        if noises is not None:
            readings = iter(noises)

            def watch(pid: int, gpus: Mapping[Gpu, int], forks: bool) -> counters.Close:
                return lambda usage: next(readings)

        launcher = Launcher(FAKE_WORKER, watch=watch)
        return running.execute(plan, folder, progress or Quiet(), launcher=launcher)

    return go


def plan_of(*cases: Case, tmp_path: Path, **settings: Any) -> Plan:
    chosen = RunSettings(data=str(tmp_path / "data"), epochs=2, **settings)
    return Plan(cases, chosen, "test")


def order(plan: Plan) -> list[tuple[Case, int]]:
    return list(attempts.schedule(plan.cases, plan.settings.launches_of, plan.settings.seed))


EXPECTED = {
    "status": "ok",
    "reason": "",
    "device_name": "Test CPU",
    "launches": "2",
    "rounds": "5",
    "parameters": "79510",
    # Medians 0.25 and 0.4 s; their geometric mean is sqrt(0.1).
    "samples_per_s": repr(48_000 / 0.1**0.5),
    "train_score": "0.8200000000000001",
    "val_score": "0.8300000000000001",
    "val_loss": "1.0",
    "test_score": "0.875",
    "score_target": "0.83",
    "score_reached": "true",
    "time_to_score_s": repr((0.45 + 0.8) / 2),
    "warmup_s": "1.5",
    "evaluation_s": "0.25",
    "between_epochs_s": repr(((3 * 0.5 + 1.0) / 3 + (2 * 0.5 + 1.0) / 2) / 2),
    "jit_compile": "false",
    "peak_host_memory_bytes": "1000000",
    "peak_device_memory_bytes": "",
    "threads": "",
    "warnings": "",
}


def test_the_machine_is_probed_before_each_launch(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=3)
    launch = {"rounds": [0.2, 0.2], "result": {}}
    outcome = execute(plan, [launch, {"rounds": [], "result": {"status": "failed"}}])
    first = (outcome.folder.environment() or {})["control_s"]
    assert len(first) == 3
    assert all(0 < seconds < 60 for seconds in first)


def test_the_files_that_were_run_are_kept_once_and_a_launch_of_others_is_invalid(
    execute: Execute, tmp_path: Path
) -> None:
    def told(digest: str) -> dict[str, Any]:
        files = {
            "bench.worker.network": [str(CHECKOUT / "bench" / "worker" / "network.py"), digest]
        }
        return {"rounds": [0.2, 0.2], "result": {"files": files}}

    # Ceilings tell nothing here.
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=3)
    outcome = execute(plan, [told("1"), told("2"), told("1")])
    first, second, third = outcome.launches
    assert first.code == third.code != second.code
    assert (outcome.folder.environment() or {})["code"] == {
        first.code: {"suite": {"bench/worker/network.py": "1"}},
    }
    stored = (tmp_path / "run" / "launches.jsonl").read_text()
    assert stored.count('"files": {}') == 3
    assert [launch.status for launch in outcome.launches] == [Status.OK, Status.INVALID, Status.OK]
    assert second.reason.startswith(
        "it ran another bench/worker/network.py than environment.json holds: "
    )


def test_scripted_times_give_the_expected_csv(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=2, score_target=0.83)
    outcome = execute(plan, [{"rounds": [0.2, 0.25, 0.3]}, {"rounds": [0.4, 0.4]}])
    with (tmp_path / "run/results.csv").open(newline="") as lines:
        (row,) = csv.DictReader(lines)
    assert list(row) == list(RESULT_COLUMNS)
    found = {name: row[name] for name in EXPECTED}
    assert float(found.pop("samples_per_s")) == pytest.approx(48_000 / 0.1**0.5, rel=1e-12)
    assert found == {k: v for k, v in EXPECTED.items() if k != "samples_per_s"}
    assert float(row["epoch_s"]) == pytest.approx(0.1**0.5, rel=1e-12)
    assert float(row["step_ms"]) == pytest.approx(0.1**0.5 / 1500 * 1e3, rel=1e-12)
    assert float(row["samples_per_s_low"]) < float(row["samples_per_s"])
    assert outcome.exit_code is ExitCode.PASSED


def test_rounds_csv_holds_every_digit(execute: Execute, tmp_path: Path) -> None:
    execute(plan_of(FIT, tmp_path=tmp_path), [{"rounds": [1 / 3, 2 / 7]}])
    with (tmp_path / "run/rounds.csv").open(newline="") as lines:
        assert [float(row["seconds"]) for row in csv.DictReader(lines)] == [1 / 3, 2 / 7]


def test_launches_go_round_robin(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(COMPILED, FIT, tmp_path=tmp_path)
    progress = Quiet()
    execute(plan, [{"rounds": [0.1, 0.1]}] * 4, progress)
    assert progress.lines == [f"{case.id} {k}" for case, k in order(plan)] + ["end"]
    assert sorted(progress.lines[:2]) == sorted([f"{COMPILED.id} 0", f"{FIT.id} 0"])


def test_ceilings_are_measured_before_and_after_the_cases_and_kept(
    execute: Execute, tmp_path: Path
) -> None:
    plan = plan_of(COMPILED, logistic_case(), tmp_path=tmp_path, launches=1)
    progress = Quiet()
    measured = {"dense_layers": [[784, 100], [100, 10]], "traffic": [["weights", 318_040, 2]]}
    script = {"rounds": [0.5, 0.5], "result": measured}
    outcome = execute(plan, [script] * 2, progress)
    assert progress.moments[0] == "before"
    assert progress.moments[-1] == "after"
    assert sorted(progress.moments[1:-1]) == sorted([COMPILED.id, logistic_case().id])
    kept = RunFolder(tmp_path / "run").ceilings()
    assert [(c.device, c.precision, c.moment) for c in kept] == [
        ("cpu", "float32", "before"),
        ("cpu", "float32", "after"),
    ]
    assert outcome.rows[0]["products_fraction"] == pytest.approx(0.5)
    assert outcome.rows[1]["products_fraction"] is None
    assert sum(outcome.split.values()) > 0
    again = execute(plan, [], progress, folder=preflight.resume(tmp_path / "run")[0])
    assert len(RunFolder(tmp_path / "run").ceilings()) == 2
    assert again.rows == outcome.rows


def test_ceilings_are_not_measured_again_for_cases_without_a_figure(
    execute: Execute, tmp_path: Path
) -> None:
    progress = Quiet()
    failure = {"failure": {"status": "failed", "reason": "no"}}
    execute(plan_of(FIT, tmp_path=tmp_path), [failure], progress)
    assert [c.moment for c in RunFolder(tmp_path / "run").ceilings()] == ["before"]
    assert "after" not in progress.moments


def test_ceilings_that_cannot_be_measured_cost_no_case(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Launcher, "ceilings", lambda *_: "out of memory")
    progress = Quiet()
    outcome = execute(plan_of(FIT, tmp_path=tmp_path), [{"rounds": [0.1, 0.2]}], progress)
    assert outcome.exit_code is ExitCode.PASSED
    assert progress.lines.count("cpu-float32: out of memory") == 2
    assert outcome.rows[0]["roofline_fraction"] is None


def test_a_failed_launch_is_a_row_beside_the_others(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(FIT, COMPILED, tmp_path=tmp_path, launches=1)
    scripts = {
        FIT: {"rounds": [0.1, 0.1]},
        COMPILED: {"rounds": [], "failure": {"status": "invalid", "reason": "loss is nan"}},
    }
    outcome = execute(plan, [scripts[case] for case, _ in order(plan)])
    assert [(r["status"], r["reason"]) for r in outcome.rows] == [
        ("ok", ""),
        ("invalid", "loss is nan"),
    ]
    assert outcome.rows[1]["samples_per_s"] is None
    assert outcome.exit_code is ExitCode.WRONG_USE_OR_FAILED_CASE


def test_what_is_absent_is_a_row_with_its_reason(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "is_there", lambda name: name != "torch")
    cases = [
        Case("softmax", "sgd", "fit", device="gpu"),
        Case("softmax", "sgd", "compiled", precision="tf32"),
        Case("softmax", "sgd", "compiled", backend="torch"),
    ]
    plan = plan_of(*cases, tmp_path=tmp_path)
    outcome = execute(plan, [])
    assert [r["status"] for r in outcome.rows] == ["skipped"] * 3
    assert "a test" in outcome.rows[0]["reason"]
    assert "CPU" in outcome.rows[1]["reason"]
    assert "torch" in outcome.rows[2]["reason"]
    assert outcome.exit_code is ExitCode.PASSED
    with pytest.raises(UserError, match=r"--require-all: softmax-sgd-fit-gpu.*and 2 more"):
        preflight.refuse_skips(plan, Inventory())


def test_the_logistic_baseline_has_rounds_of_folds(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(logistic_case(), tmp_path=tmp_path)
    (row,) = execute(plan, [{"rounds": [2.0, 2.0], "samples": 960}]).rows
    assert row["samples_per_s"] == pytest.approx(480)
    assert row["epochs"] is None
    assert row["epoch_s"] is None
    assert row["time_to_score_s"] is None
    assert row["val_score"] == pytest.approx(0.825)


BUSY = Noise(wall_s=1.0, other_work_share=0.5)
CALM = Noise(wall_s=1.0, other_work_share=0.02)


def launches_of(outcome: RunOutcome) -> list[tuple[int, int, Status, str]]:
    return [(r.launch, r.attempt, r.status, r.reason) for r in outcome.launches]


def test_a_disturbed_launch_is_void_and_measured_again(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=2)
    progress = Quiet()
    outcome = execute(
        plan,
        [{"rounds": [9.0, 9.0]}, {"rounds": [0.5, 0.5]}, {"rounds": [0.5, 0.5]}],
        progress,
        noises=[BUSY, CALM, CALM],
    )
    why = "disturbed: other processes took 50% of the cores"
    assert launches_of(outcome) == [(0, 1, "invalid", why), (0, 2, "ok", ""), (1, 1, "ok", "")]
    assert progress.voided == [why]
    (row,) = outcome.rows
    # The rounds of the void attempt are on disk, and in no figure.
    assert (row["status"], row["rounds"], row["warnings"]) == ("ok", 4, "")
    assert row["samples_per_s"] == pytest.approx(96_000)
    assert len(outcome.rounds) == 6
    assert outcome.exit_code is ExitCode.PASSED
    kept = RunFolder(tmp_path / "run").launches()
    assert [record.noise for record in kept] == [BUSY, CALM, CALM]


def test_where_the_machine_is_always_busy_launches_stand_with_a_warning(
    execute: Execute, tmp_path: Path
) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=4)
    worst = Noise(other_work_share=0.7)
    outcome = execute(
        plan,
        [{"rounds": [0.5, 0.5]}] * 8,
        # After three in a row no launch is repeated, until one is undisturbed again.
        noises=[BUSY, BUSY, BUSY, worst, CALM, BUSY, BUSY, BUSY],
    )
    assert [(k, attempt, status) for k, attempt, status, _ in launches_of(outcome)] == [
        (0, 1, "invalid"),
        (0, 2, "invalid"),
        (0, 3, "ok"),
        (1, 1, "ok"),
        (2, 1, "ok"),
        (3, 1, "invalid"),
        (3, 2, "invalid"),
        (3, 3, "ok"),
    ]
    (row,) = outcome.rows
    assert (row["status"], row["launches"], row["rounds"]) == ("ok", 4, 8)
    assert row["warnings"] == "disturbed: other processes took 70% of the cores in launch 2"


def test_a_launch_is_never_void_by_its_own_time_or_a_quota(
    execute: Execute, tmp_path: Path
) -> None:
    throttled = Noise(quota_throttled_share=0.9, cpu_pressure_share=0.9)
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=3)
    slow = [{"rounds": [0.5, 0.5]}, {"rounds": [50.0, 50.0]}, {"rounds": [0.5, 0.5]}]
    outcome = execute(plan, slow, noises=[throttled, CALM, CALM])
    assert [status for _, _, status, _ in launches_of(outcome)] == ["ok"] * 3
    assert "quota cut 90% of its periods short in launch 1" in outcome.rows[0]["warnings"]


def test_a_failure_keeps_its_own_reason_however_busy_the_machine(
    execute: Execute, tmp_path: Path
) -> None:
    failure = {"status": "invalid", "reason": "loss is nan"}
    plan = plan_of(FIT, tmp_path=tmp_path)
    outcome = execute(plan, [{"rounds": [], "failure": failure}], noises=[BUSY])
    assert launches_of(outcome) == [(0, 1, "invalid", "loss is nan")]


def test_resume_measures_again_what_was_void_when_it_stopped(
    execute: Execute, tmp_path: Path
) -> None:
    class Stopping(Quiet):
        def launch_voided(self, record: LaunchRecord) -> None:
            raise KeyboardInterrupt

    plan = plan_of(FIT, tmp_path=tmp_path)
    stopped = execute(plan, [{"rounds": [9.0, 9.0]}], Stopping(), noises=[BUSY])
    assert stopped.rows[0]["status"] == "invalid"
    assert stopped.rows[0]["samples_per_s"] is None
    folder, _ = preflight.resume(tmp_path / "run")
    finished = execute(plan, [{"rounds": [0.5, 0.5]}], folder=folder, noises=[CALM])
    assert launches_of(finished)[-1] == (0, 2, "ok", "")
    assert finished.rows[0]["samples_per_s"] == pytest.approx(96_000)


def test_a_launch_tells_its_usage_and_the_watch_its_place(execute: Execute, tmp_path: Path) -> None:
    told = []

    def close(usage: Usage | None) -> Noise:
        assert usage is not None
        told.append(usage)
        return Noise(cpu_s=usage.cpu_s)

    def watch(pid: int, gpus: Mapping[Gpu, int], forks: bool) -> counters.Close:
        assert (psutil.pid_exists(pid), gpus) == (True, {})
        return close

    used: dict[str, Any] = {
        "cpu_s": 1.5,
        "wall_s": 2.0,
        "voluntary_switches": 3,
        "involuntary_switches": None,
    }
    script = {"rounds": [0.5, 0.5], "result": {"usage": used}}
    outcome = execute(plan_of(FIT, tmp_path=tmp_path), [script], watch=watch)
    assert told == [Usage(**used)]
    assert outcome.launches[0].noise == Noise(cpu_s=1.5)


def test_progress_shows_what_was_disturbed(execute: Execute, tmp_path: Path) -> None:
    out = io.StringIO()
    progress = progress_for(Console(file=out, width=80))
    execute(
        plan_of(COMPILED, tmp_path=tmp_path, launches=1),
        [{"rounds": [9.0, 9.0]}, {"rounds": [0.5, 0.5]}],
        progress,
        noises=[BUSY, Noise(steal_share=0.03)],
    )
    lines = [line for line in out.getvalue().splitlines() if line.startswith("[")]
    assert lines == [
        f"[1/1] {COMPILED.id}: invalid: disturbed: other processes took 50% of the cores "
        "(measured again)",
        f"[1/1] {COMPILED.id}: 96,000 samples/s, test accuracy 0.875, the hypervisor took 3% of "
        "the cores' time",
    ]


def test_ctrl_c_keeps_what_was_measured_and_resume_goes_on(
    execute: Execute, tmp_path: Path
) -> None:
    plan = plan_of(FIT, COMPILED, tmp_path=tmp_path, launches=2)
    script = {"rounds": [0.1, 0.2]}
    stopped = execute(plan, [script] * 4, Quiet(stop_after=4))
    assert stopped.interrupted
    assert stopped.exit_code is ExitCode.INTERRUPTED
    assert len(stopped.rounds) == 4
    assert len(stopped.launches) == 1
    folder, again = preflight.resume(tmp_path / "run")
    assert again == plan
    finished = execute(plan, [script] * 3, folder=folder)
    assert [row["status"] for row in finished.rows] == ["ok", "ok"]
    assert [row["launches"] for row in finished.rows] == [2, 2]
    assert [row["rounds"] for row in finished.rows] == [4, 4]
    retried = [r for r in finished.launches if r.attempt == 2]
    assert len(retried) == 1


def test_resume_measures_again_what_did_not_end_well(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(FIT, tmp_path=tmp_path)
    first = execute(plan, [{"rounds": [0.1], "die": "SIGKILL"}])
    assert first.rows[0]["status"] == "killed"
    folder, _ = preflight.resume(tmp_path / "run")
    second = execute(plan, [{"rounds": [0.1, 0.2]}], folder=folder)
    assert (second.rows[0]["status"], second.rows[0]["rounds"]) == ("ok", 2)


@pytest.mark.parametrize(
    "end",
    [
        {"failure": {"status": "failed", "reason": "no disk"}},
        {"failure": {"status": "invalid", "reason": "another precision"}},
        {"die": "SIGKILL"},
    ],
)
def test_a_launch_of_an_own_score_that_fails_after_a_round_leaves_the_run_readable(
    execute: Execute, tmp_path: Path, type_in: TypeIn, end: dict[str, Any]
) -> None:
    mine, path = Case("mine:prices", "adam", "compiled"), tmp_path / "run"
    told = {"score": "mae", "better": "min", "test_score": 3.5}
    fine = {"rounds": [0.1, 0.2], "score": 3.5, "result": told}
    plan = plan_of(mine, tmp_path=tmp_path)
    execute(plan, [fine, {"rounds": [0.1], "score": 3.5, **end}, fine])
    (row,) = read_run(path).rows.values()
    assert (row["status"] == "ok", row["launches"], row["score"]) == (False, 2, "mae")
    assert type_in("report", path)[0] == 0
    shutil.copytree(path, tmp_path / "base" / "run")
    code, _, err = type_in("check", path, "--baseline", tmp_path / "base")
    assert (code, "the baseline holds 1 run: " in err) == (3, True)
    folder, _ = preflight.resume(path)
    assert execute(plan, [fine], folder=folder).exit_code is ExitCode.PASSED
    assert read_run(path).rows[mine.id]["val_score"] == 3.5


@pytest.mark.parametrize("kept", ["", "1", "12", "13", "23", "1123", "1223"])
def test_resume_measures_again_a_launch_that_lost_its_rounds(
    execute: Execute, tmp_path: Path, kept: str
) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=2)
    execute(plan, [{"rounds": [0.1, 0.1, 0.1]}] * 2)
    file = tmp_path / "run" / "rounds.csv"
    header, *rounds = file.read_text("utf-8").splitlines(keepends=True)
    # Of the first launch some or all are lost, or there twice; of the second none.
    first = [rounds[int(number) - 1] for number in kept]
    file.write_text("".join([header, *first, *rounds[3:]]), "utf-8")
    with pytest.raises(UserError, match=r"rounds\.csv was cut short or changed: .*, launch 1: "):
        read_run(tmp_path / "run")
    progress = Quiet()
    folder, _ = preflight.resume(tmp_path / "run")
    finished = execute(plan, [{"rounds": [0.2, 0.2, 0.2]}], progress, folder=folder)
    assert [line.partition(":")[0] for line in progress.lines] == [f"{COMPILED.id} 0"] * 2 + ["end"]
    assert launches_of(finished)[-1] == (0, 2, "ok", "")
    assert finished.rows[0]["launches"] == 2
    assert finished.rows[0]["samples_per_s"] == pytest.approx(48_000 / 0.02**0.5)
    assert read_run(tmp_path / "run").rows[COMPILED.id]["rounds"] == 6


def test_resume_refuses_other_data_or_software(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    execute(plan_of(FIT, tmp_path=tmp_path), [{"rounds": [0.1, 0.2]}])
    described = preflight.environment.collect

    def other(**facts: Any) -> dict[str, Any]:
        return {**described(**facts), "versions": {"tensorflow": "9.9", "keras": "9.9"}}

    monkeypatch.setattr(preflight.environment, "collect", other)
    with pytest.raises(UserError, match=r"TensorFlow .* '9\.9'"):
        preflight.resume(tmp_path / "run")


@pytest.mark.skipif(not CAN_FORK, reason="signals are POSIX's")
def test_a_killed_parent_loses_one_launch_at_most(tmp_path: Path) -> None:
    """kill -9 in the second launch: its rounds and the first launch are on disk."""
    script = tmp_path / "script.json"
    script.write_text(json.dumps([{"rounds": [0.1, 0.2]}, {"rounds": [0.3], "hang": True}]))
    code = f"""
import sys
sys.path[:0] = {[str(ROOT / "tests"), str(Path(__file__).parent)]!r}
from pathlib import Path
from support import FAKE_WORKER, quiet
import test_run as t
from bench.session import preflight as start
from bench.session import run as running
from bench.launch.launcher import Launcher
plan = t.plan_of(t.FIT, tmp_path=Path({str(tmp_path)!r}), launches=2)
folder = start.begin(plan, Path({str(tmp_path / "run")!r}))
running.execute(plan, folder, t.Quiet(), launcher=Launcher(FAKE_WORKER, watch=quiet.watch))
"""
    environment = {**os.environ, "FAKE_WORKER_SCRIPT": str(script)}
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, env=environment)
    rounds = tmp_path / "run/rounds.csv"
    deadline = time.monotonic() + 60
    while not rounds.exists() or rounds.read_text().count("\n") < 4:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    with rounds.open("a") as out:
        out.write("relu_mlp-adam-fit-cpu-b32-float32,1,1,2,480")
    folder, _ = RunFolder.resume(tmp_path / "run")
    assert [stored.round.seconds for stored in folder.rounds()] == [0.1, 0.2, 0.3]
    assert [record.status for record in folder.launches()] == ["ok"]
    assert folder.results()[0]["status"] == "interrupted"


def test_a_second_run_says_so_and_refuses_or_waits(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(FIT, tmp_path=tmp_path)
    folder = preflight.begin(plan, tmp_path / "run")
    with (
        filelock.FileLock(lock.lock_file()),
        pytest.raises(UserError, match=r"another run .* --wait"),
    ):
        execute(plan, [{"rounds": [0.1, 0.2]}], folder=folder)

    class Releasing(Quiet):
        def waits(self, reason: str) -> None:
            super().waits(reason)
            other.release()

    other = filelock.FileLock(lock.lock_file(), thread_local=False)
    other.acquire()
    progress = Releasing()
    outcome = running.execute(plan, folder, progress, wait=True, launcher=Launcher(FAKE_WORKER))
    assert progress.lines[0].startswith("another run")
    assert len(outcome.launches) == 1


def test_a_run_that_is_refused_leaves_nothing(tmp_path: Path) -> None:
    plan = plan_of(FIT, tmp_path=tmp_path)
    with (
        filelock.FileLock(lock.lock_file()),
        pytest.raises(UserError, match="another run is measuring"),
    ):
        running.execute(
            plan, preflight.begin(plan, tmp_path / "run"), Quiet(), launcher=Launcher(FAKE_WORKER)
        )
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("moment", range(4))
def test_a_begin_that_was_killed_is_begun_again_or_finished(
    execute: Execute,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    moment: int,
) -> None:
    """Killed before, between and after the writes of environment.json and plan.json."""
    plain, writes = tables.write_bytes, []

    def killed(file: Path, content: bytes) -> None:
        writes.append(file.name)
        if len(writes) > moment // 2:
            if moment % 2:
                # The half that a kill leaves, of a writer that is no more.
                file.with_name(f".{file.name}.999999999.partial").write_bytes(content[:9])
            raise KeyboardInterrupt
        plain(file, content)

    plan, script = plan_of(FIT, tmp_path=tmp_path), [{"rounds": [0.1, 0.2]}]
    monkeypatch.setattr(tables, "write_bytes", killed)
    with pytest.raises(KeyboardInterrupt):
        execute(plan, script)
    monkeypatch.setattr(tables, "write_bytes", plain)
    assert writes == ["environment.json", "plan.json"][: moment // 2 + 1]
    assert execute(plan, script).exit_code is ExitCode.PASSED
    assert not [file for file in (tmp_path / "run").iterdir() if file.name.startswith(".")]


def test_a_run_killed_before_its_first_launch_is_resumed(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(FIT, tmp_path=tmp_path)
    preflight.begin(plan, tmp_path / "run").open()
    opening, _ = preflight.resume(tmp_path / "run")
    assert execute(plan, [{"rounds": [0.1, 0.2]}], folder=opening).exit_code is ExitCode.PASSED


def _saved_again(text: str, how: str) -> str:
    """A table as another program saves it."""
    if how == "semicolons":
        return text.replace(",", ";").replace("\n", "\r\n")
    if how == "old Mac":
        return text.replace("\n", "\r")
    rows = [line.split(",") for line in text.splitlines()]
    if how == "another order":
        rows = [row[::-1] for row in rows]
    else:
        rows = [[*row, "mine"] for row in rows]
    return "\n".join(",".join(row) for row in rows) + "\n"


@pytest.mark.parametrize("how", ["semicolons", "old Mac", "another order", "another column"])
def test_rounds_that_another_program_saved_again_are_kept_and_go_on(
    execute: Execute, tmp_path: Path, how: str
) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=2)
    execute(plan, [{"rounds": [0.1, 0.2]}, {"rounds": [0.3, 0.4], "die": "SIGKILL"}])
    file = tmp_path / "run" / "rounds.csv"
    before = RunFolder(tmp_path / "run").rounds()
    file.write_text(_saved_again(file.read_text(), how), newline="")
    assert RunFolder(tmp_path / "run").rounds() == before
    execute(plan, [{"rounds": [0.5, 0.6]}], folder=preflight.resume(tmp_path / "run")[0])
    found = RunFolder(tmp_path / "run").rounds()
    assert found[: len(before)] == before
    assert [s.round.seconds for s in found[len(before) :]] == [0.5, 0.6]
    assert file.read_text().splitlines()[0] == ",".join(ROUND_COLUMNS)
    read_run(tmp_path / "run")


@pytest.mark.parametrize("said", ["a\0b", "half \ud800 of one", "\x1b[31mred\u2028next"])
def test_what_a_model_raises_makes_no_file_unreadable(
    execute: Execute, tmp_path: Path, said: str
) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=1)
    execute(plan, [{"failure": {"status": "failed", "reason": said}, "rounds": []}])
    (row,) = read_run(tmp_path / "run").rows.values()
    assert row["status"] == Status.FAILED
    assert row["reason"].isprintable()


@pytest.mark.parametrize(
    "setting", [{"timeout_s": 1e12}, {"launches": 10**12}, {"epochs": 10**12}, {"timeout_s": 0}]
)
def test_a_plan_says_no_more_than_options_may(
    execute: Execute, tmp_path: Path, setting: dict[str, float]
) -> None:
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=1)
    execute(plan, [{"rounds": [0.1, 0.2]}])
    file = tmp_path / "run" / "plan.json"
    stored = json.loads(file.read_text())
    file.write_text(json.dumps({**stored, "settings": {**stored["settings"], **setting}}))
    (name,) = setting
    with pytest.raises(UserError, match=rf"plan\.json.*{name}"):
        preflight.resume(tmp_path / "run")


def test_resume_beside_a_live_run_cuts_no_line_of_it(execute: Execute, tmp_path: Path) -> None:
    """What looks like half a line is one that the other run is writing."""
    plan = plan_of(FIT, tmp_path=tmp_path)
    execute(plan, [{"rounds": [0.1, 0.2]}])
    rounds = tmp_path / "run/rounds.csv"
    with rounds.open("a") as out:
        out.write("relu_mlp-adam-fit-cpu-b32-float32,1,1,2,480")
    there = rounds.read_bytes()
    with filelock.FileLock(lock.lock_file()), pytest.raises(UserError, match="another run"):
        execute(plan, [], folder=preflight.resume(tmp_path / "run")[0])
    assert rounds.read_bytes() == there
    execute(plan, [], folder=preflight.resume(tmp_path / "run")[0])
    assert rounds.read_bytes() == there[: there.rindex(b"\n") + 1]


@pytest.mark.skipif(not CAN_FORK, reason="folders are locked on POSIX only")
def test_two_runs_never_write_to_one_folder_even_with_locks_of_their_own(
    execute: Execute, tmp_path: Path
) -> None:
    plan = plan_of(FIT, tmp_path=tmp_path)
    opening = preflight.begin(plan, tmp_path / "run")
    with (
        lock.the_folder(tmp_path / "run"),
        pytest.raises(UserError, match=r"another run writes to .*: name another --output"),
    ):
        execute(plan, [{"rounds": [0.1, 0.2]}], folder=opening)
    assert list((tmp_path / "run").iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="folders for temporary files are shared")
def test_users_with_other_folders_for_temporary_files_share_the_lock(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(lock.LOCK_VARIABLE)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    assert lock.lock_file() == Path("/tmp/fmnist-bench.lock")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="another user is played by root alone"
)
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_a_lock_file_that_another_user_keeps_to_itself_is_told(tmp_path: Path, mode: int) -> None:
    (tmp_path / lock.LOCK_NAME).touch()
    (tmp_path / lock.LOCK_NAME).chmod(mode)
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            for folder in (tmp_path, *tmp_path.parents[:2]):
                folder.chmod(0o755)
            os.setuid(65534)
            with lock.the_machine(print, False):
                # Whoever may read the file may lock it.
                code = 2 if mode & 0o004 else 0
        except UserError as error:
            told = "another run may be measuring here" in str(error)
            code = 2 if told and lock.LOCK_VARIABLE in str(error) else 9
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 2


@pytest.mark.parametrize("name", ["rounds.csv", "launches.jsonl", "results.csv"])
def test_a_run_never_adds_to_a_file_of_someone_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(UserError, match=f"holds {name} but no plan.json: name another --output"):
        preflight.begin(plan_of(FIT, tmp_path=tmp_path), tmp_path / "run")


@pytest.mark.parametrize("name", ["environment.json", "comparison.png", "report.html"])
def test_a_run_never_replaces_a_file_of_someone_else(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(UserError, match=rf"{name} is there already and is not an? .*--output"):
        preflight.begin(plan_of(FIT, tmp_path=tmp_path), tmp_path / "run")
    assert (tmp_path / "run" / name).read_text() == "mine"


class Meddling(Quiet):
    """Does something to the run's folder after its first launch."""

    def __init__(self, meddle: Callable[[], object]) -> None:
        super().__init__()
        self.meddle: Callable[[], object] | None = meddle

    def launch_ends(self, record: LaunchRecord) -> None:
        if self.meddle:
            self.meddle()
            self.meddle = None


def remove_and_make_again(folder: Path) -> None:
    shutil.rmtree(folder)
    (folder / "logs").mkdir(parents=True)


@pytest.mark.parametrize(
    ("meddle", "words"),
    [
        (shutil.rmtree, r"run is gone: it was removed or renamed"),
        (lambda folder: folder.rename(folder.with_name("moved")), r"run is gone"),
        (remove_and_make_again, r"rounds.csv was changed or removed"),
        (lambda folder: (folder / "rounds.csv").unlink(), r"rounds.csv was changed or removed"),
        (lambda folder: (folder / "rounds.csv").write_text("x"), r"changed or removed"),
    ],
)
def test_a_folder_that_goes_during_a_run_is_named_and_never_ends_well(
    execute: Execute,
    tmp_path: Path,
    meddle: Callable[..., Any],
    words: str,
) -> None:
    plan = plan_of(FIT, COMPILED, tmp_path=tmp_path, launches=1)
    with pytest.raises(UserError, match=words):
        execute(plan, [{"rounds": [0.1, 0.2]}] * 2, Meddling(lambda: meddle(tmp_path / "run")))


def test_a_launch_derives_its_own_row_and_its_siblings_alone(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a launch costs beside the measurement does not grow with the number of cases."""
    monkeypatch.setattr(attempts, "RESULTS_EVERY_S", -1.0)
    derived, plain = [], rows.case_row

    def counted(case: Case, *rest: Any) -> dict[str, Any]:
        derived.append(case)
        return plain(case, *rest)

    monkeypatch.setattr(rows, "case_row", counted)
    precisions = ("float32", "mixed_bfloat16", "mixed_float16")
    cases = [
        Case("relu_mlp", optimizer, loop, precision=precision)
        for optimizer in ("adam", "sgd", "rmsprop")
        for loop in ("fit", "compiled")
        for precision in precisions
    ]
    outcome = execute(plan_of(*cases, tmp_path=tmp_path, launches=1), [{"rounds": [0.1, 0.2]}])
    # All for the ceilings before and after and for the proof, and each when it was measured.
    assert len(derived) <= 4 * len(cases)
    folder = RunFolder(tmp_path / "run")
    again = rows.result_rows(outcome.plan, folder.launches(), folder.rounds(), folder.ceilings())
    assert outcome.rows == again == folder.results()


def test_results_lag_by_seconds_and_are_whole_however_the_run_ends(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "RESULTS_EVERY_S", 1e9)
    plan = plan_of(FIT, COMPILED, tmp_path=tmp_path, launches=1)

    class Failing(Quiet):
        def launch_ends(self, record: LaunchRecord) -> None:
            if len(RunFolder(tmp_path / "run").launches()) == 2:
                raise RuntimeError("as a closed pipe would")

    with pytest.raises(RuntimeError):
        execute(plan, [{"rounds": [0.1, 0.2]}] * 2, Failing())
    assert [row["status"] for row in RunFolder(tmp_path / "run").results()] == ["ok", "ok"]


def test_a_full_disk_is_one_line_and_keeps_what_is_there(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(FIT, COMPILED, tmp_path=tmp_path, launches=1)
    plain = RunFolder.append_launch

    def full(folder: RunFolder, record: LaunchRecord) -> None:
        plain(folder, record)
        monkeypatch.setattr(Path, "open", _no_space)

    monkeypatch.setattr(RunFolder, "append_launch", full)
    with pytest.raises(UserError, match=r"No space left.*--resume") as error:
        execute(plan, [{"rounds": [0.1, 0.2]}] * 2)
    assert "\n" not in str(error.value)
    monkeypatch.undo()
    assert len(RunFolder.resume(tmp_path / "run")[0].launches()) == 1


def _no_space(path: Path, mode: str = "r", *rest: Any, **named: Any) -> IO[Any]:
    if mode == "ab":
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    return open(path, mode, *rest, **named)  # noqa: PTH123 - it stands in for Path.open


def test_a_folder_that_holds_a_run_is_not_overwritten(execute: Execute, tmp_path: Path) -> None:
    plan = plan_of(FIT, tmp_path=tmp_path)
    execute(plan, [{"rounds": [0.1, 0.2]}])
    with pytest.raises(UserError, match=r"already holds a run.*--resume"):
        preflight.begin(plan, tmp_path / "run")


def test_a_missing_tensorflow_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "is_there", lambda _: False)
    with pytest.raises(UserError, match=r"tensorflow is not installed .* pip install"):
        preflight.begin(plan_of(FIT, tmp_path=tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_framework_that_is_there_in_part_is_named_before_the_default(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement, "is_there", lambda name: name == "jax")
    with pytest.raises(UserError, match=r"^jaxlib is not installed .*needs it: pip install jax$"):
        preflight.begin(plan_of(FIT, tmp_path=tmp_path), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_new_folders_are_named_by_time_and_label() -> None:
    assert preflight.new_folder_name("quick", None).name.endswith("-quick")
    assert preflight.new_folder_name("quick", "my laptop / café").name.endswith("-my-laptop-café")
    assert preflight.new_folder_name("quick", "///").name.endswith("-run")


def test_a_folder_that_cannot_be_made_is_one_line_with_the_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write to .*name another --output$"):
        preflight.begin(plan_of(FIT, tmp_path=tmp_path), tmp_path / "file/run")


def test_a_picture_that_cannot_be_written_hides_no_table(execute: Execute, tmp_path: Path) -> None:
    outcome = execute(plan_of(FIT, tmp_path=tmp_path), [{"rounds": [0.1, 0.2]}])
    (tmp_path / "run/comparison.png").mkdir()
    (tmp_path / "run/report.html").write_text("mine")
    out = io.StringIO()
    failed = summarize(outcome, Console(file=out, width=80))
    assert [type(error) for error in failed] == [UserError, UserError]
    assert "comparison.png" in str(failed[0])
    assert "report.html" in str(failed[1])
    assert "relu_mlp" in out.getvalue()
    assert "results.csv" in out.getvalue()
    assert (tmp_path / "run/report.html").read_text() == "mine"


def test_where_nothing_can_draw_a_run_says_so_and_ends_well(
    execute: Execute, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = execute(plan_of(FIT, tmp_path=tmp_path), [{"rounds": [0.1, 0.2]}])
    monkeypatch.setattr(end_of_run, "find_spec", lambda name: None)
    out = io.StringIO()
    assert summarize(outcome, Console(file=out, width=200)) == []
    assert (
        "not drawn, for matplotlib, altair, jinja2, vl_convert is not installed" in out.getvalue()
    )
    assert not list((tmp_path / "run").glob("*.png"))
    assert not (tmp_path / "run/report.html").exists()


def test_the_estimate_has_the_ceilings_of_each_backend() -> None:
    settings = RunSettings()
    both = [FIT, replace(FIT, backend="jax")]
    apart = sum(run_seconds([case], settings) - IMPORT_S for case in both)
    assert run_seconds(both, settings) - IMPORT_S == pytest.approx(apart)


def test_the_estimate_of_a_backend_is_of_its_own_rows() -> None:
    """In `fit` JAX trains faster than TensorFlow, and PyTorch slower, in the published runs."""
    settings = RunSettings(epochs=50)
    jax, torch = (replace(FIT, backend=backend) for backend in ("jax", "torch"))
    ours = launch_seconds(FIT, settings)
    assert launch_seconds(jax, settings) < 0.6 * ours
    assert launch_seconds(torch, settings) > 1.2 * ours


def test_the_time_is_estimated_for_the_samples_of_the_data(tmp_path: Path) -> None:
    whole = launch_seconds(FIT, RunSettings(epochs=1_000))
    small = launch_seconds(FIT, RunSettings(epochs=1_000, data=str(tmp_path / "data")))
    assert small < whole / 100


def test_a_worker_that_says_ok_of_too_few_rounds_is_invalid(
    tmp_path: Path, execute: Execute
) -> None:
    plan = plan_of(FIT, COMPILED, tmp_path=tmp_path, launches=1)
    outcome = execute(plan, [{"rounds": [0.1]}, {"rounds": [0.1, 0.2]}])
    rows = {row["status"]: row["reason"] for row in outcome.rows}
    assert rows == {"invalid": "1 of 2 rounds are there", "ok": ""}


def test_a_folder_for_the_lock_that_is_missing_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path / "none"))
    held = lock.the_machine(print, False)
    with pytest.raises(UserError, match=r"FMNIST_LOCK=.*none: there is no such folder"):
        held.__enter__()


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() != 0, reason="gives a file away")
def test_the_lock_that_another_user_made_is_everybodys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path))
    tmp_path.chmod(0o1777)
    file = tmp_path / lock.LOCK_NAME
    file.touch()
    file.chmod(0o666)
    os.chown(file, 65534, 65534)
    with lock.the_machine(print, False):
        second = lock.the_machine(print, False)
        with pytest.raises(UserError, match="another run is measuring"):
            second.__enter__()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_pipe_in_the_place_of_the_lock_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(lock.LOCK_VARIABLE, str(tmp_path))
    os.mkfifo(tmp_path / lock.LOCK_NAME)
    with lock.the_machine(print, False):
        second = lock.the_machine(print, False)
        with pytest.raises(UserError, match="another run is measuring"):
            second.__enter__()


def test_a_run_that_was_killed_before_its_table_was_written_is_read(
    tmp_path: Path, execute: Execute
) -> None:
    """results.csv may lag behind: a case there waits for a launch that has ended."""
    plan = plan_of(COMPILED, tmp_path=tmp_path, launches=2)
    outcome = execute(plan, [{"rounds": [0.1, 0.1]}] * 2)
    whole = read_run(tmp_path / "run")
    first = [record for record in outcome.launches if record.launch == 0]
    before = result_rows(plan, first, [s for s in outcome.rounds if s.launch == 0])
    RunFolder(tmp_path / "run").write_results(before)
    assert before[0]["status"] == "interrupted"
    assert read_run(tmp_path / "run").rows == whole.rows
