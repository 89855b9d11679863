"""A run in the formats of other tools, each read by that tool's own code where it has one."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from mlperf_logging.system_desc_checker.system_desc_checker import check_system_desc
from prometheus_client.parser import text_string_to_metric_families
from support import TypeIn
from support.run_folders import write_run

from bench.reports.exports.formats import FORMATS, export
from bench.reports.exports.mlperf import FIELDS, STATUSES
from bench.schema.case import Case
from bench.schema.launch import Status
from bench.schema.runs import MeasuredRun
from bench.store.measured import read_run

COMPILED, FIT = (Case("relu_mlp", "adam", loop) for loop in ("compiled", "fit"))
FAILED = Case("softmax", "sgd", "fit")
# `compiled` has three launches, and so an interval; `fit` has one.
CASES = {COMPILED: (0.4, 0.87), FIT: (4.0, 0.86)}
LABEL = 'a "label" \\ é'
MACHINE: dict[str, Any] = {
    "cpu": {"model": "Test CPU", "sockets": 2, "cores_physical": 16, "cores_logical": 32},
    "memory_bytes": 2**34,
    "gpus": [{"name": "NVIDIA H100", "memory_bytes": 85 * 10**9, "sm_clock_max_hz": 1.98e9}] * 2,
    "versions": {"tensorflow": "2.21.0", "keras": "3.15.1", "jax": "0.10.1"},
}


@pytest.fixture
def run(tmp_path: Path) -> MeasuredRun:
    reasons = {FAILED: (Status.FAILED, "out of memory")}
    path = write_run(tmp_path / "run", CASES, label=LABEL, reasons=reasons, **MACHINE)
    return read_run(path)


def test_bencher_gets_each_case_with_the_intervals_of_the_run(run: MeasuredRun) -> None:
    found = export(run, "bmf", {})
    told = json.loads(found.text)
    row = run.rows[COMPILED.id]
    assert list(told) == [COMPILED.id, FIT.id]
    assert told[COMPILED.id]["throughput"] == {
        "value": row["samples_per_s"],
        "lower_value": row["samples_per_s_low"],
        "upper_value": row["samples_per_s_high"],
    }
    # A step of 32 samples, in nanoseconds; its ends change sides.
    latency = told[COMPILED.id]["latency"]
    step_ns = 48_000 / 1_500 * 1e9
    assert latency["value"] == pytest.approx(step_ns / row["samples_per_s"])
    assert latency["lower_value"] == pytest.approx(step_ns / row["samples_per_s_high"])
    assert latency["upper_value"] == pytest.approx(step_ns / row["samples_per_s_low"])
    assert told[FIT.id]["throughput"] == {"value": pytest.approx(12_000)}
    assert told[FIT.id]["accuracy"] == {"value": pytest.approx(0.86)}
    assert found.told == (f"{FAILED.id}: left out: failed: out of memory",)


def test_each_list_of_benchmark_action_has_one_direction(run: MeasuredRun) -> None:
    bigger, smaller = (
        {entry["name"]: entry for entry in json.loads(export(run, name, {}).text)}
        for name in ("benchmark-action-bigger", "benchmark-action-smaller")
    )
    row = run.rows[COMPILED.id]
    assert set(bigger) == {
        f"{case.id}: {what}" for case in CASES for what in ("throughput", "accuracy")
    }
    assert {name.partition(": ")[2] for name in smaller} == {
        "time per sample",
        "time per epoch",
        "time to accuracy 0.85",
    }
    entry = smaller[f"{COMPILED.id}: time per epoch"]
    assert entry["unit"] == "s"
    assert entry["value"] == row["epoch_s"]
    low, high = (48_000 / row[f"samples_per_s_{end}"] for end in ("high", "low"))
    assert entry["range"] == f"{low:.6g} to {high:.6g} (95% interval)"
    assert "range" not in smaller[f"{FIT.id}: time per epoch"]
    assert bigger[f"{FIT.id}: accuracy"]["unit"] == "share"
    for listed in (*bigger.values(), *smaller.values()):
        assert set(listed) <= {"name", "unit", "value", "range", "extra"}
        assert "measured by fmnist-bench" in listed["extra"]


def test_a_score_that_is_good_when_small_is_in_the_other_list(tmp_path: Path) -> None:
    record = {"score": "mae", "better": "min"}
    run = read_run(write_run(tmp_path / "run", CASES, record=record))
    names = [
        entry["name"] for entry in json.loads(export(run, "benchmark-action-smaller", {}).text)
    ]
    assert f"{FIT.id}: mae" in names


def test_prometheus_reads_what_it_gets(run: MeasuredRun) -> None:
    text = export(run, "prometheus", {}).text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert all(f.type == "gauge" and f.documentation.endswith(".") for f in families.values())
    samples = [sample for family in families.values() for sample in family.samples]
    assert all(sample.labels["label"] == LABEL for sample in samples)
    assert all(sample.timestamp is None for sample in samples)
    assert all(math.isfinite(sample.value) for sample in samples)
    rates = families["fmnist_bench_samples_per_second"].samples
    assert {s.labels["case"]: s.value for s in rates} == {
        case.id: run.rows[case.id]["samples_per_s"] for case in CASES
    }
    ends = families["fmnist_bench_samples_per_second_low"].samples
    assert [s.labels["case"] for s in ends] == [COMPILED.id]
    counts = {s.labels["status"]: s.value for s in families["fmnist_bench_cases"].samples}
    assert (counts["ok"], counts["failed"], counts["killed"]) == (2, 1, 0)
    began = families["fmnist_bench_run_timestamp_seconds"].samples[0]
    assert began.value == 1772366400


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool of Prometheus")
def test_promtool_finds_nothing_to_mend(run: MeasuredRun) -> None:
    done = subprocess.run(
        ["promtool", "check", "metrics"],
        input=export(run, "prometheus", {}).text,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("rules", ["4.0.0", "6.0.0"])
@pytest.mark.parametrize("gpus", [MACHINE["gpus"], [], None])
def test_mlperfs_own_checker_takes_the_system(
    tmp_path: Path, gpus: list[dict[str, Any]] | None, rules: str
) -> None:
    facts = {name: fact for name, fact in {**MACHINE, "gpus": gpus}.items() if fact is not None}
    run = read_run(write_run(tmp_path / "run", CASES, **facts))
    given = {"status": STATUSES[2], "submitter": "An Institute"}
    file = tmp_path / "system.json"
    file.write_text(export(run, "mlperf-system", given).text, "utf-8")
    valid, *_ = check_system_desc(str(file), "training", rules)
    assert valid


def test_mlperf_gets_what_the_run_knows_and_the_rest_is_said(run: MeasuredRun) -> None:
    found = export(run, "mlperf-system", {"status": "Preview", "cooling": "air"})
    told = json.loads(found.text)
    assert tuple(told) == FIELDS
    assert len(FIELDS) == 33
    assert {type(text) for text in told.values()} == {str}
    assert told["system_name"] == LABEL
    assert told["host_processors_per_node"] == "2"
    assert told["host_processor_core_count"] == "8"
    assert told["host_processor_vcpu_count"] == "16"
    assert told["host_memory_capacity"] == "16 GiB"
    assert told["accelerators_per_node"] == "2"
    assert told["accelerator_model_name"] == "NVIDIA H100"
    assert told["accelerator_frequency"] == "1980 MHz"
    # JAX is installed, and no case used it.
    assert told["framework"] == "TensorFlow 2.21.0, Keras 3.15.1"
    assert told["cooling"] == "air"
    (line,) = found.told
    empty = line.removeprefix("left empty, because the run does not say them: ")
    assert empty.partition(";")[0].split(", ") == [
        name for name in FIELDS if not told[name] and name != "hw_notes"
    ]
    across = replace(run, environment={**run.environment, "nodes": [{"hardware": "a"}] * 3})
    several = json.loads(export(across, "mlperf-system", {"status": "Preview"}).text)
    assert (told["number_of_nodes"], several["number_of_nodes"]) == ("1", "3")


def test_cores_of_unknown_processors_are_not_counted(tmp_path: Path) -> None:
    cpu = {"model": "Test CPU", "cores_physical": 16}
    run = read_run(write_run(tmp_path / "run", CASES, cpu=cpu))
    told = json.loads(export(run, "mlperf-system", {"status": "Preview"}).text)
    assert told["host_processor_core_count"] == told["host_processors_per_node"] == ""


def test_no_number_is_written_that_is_none(run: MeasuredRun) -> None:
    odd = {"val_score": math.nan, "samples_per_s_high": math.inf, "time_to_score_s": math.inf}
    run = replace(run, rows={**run.rows, COMPILED.id: {**run.rows[COMPILED.id], **odd}})
    for name in set(FORMATS) - {"mlperf-system"}:
        found = export(run, name, {})
        assert not {"nan", "inf", "NaN", "Infinity"} & set(re.findall(r"\w+", found.text))
        assert found.told[:2] == (
            f"{COMPILED.id}: left out: its accuracy is nan, which is no number",
            f"{COMPILED.id}: left out: its time to the target is inf, which is no number",
        )


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--format", "xml"), "--format 'xml': choose from bmf, benchmark-action-smaller"),
        (("--format", "bmf", "--set", "status=x"), "--format bmf has no fields to set"),
        (("--format", "mlperf-system"), "status: MLPerf asks for it, and the run does not say it"),
        (("--format", "mlperf-system", "--set", "status=x"), "status 'x': --set status="),
        (("--format", "mlperf-system", "--set", "coolin=x"), "no such field; choose from cooling"),
        (("--format", "mlperf-system", "--set", "cooling"), "--set 'cooling': write FIELD=TEXT"),
        (("--format", "mlperf-system", "--set", "a=1", "--set", "a=2"), "a is set twice"),
        (("--format", "bmf", "--output", "OUT/results.csv"), "results.csv is there already"),
        (("--format", "bmf", "--output", "OUT/none/x"), "name another --output"),
    ],
)
def test_a_mistake_of_export_is_one_line(
    type_in: TypeIn, run: MeasuredRun, words: tuple[str, ...], line: str
) -> None:
    before = (run.path / "results.csv").read_bytes()
    given = [word.replace("OUT", str(run.path)) for word in words]
    code, out, err = type_in("export", run.path, *given)
    assert (code, out) == (2, "")
    assert line in err.splitlines()[-1]
    assert (run.path / "results.csv").read_bytes() == before


def test_a_run_without_a_figure_is_refused(type_in: TypeIn, tmp_path: Path) -> None:
    path = write_run(tmp_path / "run", {}, reasons={FAILED: (Status.FAILED, "out of memory")})
    code, _, err = type_in("export", path, "--format", "bmf")
    assert code == 2
    assert "none of its cases ended ok" in err


@pytest.mark.parametrize("name", FORMATS)
def test_a_file_is_replaced_by_its_own_kind_alone(
    type_in: TypeIn, run: MeasuredRun, tmp_path: Path, name: str
) -> None:
    file = tmp_path / "file"
    given = ("--set", "status=Preview") if name == "mlperf-system" else ()
    words = ("export", run.path, "--format", name, "-o", file, *given)
    for _ in range(2):
        code, out, err = type_in(*words)
        assert (code, out) == (0, f"{file}\n"), err
    assert {path.name for path in tmp_path.iterdir()} == {"run", "file"}
    for other in set(FORMATS) - {name}:
        given = ("--set", "status=Preview") if other == "mlperf-system" else ()
        code, _, err = type_in("export", run.path, "--format", other, "-o", file, *given)
        assert (code, "is there already" in err) == (2, True)
