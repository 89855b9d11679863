"""Measures what Ray's own daemons cost the launches beside which they idle."""

from __future__ import annotations

import contextlib
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from bench.analysis.stats import launch_log, student_interval
from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine.daemons import ray_daemons_s, risen_s
from bench.machine.devices import inventory
from bench.machine.lock import the_machine
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.launch import Round, Status
from bench.schema.plan import LEAST, RunSettings
from bench.schema.requests import LaunchRequest
from fmnist_models import dataset
from fmnist_models.errors import UserError

BLOCKS, ROWS = 12, 8_000
CASES = tuple(Case("relu_mlp", "adam", loop, "cpu", 32) for loop in ("compiled", "fit"))
# A node that has just begun imports and registers; what it costs then, no launch of a fleet sees.
_SETTLES_S, _READY_S, _ENDS_S, _LIMIT_S = 10.0, 120.0, 30.0, 600.0
_STARTED = "Ray runtime started"

Measure = Callable[[Case], float]
Node = Callable[[], contextlib.AbstractContextManager[Mapping[int, float]]]


class Block(NamedTuple):
    """A block's log ratio of each case, with the daemons over without, and what they took.

    Attributes:
        logs: by the id of the case.
        daemons: their number.
        cores: cores that they kept busy on average, beside the two launches of each case.
    """

    logs: Mapping[str, float]
    daemons: int
    cores: float


def daemon_rows(
    work: Path,
    told: Callable[[str], None],
    blocks: int = BLOCKS,
    cases: Sequence[Case] = CASES,
    rows: int = ROWS,
) -> list[dict[str, Any]]:
    """One row a case: seconds per sample beside an idle node of Ray, over those without one.

    A block is a launch without (A), two with (B, B), and one without again, of each case, so that
    a steady drift cancels. Its unit is the mean log of B less that of A; the interval is Student's
    over blocks.

    Args:
        work: an empty folder, with a path short enough for Ray's sockets, for data and logs.
        told: is given a line for each block.
        blocks: blocks; an interval needs two.
        cases: cases on the CPU.
        rows: training images.

    Raises:
        UserError: a launch or Ray failed.
    """
    images = dataset.load()
    few = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    dataset.write(work / "data", *(part[:rows] for part in few))
    with the_machine(told, True), Launcher(data=str(work / "data")) as launcher:
        if there := len(ray_daemons_s()):
            told(f"daemons of Ray that run here already, beside A and B alike: {there}")
        found = []
        for number in range(blocks):
            block = one_block(cases, _measure(launcher, work), lambda: _idle_node(work))
            found.append(block)
            ratios = ", ".join(f"{case} {math.exp(log):.4f}" for case, log in block.logs.items())
            told(f"block {number + 1} of {blocks}: {ratios}; {block.cores:.3f} cores")
    return [_row(case.id, found) for case in cases]


def one_block(cases: Sequence[Case], measure: Measure, node: Node) -> Block:
    """A of each case, the node's start, B of each twice, its end, and A of each.

    Args:
        cases: the cases.
        measure: gives the log seconds per sample of a new launch of a case.
        node: within its context a node of Ray idles; gives the CPU seconds of its daemons so far.
    """
    without = {case.id: [measure(case)] for case in cases}
    beside: dict[str, list[float]] = {case.id: [] for case in cases}
    with node() as before:
        began_s = time.perf_counter()
        for case in (*cases, *cases):
            beside[case.id].append(measure(case))
        after = {pid: spent for pid, spent in ray_daemons_s().items() if pid in before}
        wall_s = time.perf_counter() - began_s
    for case in cases:
        without[case.id].append(measure(case))
    logs = {case.id: fmean(beside[case.id]) - fmean(without[case.id]) for case in cases}
    return Block(logs, len(before), (risen_s(before, after) or 0.0) / wall_s)


def _row(case: str, blocks: Sequence[Block]) -> dict[str, Any]:
    logs = [block.logs[case] for block in blocks]
    interval = student_interval(logs)
    return {
        "case": case,
        "blocks": len(blocks),
        "with_over_without": math.exp(fmean(logs)),
        "with_over_without_low": math.exp(interval[0]) if interval else None,
        "with_over_without_high": math.exp(interval[1]) if interval else None,
        "daemons": max(block.daemons for block in blocks),
        "daemons_cores": fmean(block.cores for block in blocks),
    }


def _measure(launcher: Launcher, work: Path) -> Measure:
    settings = RunSettings()

    def log_of_a_launch(case: Case) -> float:
        """Measure one launch; the log of its seconds per sample."""
        environment = child_environment(case, inventory())
        place = LaunchPlace(environment, True, work / "launches.log", timeout_s=_LIMIT_S)
        min_rounds, min_seconds = LEAST.get(case.loop, (0, 0.0))
        request = LaunchRequest(
            case,
            launch=0,
            attempt=1,
            epochs=settings.epochs,
            seed=settings.seed,
            data=str(work / "data"),
            min_rounds=min_rounds,
            min_seconds=min_seconds,
        )
        rounds: list[Round] = []
        record = launcher.run(request, place, rounds.append)
        if record.status is not Status.OK:
            raise UserError(f"{case.id}: the launch ended {record.status}: {record.reason}")
        return launch_log([r.samples for r in rounds], [r.seconds for r in rounds])

    return log_of_a_launch


@contextlib.contextmanager
def _idle_node(work: Path) -> Iterator[Mapping[int, float]]:
    """Within the context, a cluster of one node idles on this machine.

    Raises:
        UserError: it did not start.
    """
    import psutil

    log = work / "ray.log"
    words = ["start", "--head", "--block", "--port=0", f"--temp-dir={work}", "--num-cpus=1"]
    words += [
        "--disable-usage-stats",
        "--include-dashboard=false",
        "--dashboard-agent-listen-port=0",
    ]
    command = [sys.executable, "-m", "ray.scripts.scripts", *words]
    with log.open("wb") as told:
        process = subprocess.Popen(command, stdout=told, stderr=subprocess.STDOUT)
    try:
        end_s = time.monotonic() + _READY_S
        while _STARTED not in log.read_text("utf-8", errors="replace"):
            if process.poll() is not None or time.monotonic() > end_s:
                last = log.read_text("utf-8", errors="replace").strip().splitlines()[-1:]
                raise UserError(f"a node of Ray did not start: {' '.join(last) or log}")
            time.sleep(0.2)
        time.sleep(_SETTLES_S)
        own = {child.pid for child in psutil.Process(process.pid).children(recursive=True)}
        yield {pid: spent for pid, spent in ray_daemons_s().items() if pid in own}
    finally:
        process.terminate()
        try:
            process.wait(_ENDS_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
