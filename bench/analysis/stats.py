"""Statistics of rounds and launches: pure functions over numbers.

Intervals are of log seconds per sample, with the launch as the unit: rounds of one launch are
autocorrelated, so an interval made from rounds would be too narrow.

The formulas of two intervals are written here, with quantiles of scipy.special. scipy.stats has
both, but takes a second or more to import.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING

from bench.schema.launch import Better

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# The upper end of a two-sided interval of 95%.
_UPPER = 0.975
UNSTEADY_MIN_ROUNDS = 20
UNSTEADY_CHANGE = 0.02
UNSTEADY_P = 0.01
# Of the target. Accuracies are computed in float32: 10,800 right of 12,000 gives 0.89999998, which
# must count as 0.9. One image more or less changes an accuracy by far more than this.
SCORE_ROUNDING = 1e-6


@dataclass(frozen=True, slots=True)
class Throughput:
    """Samples/s of one case over its launches.

    Attributes:
        samples_per_s: the estimate.
        low, high: ends of its interval; None with one launch.
        launches: number of launches that it is computed from.
    """

    samples_per_s: float
    low: float | None
    high: float | None
    launches: int


def throughput(launches: Sequence[Sequence[tuple[int, float]]]) -> Throughput:
    """Samples/s of a case, with a Student t interval over its launches.

    Each launch is a list of rounds, (samples, seconds) each. The value of a launch is the log of
    its median seconds per sample (`launch_log`). The estimate is exp(-mean of the logs), which is
    the geometric mean of the launches' rates. The interval is that of the mean
    (`student_interval`), transformed by the same exp. The order of launches does not matter.

    Raises:
        ValueError: no launch, a launch without rounds, or a bad number in one.
    """
    if not launches:
        raise ValueError("launches: at least one is needed")
    logs = [
        launch_log([samples for samples, _ in rounds], [seconds for _, seconds in rounds])
        for rounds in launches
    ]
    interval = student_interval(logs)
    low, high = (None, None) if interval is None else (math.exp(-end) for end in interval[::-1])
    return Throughput(math.exp(-fmean(logs)), low, high, len(logs))


def launch_log(samples: Sequence[int], seconds: Sequence[float]) -> float:
    """The natural log of the median over rounds of seconds per sample.

    Args:
        samples: samples trained in each round.
        seconds: length of each round's window.

    Raises:
        ValueError: no rounds, lengths that differ, or a number that is not finite and above 0.
    """
    if len(samples) != len(seconds):
        raise ValueError(f"{len(samples)} samples beside {len(seconds)} seconds: one each a round")
    per_sample = [
        length / count
        for length, count in zip(
            _positive("seconds", seconds), _positive("samples", samples), strict=True
        )
    ]
    return math.log(median(per_sample))


def student_interval(logs: Sequence[float]) -> tuple[float, float] | None:
    """The 95% Student t interval of the mean of `logs`, one value per launch; None with one value.

    mean -+ t(0.975, n - 1) s / sqrt(n), where s is the sample standard deviation with n - 1 in
    the denominator (Student, "The probable error of a mean", Biometrika 6, 1908).

    Raises:
        ValueError: no values, or one that is not finite.
    """
    if not logs:
        raise ValueError("logs: at least one is needed")
    for value in logs:
        if not math.isfinite(value):
            raise ValueError(f"logs: {value} is not finite")
    n = len(logs)
    if n == 1:
        return None
    from scipy.special import stdtrit

    mean = fmean(logs)
    error = math.sqrt(_variance(logs) / n)
    half_width = float(stdtrit(n - 1, _UPPER)) * error
    return mean - half_width, mean + half_width


def student_halves(groups: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """Half of `student_interval` of each group; NaN of one of fewer than two values, or with a NaN.

    For thousands of groups, of which that function takes a second or more.
    """
    import numpy as np
    from scipy.special import stdtrit

    sizes = np.array([len(group) for group in groups])
    halves = np.full(len(groups), math.nan)
    for size in {int(n) for n in sizes if n > 1}:
        places = np.flatnonzero(sizes == size)
        values = np.array([groups[int(place)] for place in places])
        halves[places] = stdtrit(size - 1, _UPPER) * values.std(axis=1, ddof=1) / math.sqrt(size)
    return halves


def welch_interval(logs: Sequence[float], others: Sequence[float]) -> tuple[float, float] | None:
    """The 95% interval of the difference of two means, first less second, by Welch's t.

    None where a side has fewer than two values. The variances may differ; the degrees of freedom
    are Welch's and Satterthwaite's (Welch, "The generalization of Student's problem when several
    different population variances are involved", Biometrika 34, 1947).

    Raises:
        ValueError: a value that is not finite.
    """
    found = _welch(logs, others)
    if found is None:
        return None
    difference, error, freedom = found
    if error == 0:
        return difference, difference
    from scipy.special import stdtrit

    half_width = float(stdtrit(freedom, _UPPER)) * error
    return difference - half_width, difference + half_width


def welch_p(logs: Sequence[float], others: Sequence[float]) -> float | None:
    """The two-sided p-value of equal means, by Welch's t as in `welch_interval`.

    None where a side has fewer than two values. Without any scatter a difference is certain.

    Raises:
        ValueError: a value that is not finite.
    """
    found = _welch(logs, others)
    if found is None:
        return None
    difference, error, freedom = found
    if error == 0:
        return 0.0 if difference else 1.0
    from scipy.special import stdtr

    return 2 * float(stdtr(freedom, -abs(difference) / error))


def _welch(logs: Sequence[float], others: Sequence[float]) -> tuple[float, float, float] | None:
    """(difference of the means, its standard error, degrees of freedom); None with one value."""
    for value in (*logs, *others):
        if not math.isfinite(value):
            raise ValueError(f"logs: {value} is not finite")
    if min(len(logs), len(others)) < 2:
        return None
    difference = fmean(logs) - fmean(others)
    errors = [_variance(side) / len(side) for side in (logs, others)]
    whole = math.fsum(errors)
    if whole == 0:
        return difference, 0.0, math.inf
    sides = zip(errors, (logs, others), strict=True)
    freedom = 1 / math.fsum((error / whole) ** 2 / (len(side) - 1) for error, side in sides)
    return difference, math.sqrt(whole), freedom


def _variance(values: Sequence[float]) -> float:
    """The sample variance; exactly 0 of equal values.

    Not `statistics.variance`, whose fractions take most of the time of a large comparison.
    """
    if min(values) == max(values):
        return 0.0
    middle = fmean(values)
    return math.fsum((value - middle) ** 2 for value in values) / (len(values) - 1)


def is_unsteady(seconds: Sequence[float]) -> bool:
    """Whether the rounds of one launch drift over time.

    True where all three hold. There are at least 20 rounds. The medians of the first and the last
    third differ by over 2%: their ratio or its inverse exceeds 1.02, so a rise and a fall of the
    speed count alike. Spearman's rank correlation of seconds with the order of rounds has a
    two-sided p below 0.01.

    Raises:
        ValueError: no rounds, or a length that is not finite and above 0.
    """
    values = _positive("seconds", seconds)
    if len(values) < UNSTEADY_MIN_ROUNDS:
        return False
    third = len(values) // 3
    first, last = median(values[:third]), median(values[-third:])
    if max(first, last) <= min(first, last) * (1 + UNSTEADY_CHANGE):
        return False
    from scipy.stats import spearmanr

    return bool(spearmanr(range(len(values)), values).pvalue < UNSTEADY_P)


def time_to_score(
    rounds: Sequence[tuple[float, float | None]], target: float, better: Better = Better.MAX
) -> float | None:
    """Training seconds until the first evaluation that reaches `target`; None if never.

    Args:
        rounds: (seconds, score on validation data after the round), in order; None where there
            was no evaluation. A NaN score never counts. The seconds exclude evaluation.
        target: a finite score.
        better: the direction that is good.

    Raises:
        ValueError: no rounds, seconds that are not finite and above 0, or a bad target.
    """
    if not math.isfinite(target):
        raise ValueError(f"target {target}: must be finite")
    lengths = _positive("seconds", [seconds for seconds, _ in rounds])
    for number, (_, score) in enumerate(rounds, start=1):
        if score is not None and reaches(score, target, better):
            return math.fsum(lengths[:number])
    return None


def reaches(score: float, target: float, better: Better = Better.MAX) -> bool:
    """Whether `score`, which may be rounded to float32, is as good as `target` or better."""
    allowed = SCORE_ROUNDING * abs(target)
    return score >= target - allowed if better is Better.MAX else score <= target + allowed


def _positive(name: str, values: Iterable[float]) -> list[float]:
    numbers = list(values)
    if not numbers:
        raise ValueError(f"{name}: at least one is needed")
    for value in numbers:
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name}: {value} is not finite and above 0")
    return numbers
