"""Computes a row of results.csv without the comparison with other cases."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, TypeVar

from bench.analysis import noise, roofline, stats
from bench.analysis.scaling import spread_columns
from bench.schema import ceilings
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.columns import RESULT_COLUMNS
from bench.schema.launch import Better, LaunchRecord, Round, Status
from bench.schema.plan import RunSettings
from bench.schema.warnings import CaseWarning, Kind, read

Launch = tuple[LaunchRecord, list[Round]]

_T = TypeVar("_T")


def case_row(
    case: Case,
    settings: RunSettings,
    wanted: int,
    ended: Sequence[LaunchRecord],
    measured: Sequence[Launch],
) -> dict[str, Any]:
    """The row of a case, without the comparison with other cases.

    Args:
        case: the case.
        settings: settings of the run.
        wanted: number of launches that the case must have.
        ended: its launches, the last attempt of each.
        measured: those that ended ok, with their rounds.
    """
    status, reason = _status(wanted, ended)
    row: dict[str, Any] = dict.fromkeys(RESULT_COLUMNS)
    row |= {name: value for name, value in case.to_json().items() if name in row}
    row |= {
        "case": case.id,
        "status": str(status),
        "reason": reason,
        "epochs": None if case.loop == SKLEARN_LOOP else settings.epochs_of(case),
        "seed": settings.seed,
        "launches": len(measured),
        "rounds": sum(len(rounds) for _, rounds in measured),
        "device_name": "",
        "bound": "",
        "energy_covers": "",
        "scaling": "",
        "device_uuids": "",
        "warnings": "",
        "steps": settings.steps,
        **_judged(case, settings, measured),
    }
    if measured:
        row |= _measured(case, settings, measured)
    return row


def _judged(case: Case, settings: RunSettings, measured: Sequence[Launch]) -> dict[str, Any]:
    """What judges the case: its score, the good direction and the target, and what was trained."""
    if measured:
        record = measured[0][0]
        score, better, target = record.score, str(record.better), record.score_target
    else:
        record, target = None, None
        score, better = ("", "") if case.model in case.own else ("accuracy", str(Better.MAX))
    # The plan's target is of the embedded images; what is good elsewhere, only the user knows.
    if score == "accuracy" and target is None and (record is None or record.images):
        target = settings.score_target
    if settings.steps is not None:
        score, better, target = "", "", None
    return {
        "score": score,
        "better": better,
        "score_target": target,
        "data_digest": "" if record is None else record.data_digest,
        "model_digest": "" if record is None else record.model_digest,
        "initial_weights": "" if record is None or record.launch else record.initial_weights,
    }


def _status(wanted: int, ended: Sequence[LaunchRecord]) -> tuple[Status, str]:
    bad = [record for record in ended if record.status is not Status.OK]
    if bad:
        first = bad[0]
        which = f"launch {first.launch + 1} of {wanted}: " if wanted > 1 else ""
        if first.status is Status.SKIPPED:
            which = ""
        return first.status, which + first.reason
    if len(ended) < wanted:
        return Status.INTERRUPTED, f"{len(ended)} of {wanted} launches done: --resume goes on"
    return Status.OK, ""


def _measured(case: Case, settings: RunSettings, launches: Sequence[Launch]) -> dict[str, Any]:
    """The figures of a case: means over its launches, and throughput by `stats.throughput`."""
    records = [record for record, _ in launches]
    every = [rounds for _, rounds in launches]
    speed = stats.throughput([[(r.samples, r.seconds) for r in rounds] for rounds in every])
    first = every[0][0]
    row = {
        "device_name": records[0].device_name or "",
        "parameters": records[0].parameters,
        "samples_per_s": speed.samples_per_s,
        "samples_per_s_low": speed.low,
        "samples_per_s_high": speed.high,
        "step_ms": first.samples / first.updates / speed.samples_per_s * 1e3,
        "warmup_s": _mean(records, lambda r: r.warmup_s),
        "total_s": _mean(records, lambda r: r.total_s),
        "test_score": _mean(records, lambda r: r.test_score),
        "jit_compile": records[0].jit_compile,
        "steps_a_call": records[0].steps_a_call,
        "between_epochs_s": _idle_per_round(launches),
        "peak_host_memory_bytes": _largest(records, lambda r: r.peak_host_memory_bytes),
        "peak_device_memory_bytes": _largest(records, lambda r: r.peak_device_memory_bytes),
        **_energy(records, first.samples),
        "precision_share": _mean(records, lambda r: r.precision_share),
        **_input(records, case.batch_size),
    }
    if case.loop == SKLEARN_LOOP:
        return row | _folds(settings, every)
    row["epoch_s"] = first.samples / speed.samples_per_s
    if case.replicas > 1:
        row |= spread_columns({**case.to_json(), **row}, launches, settings.scaling)
    if settings.steps is not None:
        return row
    target, better = _judged(case, settings, launches)["score_target"], records[0].better
    return row | _documented_epochs(settings.epochs_of(case), every, target, better)


def _input(records: Sequence[LaunchRecord], batch_size: int) -> dict[str, Any]:
    """The columns of a stream: the share of a step that waits, and the rate without a wait.

    Args:
        records: the launches.
        batch_size: samples of the step that they timed, whatever a round's updates are.
    """
    step_s = _mean(records, lambda r: r.resident_step_s)
    return {
        "waiting_share": _mean(records, lambda r: r.waiting_share),
        "input_free_samples_per_s": None if step_s is None else batch_size / step_s,
    }


def roofline_columns(
    row: Mapping[str, Any], launch: Launch, limits: roofline.Limits | None
) -> dict[str, Any]:
    """The columns of a case's FLOPs, bytes and roofline.

    Empty where the work cannot be counted; without the roofline where no ceilings were measured
    or the counts of the step and of its layers differ.
    """
    record, _ = launch
    layers, batch_size = record.dense_layers, row["batch_size"]
    if layers is None:
        per_sample = round(record.flops_per_sample or 0)
    else:
        per_sample = roofline.step_flops(layers, 1)
    if not per_sample or record.traffic is None:
        return {}
    traffic = [ceilings.Traffic(*item) for item in record.traffic]
    counted = {
        "flops_per_sample": per_sample,
        "bytes_per_step": roofline.step_bytes(traffic),
        "gflops": per_sample * row["samples_per_s"] / 1e9,
    }
    doubtful = any(read(text).kind is Kind.NO_ROOFLINE for text in record.warnings)
    if limits is None or doubtful:
        return counted
    step_s = batch_size / row["samples_per_s"]
    standing = roofline.standing(per_sample * batch_size, traffic, step_s, limits)
    counted |= {
        "roofline_limit_s": standing.limit_s,
        "roofline_fraction": standing.fraction,
        "bound": str(standing.bound),
    }
    key = None if layers is None else ceilings.products_key(layers, batch_size)
    products_s = None if key is None else limits.products_s.get(key)
    if products_s is not None:
        counted["products_limit_s"] = products_s * row["step_ms"] / 1e3 / row["epoch_s"]
        counted["products_fraction"] = products_s / row["epoch_s"]
    return counted


def _folds(settings: RunSettings, every: Sequence[list[Round]]) -> dict[str, Any]:
    """The accuracy columns of the logistic baseline; each fit is a round, folds have accuracies."""
    scored = [r for rounds in every for r in rounds]
    accuracy = _mean(scored, lambda r: r.val_score)
    return {
        "val_score": accuracy,
        "score_reached": accuracy is not None and stats.reaches(accuracy, settings.score_target),
    }


def _documented_epochs(
    epochs: int, every: Sequence[list[Round]], target: float | None, better: Better
) -> dict[str, Any]:
    """The columns of the score after the documented epochs, and of the time to its target."""
    last = [rounds[epochs - 1] for rounds in every]
    row = {
        "train_score": _mean(last, lambda r: r.train_score),
        "val_score": _mean(last, lambda r: r.val_score),
        "val_loss": _mean(last, lambda r: r.val_loss),
        "evaluation_s": _mean([r for rounds in every for r in rounds], lambda r: r.evaluation_s),
    }
    if target is None or row["val_score"] is None:
        return row
    times = [
        stats.time_to_score([(r.seconds, r.val_score) for r in rounds], target, better)
        for rounds in every
    ]
    reached = [time for time in times if time is not None]
    all_reached = len(reached) == len(times)
    return row | {
        "score_reached": all_reached,
        "time_to_score_s": fmean(reached) if all_reached else None,
    }


def _energy(records: Sequence[LaunchRecord], samples: int) -> dict[str, Any]:
    """The energy columns over all launches together; empty where no counter could be read.

    Args:
        records: the launches.
        samples: samples of an epoch.
    """
    told = [(r.energy_j, r.energy_samples) for r in records if r.energy_j and r.energy_samples]
    if not told:
        return {}
    joules = math.fsum(energy_j for energy_j, _ in told)
    per_j = sum(counted for _, counted in told) / joules
    covers = next(r.energy_covers for r in records if r.energy_j)
    return {"epoch_j": samples / per_j, "samples_per_j": per_j, "energy_covers": covers}


def _idle_per_round(launches: Sequence[Launch]) -> float:
    """Mean idle seconds per round: seconds outside the windows, without evaluation."""
    return fmean(
        (sum(r.between_epochs_s for r in rounds) + (record.after_training_s or 0.0)) / len(rounds)
        for record, rounds in launches
    )


def warnings_of(launches: Sequence[Launch]) -> list[CaseWarning]:
    """Warnings of the worker, of unsteady rounds, and of disturbances; each once, in order."""
    found: list[CaseWarning] = []
    for record, rounds in launches:
        found += map(read, record.warnings)
        if stats.is_unsteady([r.seconds for r in rounds]):
            found.append(CaseWarning(Kind.UNSTEADY))
    found += noise.warnings((record.launch, record.noise) for record, _ in launches)
    return list(dict.fromkeys(found))


def _mean(items: Sequence[_T], value: Callable[[_T], float | None]) -> float | None:
    known = [v for v in map(value, items) if v is not None]
    return fmean(known) if known else None


def _largest(items: Sequence[_T], value: Callable[[_T], int | None]) -> int | None:
    return max((v for v in map(value, items) if v is not None), default=None)
