"""Compares calls of the suite's `fit` with calls of a bare `Model.fit`, in turns."""

from __future__ import annotations

import gc
import json
import math
import random
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from bench.analysis.stats import student_interval
from bench.launch.origin import child_command
from bench.machine.devices import inventory
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.plan import RunSettings
from bench.schema.requests import LaunchRequest
from fmnist_models.errors import UserError

PROCESSES, SECONDS, SEED = 4, 60.0, 42
# Of a call, as a case trains them.
EPOCHS = RunSettings().epochs
_LIMIT_S = 600.0
_LEAST_PAIRS = 2


class Pair(NamedTuple):
    """Seconds of a call of the suite and of a bare one, by the clock and of CPU time."""

    suite_s: float
    bare_s: float
    suite_cpu_s: float
    bare_cpu_s: float


def overhead_rows(
    cases: Sequence[Case],
    work: Path,
    told: Callable[[str], None],
    processes: int = PROCESSES,
    seconds: float = SECONDS,
) -> list[dict[str, Any]]:
    """One row a case: seconds of the suite's training over those of a bare script.

    The unit is the process: the log ratio of its total seconds. The interval is Student's over
    them. Totals, not medians: after many an epoch, by chance, TensorFlow waits for a thread of the
    ended iterator, in a bare script as well, so that calls have several modes.
    The waits take no CPU time, so the ratio of that is the sharper one of what the suite adds.

    Args:
        cases: cases of the loop `fit` on the CPU.
        work: folder for logs.
        told: is given a line for each process.
        processes: fresh processes.
        seconds: of each, in which pairs of calls of `EPOCHS` are made, one of the suite and one
            bare, in random order; two pairs at least.

    Raises:
        UserError: a process failed.
    """
    rows = []
    for case in cases:
        wall, cpu, epochs, pairs = [], [], [], 0
        for number in range(processes):
            found = _in_child(case, number, seconds, work)
            pairs += len(found)
            suite_s, bare_s, suite_cpu_s, bare_cpu_s = map(sum, zip(*found, strict=True))
            wall.append(math.log(suite_s / bare_s))
            cpu.append(math.log(suite_cpu_s / bare_cpu_s))
            epochs.append(bare_s / len(found) / EPOCHS)
            told(
                f"{case.id}: {math.exp(wall[-1]):.4f} of a bare script's time, "
                f"{math.exp(cpu[-1]):.4f} of its CPU time"
            )
        rows.append(
            {
                "case": case.id,
                "processes": processes,
                "pairs": pairs,
                **_ratio("suite_over_bare", wall),
                **_ratio("cpu", cpu),
                "bare_epoch_s": median(epochs),
            }
        )
    return rows


def _ratio(name: str, logs: Sequence[float]) -> dict[str, float | None]:
    """The geometric mean and its interval, from the log ratios of processes."""
    interval = student_interval(logs)
    return {
        name: math.exp(fmean(logs)),
        f"{name}_low": math.exp(interval[0]) if interval else None,
        f"{name}_high": math.exp(interval[1]) if interval else None,
    }


def _in_child(case: Case, number: int, seconds: float, work: Path) -> list[Pair]:
    """Each pair's seconds, measured in a process of its own."""
    words = json.dumps({"case": case.to_json(), "number": number, "seconds": seconds})
    with (work / "overhead.log").open("a") as log:
        try:
            told = subprocess.run(
                [*child_command("bench.evidence.overhead"), words],
                env=child_environment(case, inventory()),
                stdout=subprocess.PIPE,
                stderr=log,
                check=False,
                timeout=seconds + _LIMIT_S,
            )
        except subprocess.TimeoutExpired as error:
            raise UserError(f"{case.id} took longer than {error.timeout:g} s: train less") from None
    lines = told.stdout.decode(errors="replace").splitlines()
    if told.returncode:
        raise UserError(lines[-1] if lines else f"the process ended with {told.returncode}")
    return [Pair(*pair) for pair in json.loads(lines[-1])]


def measure_pairs(case: Case, number: int, seconds: float) -> list[Pair]:
    """Seconds of whole calls that train `EPOCHS`, by the suite's loop and by `Model.fit`.

    Both train one model, after a call that is not timed: two models built alike differ by some
    percent in one process, by chance. Only where the model's step is its own, which the suite
    gives two counters, the bare script has a model of its own.

    Raises:
        UserError: the case cannot be trained, or its data are a stream.
    """
    from bench.worker.framework import framework
    from bench.worker.training import built_work
    from bench.worker.window import Window
    from fmnist_models import dataset
    from fmnist_models.loops import LOOPS

    device = framework().device("cpu", case.precision)
    device.configure()
    images = dataset.split(dataset.load())
    request = LaunchRequest(case, 0, 1, EPOCHS, SEED)
    own = built_work(request, images, device).work
    loop = LOOPS["fit"](own)
    loop.warm_up()
    bare = own if loop.watch.plain else built_work(request, images, device).work
    arrays = bare.arrays

    class Observed(Window):
        """Reads the clocks of each epoch, and goes on."""

        def epoch_ends(self, logs: Mapping[str, float]) -> bool:
            """Return True: the number of epochs ends the call."""
            return True

    def suite() -> None:
        """The epochs as a launch trains them."""
        loop.train(Observed(device), EPOCHS)

    def script() -> None:
        """The epochs as a script trains them."""
        bare.model.fit(
            arrays.x,
            arrays.y,
            sample_weight=arrays.sample_weight,
            class_weight=bare.class_weight,
            callbacks=list(bare.callbacks),
            batch_size=case.batch_size,
            epochs=EPOCHS,
            verbose=0,
        )

    return _in_turns(suite, script, random.Random(number), seconds)


def _in_turns(
    suite: Callable[[], None], script: Callable[[], None], draw: random.Random, seconds: float
) -> list[Pair]:
    """Seconds of pairs of calls in random order, for so many seconds after an untimed pair."""
    found: list[Pair] = []
    ends = math.inf
    while len(found) < _LEAST_PAIRS or time.perf_counter() < ends:
        took = {}
        for way in draw.sample([suite, script], 2):
            # Else a full collection may fall into the calls of one way by chance.
            gc.collect()
            began, cpu = time.perf_counter(), time.process_time()
            way()
            took[way] = time.perf_counter() - began, time.process_time() - cpu
        if ends < math.inf:
            (suite_s, suite_cpu_s), (bare_s, bare_cpu_s) = took[suite], took[script]
            found.append(Pair(suite_s, bare_s, suite_cpu_s, bare_cpu_s))
        else:
            ends = time.perf_counter() + seconds
    return found


def main() -> int:
    """Answer the request of `overhead_rows`; an error is one line and exit code 2."""
    asked = json.loads(sys.argv[1])
    try:
        found = measure_pairs(Case.from_json(asked["case"]), asked["number"], asked["seconds"])
    except UserError as error:
        sys.stdout.write(f"{error}\n")
        return 2
    sys.stdout.write(f"{json.dumps(found)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
