"""The parts that the suite's own commands measure."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from bench.evidence.gpu import checks
from bench.evidence.gpu.part import Context, Part
from bench.evidence.gpu.records import TooShort
from bench.schema.draws import SIDES
from bench.schema.errors import ExitCode
from bench.store.run_folder import RunFolder
from bench.verdicts.check import Verdict
from bench.verdicts.sequential import SPENDING
from fmnist_models.errors import UserError

# A device that no machine has; a case of it is a skipped row.
_NO_DEVICE = "gpu:99"
_TWO = 2
_MODULE, _BY_PRODUCTS, _IN_FLOAT32 = (
    "bench.evidence.gpu.products",
    "relu_mlp",
    "relu_mlp_in_float32",
)
# As in `products`, which imports Keras.
_TURNS, _SIZE = "FMNIST_PRODUCTS_TURNS", "FMNIST_PRODUCTS_SIZE"
_COLUMNS = (
    "case",
    "status",
    "reason",
    "backend",
    "loop",
    "device",
    "device_name",
    "batch_size",
    "precision",
    "precision_share",
    "samples_per_s",
    "step_ms",
    "roofline_fraction",
    "products_fraction",
    "bound",
    "epoch_j",
    "peak_device_memory_bytes",
    "jit_compile",
    "steps_a_call",
    "replicas",
    "processes",
    "device_uuids",
    "efficiency",
    "all_reduce_bytes_per_s",
    "all_reduce_share",
    "warnings",
)
# More replicas than any box has GPUs.
_TOO_MANY = 64
_ENDING_S = 25.0
# Of a duel on a GPU, by estimate.
_DUEL_S = 80.0


def _doctor(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """The exit code of `doctor`, and its report."""
    device = _NO_DEVICE if fault else context.box.device
    name = f"doctor-{backend}{_mark(fault)}"
    words = ["doctor", "--backend", backend, "--device", device]
    code, last = context.box.command(name, words, _limit(context, 120))
    _refuse_stopped(code, last)
    log = context.box.folder / "logs" / f"{name}.txt"
    report = log.read_text("utf-8", "replace").splitlines()
    return {"exit_code": code, "last_line": last, "report": [line.rstrip() for line in report]}


def _run(
    context: Context, backend: str, name: str, device: str, words: Sequence[str], **changes: str
) -> dict[str, Any]:
    """The rows of a run of one epoch, and of one launch a case where no words say otherwise."""
    box = context.box
    folder = box.folder / name
    settings = ["--epochs", "1", "--no-report", "--output", folder.name]
    settings += [] if "--launches" in words else ["--launches", "1"]
    settings += ["--optimizers", "adam", "--backends", backend, "--devices", device]
    data = ["--data", str(box.data)] if box.data else []
    limit = _limit(context, context.left_s)
    code, last = box.command(name, ["run", *settings, *words, *data], limit, **changes)
    if not (rows := _rows(folder / "results.csv")):
        _refuse_stopped(code, last)
        # With a fault too: a run that never began finds none.
        raise UserError(f"nothing was measured: {last}")
    return {"exit_code": code, "last_line": last, "device": device, "rows": rows}


def _sweep(sizes: str, name: str, context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """Rows of both loops over batch sizes; with the fault, on a device that is not there."""
    device = _NO_DEVICE if fault else context.box.device
    words = ["--models", "relu_mlp", "--loops", "fit,compiled", "--precisions", "float32"]
    words += ["--batch-sizes", sizes]
    return _run(context, backend, f"{name}-{backend}{_mark(fault)}", device, words)


def _precisions(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """Rows of each precision; with the fault, of layers that compute in float32 nevertheless."""
    model = f"{_MODULE}:{_IN_FLOAT32}" if fault else "relu_mlp"
    precisions = "mixed_bfloat16" if fault else "tf32,mixed_bfloat16,mixed_float16"
    words = ["--models", model, "--loops", "compiled", "--precisions", precisions]
    words += ["--batch-sizes", "2048"]
    name = f"precisions-{backend}{_mark(fault)}"
    values = _run(context, backend, name, context.box.device, words)
    if fault and not any(row["status"] == "ok" for row in values["rows"]):
        _refuse_stopped(values["exit_code"], values["last_line"])
        raise UserError(f"the fault was not measured: {values['rows'][0]['reason']}")
    return values


def _replicas(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """Rows of one and of two replicas in turns; with the fault, of more than there are GPUs."""
    box = context.box
    if box.gpu is not None and len(box.machine.gpus) < _TWO:
        return {"why_not": "there is one GPU, and two replicas need two"}
    # The loop in which the backend trains several.
    loop = "fit" if backend == "tensorflow" else "compiled"
    words = ["--models", "relu_mlp", "--loops", loop, "--precisions", "float32"]
    words += ["--batch-sizes", "8192" if box.gpu else "512", "--launches", "2"]
    words += ["--replicas", f"1,{_TOO_MANY if fault else _TWO}"]
    device = "cpu" if box.gpu is None and not fault else "gpu"
    # JAX takes the number of virtual devices from one place only: here from the run.
    changes = {"XLA_FLAGS": ""} if box.gpu is None else {}
    name = f"replicas-{backend}{_mark(fault)}"
    return _run(context, backend, name, device, words, **changes)


def _duel(slower: bool, context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """A duel, of equals or with products in each step of B; with the fault the other of the two.

    Where that other duel was fought, its values are taken.
    """
    slower = slower != fault
    name = "duel-slowed" if slower else "duel-equal"
    if fault and (known := context.measured.get((name, backend))):
        return dict(known)
    if context.left_s < _DUEL_S:
        raise TooShort(f"{context.left_s:.0f} s were left, and a duel takes {_DUEL_S:.0f}")
    box, size = context.box, 512 if context.box.gpu is None else 1024
    turns = 4
    added_s = context.child(backend).ask("products", turns=turns, size=size)["added_s"]
    context.close_child()
    folder = box.folder / f"{name}-{backend}{_mark(fault)}"
    words = ["duel", "--a", f"{_TURNS}=0", "--b", f"{_TURNS}={turns if slower else 0}"]
    words += ["--models", f"{_MODULE}:{_BY_PRODUCTS}", "--backends", backend]
    words += ["--devices", box.device, "--batch-sizes", "2048", "--epochs", "1"]
    # Of the few images of a rehearsal, a round would be a step, and a launch thousands of rounds.
    words += ["--output", folder.name, "--rows", "16000"]
    limit = _limit(context, context.left_s)
    # No block begins that would be cut.
    words += ["--budget", f"{max(1.0, limit - _ENDING_S):.0f}"]
    code, last = box.command(folder.name, words, limit, **{_SIZE: str(size)})
    if not (folder / "verdict.json").exists():
        _refuse_stopped(code, last)
        raise UserError(f"no duel was fought: {last}")
    (case,) = json.loads((folder / "verdict.json").read_text("utf-8"))["cases"]
    if case["failure"]:
        raise UserError(str(case["failure"]))
    blocks, needed = len(case["speed"]), min(SPENDING)
    if blocks < needed and case["verdict"] == Verdict.BLIND:
        raise TooShort(f"{blocks} blocks in {limit:.0f} s; a verdict needs {needed}")
    rounds = RunFolder(folder / SIDES[0]).rounds()
    step_s = median(stored.round.seconds / stored.round.updates for stored in rounds)
    return {
        "exit_code": code,
        "blocks": blocks,
        "verdict": case["verdict"],
        "log_ratios": case["speed"],
        "speed_look": case["speed_look"],
        "step_s": step_s,
        "added_s": added_s,
        # What the duel that is slowed puts in, so that the check can be given either.
        "expected_slower": added_s / step_s,
    }


def _profile(context: Context, backend: str, fault: bool) -> dict[str, Any]:
    """The phases of a case by `profile`; with the fault, on a device that is not there."""
    box = context.box
    folder = box.folder / f"profile-{backend}{_mark(fault)}"
    device = _NO_DEVICE if fault else box.device
    words = ["profile", "--models", "relu_mlp", "--optimizers", "adam", "--loops", "compiled"]
    words += ["--batch-sizes", "512", "--precisions", "float32", "--backends", backend]
    words += ["--devices", device, "--seconds", "5", "--output", folder.name]
    words += ["--data", str(box.data)] if box.data else []
    code, last = box.command(folder.name, words, _limit(context, context.left_s))
    _refuse_stopped(code, last)
    rows, work = (_rows(folder / f"{name}.csv", whole=True) for name in ("profile", "devices"))
    return {"exit_code": code, "last_line": last, "rows": rows, "device_rows": work}


def _rows(file: Path, *, whole: bool = False) -> list[dict[str, str]]:
    """The rows of a table; none where it is not there."""
    if not file.exists():
        return []
    with file.open(encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    return rows if whole else [{name: row[name] for name in _COLUMNS} for row in rows]


def _refuse_stopped(code: int, last: str) -> None:
    """Refuse what a command that was told to stop left: it proves nothing.

    Raises:
        TooShort: it was stopped.
    """
    if code == ExitCode.INTERRUPTED:
        raise TooShort(f"it was stopped when its time was over: {last}")


def _limit(context: Context, most_s: float) -> float:
    return max(10.0, min(context.left_s, most_s) - _ENDING_S)


def _mark(fault: bool) -> str:
    return "-fault" if fault else ""


_NOT_THERE = "a device that is not there"
DOCTOR = Part("doctor", _doctor, checks.doctor, _NOT_THERE, 25, 150)
SWEEP = Part("sweep", partial(_sweep, "32,512,8192", "sweep"), checks.sweep, _NOT_THERE, 60, 180)
SLOWED = Part(
    "duel-slowed",
    partial(_duel, True),
    checks.slowed,
    "a slow-down of 0",
    _DUEL_S,
    150,
    first_only=True,
)
EQUAL = Part(
    "duel-equal",
    partial(_duel, False),
    checks.equal,
    "a slow-down that is not said",
    _DUEL_S,
    150,
    first_only=True,
)
PRECISIONS = Part(
    "precisions", _precisions, checks.precisions, "layers that compute in float32", 50, 150
)
PROFILE = Part("profile", _profile, checks.profile, _NOT_THERE, 45, 120)
REPLICAS = Part("replicas", _replicas, checks.replicas, "more replicas than GPUs", 60, 150)
BETWEEN = Part(
    "sweep-between",
    partial(_sweep, "64,128,256,1024,2048,4096", "sweep-between"),
    checks.sweep,
    _NOT_THERE,
    90,
    240,
)
