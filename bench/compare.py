"""Compares runs of one or many machines case by case: ratios, what they lack, what differs.

A ratio is that of throughputs, candidate over baseline. Its interval is Welch's over the
launches of the two runs: it says how far the launches of these runs scatter, not how far the
machines drift from hour to hour.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import stats
from bench.errors import NotComparable, UserError
from bench.record import Status
from bench.results import measured_launches
from bench.store import RunFolder, write_csv

COLUMNS = (
    "case",
    "run",
    "baseline",
    "samples_per_s",
    "baseline_samples_per_s",
    "ratio",
    "ratio_low",
    "ratio_high",
    "val_accuracy_difference",
    "status",
    "baseline_status",
)
# Facts of environment.json that explain why two machines differ, under the names they go by.
FACTS: Mapping[str, tuple[str, ...]] = {
    "CPU": ("cpu", "model"),
    "physical cores": ("cpu", "cores_physical"),
    "logical cores": ("cpu", "cores_logical"),
    "allowed cores": ("cpu", "affinity"),
    "CPU quota": ("cpu", "cgroup_quota_cpus"),
    "memory in bytes": ("memory_bytes",),
    "GPUs": ("gpus",),
    "driver": ("driver_version",),
    "operating system": ("os", "name"),
    "kernel": ("os", "kernel"),
    "Python": ("python", "version"),
    "TensorFlow": ("versions", "tensorflow"),
    "Keras": ("versions", "keras"),
    "NumPy": ("versions", "numpy"),
    "scikit-learn": ("versions", "scikit-learn"),
    "variables": ("variables",),
    "revision": ("git", "revision"),
}


@dataclass(frozen=True, slots=True)
class Run:
    """One folder, as a comparison needs it.

    Attributes:
        name: the label where no other run has it, else the folder's name.
        rows: of results.csv, by case.
        logs: log seconds a sample of each launch that ended ok, by case.
        environment: what environment.json holds.
        epochs: documented epochs.
    """

    name: str
    rows: Mapping[str, Mapping[str, Any]]
    logs: Mapping[str, Sequence[float]]
    environment: Mapping[str, Any]
    epochs: int


@dataclass(frozen=True, slots=True)
class Pair:
    """One case in a candidate and in the baseline.

    Attributes:
        ratio: samples/s of the candidate over the baseline's; None where either has none.
        low, high: its interval; None where a side has one launch.
        accuracy_difference: validation accuracy, candidate less baseline; None where unknown.
    """

    case: str
    ratio: float | None
    low: float | None
    high: float | None
    accuracy_difference: float | None


@dataclass(frozen=True, slots=True)
class Summary:
    """One candidate over the cases that ended ok in every run.

    Attributes:
        cases: how many there are.
        lowest, highest: the range of their ratios.
        geometric_mean: of their ratios.
        total_time_ratio: seconds of an epoch of each case, summed: baseline over candidate.
        missing: cases of other runs that this one lacks or that did not end ok in it.
    """

    cases: int
    lowest: float
    highest: float
    geometric_mean: float
    total_time_ratio: float
    missing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Comparison:
    """What `compare` found.

    Attributes:
        baseline: the run that the others are compared with.
        candidates: the others, in the order given.
        cases: every case of any run, in the order in which they first appear.
        pairs: by candidate's name, a pair a case of `cases`.
        summaries: by candidate's name.
        differences: by fact, what each run says, baseline first, where they do not agree.
        baseline_missing: cases that the baseline lacks or that did not end ok in it.
    """

    baseline: Run
    candidates: tuple[Run, ...]
    cases: tuple[str, ...]
    pairs: Mapping[str, tuple[Pair, ...]]
    summaries: Mapping[str, Summary]
    differences: Mapping[str, tuple[str, ...]]
    baseline_missing: tuple[str, ...]


def read_runs(folders: Sequence[Path]) -> list[Run]:
    """The runs in these folders, each with a name of its own.

    Raises:
        UserError: a folder holds no run, cannot be read, or is named twice.
    """
    resolved = [folder.resolve() for folder in folders]
    for number, folder in enumerate(resolved):
        if folder in resolved[:number]:
            raise UserError(f"{folders[number]}: named twice; name each run once")
    read = [_read(folder) for folder in folders]
    labels = [run.environment.get("label") for run in read]
    names = [
        str(label) if label and labels.count(label) == 1 else folder.name
        for folder, label in zip(resolved, labels, strict=True)
    ]
    return [
        Run(_unique(names, number), run.rows, run.logs, run.environment, run.epochs)
        for number, run in enumerate(read)
    ]


def compare(runs: Sequence[Run], baseline: str | None = None) -> Comparison:
    """Compare runs with one of them, by default the first.

    Raises:
        UserError: fewer than two runs, or no run of the baseline's name.
        NotComparable: data or epochs differ, or no case ended ok in all of them.
    """
    if len(runs) < 2:
        raise UserError(f"{len(runs)} run: name two at least")
    first = _named(runs, baseline)
    others = tuple(run for run in runs if run is not first)
    for run in others:
        _refuse_other_work(first, run)
    cases = tuple(dict.fromkeys(case for run in (first, *others) for case in run.rows))
    common = [case for case in cases if all(_speed(run, case) for run in runs)]
    if not common:
        raise NotComparable(
            f"{', '.join(run.name for run in runs)}: no case ended ok in all of them; "
            "run the same --matrix or the same cases on each"
        )
    return Comparison(
        first,
        others,
        cases,
        {run.name: tuple(_pair(case, run, first) for case in cases) for run in others},
        {run.name: _summary(run, first, common, cases) for run in others},
        _differences((first, *others)),
        _missing(first, cases),
    )


def write_comparison(found: Comparison, path: Path) -> None:
    """Write a row a case and candidate to `path` as CSV, in one move.

    Raises:
        UserError: the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, COLUMNS, _rows(found))
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; name another --output"
        ) from error


def _rows(found: Comparison) -> Iterator[dict[str, Any]]:
    base = found.baseline
    for run in found.candidates:
        for pair in found.pairs[run.name]:
            yield {
                "case": pair.case,
                "run": run.name,
                "baseline": base.name,
                "samples_per_s": _speed(run, pair.case),
                "baseline_samples_per_s": _speed(base, pair.case),
                "ratio": pair.ratio,
                "ratio_low": pair.low,
                "ratio_high": pair.high,
                "val_accuracy_difference": pair.accuracy_difference,
                "status": _status(run, pair.case),
                "baseline_status": _status(base, pair.case),
            }


def _read(path: Path) -> Run:
    folder = RunFolder(path)
    plan = folder.plan()
    rows = {row["case"]: row for row in folder.results()}
    logs = {
        case: [
            stats.launch_log([r.samples for r in rounds], [r.seconds for r in rounds])
            for _, rounds in launches
        ]
        for case, launches in measured_launches(folder.launches(), folder.rounds()).items()
    }
    return Run("", rows, logs, folder.environment() or {}, plan.settings.epochs)


def _unique(names: Sequence[str], number: int) -> str:
    """The name, with a number where an earlier run has it."""
    earlier = names[:number].count(names[number])
    return names[number] if not earlier else f"{names[number]} ({earlier + 1})"


def _named(runs: Sequence[Run], baseline: str | None) -> Run:
    if baseline is None:
        return runs[0]
    for run in runs:
        if run.name == baseline:
            return run
    known = ", ".join(run.name for run in runs)
    raise UserError(f"--baseline {baseline}: no run of that name; choose from {known}")


def _refuse_other_work(baseline: Run, run: Run) -> None:
    """Runs that trained on other data or for other epochs have nothing to compare."""
    for what, own, other in (
        (
            "images of SHA-256",
            run.environment.get("dataset_digest"),
            baseline.environment.get("dataset_digest"),
        ),
        ("epochs", run.epochs, baseline.epochs),
    ):
        if own != other:
            raise NotComparable(
                f"{run.name} trained with {what} {own}, {baseline.name} with {other}: "
                "compare runs of the same work"
            )


def _pair(case: str, run: Run, baseline: Run) -> Pair:
    own, other = _speed(run, case), _speed(baseline, case)
    if own is None or other is None:
        return Pair(case, None, None, None, None)
    interval = stats.welch_interval(run.logs.get(case, ()), baseline.logs.get(case, ()))
    # Logs are of seconds: the faster run has the smaller one.
    low, high = (None, None) if interval is None else (math.exp(-end) for end in interval[::-1])
    accuracies = [side.rows[case]["val_accuracy"] for side in (run, baseline)]
    known = None not in accuracies
    return Pair(case, own / other, low, high, accuracies[0] - accuracies[1] if known else None)


def _summary(run: Run, baseline: Run, common: Sequence[str], cases: Sequence[str]) -> Summary:
    speeds = [(run.rows[c]["samples_per_s"], baseline.rows[c]["samples_per_s"]) for c in common]
    ratios = [own / other for own, other in speeds]
    total = math.fsum(1 / other for _, other in speeds) / math.fsum(1 / own for own, _ in speeds)
    mean = stats.geometric_mean(ratios)
    return Summary(len(common), min(ratios), max(ratios), mean, total, _missing(run, cases))


def _missing(run: Run, cases: Sequence[str]) -> tuple[str, ...]:
    return tuple(case for case in cases if _speed(run, case) is None)


def _differences(runs: Sequence[Run]) -> dict[str, tuple[str, ...]]:
    found = {}
    for fact, keys in FACTS.items():
        said = tuple(_fact(run.environment, keys) for run in runs)
        if len(set(said)) > 1:
            found[fact] = said
    return found


def _fact(environment: Mapping[str, Any], keys: Sequence[str]) -> str:
    value: Any = environment
    for key in keys:
        value = value.get(key) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={setting}" for name, setting in value.items()) or "none"
    if isinstance(value, list):
        names = [
            str(item.get("name")) if isinstance(item, Mapping) else str(item) for item in value
        ]
        return ", ".join(names) or "none"
    return "not known" if value is None else str(value)


def _speed(run: Run, case: str) -> float | None:
    row = run.rows.get(case)
    return row["samples_per_s"] if row is not None and row["status"] == Status.OK else None


def _status(run: Run, case: str) -> str:
    row = run.rows.get(case)
    return "absent" if row is None else str(row["status"])
