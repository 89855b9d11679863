"""Derives a row a case from the rounds and launches of a run; nothing here is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, TypeVar

from bench import stats
from bench.case import SKLEARN_LOOP, Case
from bench.record import RESULT_COLUMNS, LaunchRecord, Round, RunSettings, Status
from bench.store import Plan, StoredRound

_T = TypeVar("_T")
Launch = tuple[LaunchRecord, list[Round]]


def result_rows(
    plan: Plan, launches: Sequence[LaunchRecord], rounds: Sequence[StoredRound]
) -> list[dict[str, Any]]:
    """One row a case of the plan, in its order, with the keys of `RESULT_COLUMNS`.

    Of each launch only the last attempt counts. Measurements come from the launches that
    ended ok; where one did not, the row says so and keeps what the others measured.
    """
    last: dict[tuple[str, int], LaunchRecord] = {}
    for record in launches:
        last[record.case, record.launch] = record
    timed: dict[tuple[str, int, int], list[Round]] = {}
    for stored in rounds:
        timed.setdefault((stored.case, stored.launch, stored.attempt), []).append(stored.round)
    rows = []
    for case in plan.cases:
        wanted = plan.settings.launches_of(case)
        ended = [record for (name, _), record in last.items() if name == case.id]
        measured = [
            (r, timed.get((case.id, r.launch, r.attempt), []))
            for r in ended
            if r.status is Status.OK
        ]
        rows.append(_row(case, plan.settings, wanted, ended, measured))
    return rows


def _row(
    case: Case,
    settings: RunSettings,
    wanted: int,
    ended: Sequence[LaunchRecord],
    measured: Sequence[Launch],
) -> dict[str, Any]:
    status, reason = _status(wanted, ended)
    row: dict[str, Any] = dict.fromkeys(RESULT_COLUMNS)
    row |= {name: value for name, value in case.to_json().items() if name in row}
    row |= {
        "case": case.id,
        "status": str(status),
        "reason": reason,
        "epochs": None if case.loop == SKLEARN_LOOP else settings.epochs,
        "seed": settings.seed,
        "launches": len(measured),
        "rounds": sum(len(rounds) for _, rounds in measured),
        "device_name": "",
        "warnings": "",
        "accuracy_target": settings.accuracy_target,
    }
    if measured:
        row |= _measured(case, settings, measured)
    return row


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
    """What the launches of one case say together: means over launches, throughput by
    `stats.throughput`."""
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
        "test_accuracy": _mean(records, lambda r: r.test_accuracy),
        "jit_compile": records[0].jit_compile,
        "between_epochs_s": _idle_per_round(launches),
        "peak_host_memory_bytes": _largest(records, lambda r: r.peak_host_memory_bytes),
        "peak_device_memory_bytes": _largest(records, lambda r: r.peak_device_memory_bytes),
        "warnings": "; ".join(_warnings(launches)),
    }
    if case.loop == SKLEARN_LOOP:
        return row | _folds(settings, every)
    return row | _documented_epochs(settings, every, first.samples / speed.samples_per_s)


def _folds(settings: RunSettings, every: Sequence[list[Round]]) -> dict[str, Any]:
    """Each fit is a round; the folds carry an accuracy, the fit on all images none."""
    scored = [r for rounds in every for r in rounds]
    accuracy = _mean(scored, lambda r: r.val_accuracy)
    return {
        "val_accuracy": accuracy,
        "accuracy_reached": accuracy is not None
        and stats.reaches(accuracy, settings.accuracy_target),
    }


def _documented_epochs(
    settings: RunSettings, every: Sequence[list[Round]], epoch_s: float
) -> dict[str, Any]:
    last = [rounds[settings.epochs - 1] for rounds in every]
    times = [
        stats.time_to_accuracy(
            [(r.seconds, r.val_accuracy) for r in rounds], settings.accuracy_target
        )
        for rounds in every
    ]
    reached = [time for time in times if time is not None]
    all_reached = len(reached) == len(times)
    return {
        "epoch_s": epoch_s,
        "train_accuracy": _mean(last, lambda r: r.train_accuracy),
        "val_accuracy": _mean(last, lambda r: r.val_accuracy),
        "val_loss": _mean(last, lambda r: r.val_loss),
        "accuracy_reached": all_reached,
        "time_to_accuracy_s": fmean(reached) if all_reached else None,
        "evaluation_s": _mean([r for rounds in every for r in rounds], lambda r: r.evaluation_s),
    }


def _idle_per_round(launches: Sequence[Launch]) -> float:
    """Seconds of a launch outside its windows, evaluation excluded, over its rounds."""
    return fmean(
        (sum(r.between_epochs_s for r in rounds) + (record.after_training_s or 0.0)) / len(rounds)
        for record, rounds in launches
    )


def _warnings(launches: Sequence[Launch]) -> list[str]:
    """What the worker said, and what the rounds show; each once, in order."""
    found: list[str] = []
    for record, rounds in launches:
        found += record.warnings
        if stats.is_unsteady([r.seconds for r in rounds]):
            found.append("unsteady")
    return list(dict.fromkeys(found))


def _mean(items: Sequence[_T], value: Callable[[_T], float | None]) -> float | None:
    known = [v for v in map(value, items) if v is not None]
    return fmean(known) if known else None


def _largest(items: Sequence[_T], value: Callable[[_T], int | None]) -> int | None:
    return max((v for v in map(value, items) if v is not None), default=None)
