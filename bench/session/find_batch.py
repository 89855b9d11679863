"""`--find-batch`: the largest batch that fits the device, by doubling and bisection.

Each try is a launch in a process of its own, with the data and rounds of the run, which ends after
one call. On a CPU the device is the memory of the machine, so a guard ends a try that would leave
too little of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from bench.launch.ending import lacked_memory
from bench.launch.guard import MemoryGuard
from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine import devices, placement
from bench.machine.lock import the_machine
from bench.schema.case import SKLEARN_LOOP, Case
from bench.schema.cells import counted
from bench.schema.launch import LaunchRecord, Status
from bench.schema.matrix import MOST_BATCH
from bench.schema.plan import Plan
from bench.schema.requests import LaunchRequest
from bench.schema.tries import BatchTry
from bench.session import preflight
from bench.session.estimate import training_samples
from bench.session.places import place_of
from bench.session.preflight import Opening
from bench.store.files import scratch
from bench.store.run_folder import RunFolder

FIRST = 32
# The size found is at most this share below one that does not fit.
WITHIN = 1 / 16


class _Failed(Exception):
    """A try ended for another reason than its memory."""

    def __init__(self, record: LaunchRecord) -> None:
        super().__init__(f"{record.status}: {record.reason}")
        self.status = record.status


def to_begin_with(plan: Plan) -> Plan:
    """The plan with one case for each search, of the batch size that it begins with."""
    begun = {case: _first(plan, case) for case in plan.cases}
    refused = {
        begun[case].id: plan.refused[case.id] for case in plan.cases if case.id in plan.refused
    }
    return replace(plan, cases=tuple(dict.fromkeys(begun.values())), refused=refused)


def _first(plan: Plan, case: Case) -> Case:
    if case.loop == SKLEARN_LOOP:
        return case
    work = plan.work_of(case)
    return replace(case, batch_size=(work and work.batch_size) or FIRST)


def searches(plan: Plan, cases: Sequence[Case]) -> list[Case]:
    """Those of `cases` whose batch size is searched for."""
    return [case for case in cases if case.loop != SKLEARN_LOOP and case.id not in plan.refused]


def searched(
    plan: Plan,
    opening: Opening,
    told: Callable[[str], None],
    *,
    wait: bool = False,
    launcher: Launcher | None = None,
) -> tuple[Plan, Opening]:
    """Search the batch sizes of a plan; Ctrl-C ends the search, and nothing is kept then.

    Args:
        plan: a plan of `to_begin_with`.
        opening: the folder of its run, which is checked again with the new plan.
        told: called with a line for each search.
        wait: wait for another run on this machine; otherwise another run is an error.
        launcher: starts the tries; None for a new one, with a guard of the memory.

    Returns:
        the plan with the sizes found, in which a case without one is refused; and its folder, in
        which opening it writes find_batch.csv.

    Raises:
        UserError: another run has the machine's lock, or no case is left.
    """
    machine = devices.inventory()
    here = [case for case in plan.cases if not placement.skip_reason(case, machine, plan)]
    wanted = set(searches(plan, here))
    found, refused, tries = list[Case](), dict(plan.refused), list[BatchTry]()
    with (
        the_machine(told, wait),
        scratch() as folder,
        launcher or Launcher(data=plan.settings.data, watch=MemoryGuard().watch) as launching,
    ):
        for case in plan.cases:
            if case not in wanted:
                found.append(case)
                continue
            search = _Search(plan, case, launching, Path(folder) / "log")
            found.append(search.to_the_end())
            tries += search.tries
            if search.refused:
                refused[found[-1].id] = search.refused
            told(f"{found[-1].id}: {search.line()}")
    plan = replace(plan, cases=tuple(found), refused=refused)
    checked = preflight.begin(plan, opening.path)

    def opened() -> RunFolder:
        """Create the folder, with the tries."""
        made = checked.open()
        made.write_tries(tries)
        return made

    return plan, Opening(checked.path, opened)


class _Search:
    """The search for one case.

    Attributes:
        tries: those so far.
        refused: why no batch size was found; empty where one was.
    """

    def __init__(self, plan: Plan, case: Case, launcher: Launcher, log: Path) -> None:
        self._settings, self._case, self._launcher, self._log = plan.settings, case, launcher, log
        work = plan.work_of(case)
        self._samples = work.samples if work else training_samples(plan.settings.data)
        self._low, self._high, self._note = 0, 0, ""
        self.tries: list[BatchTry] = []
        self.refused = ""

    def to_the_end(self) -> Case:
        """The case with the largest size that fits; as it was where none was found."""
        try:
            self._double()
            while self._high - self._low > max(1, self._low * WITHIN):
                self._try((self._low + self._high) // 2)
        except _Failed as end:
            self._note = f"the search ended with {self.tries[-1].batch_size:,}, {end}"
            if not self._low and end.status is Status.SKIPPED:
                # Its launch will say so again, as a row that is skipped.
                return self._case
        if not self._low:
            nothing = (
                "not even a batch of 1 fits the memory: free some, or take a smaller model; the "
                f"last try: {self.tries[-1].reason}"
            )
            self.refused = f"--find-batch: {self._case.model}: {self._note or nothing}"
            return self._case
        return replace(self._case, batch_size=self._low)

    def line(self) -> str:
        """What was found, and by how many tries."""
        took = sum(one.seconds or 0.0 for one in self.tries)
        count = f"{counted(len(self.tries), 'try', 'tries')}, {took:.0f} s"
        why = self._note
        if not why and self._high:
            why = f"a batch of {self._high:,} does not fit"
        return f"{self.refused or f'the largest batch; {why or self._of_all()}'} ({count})"

    def _of_all(self) -> str:
        if self._samples is None:
            return "no larger one is allowed"
        return f"an epoch has {self._samples:,} samples"

    def _double(self) -> None:
        # A round of the run needs that many whole batches.
        most = MOST_BATCH if self._samples is None else self._samples // (self._settings.steps or 1)
        most = max(1, min(most, MOST_BATCH))
        size = min(self._case.batch_size, most)
        while not self._high and self._low < most:
            self._try(size)
            size = min(2 * size, most)

    def _try(self, size: int) -> None:
        """Launch the first steps of a batch size.

        Raises:
            _Failed: it ended for another reason than its memory.
        """
        case = replace(self._case, batch_size=size)
        record = self._launcher.run(self._request(case), self._place(case), lambda _: None)
        self._log.unlink(missing_ok=True)
        peak = record.peak_host_memory_bytes if case.device == "cpu" else None
        self.tries.append(
            BatchTry(
                case.id,
                size,
                record.status,
                record.reason,
                record.peak_device_memory_bytes or peak,
                record.total_s,
            )
        )
        if record.status is Status.OK:
            self._low = size
        elif lacked_memory(record, case):
            self._high = size
        else:
            raise _Failed(record)

    def _request(self, case: Case) -> LaunchRequest:
        return LaunchRequest(
            case=case,
            launch=0,
            attempt=len(self.tries) + 1,
            epochs=1,
            seed=self._settings.seed,
            steps=self._settings.steps,
            cache_stream=self._settings.cache_stream,
            one_call=True,
        )

    def _place(self, case: Case) -> LaunchPlace:
        return place_of(case, devices.inventory(), self._log, self._settings)
