"""What runs on a node of a fleet: an ordinary run, told launch by launch.

It knows nothing of Ray, which only carries what it yields.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.schema.case import Case
from bench.schema.fleet import Told
from bench.schema.launch import LaunchRecord
from bench.schema.plan import Plan
from bench.session import preflight
from bench.session.events import Progress
from bench.session.run import execute
from bench.store.files import scratch
from bench.store.fleet_folder import news, seed


class OnNode:
    """What runs on a node: it measures a plan as `fmnist-bench run` there would."""

    def measure(self, plan: Plan, held: Mapping[str, bytes]) -> Iterator[Told]:
        """Measure what is missing of the plan, and tell of each launch with what is new.

        Args:
            plan: the plan.
            held: the files of the run so far; none for a new run.
        """
        with scratch() as work:
            folder = Path(work) / "run"
            events: queue.SimpleQueue[Told] = queue.SimpleQueue()
            thread = threading.Thread(target=_run, args=(plan, folder, held, events), daemon=True)
            thread.start()
            sent: dict[str, int] = {}
            while True:
                told = events.get()
                yield replace(told, files=news(folder, sent))
                if told.event in ("ends", "refused"):
                    return


class _Telling(Progress):
    """Tells a queue of what happens in a run."""

    def __init__(self, events: queue.SimpleQueue[Told]) -> None:
        self._events = events

    def waits(self, reason: str) -> None:
        """Tell that another run measures on this machine."""
        self._events.put(Told("waits", {"reason": reason}))

    def run_begins(self, plan: Plan, remaining: Sequence[tuple[Case, int]]) -> None:
        """Tell how many launches there are."""
        self._events.put(Told("begins", {"launches": len(remaining)}))

    def launch_begins(self, case: Case, launch: int) -> None:
        """Tell what is measured now."""
        self._events.put(Told("measures", {"case": case.id, "launch": launch}))

    def launch_voided(self, record: LaunchRecord) -> None:
        """Tell that a launch was disturbed."""
        self._events.put(Told("voided", {"case": record.case, "reason": record.reason}))

    def launch_ends(self, record: LaunchRecord) -> None:
        """Tell how a launch ended."""
        facts = {"case": record.case, "status": str(record.status), "reason": record.reason}
        self._events.put(Told("launch", facts))


def _run(
    plan: Plan, folder: Path, held: Mapping[str, bytes], events: queue.SimpleQueue[Told]
) -> None:
    try:
        if held:
            seed(folder, held)
            opening, plan = preflight.resume(folder)
        else:
            opening = preflight.begin(plan, folder)
        outcome = execute(plan, opening, _Telling(events), wait=True)
    except Exception as error:  # noqa: BLE001 - it is told at home, where somebody looks
        events.put(Told("refused", {"reason": str(error) or type(error).__name__}))
        return
    events.put(Told("ends", {"exit_code": int(outcome.exit_code)}))
