"""Launches of peers in turns: each a fresh process in the environment that the suite gives it.

The processes of one framework and the same work are alive together, and train their rounds one
after the other. So what the host does to one round, it does to the others' too.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.launch.channel import LocalChannel
from bench.launch.ending import Ended
from bench.launch.origin import child_command
from bench.launch.placement import LaunchPlace
from bench.launch.process import Answer, WorkerProcess
from bench.launch.stepwise import Turns
from bench.machine.nvml import Inventory
from bench.machine.placement import child_environment
from bench.peers.known import LOSS_ONLY, NAMES, OTHERS
from bench.peers.training import PeerLaunch, Training
from bench.schema.case import Case
from bench.schema.launch import Status
from fmnist_models.errors import UserError

# Of one process, which trains every batch size; pauses are left out.
LIMIT_S = 1800
_READY_S = 120


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        names: the peers, in the user's order.
        batch_sizes: in order.
        launches: fresh processes of each peer.
        seed: launch k trains with seed + k.
        rounds: timed epochs of a batch size in each launch.
        case: its model, optimizer, precision, device and threads are those of all peers.
        folder: IDX files in place of the embedded images.
    """

    names: Sequence[str]
    batch_sizes: Sequence[int]
    launches: int
    seed: int
    rounds: int
    case: Case
    folder: str | None = None


@dataclass(frozen=True, slots=True)
class Measured:
    """What a launch of a peer measured at one batch size.

    Attributes:
        name: the peer.
        launch: number of the launch, from 0; those of one number ran close in time.
        found: the rounds.
    """

    name: str
    launch: int
    found: PeerLaunch


def order_of_launches(plan: Plan, launch: int) -> tuple[list[list[str]], list[int]]:
    """The groups of peers of one turn, in random order, and in which order each trains batch sizes.

    A group holds the peers of one framework with the same work, whose ratios matter most. All peers
    of a turn train the batch sizes in the same order.
    """
    draw = random.Random(f"{plan.seed} {launch}")
    groups: dict[tuple[str, bool], list[str]] = {}
    for name in plan.names:
        groups.setdefault(group_of(name), []).append(name)
    together = list(groups.values())
    draw.shuffle(together)
    batches = list(plan.batch_sizes)
    draw.shuffle(batches)
    return together, batches


def group_of(name: str) -> tuple[str, bool]:
    """What peers have in common whose rounds alternate: framework, and with or without accuracy."""
    return NAMES[name].framework, name.endswith(LOSS_ONLY)


def measure(plan: Plan, machine: Inventory, keep: Callable[[Measured], None]) -> None:
    """Measure every launch; `keep` is called with each batch size that one measured.

    Raises:
        UserError: a process failed, took too long, or trained on another device.
    """
    for launch in range(plan.launches):
        groups, batches = order_of_launches(plan, launch)
        for group in groups:
            with tempfile.TemporaryDirectory(prefix="fmnist-bench-peers-") as logs:
                for measured in _together(group, plan, launch, batches, machine, Path(logs)):
                    keep(measured)


def environment(name: str, case: Case, machine: Inventory) -> dict[str, str]:
    """The environment of a peer's process: that of a case of the suite with its framework.

    Products of scikit-learn are NumPy's, whose threads the suite's own workers do without. They are
    those of the processor that is there, whatever the user's variables say.
    """
    found = child_environment(NAMES[name].case(case), machine)
    if NAMES[name].framework in OTHERS:
        for variable in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
            found.pop(variable, None)
        if case.threads is not None:
            found["OPENBLAS_NUM_THREADS"] = found["MKL_NUM_THREADS"] = str(case.threads)
    return found


def _together(
    group: Sequence[str],
    plan: Plan,
    launch: int,
    batches: Sequence[int],
    machine: Inventory,
    logs: Path,
) -> Iterator[Measured]:
    """Run one launch of each peer of a group, a round of each in turn, in random order."""
    draw = random.Random(f"{plan.seed} {launch} {group[0]}")
    started: dict[str, WorkerProcess] = {}
    running: dict[str, Turns[Answer]] = {}
    try:
        for name in group:
            place = LaunchPlace(
                environment(name, plan.case, machine), False, logs / f"{name}.log", LIMIT_S
            )
            with _named(name):
                channel = LocalChannel(child_command("bench.peers.launch"), place)
            worker = WorkerProcess(channel, place.log)
            started[name] = worker
            request = _request(name, plan, launch, batches)
            running[name] = worker.serve("peer", request, place, lambda _: None, pauses=True)
        for name in group:
            with _named(name):
                started[name].wait_until_ready(_READY_S)
        ended: dict[str, list[PeerLaunch]] = {}
        while running:
            for name in draw.sample(sorted(running), len(running)):
                try:
                    with _named(name):
                        next(running[name])
                except StopIteration as end:
                    del running[name]
                    ended[name] = _launches(name, end.value, plan.case)
    finally:
        for worker in started.values():
            worker.kill()
    for name in group:
        yield from (Measured(name, launch, found) for found in ended[name])


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Name the peer whose process ended within the context."""
    try:
        yield
    except Ended as end:
        raise UserError(f"{name}: {end}") from end


def _request(name: str, plan: Plan, launch: int, batches: Sequence[int]) -> dict[str, Any]:
    """What the process of a peer is asked for."""
    case = plan.case
    trainings = [
        Training(
            batch,
            plan.seed + launch,
            case.model,
            case.optimizer,
            case.precision,
            accuracy=not name.endswith(LOSS_ONLY),
            device=case.device,
        )
        for batch in batches
    ]
    return {
        "name": name.removesuffix(LOSS_ONLY),
        "trainings": [asdict(training) for training in trainings],
        "rounds": plan.rounds,
        "folder": plan.folder,
    }


def _launches(name: str, answer: Answer, case: Case) -> list[PeerLaunch]:
    """What a process measured.

    Raises:
        UserError: it failed, took too long, or trained on another device.
    """
    if answer.status is Status.TIMED_OUT:
        raise UserError(f"{name} took longer than {LIMIT_S} s: lower --rounds")
    if answer.status is not Status.OK:
        raise UserError(f"{name}: {answer.reason}")
    found = [PeerLaunch(**each) for each in answer.fields["launches"]]
    device = found[0].device
    if (device == "cpu") != (case.device == "cpu"):
        raise UserError(f"{name} trained on {device}, not on {case.device}")
    return found
