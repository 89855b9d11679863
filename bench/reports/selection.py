"""Chooses the data of each panel of the picture from the rows of a run; draws nothing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Generic, TypeVar

from bench.analysis.scaling import asked_batch
from bench.backends import BACKENDS, DEFAULT
from bench.reports.formatting import replicas
from bench.schema.case import LOOPS, MODELS, PRECISIONS, SKLEARN_LOOP
from bench.schema.cells import counted
from bench.schema.columns import Row
from bench.schema.launch import Status
from fmnist_models.optimizers import OPTIMIZERS

# The setting, and the model and optimizer, of the sweeps of the documented matrix.
USUAL_SETTING = (32, "float32")
USUAL_PAIR = ("relu_mlp", "adam")

_NUMBERED = re.compile(r"(\D*)(\d*)")

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Point:
    """One measured case, as the panels need it.

    Attributes:
        threads: as text; empty where the matrix names none.
        backend: empty where all points of a run have the default one.
        replicas: as text; empty for one.
        asked_batch: the batch size that was asked for: in weak scaling that of one replica.
        low, high: the interval of `samples_per_s`; None where there is none.
        training_s: seconds of training before `val_score` was taken: of the documented
            epochs, or of the mean fold of the logistic baseline. NaN where not known.
        score, better: the name and the good direction of the score; empty where it has none.
        val_score, score_target: NaN where not known.
        rounds: samples/s of every round, one tuple per launch.
    """

    model: str
    optimizer: str
    loop: str
    device: str
    threads: str
    backend: str
    replicas: str
    device_name: str
    batch_size: int
    asked_batch: int
    precision: str
    samples_per_s: float
    low: float | None
    high: float | None
    training_s: float
    score: str
    better: str
    val_score: float
    score_target: float
    rounds: tuple[tuple[float, ...], ...]

    @property
    def where(self) -> tuple[str, str, str, str]:
        """Device, its threads, backend and replicas; empty where there is nothing to say."""
        return self.device, self.threads, self.backend, self.replicas

    @property
    def placement(self) -> str:
        """The text of `where`."""
        return ", ".join(filter(None, self.where))

    @property
    def place_order(self) -> tuple[Any, ...]:
        """A sort key of `where`."""
        return (
            _rank(("cpu",), self.device),
            _rank(("",), self.threads),
            _rank(("", *BACKENDS), self.backend),
            _rank(("",), self.replicas),
        )

    @property
    def order(self) -> tuple[Any, ...]:
        """A sort key: registered names in their order, then the user's own."""
        return (
            _rank(MODELS, self.model),
            _rank(tuple(OPTIMIZERS), self.optimizer),
            self.place_order,
            _rank(LOOPS, self.loop),
            self.batch_size,
            _rank(PRECISIONS, self.precision),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Rows under one heading of a dot plot; each row is (label, one point per loop)."""

    heading: str
    rows: tuple[tuple[str, tuple[Point, ...]], ...]


@dataclass(frozen=True, slots=True)
class Series:
    """One line of the batch-size sweep, smallest batch first."""

    label: str
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Chosen(Generic[Item]):
    """The items of a panel, the text of what they share, and the number of items left out."""

    items: tuple[Item, ...]
    common: str
    left_out: int


def points(results: Iterable[Row], rounds: Iterable[Row]) -> list[Point]:
    """The cases that ended ok and have a throughput, in the order of `Point.order`."""
    by_case = _rounds_that_count(rounds)
    timed = [
        row for row in results if row["status"] == Status.OK and _positive(row.get("samples_per_s"))
    ]
    named = bool({row["backend"] for row in timed} - {DEFAULT, SKLEARN_LOOP})
    measured = [_point(row, by_case.get(row["case"], []), named) for row in timed]
    return sorted(measured, key=lambda point: point.order)


def not_drawn(results: Sequence[Row]) -> Counter[str]:
    """Numbers of cases that the picture leaves out, by status.

    The status is `not timed` for a case that ended ok without a throughput.
    """
    statuses = (
        str(row["status"]).replace("_", " ") if row["status"] != Status.OK else "not timed"
        for row in results
        if row["status"] != Status.OK or not _positive(row.get("samples_per_s"))
    )
    return Counter(statuses)


def base_setting(measured: Sequence[Point]) -> tuple[int, str] | None:
    """The (batch size, precision) at which cases are compared; None without a network.

    It is the documented setting where that was measured, else the most frequent one.
    """
    counts = Counter((p.asked_batch, p.precision) for p in measured if p.loop != SKLEARN_LOOP)
    if not counts or USUAL_SETTING in counts:
        return USUAL_SETTING if counts else None
    return min(counts, key=lambda setting: (-counts[setting], setting))


def at_base(measured: Sequence[Point]) -> list[Point]:
    """The cases at the base setting, and the logistic baseline, which has only one setting."""
    base = base_setting(measured)
    return [p for p in measured if p.loop == SKLEARN_LOOP or (p.asked_batch, p.precision) == base]


def throughput_groups(measured: Sequence[Point], most_rows: int) -> Chosen[Group]:
    """One group per model, one row per optimizer and placement; at most `most_rows` rows."""
    chosen = at_base(measured)
    several = len({p.placement for p in chosen}) > 1

    def label(point: Point) -> str:
        """The row's name: the optimizer, and the placement where there are several."""
        name = point.optimizer or "scikit-learn"
        return f"{name} · {point.placement}" if several else name

    return _grouped(chosen, lambda p: p.model, label, most_rows)


def timed_by_placement(measured: Sequence[Point]) -> dict[tuple[str, str], list[Point]]:
    """The cases at the base setting with known score and training time, by (placement, score)."""
    timed = [p for p in at_base(measured) if p.training_s > 0 and math.isfinite(p.val_score)]
    return _collect(sorted(timed, key=lambda p: p.place_order), lambda p: (p.placement, p.score))


def precision_groups(measured: Sequence[Point], most_rows: int) -> Chosen[Group]:
    """One group per case that was measured in two or more precisions, one row per precision.

    Only at the base batch size, if there is such a group.
    """
    swept = _swept(measured, lambda p: (*_pair(p), p.loop, p.placement, p.batch_size), "precision")
    swept = _at_base_if_any(measured, swept, "asked_batch")
    kept = sorted(swept, key=lambda p: (_pair(p) != USUAL_PAIR, *p.order[:3], p.batch_size))
    several = len({p.batch_size for p in kept}) > 1

    def heading(point: Point) -> str:
        """The group's name: what was swept, where, and the batch size where there are several."""
        parts = [_pair_name(point), point.placement]
        return " · ".join(parts + ([f"batch {point.batch_size}"] if several else []))

    chosen = _grouped(kept, heading, lambda p: p.precision, most_rows)
    common = "" if several or not kept else f"batch {kept[0].batch_size}"
    return Chosen(chosen.items, common, chosen.left_out)


def batch_series(measured: Sequence[Point], most_series: int) -> Chosen[Series]:
    """One series per case that was measured at two or more batch sizes.

    Only in the base precision, if there is such a series. A label has what differs between the
    series; `common` has what they share.
    """
    swept = _swept(measured, lambda p: (*_pair(p), p.loop, p.placement, p.precision), "batch_size")
    swept = _at_base_if_any(measured, swept, "precision")
    swept.sort(key=lambda p: (_pair(p) != USUAL_PAIR, *p.order))
    by_key = _collect(swept, lambda p: (p.model, p.optimizer, *p.where, p.precision, p.loop))
    keys = list(by_key)
    # The loop, which is last, is told in any case.
    shared = [len({key[i] for key in keys}) == 1 for i in range(len(keys[0]) - 1)] if keys else []
    series = [
        Series(
            " · ".join([key[-1], *_chosen(key, shared, same=False)]),
            tuple(sorted(members, key=lambda p: p.batch_size)),
        )
        for key, members in by_key.items()
    ]
    common = ", ".join(_chosen(keys[0], shared, same=True)) if keys else ""
    return Chosen(tuple(series[:most_series]), common, max(0, len(series) - most_series))


def _point(row: Row, rounds: Sequence[Row], named: bool) -> Point:
    """The point of a row; its backend is `named` where the run has another than the default."""
    low, high = row.get("samples_per_s_low"), row.get("samples_per_s_high")
    has_interval = _positive(low) and _positive(high)
    return Point(
        model=row["model"],
        optimizer=row["optimizer"] or "",
        loop=row["loop"],
        device=row["device"],
        threads="" if row.get("threads") is None else counted(row["threads"], "thread"),
        backend=row["backend"] if named and row["backend"] != SKLEARN_LOOP else "",
        replicas=replicas(row["replicas"], row["processes"]),
        device_name=row.get("device_name") or "",
        batch_size=row["batch_size"],
        asked_batch=asked_batch(row),
        precision=row["precision"],
        samples_per_s=row["samples_per_s"],
        low=low if has_interval else None,
        high=high if has_interval else None,
        training_s=_training_s(row, rounds),
        score=row.get("score") or "",
        better=row.get("better") or "",
        val_score=_number(row.get("val_score")),
        score_target=_number(row.get("score_target")),
        rounds=_speeds_by_launch(rounds),
    )


def _speeds_by_launch(rounds: Sequence[Row]) -> tuple[tuple[float, ...], ...]:
    timed = [row for row in rounds if _positive(row["seconds"]) and _positive(row["samples"])]
    by_launch = _collect(timed, lambda row: int(row["launch"]))
    return tuple(
        tuple(row["samples"] / row["seconds"] for row in by_launch[launch])
        for launch in sorted(by_launch)
    )


def _training_s(row: Row, rounds: Sequence[Row]) -> float:
    if row["loop"] == SKLEARN_LOOP:
        # Its score is the mean over folds, so its time is that of a mean fold, not of an epoch.
        folds = [r["seconds"] for r in rounds if math.isfinite(_number(r["val_score"]))]
        return fmean(folds) if folds else math.nan
    return _number(row.get("epochs")) * _number(row.get("epoch_s"))


def _rounds_that_count(rounds: Iterable[Row]) -> dict[str, list[Row]]:
    """The rounds of the last attempt of each launch, by case."""
    last: dict[tuple[str, int], int] = {}
    every = list(rounds)
    for row in every:
        launch = (row["case"], row["launch"])
        last[launch] = max(last.get(launch, 0), row["attempt"])
    counted = [r for r in every if r["attempt"] == last[r["case"], r["launch"]]]
    return _collect(counted, lambda row: row["case"])


def _chosen(parts: Sequence[str], shared: Sequence[bool], *, same: bool) -> list[str]:
    return [p for p, is_shared in zip(parts, shared, strict=False) if p and is_shared is same]


def _swept(measured: Sequence[Point], key: Callable[[Point], Hashable], axis: str) -> list[Point]:
    """The points of groups, equal in `key`, that have two or more values of `axis`."""
    networks = [p for p in measured if p.loop != SKLEARN_LOOP]
    by_key = _collect(networks, key).values()
    return [p for ps in by_key if len({getattr(p, axis) for p in ps}) > 1 for p in ps]


def _at_base_if_any(measured: Sequence[Point], swept: list[Point], axis: str) -> list[Point]:
    base = base_setting(measured)
    usual = dict(zip(("asked_batch", "precision"), base, strict=True)) if base else {}
    return [p for p in swept if getattr(p, axis) == usual.get(axis)] or swept


def _grouped(
    chosen: Sequence[Point],
    heading: Callable[[Point], str],
    label: Callable[[Point], str],
    most_rows: int,
) -> Chosen[Group]:
    groups: list[Group] = []
    room, left_out = most_rows, 0
    for name, members in _collect(chosen, heading).items():
        by_label = _collect(sorted(members, key=lambda p: p.order), label)
        by_row = [(row, tuple(points)) for row, points in by_label.items()]
        if by_row[:room]:
            groups.append(Group(name, tuple(by_row[:room])))
        left_out += len(by_row[room:])
        room -= len(by_row[:room])
    return Chosen(tuple(groups), "", left_out)


def _collect(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    collected: dict[Key, list[Item]] = {}
    for item in items:
        collected.setdefault(key(item), []).append(item)
    return collected


def _pair(point: Point) -> tuple[str, str]:
    return point.model, point.optimizer


def _pair_name(point: Point) -> str:
    return f"{point.model} {point.optimizer}"


def _rank(known: Sequence[str], value: str) -> tuple[int, list[tuple[str, int]]]:
    """A sort key: the place in `known`, then other values, with model_9 before model_10."""
    if value in known:
        return known.index(value), []
    return len(known), [(text, int(digits or 0)) for text, digits in _NUMBERED.findall(value)]


def _number(value: Any) -> float:
    return math.nan if value is None else float(value)


def _positive(value: Any) -> bool:
    return value is not None and math.isfinite(value) and value > 0
