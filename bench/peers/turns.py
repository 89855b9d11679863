"""Launches of peers in turns: each a fresh process in the environment that the suite gives it."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from bench.launch.origin import child_command
from bench.machine.nvml import Inventory
from bench.machine.placement import child_environment
from bench.peers.known import LOSS_ONLY, NAMES, SKLEARN
from bench.peers.training import Length, PeerLaunch, Training
from bench.schema.case import Case
from fmnist_models.errors import UserError

# Of one process, which trains every batch size.
LIMIT_S = 1800


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Attributes:
        names: the peers, in the user's order.
        batch_sizes: in order.
        launches: fresh processes of each peer.
        seed: launch k trains with seed + k.
        length: how long each launch times a batch size.
        case: its model, optimizer, precision, device and threads are those of all peers.
        folder: IDX files in place of the embedded images.
    """

    names: Sequence[str]
    batch_sizes: Sequence[int]
    launches: int
    seed: int
    length: Length
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


def order_of_launches(plan: Plan, launch: int) -> tuple[list[str], list[int]]:
    """The peers of one turn in random order, and the order in which each trains batch sizes.

    The peers whose ratios matter most, those of one framework with the same work, follow one
    another in random order, so that they run close in time; so do these groups. All peers of a
    turn train the batch sizes in the same order.
    """
    draw = random.Random(f"{plan.seed} {launch}")
    groups: dict[tuple[str, bool], list[str]] = {}
    for name in plan.names:
        key = (NAMES[name].framework, name.endswith(LOSS_ONLY))
        groups.setdefault(key, []).append(name)
    together = list(groups.values())
    draw.shuffle(together)
    for group in together:
        draw.shuffle(group)
    batches = list(plan.batch_sizes)
    draw.shuffle(batches)
    return [name for group in together for name in group], batches


def measure(plan: Plan, machine: Inventory, keep: Callable[[Measured], None]) -> None:
    """Measure every launch; `keep` is called with each batch size that one measured.

    Raises:
        UserError: a process failed, took too long, or trained on another device.
    """
    for launch in range(plan.launches):
        names, batches = order_of_launches(plan, launch)
        for name in names:
            for found in _launched(name, plan, launch, batches, machine):
                keep(Measured(name, launch, found))


def environment(name: str, case: Case, machine: Inventory) -> dict[str, str]:
    """The environment of a peer's process: that of a case of the suite with its framework.

    Products of scikit-learn are NumPy's, whose threads the suite's own workers do without.
    """
    found = child_environment(NAMES[name].case(case), machine)
    if NAMES[name].framework == SKLEARN and case.threads is not None:
        found["OPENBLAS_NUM_THREADS"] = found["MKL_NUM_THREADS"] = str(case.threads)
    return found


def _launched(
    name: str, plan: Plan, launch: int, batches: Sequence[int], machine: Inventory
) -> list[PeerLaunch]:
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
    request = {
        "name": name.removesuffix(LOSS_ONLY),
        "trainings": [asdict(training) for training in trainings],
        "length": asdict(plan.length),
        "folder": plan.folder,
    }
    try:
        done = subprocess.run(
            [*child_command("bench.peers.launch"), json.dumps(request)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=environment(name, case, machine),
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{name} took longer than {LIMIT_S} s: lower --rounds") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"{name} ended with code {done.returncode}: {last}")
    found = [PeerLaunch(**each) for each in json.loads(done.stdout.splitlines()[-1])]
    device = found[0].device
    if (device == "cpu") != (case.device == "cpu"):
        raise UserError(f"{name} trained on {device}, not on {case.device}")
    return found
