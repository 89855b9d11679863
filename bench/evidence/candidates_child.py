"""Runs PELT of ruptures, or Otava, on series from standard input; imports nothing of the suite.

It runs in an environment that has the tool, as `python candidates_child.py`. Otava's requirements
conflict with the suite's.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Sequence
from typing import Any

Find = Callable[[Sequence[float], float], list[int]]


def pelt(values: Sequence[float], times: float) -> list[int]:
    """Changes by PELT: an l2 cost and a penalty of `times` log(n) variances."""
    import numpy as np
    import ruptures

    series = np.asarray(values, dtype=float)
    # Of differences, so that a step does not count.
    scatter = 1.4826 * float(np.median(np.abs(np.diff(series)))) / math.sqrt(2)
    detector = ruptures.KernelCPD(kernel="linear", min_size=2, jump=1).fit(series)
    penalty = times * math.log(len(series)) * scatter**2
    return [int(at) for at in detector.predict(pen=penalty)[:-1]]


def otava(values: Sequence[float], most: float) -> list[int]:
    """Changes by Otava's E-divisive means with p-values of at most `most`."""
    from otava.analysis import compute_change_points

    # It judges relative changes, so values are seconds.
    seconds = [math.exp(value) for value in values]
    found, _ = compute_change_points(seconds, max_pvalue=most)
    return [int(point.index) for point in found]


def main() -> None:
    """Read one request, write the changes that any of the looks told, of each series."""
    asked: dict[str, Any] = json.load(sys.stdin)
    tools: dict[str, Find] = {"ruptures": pelt, "otava": otava}
    find = tools[asked["tool"]]
    found = [
        sorted({at for look in asked["looks"] for at in find(series[:look], asked["setting"])})
        for series in asked["series"]
    ]
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
