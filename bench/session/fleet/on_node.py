"""What runs on a node of a fleet: an ordinary run, told launch by launch.

It knows nothing of Ray, which only carries what it tells.
"""

from __future__ import annotations

import contextlib
import os
import queue
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.machine import devices
from bench.machine.loaded import suite_digest
from bench.schema.case import Case
from bench.schema.fleet import ENDS, REFUSED, NodeFacts, Told
from bench.schema.launch import LaunchRecord, Round
from bench.schema.plan import Plan
from bench.session import preflight
from bench.session.events import Progress
from bench.session.run import execute
from bench.store.files import scratch
from bench.store.fleet_folder import news, seed
from fmnist_models.errors import UserError

# The daemon runs under a memory allocator of its own, which its processes do not have.
_DAEMONS_OWN = ("LD_PRELOAD",)


class OnNode:
    """Measures a plan on a node as `fmnist-bench run` there would.

    Its launches see the variables that the node's daemon was started with, and none that Ray adds:
    it would have each process use one thread. Where the system lets it, they do not give way to
    other work either, which Ray's processes do.
    """

    def __init__(self) -> None:
        as_the_node(psutil.Process(os.getppid()))
        self._events: queue.SimpleQueue[Told] = queue.SimpleQueue()
        self._begun = False
        self._number = 0
        self._told: Told | None = None

    def devices(self) -> list[str]:
        """The devices of this node."""
        return devices.present(devices.inventory())

    def facts(self, plan: Plan) -> NodeFacts:
        """What must be alike on all nodes that measure the plan."""
        return node_facts(plan)

    def begin(self, plan: Plan, held: Mapping[str, bytes]) -> None:
        """Measure what is missing of the plan, while `tell` tells of it; once, however often asked.

        Args:
            plan: the plan.
            held: the files of the run so far; none for a new run.
        """
        if self._begun:
            return
        self._begun = True
        arguments = (plan, held, self._events)
        threading.Thread(target=_measure, args=arguments, daemon=True).start()

    def tell(self, number: int) -> Told:
        """The event of that number, from 1 on, once there is one.

        Whoever asks for the same number again, because the answer was lost, gets the same.
        """
        if self._told is None or number != self._number:
            self._told, self._number = self._events.get(), number
        return self._told


class _Telling(Progress):
    """Tells of what happens in a run, with what is new in its folder."""

    def __init__(self, events: queue.SimpleQueue[Told], folder: Path) -> None:
        self._events = events
        self._folder = folder
        self._sent: dict[str, int] = {}
        self._rounds: list[Round] = []

    def tell(self, event: str, *words: object) -> None:
        """Tell of an event.

        The files are read here, in the run's own thread, so that no launch is under way meanwhile.
        """
        rounds, self._rounds = tuple(self._rounds), []
        self._events.put(Told(event, words, rounds, news(self._folder, self._sent)))

    def waits(self, reason: str) -> None:
        """Tell that another run measures on this machine."""
        # The folder may be that of a run that goes on, which nobody has opened yet.
        self._events.put(Told("waits", (reason,)))

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """Tell what is to be measured."""
        self.tell("run_begins", plan, remaining)

    def ceilings_begin(self, moment: str) -> None:
        """Tell that the ceilings are measured now."""
        self.tell("ceilings_begin", moment)

    def ceilings_fail(self, reason: str) -> None:
        """Tell which columns stay empty, and why."""
        self.tell("ceilings_fail", reason)

    def launch_begins(self, case: Case, launch: int) -> None:
        """Tell what is measured now."""
        self.tell("launch_begins", case, launch)

    def together_begins(self, cases: Sequence[Case], launch: int) -> None:
        """Tell what is measured in turns now."""
        self.tell("together_begins", cases, launch)

    def round_ends(self, round_: Round) -> None:
        """Keep the round until the launch has ended, for telling costs time."""
        self._rounds.append(round_)

    def launch_voided(self, record: LaunchRecord) -> None:
        """Tell that a launch was disturbed."""
        self.tell("launch_voided", record)

    def launch_lost(self, case_id: str, launch: int, reason: str) -> None:
        """Tell that a launch is measured again."""
        self.tell("launch_lost", case_id, launch, reason)

    def launch_ends(self, record: LaunchRecord) -> None:
        """Tell how a launch ended."""
        self.tell("launch_ends", record)

    def run_ends(self) -> None:
        """Tell that the last launch has ended."""
        self.tell("run_ends")


def _measure(plan: Plan, held: Mapping[str, bytes], events: queue.SimpleQueue[Told]) -> None:
    """Measure in a folder that is gone afterwards: what counts is at home by then."""
    with scratch() as work:
        folder = Path(work) / "run"
        telling = _Telling(events, folder)
        try:
            if held:
                seed(folder, held)
                opening, plan = preflight.resume(folder)
            else:
                opening = preflight.begin(plan, folder)
            outcome = execute(plan, opening, telling, wait=True)
            telling.tell(ENDS, int(outcome.exit_code))
        except Exception as error:  # noqa: BLE001 - it is told at home, where somebody looks
            # Its folder is not at home, and the reason's remedy is about that one.
            reason = str(error).replace(str(folder), "its run") or type(error).__name__
            events.put(Told(REFUSED, (reason,)))


def node_facts(plan: Plan) -> NodeFacts:
    """What must be alike on all nodes that measure a plan, of this node."""
    environment: Mapping[str, Any] = {}
    refused = ""
    try:
        preflight.refuse_unmeasurable(plan)
        environment = preflight.environment_of(plan)
    except UserError as error:
        refused = str(error)
    return NodeFacts(
        environment, suite_digest(), clock_s=time.time(), niceness=_niceness(), refused=refused
    )


def as_the_node(daemon: psutil.Process) -> None:
    """Give this process, and so its launches, the variables and the priority of the node.

    Args:
        daemon: the process that was started on the node by its owner, as this one's parent.
    """
    theirs = daemon.environ()
    for name in {*os.environ, *theirs} - {*_DAEMONS_OWN}:
        if name in theirs:
            os.environ[name] = theirs[name]
        elif not name.startswith("RAY_"):
            del os.environ[name]
    if hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, 0, daemon.nice())
    with contextlib.suppress(OSError):
        theirs_first = Path(f"/proc/{daemon.pid}/oom_score_adj").read_text()
        Path("/proc/self/oom_score_adj").write_text(theirs_first)


def _niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0
