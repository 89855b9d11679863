"""Reads finished runs for `compare` and `check`: their figures, and the machine they ran on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from bench.analysis import stats
from bench.analysis.case_row import Launch
from bench.analysis.rows import measured_launches
from bench.analysis.scaling import efficiency_logs, efficiency_over_runs, speedup_logs
from bench.schema.case import AXES, Case
from bench.schema.columns import Row
from bench.schema.launch import Better, Status
from bench.schema.runs import MeasuredRun
from bench.store.derived import read_whole
from bench.store.proof import proven
from bench.store.reader import kind_of
from bench.verdicts.compatibility import refuse_copies, refuse_other_machine, refuse_other_work
from bench.verdicts.facts import Purpose
from bench.verdicts.regression import LEAST_RUNS
from bench.verdicts.work import refuse_apart
from fmnist_models.errors import UserError


def read_run(path: Path) -> MeasuredRun:
    """The run in the folder `path`, from its proof where that holds.

    Raises:
        UserError: there is no run, a file has wrong contents, or results.csv does not agree with
            the rounds and launches.
    """
    return proven(path) or read_in_full(path)


def read_in_full(path: Path) -> MeasuredRun:
    """The run in the folder `path`, with each figure computed from its rounds again.

    Raises:
        UserError: as of `read_run`.
    """
    whole = read_whole(path)
    rows = {row["case"]: row for row in whole.rows}
    measured = measured_launches(whole.launches, whole.rounds)
    logs = {
        case: tuple(
            stats.launch_log([r.samples for r in rounds], [r.seconds for r in rounds])
            for _, rounds in measured[case]
        )
        for case, row in rows.items()
        if row["status"] == Status.OK
    }
    scores = {case: _scores(rows[case], measured[case]) for case in logs}
    known = {case: own for case, own in scores.items() if own}
    spread = {
        case: _efficiencies(rows[case], measured)
        for case in logs
        if rows[case]["efficiency"] is not None
    }
    return MeasuredRun(
        path,
        whole.environment,
        rows,
        logs,
        whole=lambda: whole,
        scores=known,
        efficiencies=spread,
        target_logs={
            case: _target_logs(rows[case], measured[case])
            for case in logs
            if rows[case]["time_to_score_s"]
        },
    )


def _target_logs(row: Row, launches: Sequence[Launch]) -> tuple[float, ...]:
    """`MeasuredRun.target_logs` of a case whose row has a time to the target."""
    times = [
        stats.time_to_score(
            [(r.seconds, r.val_score) for r in rounds], row["score_target"], Better(row["better"])
        )
        for _, rounds in launches
    ]
    return tuple(math.log(time) for time in times if time)


def _efficiencies(row: Row, measured: Mapping[str, Sequence[Launch]]) -> tuple[float, ...]:
    """The log efficiency of each launch of a case of several replicas."""
    case = Case(**{axis: row[axis] for axis in AXES})
    logs = speedup_logs(measured[case.id], measured[case.alone(row["scaling"]).id])
    return tuple(log - math.log(case.replicas) for log in logs)


def _scores(row: Row, launches: Sequence[Launch]) -> tuple[float, ...]:
    """`MeasuredRun.scores` of a case; empty where it trains on the embedded images."""
    if row["val_score"] is None or all(record.images for record, _ in launches):
        return ()
    found = [rounds[row["epochs"] - 1].val_score for _, rounds in launches]
    return tuple(score for score in found if score is not None)


def is_run(path: Path) -> bool:
    """Whether the folder `path` holds a run with results, launches or rounds.

    Raises:
        UserError: the path cannot be read, such as where the name is too long.
    """
    return any(kind_of(path / name) for name in ("results.csv", "launches.jsonl", "rounds.csv"))


def run_folders(path: Path) -> list[Path]:
    """The folders of runs in `path`, sorted by name, without hidden ones (unfinished copies).

    Raises:
        UserError: there is no such folder, it cannot be read, or it holds a duel, whose sides
            must not be taken for runs of one machine.
    """
    if kind_of(path) != "folder":
        raise UserError(f"{path} is not a folder: name one that holds runs")
    if kind_of(path / "duel.json"):
        raise UserError(f"{path} holds a duel: name one of its sides, {path / 'a'} or {path / 'b'}")
    try:
        below = sorted(child for child in path.iterdir() if not child.name.startswith("."))
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from error
    return [child for child in below if is_run(child)]


def read_runs(path: Path) -> list[MeasuredRun]:
    """The runs in the folders below `path`, the earliest first.

    Raises:
        UserError: there is no such folder, a run cannot be read, or two are the same.
    """
    return _in_order(map(read_run, run_folders(path)))


def read_baseline(path: Path) -> list[MeasuredRun]:
    """The runs of a baseline, the earliest first.

    Raises:
        UserError: there is no such folder, it is itself a run, a run cannot be read, or two are
            the same. Where a run cannot be read, the message also says how to remove it.
    """
    folders = run_folders(path)
    if not folders and is_run(path):
        raise UserError(
            f"{path} is a run, and a baseline is a folder of runs: name the folder that holds it, "
            "or make one with fmnist-bench baseline add"
        )
    runs = []
    for folder in folders:
        try:
            runs.append(read_run(folder))
        except UserError as error:
            raise UserError(
                f"{error}; or take the run out: fmnist-bench baseline remove {path} {folder.name}"
            ) from error
    return _in_order(runs)


def _in_order(runs: Iterable[MeasuredRun]) -> list[MeasuredRun]:
    ordered = sorted(runs, key=lambda run: run.time_utc)
    refuse_copies(ordered)
    return ordered


def read_machine(path: Path) -> MeasuredRun:
    """The run in the folder `path`, or one record for all the runs of one machine in it.

    Of several runs, only the cases that ended ok in all of them have figures. A figure is the
    mean over the runs; for throughput, the mean of the logs.

    Raises:
        UserError: the folder holds neither or both, a run cannot be read, or two are the same.
        NotComparable: the runs are of different machines, data sets or epochs.
    """
    if kind_of(path) != "folder":
        return read_run(path)
    below = run_folders(path)
    if is_run(path) and below:
        raise UserError(
            f"{path} holds a run and folders of runs, such as {below[0]}: name the one that is "
            "meant, or move the others"
        )
    if not below:
        return read_run(path)
    runs = read_runs(path)
    refuse_other_machine(runs)
    refuse_other_work(runs, Purpose.COMPARE)
    refuse_apart(runs)
    first = runs[0]
    rows: dict[str, Row] = {}
    logs: dict[str, tuple[float, ...]] = {}
    spread: dict[str, tuple[float, ...]] = {}
    targets: dict[str, tuple[float, ...]] = {}
    for case in dict.fromkeys(case for run in runs for case in run.rows):
        own = [run.rows[case] for run in runs if case in run.rows]
        if all(case in run.logs for run in runs):
            logs[case] = tuple(run.run_log(case) for run in runs)
            scores = [row["val_score"] for row in own]
            if efficiencies := efficiency_logs(own):
                spread[case] = efficiencies
            if all(case in run.target_logs for run in runs):
                targets[case] = tuple(fmean(run.target_logs[case]) for run in runs)
            rows[case] = {
                **own[0],
                **_rates(own[0], math.exp(-fmean(logs[case]))),
                "val_score": None if None in scores else fmean(scores),
                **efficiency_over_runs(own, LEAST_RUNS),
            }
        elif len(own) == len(runs):
            rows[case] = next(row for row in own if row["status"] != Status.OK)
    return MeasuredRun(
        path, first.environment, rows, logs, "run", efficiencies=spread, target_logs=targets
    )


def _rates(row: Row, samples_per_s: float) -> dict[str, float | None]:
    """The throughput, and the times of a row that follow from it."""
    slower = row["samples_per_s"] / samples_per_s
    times = {name: row[name] for name in ("step_ms", "epoch_s")}
    return {
        "samples_per_s": samples_per_s,
        **{name: None if time is None else time * slower for name, time in times.items()},
    }
