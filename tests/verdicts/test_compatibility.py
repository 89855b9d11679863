"""What two records must agree in: a resume, a baseline, a comparison, a line of the page."""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path
from typing import Any

import pytest
from support import ROOT

from bench.evidence.made_runs import make_run
from bench.schema.case import Case
from bench.schema.errors import NotComparable
from bench.schema.plan import Plan, RunSettings
from bench.schema.runs import MeasuredRun
from bench.session import preflight
from bench.store.measured import read_run
from bench.store.run_folder import RunFolder
from bench.verdicts import compatibility
from bench.verdicts.compatibility import refuse_mixing, same_threads_axis, shown
from bench.verdicts.facts import FACTS, Fact, Purpose, facts
from fmnist_models.errors import UserError

RUN = Path("run")
RECORD: dict[str, Any] = {
    "label": "a",
    "time_utc": "2026-03-01T12:00:00+00:00",
    "dataset_digest": "abc",
    "os": {"name": "Debian", "kernel": "6.1"},
    "cpu": {
        "model": "EPYC",
        "cores_physical": 2,
        "cores_logical": 4,
        "affinity": [0, 1],
        "cgroup_quota_cpus": None,
        "frequency_hz": 1,
    },
    "memory_bytes": 8,
    "gpus": [{"name": "H100", "uuid": "GPU-1", "sm_clock_hz": 1}],
    "driver_version": "570",
    "python": {"version": "3.11.7"},
    "versions": {
        "tensorflow": "2.21.0",
        "jax": "0.10.1",
        "jaxlib": "0.10.1",
        "torch": "2.13.0",
        "keras": "3.15.1",
        "numpy": "2.4.6",
        "scikit-learn": "1.9.1",
        "nvidia-cudnn": "9.1",
        "nvidia-cuda-runtime": "12.5",
        "fmnist-bench": "0.1.0",
    },
    "variables": {"OMP_NUM_THREADS": "1"},
    "overruled": {},
    "git": {"revision": "1f", "dirty": False},
}
OTHER = {
    "data": "def",
    "CPU": "Xeon",
    "logical cores": 8,
    "allowed cores": [1],
    "CPU quota": 1.5,
    "GPUs": [{"name": "A100", "uuid": "GPU-1"}],
    "UUIDs of the GPUs": [{"name": "H100", "uuid": "GPU-2"}],
    "nodes": [{"name": "a", "hardware": "5f"}, {"name": "b", "hardware": "6e"}],
    "driver": "580",
    "Python": "3.12.1",
    "TensorFlow": "2.22.0",
    "JAX": "0.10.3",
    "jaxlib": "0.10.3",
    "PyTorch": "2.14.1",
    "Keras": "3.16.0",
    "NumPy": "2.5.0",
    "scikit-learn": "2.0",
    "cuDNN": "9.2",
    "CUDA runtime": "13.0",
    "variables": {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "--x"},
    "suite": "0.2.0",
    "revision": "2e",
    "changes": True,
}


def with_fact(path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """The record with one value replaced."""
    changed = copy.deepcopy(RECORD)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return changed


def without(path: tuple[str, ...]) -> dict[str, Any]:
    """The record as a revision wrote it that did not know the fact."""
    changed = with_fact(path, None)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    del inner[path[-1]]
    return changed


def test_every_fact_that_a_resume_must_keep_is_tried() -> None:
    assert {fact.name for fact in FACTS if Purpose.RESUME in fact.purposes} == OTHER.keys()


@pytest.mark.parametrize("fact", facts(Purpose.RESUME), ids=lambda fact: fact.name)
def test_a_resume_refuses_what_changed_and_says_both_values(fact: Fact) -> None:
    refuse_mixing(RUN, RECORD, copy.deepcopy(RECORD))
    changed = with_fact(fact.path, OTHER[fact.name])
    before, after = fact.text(RECORD), fact.text(changed)
    for then, now, first, second in (
        (RECORD, changed, before, after),
        (changed, RECORD, after, before),
    ):
        with pytest.raises(UserError) as caught:
            refuse_mixing(RUN, then, now)
        assert str(caught.value).startswith(
            f"run began with {fact.words or fact.name} {first!r}, now it is {second!r}: "
        )
    # An older record lacks it; one without nodes is of a single machine.
    if fact.name != "nodes":
        refuse_mixing(RUN, without(fact.path), changed)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("label",), "b"),
        (("time_utc",), "2027-03-01T12:00:00+00:00"),
        (("os", "kernel"), "6.2"),
        (("cpu", "frequency_hz"), 2),
        (("memory_bytes",), 9),
        (("gpus",), [{"name": "H100", "uuid": "GPU-1", "sm_clock_hz": 2}]),
        (("gpus",), [{"name": "H100"}]),
        (("overruled",), {"MPLBACKEND": "agg"}),
        (("ceilings",), []),
    ],
)
def test_what_a_resume_may_change(path: tuple[str, ...], value: Any) -> None:
    changed = with_fact(path, value)
    assert changed != RECORD
    assert compatibility.first_difference(Purpose.RESUME, RECORD, changed) is None
    refuse_mixing(RUN, RECORD, changed)


def test_a_fact_that_is_none_is_not_one_that_is_not_recorded() -> None:
    with pytest.raises(UserError, match=r"a CPU quota of 'not known', now it is '1\.5'"):
        refuse_mixing(RUN, RECORD, with_fact(("cpu", "cgroup_quota_cpus"), 1.5))


def test_an_older_run_goes_on_where_what_it_recorded_acted() -> None:
    older = without(("overruled",))
    older["variables"] = {"KERAS_BACKEND": "jax", "OPENBLAS_NUM_THREADS": "8"}
    refuse_mixing(
        RUN, older, with_fact(("variables",), {"OMP_NUM_THREADS": "1", "LD_PRELOAD": "x.so"})
    )
    with pytest.raises(UserError, match="variables"):
        refuse_mixing(RUN, older, with_fact(("variables",), {"OMP_NUM_THREADS": "2"}))


def test_a_run_is_not_resumed_under_another_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the command's own variables to the refusal, as a user meets it."""
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "1")
    plan = Plan((Case("relu_mlp", "adam", "fit"),), RunSettings(), "test")
    preflight.begin(plan, tmp_path / "run").open()
    assert preflight.resume(tmp_path / "run")[1] == plan
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    preflight.resume(tmp_path / "run")
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_enable_fast_math=true")
    with pytest.raises(UserError, match=r"the variables .*now it is .*XLA_FLAGS=--xla_cpu_enable"):
        preflight.resume(tmp_path / "run")
    monkeypatch.delenv("XLA_FLAGS")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "0")
    with pytest.raises(UserError, match=r"TF_ENABLE_ONEDNN_OPTS=1.*TF_ENABLE_ONEDNN_OPTS=0"):
        preflight.resume(tmp_path / "run")


def test_a_run_is_not_resumed_on_other_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.machine.hardware.cpu_affinity", lambda: [0, 1])
    preflight.begin(
        Plan((Case("relu_mlp", "adam", "fit"),), RunSettings(), "test"), tmp_path / "run"
    ).open()
    monkeypatch.setattr("bench.machine.hardware.cpu_affinity", lambda: [1])
    with pytest.raises(UserError, match="allowed cores '0, 1', now it is '1'"):
        preflight.resume(tmp_path / "run")


def test_a_run_stopped_before_its_environment_was_written_goes_on(tmp_path: Path) -> None:
    plan = Plan((Case("relu_mlp", "adam", "fit"),), RunSettings(), "test")
    RunFolder.create(tmp_path / "run", plan)
    (tmp_path / "run" / "environment.json").unlink(missing_ok=True)
    opening, again = preflight.resume(tmp_path / "run")
    assert again == plan
    assert (opening.open().environment() or {})["dataset_digest"]


def test_a_run_whose_environment_is_lost_is_not_resumed_nor_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make_run(tmp_path / "run", 1, (Case("softmax", "sgd", "fit"),), rounds=6)
    read_run(path)
    (path / "environment.json").unlink()
    for reading in (read_run, preflight.resume):
        with pytest.raises(UserError, match=r"json is missing, which says on what its 3"):
            reading(path)


def test_a_run_is_not_resumed_with_another_file_of_its_model_or_of_the_suite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "mymodels.py"
    model.write_text("as it was")
    own = preflight.CHECKOUT / "bench" / "schema" / "case.py"
    begun = (
        {"suite": {"bench/schema/case.py": digest(own)}},
        {"models": {"mymodels.py": digest(model)}, "elsewhere": {"theirs.py": "not asked"}},
    )
    folder = preflight.begin(
        Plan((Case("relu_mlp", "adam", "fit"),), RunSettings(), "test"), RUN
    ).open()
    described = folder.environment() or {}
    folder.write_environment({**described, "code": dict(zip("ab", begun, strict=True))})
    preflight.resume(RUN)
    model.write_text("changed")
    with pytest.raises(UserError, match=r"run was measured with another mymodels\.py"):
        preflight.resume(RUN)
    model.unlink()
    with pytest.raises(UserError, match=r"mymodels\.py"):
        preflight.resume(RUN)
    with pytest.raises(UserError, match=r"bench/schema/case\.py"):
        compatibility.refuse_changed_files(RUN, {"code": {"a": begun[0]}}, {"suite": tmp_path})


def digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def measured(environment: dict[str, Any], name: str, **columns: Any) -> MeasuredRun:
    row = {"epochs": 5, "seed": 42, "launches": 3, **columns}
    return MeasuredRun(Path(name), environment, {"case": row}, {"case": (0.1,)})


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        (("cpu", "model"), "Xeon", "the CPU Xeon"),
        (("cpu", "cores_logical"), 8, "logical cores 8"),
        (("cpu", "affinity"), [0], "a number of allowed cores of 1"),
        (("cpu", "cgroup_quota_cpus"), 1.5, "a CPU quota of 1.5"),
        (("gpus",), [], "the GPUs none"),
    ],
)
def test_a_baseline_serves_one_machine(path: tuple[str, ...], value: Any, said: str) -> None:
    first, second = measured(RECORD, "a"), measured(with_fact(path, value), "b")
    with pytest.raises(NotComparable, match=f"b ran on {said}, a on "):
        compatibility.refuse_other_machine([first, second])
    compatibility.refuse_other_machine([first, measured(without(path), "b")])


def test_a_baseline_takes_other_software_and_other_cores_of_the_same_number() -> None:
    other = with_fact(("versions", "tensorflow"), "2.22.0")
    other["cpu"]["affinity"] = [2, 3]
    other["git"] = {"revision": "2e", "dirty": True}
    assert compatibility.first_difference(Purpose.BASELINE, RECORD, other) is None
    assert compatibility.first_difference(Purpose.RESUME, RECORD, other) is not None
    compatibility.refuse_other_machine([measured(RECORD, "a"), measured(other, "b")])


def test_the_work_must_match_by_purpose() -> None:
    runs = [measured(RECORD, "a"), measured(RECORD, "b", seed=43, launches=1)]
    compatibility.refuse_other_work(runs, Purpose.COMPARE)
    with pytest.raises(NotComparable, match="case has seed 43 in b and 42 in a"):
        compatibility.refuse_other_work(runs, Purpose.BASELINE)
    for purpose in (Purpose.COMPARE, Purpose.BASELINE):
        # A launch in rounds of steps has other epochs too.
        runs = [measured(RECORD, "a"), measured(RECORD, "b", steps=10, epochs=2)]
        with pytest.raises(NotComparable, match=r"steps 10 in b and none in a.*the same --steps"):
            compatibility.refuse_other_work(runs, purpose)
        runs = [measured(RECORD, "a"), measured(with_fact(("dataset_digest",), "def"), "b")]
        with pytest.raises(NotComparable, match=r"b trained on data of SHA-256 def"):
            compatibility.refuse_other_work(runs, purpose)


def test_what_is_shown_is_what_acted() -> None:
    older = without(("overruled",)) | {"variables": {"KERAS_BACKEND": "jax"}}
    said = shown([older, RECORD])
    assert said["variables"] == ("OMP_NUM_THREADS=1", "OMP_NUM_THREADS=1")
    assert said["GPUs"] == ("H100", "H100")
    assert "changes" not in said
    assert shown([{}])["CPU"] == ("not known",)


def test_threads_meet_on_one_line_within_one_machine_and_software() -> None:
    """A clock is not a machine: two runs of one never read the same."""
    clock = with_fact(("cpu", "frequency_hz"), 2)
    keras = with_fact(("versions", "keras"), "3.16.0")
    one, same, other = same_threads_axis([RECORD, clock, keras])
    assert one == same != other


def test_the_manual_has_the_table() -> None:
    manual = (ROOT / "docs/reference/environment.md").read_text("utf-8")
    order = (
        Purpose.RESUME,
        Purpose.BASELINE,
        Purpose.CONFIRM,
        Purpose.COMPARE,
        Purpose.THREADS,
        Purpose.SHOWN,
        Purpose.HISTORY,
    )
    for fact in FACTS:
        cells = " | ".join("yes" if purpose in fact.purposes else "" for purpose in order)
        assert f"| {fact.name} | `{'.'.join(fact.path)}` | {cells} |" in manual
