"""How much faster several replicas train than one: speed-up and efficiency, pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import Any

from bench.analysis.stats import launch_log, student_interval
from bench.schema.case import WEAK
from bench.schema.launch import LaunchRecord, Round

Launch = tuple[LaunchRecord, list[Round]]


@dataclass(frozen=True, slots=True)
class Scaling:
    """The samples/s of some replicas over those of one.

    Attributes:
        speedup: the geometric mean over launches.
        low, high: ends of its 95% interval; None with one launch.
        launches: launches that both have.
    """

    speedup: float
    low: float | None
    high: float | None
    launches: int


def scaling(many: Sequence[Launch], one: Sequence[Launch]) -> Scaling | None:
    """The speed-up of a case of several replicas over the same case of one.

    The unit is the launch: those of one number trained with one seed, each gives a log ratio, and
    the interval is Student's over them (`student_interval`). Where the rounds of the two
    alternated, it is the median over rounds of one number of the log ratio of seconds per sample,
    so that what disturbed the machine for some seconds is in both; elsewhere that of their median
    rounds. None where no launch has both.
    """
    logs = speedup_logs(many, one)
    if not logs:
        return None
    interval = student_interval(logs)
    low, high = (None, None) if interval is None else map(math.exp, interval)
    return Scaling(math.exp(fmean(logs)), low, high, len(logs))


def speedup_logs(many: Sequence[Launch], one: Sequence[Launch]) -> list[float]:
    """The log speed-up of each launch that both have (`scaling`)."""
    alone = {record.launch: (record, rounds) for record, rounds in one}
    return [
        _log_ratio(launch, alone[launch[0].launch]) for launch in many if launch[0].launch in alone
    ]


def scaling_columns(
    row: Mapping[str, Any], many: Sequence[Launch], one: Sequence[Launch]
) -> dict[str, Any]:
    """The columns of a row with several replicas that need the launches of one.

    The efficiency is the speed-up over the number of replicas: 1 where nothing is lost.
    """
    found = scaling(many, one)
    if found is None:
        return {}
    replicas = row["replicas"]
    return {
        "speedup": found.speedup,
        "efficiency": found.speedup / replicas,
        "efficiency_low": None if found.low is None else found.low / replicas,
        "efficiency_high": None if found.high is None else found.high / replicas,
    }


def spread_columns(
    row: Mapping[str, Any], launches: Sequence[Launch], scaled: str
) -> dict[str, Any]:
    """The columns of a row with several replicas that its own launches tell.

    Args:
        row: the row, with its step's milliseconds.
        launches: its launches; at least one.
        scaled: how the batch grows with the replicas, `strong` or `weak`.
    """
    records = [record for record, _ in launches]
    alone = [record.all_reduce_s for record in records if record.all_reduce_s is not None]
    seconds = median(alone) if alone else None
    added = records[0].all_reduce_bytes
    return {
        "scaling": scaled,
        "local_batch_size": row["batch_size"] // row["replicas"],
        "device_uuids": " ".join(records[0].device_uuids),
        "all_reduce_bytes": added,
        "all_reduce_s": seconds,
        "all_reduce_bytes_per_s": added / seconds if added and seconds else None,
        "all_reduce_share": None if seconds is None else seconds * 1e3 / row["step_ms"],
    }


def efficiency_logs(rows: Sequence[Mapping[str, Any]]) -> tuple[float, ...]:
    """The log efficiency of one case in each of several runs, from their rows.

    Empty where a run has none, and where the runs scale otherwise: then the cases of one replica
    are different ones.
    """
    found = [row["efficiency"] for row in rows]
    if None in found or len({row["scaling"] for row in rows}) > 1:
        return ()
    return tuple(math.log(value) for value in found)


def efficiency_over_runs(rows: Sequence[Mapping[str, Any]], least: int) -> dict[str, float | None]:
    """The columns of speed-up and efficiency of several runs of one case, from their rows.

    The mean of `efficiency_logs`, with Student's interval over runs; None where these are empty.

    Args:
        rows: a row for each run.
        least: runs that an interval needs.
    """
    logs = efficiency_logs(rows)
    names = ("speedup", "efficiency", "efficiency_low", "efficiency_high")
    if not logs:
        return dict.fromkeys(names)
    interval = student_interval(logs) if len(logs) >= least else None
    low, high = (None, None) if interval is None else map(math.exp, interval)
    mean = math.exp(fmean(logs))
    return dict(zip(names, (mean * rows[0]["replicas"], mean, low, high), strict=True))


def asked_batch(row: Mapping[str, Any]) -> int:
    """The batch size that was asked for: in weak scaling that of one replica."""
    return int(row["local_batch_size"] if row["scaling"] == WEAK else row["batch_size"])


def _log_ratio(many: Launch, one: Launch) -> float:
    """The natural log of a speed-up, from one launch of each."""
    (record, rounds), (other, others) = many, one
    if record.turns and record.turns == other.turns:
        pairs = zip(rounds, others, strict=False)
        return median(math.log(b.seconds / b.samples * a.samples / a.seconds) for a, b in pairs)
    return _log(others) - _log(rounds)


def _log(rounds: Sequence[Round]) -> float:
    return launch_log([r.samples for r in rounds], [r.seconds for r in rounds])
