"""Ratios of peers' samples/s, with intervals over launches: pure functions, and tables of them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import fmean, median
from typing import Any

from bench.analysis.stats import launch_log, student_interval
from bench.peers.known import LOSS_ONLY, NAMES, by_hand, same_work
from bench.peers.turns import Measured, Plan, group_of

# `compiled` must reach so much of the samples/s of its framework by hand.
PROMISE = 0.97
PROMISED_LOOP, PROMISED_FRAMEWORKS = "compiled", ("tensorflow", "jax")


class Promise(StrEnum):
    """What an interval says of the promise."""

    HELD = "held"  # the whole interval is above it
    NOT_SHOWN = "not shown"  # it is within the interval, or there is none
    BROKEN = "broken"  # the whole interval is below it


@dataclass(frozen=True, slots=True)
class Ratio:
    """The samples/s of one peer over those of another, at one batch size.

    Attributes:
        peer, over: names of the two.
        ratio: the geometric mean over launches.
        low, high: ends of its 95% interval; None with one launch.
        launches: launches that both have.
    """

    batch_size: int
    peer: str
    over: str
    ratio: float
    low: float | None
    high: float | None
    launches: int

    @property
    def promise(self) -> Promise | None:
        """What it says of the promise; None where nothing is promised."""
        peer = NAMES[self.peer]
        if peer.loop != PROMISED_LOOP or peer.framework not in PROMISED_FRAMEWORKS:
            return None
        if self.over not in by_hand(self.peer):
            return None
        if self.low is None or self.high is None or self.low < PROMISE <= self.high:
            return Promise.NOT_SHOWN
        return Promise.HELD if self.low >= PROMISE else Promise.BROKEN


def ratio(measured: Sequence[Measured], batch_size: int, peer: str, over: str) -> Ratio | None:
    """The ratio of two peers; None where no launch has both.

    The unit is the launch: each pair of the k-th launches, which trained with one seed and ran
    close in time, gives one log ratio. The interval is Student's over them (`student_interval`).
    Where rounds of the two alternated, a launch's ratio is the median of the ratios of the rounds
    of one number; elsewhere it is that of their median rounds.
    """
    found = {(m.name, m.launch): m for m in measured if m.found.batch_size == batch_size}
    numbers = sorted({launch for _, launch in found})
    paired = [
        _log_ratio(found[peer, number], found[over, number])
        for number in numbers
        if (over, number) in found and (peer, number) in found
    ]
    if not paired:
        return None
    interval = student_interval(paired)
    low, high = (None, None) if interval is None else map(math.exp, interval)
    return Ratio(batch_size, peer, over, math.exp(fmean(paired)), low, high, len(paired))


def to_by_hand(
    measured: Sequence[Measured], batch_sizes: Sequence[int], names: Sequence[str]
) -> list[Ratio]:
    """The ratio of every peer that is Keras to each by hand of its framework with the same work."""
    pairs = [
        (batch, name, other)
        for batch in batch_sizes
        for name in names
        if NAMES[name].keras
        for other in by_hand(name)
        if other in names
    ]
    return [found for pair in pairs if (found := ratio(measured, *pair))]


def to_first(
    measured: Sequence[Measured], batch_sizes: Sequence[int], names: Sequence[str]
) -> list[Ratio]:
    """The ratio of every peer to the first one with the same work."""
    firsts = {name: next(other for other in names if same_work(name, other)) for name in names}
    pairs = [(batch, name, firsts[name]) for batch in batch_sizes for name in names]
    return [found for pair in pairs if (found := ratio(measured, *pair))]


def ratio_rows(ratios: Sequence[Ratio]) -> Iterator[dict[str, Any]]:
    """Rows of the table of ratios, each pair once; a peer over itself is left out."""
    told: set[tuple[int, str, str]] = set()
    for found in ratios:
        key = (found.batch_size, found.peer, found.over)
        if key in told or found.peer == found.over:
            continue
        told.add(key)
        yield {
            "batch_size": found.batch_size,
            "peer": found.peer,
            "over": found.over,
            "framework": NAMES[found.peer].framework,
            "accuracy": not found.peer.endswith(LOSS_ONLY),
            "ratio": found.ratio,
            "ratio_low": found.low,
            "ratio_high": found.high,
            "launches": found.launches,
            "promise": found.promise,
        }


def launch_rows(measured: Sequence[Measured], plan: Plan) -> Iterator[dict[str, Any]]:
    """Rows of the table of launches; loss and accuracy are of the last round that all have."""
    last = plan.rounds - 1
    for each in measured:
        found = each.found
        yield {
            "batch_size": found.batch_size,
            "peer": each.name,
            "launch": each.launch,
            "samples_per_s": math.exp(-_log(each)),
            "rounds": len(found.seconds),
            "round_s": median(found.seconds),
            "cores": sum(found.cpu_seconds) / sum(found.seconds),
            "train_loss": found.losses[last],
            "train_accuracy": found.accuracies[last] if found.accuracies else None,
            "threads": plan.case.threads,
            "device": found.device,
            "software": found.software,
        }


RATIO_COLUMNS = (
    *("batch_size", "peer", "over", "framework", "accuracy", "ratio", "ratio_low", "ratio_high"),
    *("launches", "promise"),
)
LAUNCH_COLUMNS = (
    *("batch_size", "peer", "launch", "samples_per_s", "rounds", "round_s", "cores"),
    *("train_loss", "train_accuracy", "threads", "device", "software"),
)


def _log_ratio(one: Measured, other: Measured) -> float:
    """The log of the samples/s of a launch over those of another with the same number."""
    if group_of(one.name) != group_of(other.name):
        return _log(other) - _log(one)
    rounds = zip(one.found.seconds, other.found.seconds, strict=True)
    return median(math.log(theirs / ours) for ours, theirs in rounds)


def _log(measured: Measured) -> float:
    """The log of a launch's median seconds per sample."""
    seconds = measured.found.seconds
    return launch_log([measured.found.samples] * len(seconds), seconds)
