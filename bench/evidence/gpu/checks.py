"""What must hold for the values of each part; pure functions, without a framework or a GPU.

Values of a part have `on_cpu`, whether no GPU was used, and `framework`, its title.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from bench.evidence.gpu.records import Outcome, Result
from bench.schema.errors import ExitCode
from bench.schema.launch import Status
from bench.verdicts import validity
from bench.verdicts.validity import Check, Verdict

Values = Mapping[str, Any]
# Twice the products take twice the time, within what clocks and launches add.
_TWICE = (1.6, 2.5)
# The energy counter over the power samples: within 2% on an H100 and an H200 (gpu_energy.csv).
_ENERGY = (0.9, 1.1)
# NVML's free memory falls by a block and by what the allocator rounds up.
_TAKEN = (0.99, 1.1)
# The slow-down that a duel finds, over the one that is put in.
_SLOWED = (0.5, 1.5)
# Caches hold more of a smaller share, so it may be above 1, but not by much.
_MOST_EFFICIENCY = 1.2
# A100, H100 and B200 multiply in TF32 several times as fast as in float32. A GeForce has the same
# peak for both (RTX 3090: 35.6 TFLOP/s), and other cards share its compute capability.
_LEAST_TF32_GAIN, _GAINS = 1.5, ((8, 0), (9, 0), (10, 0))


def doctor(values: Values) -> Outcome:
    """`doctor` ended with code 0, so none of its rows failed."""
    return _outcome(values["exit_code"] == 0, values["last_line"])


def placement(values: Values) -> Outcome:
    """Variable and result are on the case's device."""
    return _of(validity.placement(values["misplaced"], values["name"]))


def uuid(values: Values) -> Outcome:
    """The framework uses the GPU with the UUID that the suite gave it.

    That GPU's free memory falls by what the framework allocated, and the UUID that the framework
    tells, where it tells one, is the same.
    """
    if values["on_cpu"]:
        return _outcome(values["asked"] == "-1", f"CUDA_VISIBLE_DEVICES={values['asked']}")
    block, taken = values["block_bytes"], values["taken_bytes"]
    if taken is None:
        return _outcome(False, f"NVML tells no free memory of {values['compared_with']}")
    told = values["framework_uuids"] or [values["compared_with"]]
    share = taken / block
    words = (
        f"free memory of the chosen GPU falls by {share:.3f} of what was allocated; "
        f"{'its UUID is the same' if values['framework_uuids'] else 'it tells no UUID'}"
    )
    return _outcome(_within(share, _TAKEN) and told == [values["compared_with"]], words)


def memory(values: Values) -> Outcome:
    """The peak rises by an allocation of known size."""
    where = "host" if values["on_cpu"] else "device"
    found = validity.memory_counter(values["allocated_bytes"], values["rise_bytes"], where)
    return _of(found)


def synchronisation(values: Values) -> Outcome:
    """The clock is read after the device has computed: twice the products take twice the time."""
    found = validity.synchronization(
        values["dispatch_s"], values["synced_s"], values["read_s"], values["framework"]
    )
    if values["on_cpu"] and values["dispatch_s"] > values["read_s"] / 2:
        return Outcome(Result.NOT_APPLICABLE, "each call waits for its result by itself")
    if found.verdict is not Verdict.OK:
        # Too short to tell is no proof either.
        return _outcome(False, found.finding)
    ratio = values["synced_twice_s"] / values["synced_s"]
    words = f"{found.finding}; twice the products take {ratio:.2f} times as long"
    return _outcome(_within(ratio, _TWICE), words)


def tf32(values: Values) -> Outcome:
    """Without TF32 a product is exact; with it, it is rounded, and faster on some GPUs."""
    if values["on_cpu"]:
        return Outcome(Result.NOT_APPLICABLE, "a CPU has no TF32")
    if "why_not" in values:
        return Outcome(Result.NOT_APPLICABLE, values["why_not"])
    off, on = values["off"], values["on"]
    errors = {"product": {"off": off["relative_error"], "on": on["relative_error"]}}
    found = validity.tf32(errors, True, values["framework"])
    gain = on["flops_per_s"] / off["flops_per_s"]
    words = (
        f"{found.finding}: relative error {off['relative_error']:.1e} off, "
        f"{on['relative_error']:.1e} on; on, {gain:.2f} times the FLOP/s"
    )
    gains = tuple(values["compute_capability"] or ()) in _GAINS
    is_fast = gain >= _LEAST_TF32_GAIN or not gains
    return _outcome(found.verdict is Verdict.OK and is_fast, words)


def energy(values: Values) -> Outcome:
    """The joules of NVML's counter are those of its power samples."""
    if "why_not" in values:
        return Outcome(Result.NOT_APPLICABLE, values["why_not"])
    share = values["counter_over_samples"]
    return _outcome(
        _within(share, _ENERGY),
        f"the counter says {share:.3f} of the power samples' joules over "
        f"{values['seconds']:.1f} s of work",
    )


def trace(values: Values) -> Outcome:
    """The framework's profiler shows kernels, and each pause as a gap without any."""
    if values["on_cpu"]:
        return Outcome(Result.NOT_APPLICABLE, "a CPU runs no kernels")
    pauses, found = values["pauses"], values["long_gaps"]
    words = (
        f"{values['kernels']} kernels in {values['kernels_s']:.4f} s of {values['window_s']:.4f}; "
        f"{found} gaps of {values['pause_s']} s or longer where {pauses} were made"
    )
    return _outcome(values["kernels"] > 0 and found == pauses, words)


def company(values: Values) -> Outcome:
    """A launch sees no other process on the GPU while none is there."""
    if values["on_cpu"]:
        return Outcome(Result.NOT_APPLICABLE, "only on a GPU other processes are listed")
    others = values["gpu_other_processes"]
    if others is None:
        return _outcome(False, "NVML does not list the processes of this GPU")
    return _outcome(others == 0, f"NVML lists {others} other processes on the GPU")


def sweep(values: Values) -> Outcome:
    """Each case was measured on the device; a roofline fraction is above 0 and hardly above 1."""
    ended, cut = _parted(values)
    bad = [f"{row['case']}: {row['status']} {row['reason']}" for row in ended if not _is_ok(row)]
    if bad:
        return _outcome(False, bad[0])
    rows = [row for row in ended if _is_ok(row)]
    elsewhere = [row["case"] for row in rows if row["device"] != values["device"]]
    if elsewhere:
        return _outcome(False, f"{elsewhere[0]} is not on {values['device']}")
    known = [float(row["roofline_fraction"]) for row in rows if row["roofline_fraction"]]
    if not all(0 < fraction <= 1.05 for fraction in known):
        return _outcome(False, f"a roofline fraction of {max(known):.3g} cannot be")
    if cut:
        return cut
    fastest = max(float(row["samples_per_s"]) for row in rows)
    told = f"roofline fractions {min(known):.3g} to {max(known):.3g}" if known else "no roofline"
    return _outcome(bool(known), f"{len(rows)} cases, at most {fastest:,.0f} samples/s; {told}")


def replicas(values: Values) -> Outcome:
    """Two replicas train on a GPU each, and their efficiency is told and can be."""
    if "why_not" in values:
        return Outcome(Result.NOT_APPLICABLE, values["why_not"])
    ended, cut = _parted(values)
    bad = [f"{row['case']}: {row['status']} {row['reason']}" for row in ended if not _is_ok(row)]
    if bad:
        return _outcome(False, bad[0])
    if cut:
        return cut
    spread = [row for row in ended if row["replicas"] != "1"]
    for row in spread:
        uuids = row["device_uuids"].split()
        if not values["on_cpu"] and len(set(uuids)) != int(row["replicas"]):
            return _outcome(False, f"{row['case']}: it names the GPUs {row['device_uuids']!r}")
        if not row["efficiency"] or not 0 < float(row["efficiency"]) <= _MOST_EFFICIENCY:
            return _outcome(False, f"{row['case']}: an efficiency of {row['efficiency'] or 'none'}")
    told = [
        f"{row['replicas']} replicas by {row['processes']} processes: efficiency "
        f"{float(row['efficiency']):.2f}, the all-reduce alone is "
        f"{float(row['all_reduce_share']):.2f} of a step"
        for row in spread
    ]
    nothing = "; virtual devices of one CPU: it means nothing" * values["on_cpu"]
    return _outcome(bool(told), "; ".join(told) + nothing)


def precisions(values: Values) -> Outcome:
    """Each precision was computed in: at least half of the multiply-adds of the step."""
    ended, cut = _parted(values)
    wrong = [f"{row['case']}: {row['status']} {row['reason']}" for row in ended if _is_wrong(row)]
    ok = [row for row in ended if _is_ok(row)]
    if wrong:
        return _outcome(False, wrong[0])
    shares = [f"{row['precision']} {float(row['precision_share']):.2f}" for row in ok]
    words = f"share of the multiply-adds: {', '.join(shares) or 'nothing was measured'}"
    if any(float(row["precision_share"]) < 0.5 for row in ok):
        return _outcome(False, words)
    return cut or _outcome(bool(ok), words)


def equal(values: Values) -> Outcome:
    """A duel of equals does not call one of them worse."""
    words = f"{values['verdict']} after {values['blocks']} blocks: ratio {_ratio(values):.4f}"
    return _outcome(values["verdict"] != "regression", words)


def slowed(values: Values) -> Outcome:
    """A duel confirms a known slow-down, and measures about its size."""
    expected, found = values["expected_slower"], _ratio(values) - 1
    words = (
        f"{values['verdict']} after {values['blocks']} blocks: slower by {found:.3f}, and "
        f"{expected:.3f} was put in"
    )
    right = values["verdict"] == "regression" and _within(found / expected, _SLOWED)
    return _outcome(right, words)


def profile(values: Values) -> Outcome:
    """The verb `profile` profiled the case, and saw kernels; what it lacks is said in its words."""
    if "is not installed" in values["last_line"]:
        return Outcome(Result.SKIPPED, values["last_line"])
    statuses = {row["status"] for row in values["rows"]}
    if values["exit_code"] != 0 or statuses != {"ok"}:
        reason = next((row["reason"] for row in values["rows"]), "")
        return _outcome(False, reason or values["last_line"])
    words = f"{len(values['rows'])} phases; {values['last_line']}"
    if values["on_cpu"]:
        return Outcome(Result.PASSED, words)
    kernels_s = sum(float(row["kernels_s"]) for row in values["device_rows"])
    gaps = sum(int(row["gaps"]) for row in values["device_rows"])
    return _outcome(kernels_s > 0, f"{kernels_s:.3f} s of kernels and {gaps} gaps; {words}")


def _parted(values: Values) -> tuple[Sequence[Values], Outcome | None]:
    """The rows that have ended, and the outcome of those that lacked the time; None if none did."""
    rows: Sequence[Values] = values["rows"]
    if values["exit_code"] != ExitCode.INTERRUPTED:
        return rows, None
    ended = [row for row in rows if row["status"] != Status.INTERRUPTED]
    words = f"{len(ended)} of {len(rows)} cases were measured when the time was over"
    cut = None if len(ended) == len(rows) else Outcome(Result.DID_NOT_FIT, words)
    return ended, cut


def _is_ok(row: Values) -> bool:
    return bool(row["status"] == "ok")


def _is_wrong(row: Values) -> bool:
    """A precision that a device or framework does not have is a skipped row, with its reason."""
    no_such = row["device"] == "cpu" or "compute capability" in row["reason"]
    return not _is_ok(row) and not (row["status"] == "skipped" and no_such)


def _ratio(values: Values) -> float:
    return math.exp(sum(values["log_ratios"]) / len(values["log_ratios"]))


def _within(value: float, limits: tuple[float, float]) -> bool:
    return limits[0] <= value <= limits[1]


def _outcome(passed: bool, words: str) -> Outcome:
    return Outcome(Result.PASSED if passed else Result.FAILED, words)


def _of(check: Check) -> Outcome:
    """A check of `doctor`: here a warning, which is no proof, fails as well."""
    return _outcome(check.verdict is Verdict.OK, check.finding)
