"""GPU evidence on a box that is slow, old or bare, and archives that are damaged: no framework."""

from __future__ import annotations

import contextlib
import sys
import tarfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import requires
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from packaging.requirements import Requirement
from support.run_folders import write_run

from bench.evidence.gpu import box as on_box
from bench.evidence.gpu import checks, command, device_parts, evidence, part, verb_parts, wheels
from bench.evidence.gpu.box import Asked, Box
from bench.evidence.gpu.evidence import pack
from bench.evidence.gpu.part import Context
from bench.evidence.gpu.records import (
    REHEARSAL,
    Outcome,
    Record,
    Records,
    Result,
    TooShort,
)
from bench.evidence.gpu.show import show
from bench.machine.nvml import Gpu, Inventory
from bench.schema.case import Case
from bench.schema.errors import ExitCode
from bench.schema.launch import Status
from fmnist_models.errors import UserError

STOPPED = int(ExitCode.INTERRUPTED)
ROW = {
    "case": "relu_mlp-adam-fit-gpu-b32-float32-jax",
    "status": "ok",
    "reason": "",
    "device": "gpu",
    "backend": "jax",
    "loop": "fit",
    "batch_size": "32",
    "precision": "float32",
    "precision_share": "1.0",
    "samples_per_s": "1e6",
    "roofline_fraction": "0.2",
}
UNMEASURED = {**ROW, "status": "interrupted", "reason": "0 of 1 launches done", "samples_per_s": ""}
RUN = {"device": "gpu", "last_line": "", "on_cpu": False, "framework": "JAX"}


def context_in(folder: Path, gpu: Gpu | None = None, left_s: float = 100.0) -> Context:
    box = Box(Inventory(), gpu, "cpu" if gpu is None else "gpu", folder)
    return Context(box, Records(folder, box.label), end_s=time.monotonic() + left_s)


def answering(
    monkeypatch: pytest.MonkeyPatch, code: int, last: str = "stopped"
) -> list[tuple[Sequence[str], float]]:
    """Each command ends with that code and leaves nothing; the words and limits of all."""
    asked: list[tuple[Sequence[str], float]] = []

    def commanded(
        box: Box, name: str, words: Sequence[str], limit_s: float, **_: str
    ) -> tuple[int, str]:
        """Nothing is run."""
        (box.folder / "logs").mkdir(exist_ok=True)
        (box.folder / "logs" / f"{name}.txt").touch()
        asked.append((words, limit_s))
        return code, last

    monkeypatch.setattr(Box, "command", commanded)
    return asked


def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of the evidence sleeps."""
    words = (sys.executable, "-c", "import time; time.sleep(60)")
    monkeypatch.setattr(on_box, "child_command", lambda _: words)


def test_a_child_that_is_silent_takes_no_more_than_the_time_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(monkeypatch)
    box = Box(Inventory(), None, "cpu", tmp_path)
    late, hung = Asked("jax", box, lambda: 0.2), Asked("jax", box, lambda: 1.0)
    with pytest.raises(TooShort, match="the child of jax gave no answer in 1 s"):
        late.ask("placement")
    # One that had much time hangs.
    monkeypatch.setattr(on_box, "_HUNG_S", 0.5)
    with pytest.raises(UserError, match="gave no answer in 1 s") as told:
        hung.ask("placement")
    assert told.type is UserError
    for child in (late, hung):
        child.close()


def test_a_command_that_takes_too_long_ends_like_an_interrupted_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent(monkeypatch)
    box = Box(Inventory(), None, "cpu", tmp_path)
    code, last = box.command("doctor", ["doctor"], 0.5)
    assert code == STOPPED
    assert last


def test_what_the_child_of_a_duel_took_is_not_given_to_the_duel_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(part, "time", SimpleNamespace(monotonic=lambda: clock[0]))

    class Slow:
        """A child that starts slowly."""

        def __init__(self, *_: object) -> None:
            pass

        def ask(self, op: str, **_: object) -> Mapping[str, float]:
            """Take 40 seconds."""
            clock[0] += 40
            return {"added_s": 0.1}

        def close(self) -> None:
            """Nothing runs."""

    monkeypatch.setattr(part, "Asked", Slow)
    asked = answering(monkeypatch, 2, "no such folder")
    context = context_in(tmp_path)
    context.end_s = 1150.0
    with pytest.raises(UserError, match="no duel was fought: no such folder"):
        verb_parts.SLOWED.measure(context, "jax", False)
    ((words, limit_s),) = asked
    assert limit_s == 150 - 40 - 25
    assert words[-2:] == ["--budget", "60"]


@pytest.mark.parametrize(
    "part_", [verb_parts.DOCTOR, verb_parts.SWEEP, verb_parts.PRECISIONS, verb_parts.PROFILE]
)
@pytest.mark.parametrize("fault", [False, True])
def test_a_command_that_was_stopped_proves_nothing(
    part_: part.Part, fault: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither that the check fails, nor that it finds its fault."""
    answering(monkeypatch, STOPPED)
    with pytest.raises(TooShort, match="stopped when its time was over"):
        part_.measure(context_in(tmp_path), "jax", fault)


def test_a_duel_whose_fault_would_not_fit_is_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = answering(monkeypatch, 0)
    with pytest.raises(TooShort, match="30 s were left, and a duel takes 80"):
        verb_parts.EQUAL.measure(context_in(tmp_path, left_s=30.4), "jax", True)
    assert not asked


@pytest.mark.parametrize("check", [checks.sweep, checks.precisions])
def test_a_run_that_was_cut_did_not_fit_and_what_it_has_is_still_checked(check: Any) -> None:
    cut = {**RUN, "exit_code": STOPPED}
    found = check({**cut, "rows": [ROW, UNMEASURED]})
    words = "1 of 2 cases were measured when the time was over"
    assert found == Outcome(Result.DID_NOT_FIT, words)
    assert check({**cut, "rows": [ROW, ROW]}).result is Result.PASSED
    wrong = {"precision_share": "0.1", "roofline_fraction": "3"}
    assert check({**cut, "rows": [{**ROW, **wrong}, UNMEASURED]}).result is Result.FAILED
    # An interrupted case of a run that came to its end is no lack of time.
    assert check({**cut, "exit_code": 2, "rows": [ROW, UNMEASURED]}).result is Result.FAILED


def test_layers_in_float32_that_were_not_measured_are_no_fault_that_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    why = "there is no compiler"

    def commanded(
        box: Box, name: str, words: Sequence[str], limit_s: float, **_: str
    ) -> tuple[int, str]:
        """A run whose case was skipped."""
        case = Case("relu_mlp", "adam", "compiled", precision="mixed_bfloat16", backend="torch")
        write_run(box.folder / name, {}, reasons={case: (Status.SKIPPED, why)})
        return 0, "done"

    monkeypatch.setattr(Box, "command", commanded)
    with pytest.raises(UserError, match=f"the fault was not measured: {why}"):
        verb_parts.PRECISIONS.measure(context_in(tmp_path), "torch", True)


def test_a_profile_of_a_device_that_is_not_there_fails() -> None:
    """The verb ends with 0 where all is skipped."""
    skipped = [{"status": "skipped", "reason": "no gpu:99 here"}]
    values = {**RUN, "exit_code": 0, "rows": skipped, "device_rows": []}
    assert checks.profile(values) == Outcome(Result.FAILED, "no gpu:99 here")


def test_a_profile_of_a_gpu_shows_kernels() -> None:
    phases = {**RUN, "exit_code": 0, "rows": [{"status": "ok", "reason": ""}], "last_line": "done"}
    seen = [{"kernels_s": "0.25", "gaps": "7"}]
    found = checks.profile({**phases, "device_rows": seen})
    assert found == Outcome(Result.PASSED, "0.250 s of kernels and 7 gaps; 1 phases; done")
    for none in ([], [{"kernels_s": "0.0", "gaps": "0"}]):
        assert checks.profile({**phases, "device_rows": none}).result is Result.FAILED
        on_cpu = {**phases, "on_cpu": True, "device_rows": none}
        assert checks.profile(on_cpu).result is Result.PASSED


def test_a_gpu_without_tf32_is_not_asked_for_it(tmp_path: Path) -> None:
    """A worker refuses to switch it on there."""
    old = Gpu(0, "Tesla T4", "GPU-1", compute_capability=(7, 5))
    values = device_parts._tf32(context_in(tmp_path, old), "jax", False)
    found = checks.tf32({**values, "on_cpu": False})
    assert found.result is Result.NOT_APPLICABLE
    assert "Tesla T4 has 7.5" in found.words


@pytest.mark.parametrize(
    ("capability", "result"),
    [([9, 0], Result.FAILED), ([8, 9], Result.PASSED), (None, Result.PASSED)],
)
def test_tf32_is_faster_where_the_gpu_is_made_so(
    capability: list[int] | None, result: Result
) -> None:
    off, on = ({"relative_error": e, "flops_per_s": f} for e, f in ((0.0, 5e13), (2.4e-4, 6e13)))
    values = {"compute_capability": capability, "off": off, "on": on}
    assert checks.tf32({**RUN, **values}).result is result
    both_rounded = {**values, "off": {**off, "relative_error": 2.4e-4}}
    assert checks.tf32({**RUN, **both_rounded}).result is Result.FAILED


def test_the_readings_of_company_begin_before_the_child_is_on_the_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a container its process id may be told otherwise: it would be somebody else."""
    told: list[str] = []

    class Told:
        """A child that tells what happens to it."""

        pid = 7

        def __init__(self, *_: object) -> None:
            told.append("starts")

        def ask(self, op: str, **_: object) -> None:
            """Answer at once."""
            told.append(op)

        begin = ask

        def close(self) -> None:
            """End."""
            told.append("ends")

    def watch(*_: object, **__: object) -> Any:
        """Readings of nobody."""
        told.append("readings begin")
        noise = SimpleNamespace(gpu_other_processes=0, gpu_clock_hz=None, gpu_throttle_reasons=None)
        return lambda _: noise

    monkeypatch.setattr(part, "Asked", Told)
    monkeypatch.setattr(device_parts.counters, "watch", watch)
    context = context_in(tmp_path, Gpu(0, "Test GPU", "GPU-1"))
    context.child("jax").ask("memory")
    device_parts._company(context, "jax", False)
    assert told == ["starts", "memory", "ends", "starts", "readings begin", "load"]
    told.clear()
    device_parts._company(context, "jax", True)
    assert told == [*("ends", "starts", "load", "load", "starts", "readings begin", "load", "ends")]


def packed(folder: Path, gpu: Gpu | None, *records: tuple[str, Mapping[str, Any]]) -> Path:
    """An archive of these parts, with something large beside the records."""
    folder.mkdir()
    box = Box(Inventory(), gpu, "gpu", folder)
    kept = Records(folder, box.label)
    for name, values in records:
        kept.add(Record(box.label, name, "jax", "", Result.PASSED, "fine", 1.0, values))
    (folder / "logs").mkdir()
    lines = (f"{number * number} {number}\n" for number in range(2_000))
    (folder / "logs" / "a.txt").write_text("".join(lines))
    return pack(box, folder.with_name("packed.tar.gz"))


def test_each_row_of_a_run_and_a_profile_is_shown_once(tmp_path: Path) -> None:
    phases = [{"phase": "forward", "share": "0.4"}, {"phase": "backward", "share": "0.6"}]
    archive = packed(
        tmp_path / "work",
        Gpu(0, "Test GPU", "GPU-1"),
        ("sweep", {"rows": [ROW]}),
        ("sweep-between", {"rows": [{**ROW, "batch_size": "64"}]}),
        ("precisions", {"rows": [{**ROW, "batch_size": "2048"}]}),
        ("profile", {"rows": phases}),
    )
    show(archive, tmp_path / "shown")
    rows = (tmp_path / "shown/runs.csv").read_text().splitlines()[1:]
    assert [row.split(",")[1] for row in rows] == ["sweep", "sweep-between", "precisions"]
    rows = (tmp_path / "shown/profile.csv").read_text().splitlines()
    assert rows == [
        "label,part,backend,phase,share",
        "Test GPU,profile,jax,forward,0.4",
        "Test GPU,profile,jax,backward,0.6",
    ]


def test_an_archive_that_is_cut_or_damaged_is_one_line(tmp_path: Path) -> None:
    whole = packed(tmp_path / "work", None, ("doctor", {"report": ["well"]})).read_bytes()
    file = tmp_path / "bad.tar.gz"
    for place in range(0, len(whole) * 9 // 10, 97):
        file.write_bytes(whole[:place])
        with pytest.raises(UserError, match=r"bad\.tar\.gz"):
            show(file, tmp_path / "shown")
        turned = bytes([whole[place] ^ 0xFF])
        file.write_bytes(whole[:place] + turned + whole[place + 1 :])
        # What lies outside the records may be wrong without harm; another error is a traceback.
        with contextlib.suppress(UserError):
            show(file, tmp_path / "shown")


@pytest.mark.parametrize(
    "values",
    [
        {"rows": [{"case": "x"}]},
        {"rows": [ROW, {"case": "x"}]},
        {"rows": 3},
        [1],
    ],
)
def test_records_of_another_form_are_one_line(tmp_path: Path, values: Any) -> None:
    archive = packed(tmp_path / "work", None, ("sweep", values))
    with pytest.raises(UserError, match="its records are damaged"):
        show(archive, tmp_path / "shown")
    assert not (tmp_path / "shown").exists()


def test_a_rehearsal_whose_file_was_renamed_is_no_gpu(tmp_path: Path) -> None:
    folder = tmp_path / "work"
    packed(folder, None, ("doctor", {"report": ["well"]}))
    renamed = tmp_path / "renamed.tar.gz"
    with tarfile.open(renamed, "w:gz") as out:
        out.add(folder / "rehearsal-no-gpu-records.jsonl", "gpu-evidence/records.jsonl")
    with pytest.raises(UserError, match="holds no records"):
        show(renamed, tmp_path / "shown")


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    archive = packed(tmp_path / "work", None, ("doctor", {"report": ["well"]}))
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot write to .*file"):
        show(archive, tmp_path / "file")


def test_the_archive_lies_beside_a_folder_named_by_a_dot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evidence, "measure", lambda *_: [])
    monkeypatch.setattr(on_box, "rehearsed", lambda box: box)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    command._measured(Path(), None, None, 1.0, None)
    assert (tmp_path / "rehearsal-no-gpu-empty.tar.gz").exists()


def test_ctrl_c_packs_what_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(box: Box, *_: object) -> list[Record]:
        """The user has seen enough."""
        Records(box.folder, REHEARSAL).add(
            Record(REHEARSAL, "doctor", "jax", "", Result.PASSED, "fine", 1.0, {"report": ["well"]})
        )
        raise KeyboardInterrupt

    monkeypatch.setattr(evidence, "measure", interrupted)
    monkeypatch.setattr(on_box, "rehearsed", lambda box: box)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    with pytest.raises(KeyboardInterrupt):
        command._measured(tmp_path / "work", None, None, 1.0, None)
    written = show(tmp_path / "rehearsal-no-gpu-work.tar.gz", tmp_path / "shown")
    assert [file.name for file in written] == [
        "rehearsal-no-gpu-checks.csv",
        "rehearsal-no-gpu-doctor-jax.txt",
    ]


@pytest.mark.parametrize("name", wheels.CARRIED)
def test_what_a_carried_package_needs_is_carried_or_told(name: str) -> None:
    """Nothing can be downloaded there; without ml_dtypes Keras does not start on PyTorch."""
    known = {each.replace("-", "_") for each in (*wheels.CARRIED, *wheels.NEEDED)}
    needed = [Requirement(text) for text in requires(name) or ()]
    missing = [
        one.name
        for one in needed
        if (one.marker is None or one.marker.evaluate({"extra": ""}))
        and one.name.replace("-", "_") not in known
    ]
    assert missing == []


def test_why_pip_failed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(returncode=1, stderr="python: No module named pip\n")
    monkeypatch.setattr(wheels.subprocess, "run", lambda *_, **__: done)
    with pytest.raises(UserError, match="cannot download the wheels: python: No module named pip"):
        wheels.download(tmp_path, "3.12", lambda _: None)
