"""A profile from its plan to its folder: where the time and the memory of each case go.

A profile is no run: it leaves parts of the work out and looks on while the rest runs. Its folder
holds no results.csv, and nothing compares or checks it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench import devices, phases
from bench.case import SKLEARN_LOOP, Case
from bench.errors import ExitCode, UserError
from bench.launch import Launcher, LaunchPlace
from bench.lock import the_machine
from bench.phases import MOST_UNEXPLAINED, Split, Variant
from bench.profile_record import STACK, STARTUP, STEPS, ProfileRecord, ProfileRequest, Readings
from bench.record import Status
from bench.run import environment_of, new_folder_name, require_tensorflow
from bench.store import Plan, explained, write_csv, write_json
from bench.traces import Trace, read_traces, require_extra

SECONDS, ROUNDS = 30.0, 9
PHASE_COLUMNS = ("case", "phase", "share", "seconds_per_step", "low_s", "high_s", "step_s",
                 "epoch_step_s", "rounds", "steps", "trace_overhead", "sampler_overhead",
                 "status", "reason", "warnings")  # fmt: skip
OPERATION_COLUMNS = ("case", "operation", "kind", "phase", "count", "count_per_step", "total_s",
                     "self_s", "share", "flops_per_s")  # fmt: skip
MEMORY_COLUMNS = ("case", "where", "holder", "bytes", "share")
STARTUP_COLUMNS = ("case", "stage", "seconds")
DEVICE_COLUMNS = ("case", "device", "window_s", "kernels_s", "copies_s", "gaps", "gaps_s")
REST = "workspace and the rest"
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Profile:
    """One case, profiled.

    Attributes:
        split, trace: None where the case did not end ok.
        stack: the file of Python's own stack; None where it was not sampled.
    """

    record: ProfileRecord
    split: Split | None = None
    trace: Trace | None = None
    stack: Path | None = None

    @property
    def case(self) -> Case:
        """What was profiled."""
        return self.record.case

    def overhead(self, variant: Variant) -> float | None:
        """How much longer a step takes under a profiler, as a share."""
        readings = self.record.readings
        if readings is None:
            return None
        wall_s = readings.wall_s
        return phases.overhead(wall_s.get(variant, ()), wall_s[Variant.STEP])


@dataclass(frozen=True, slots=True)
class ProfileOutcome:
    """What profiling leaves behind."""

    folder: Path
    profiles: tuple[Profile, ...]
    environment: Mapping[str, Any]
    interrupted: bool

    @property
    def exit_code(self) -> ExitCode:
        """2 where a case failed; 0 where all ended ok or were skipped."""
        if self.interrupted:
            return ExitCode.INTERRUPTED
        fine = {Status.OK, Status.SKIPPED}
        if all(profile.record.status in fine for profile in self.profiles):
            return ExitCode.PASSED
        return ExitCode.WRONG_USE_OR_FAILED_CASE


def profile(
    plan: Plan,
    output: Path | None,
    told: Callable[[str], None],
    *,
    seconds: float = SECONDS,
    wait: bool = False,
    launcher: Launcher | None = None,
) -> ProfileOutcome:
    """Profile each case of `plan`, in a fresh process each, and write the tables.

    Args:
        plan: the cases; epochs and launches mean nothing here.
        output: the folder; None for a new one under results/.
        told: hears a line before each case.
        seconds: that the readings of a case take, at least.
        wait: for another run's end, where one measures on this machine.
        launcher: starts the workers.

    Raises:
        UserError: a package is missing, another run has the machine, or the folder cannot be
            written or holds a profile already.
    """
    require_tensorflow()
    require_extra()
    described = {**environment_of(plan), "command": plan.command}
    folder = _new_folder(output or new_folder_name("profile", plan.label))
    with explained(folder):
        write_json(folder / "environment.json", described)
    under_way = _Profiling(plan, folder, seconds)
    interrupted = False
    with (
        the_machine(told, wait),
        launcher or Launcher(data=plan.settings.data) as launching,
    ):
        try:
            for number, case in enumerate(plan.cases, 1):
                told(f"{number} of {len(plan.cases)}: {case.id}")
                under_way.add(case, launching)
        except KeyboardInterrupt:
            interrupted = True
    return ProfileOutcome(folder, tuple(under_way.profiles), described, interrupted)


class _Profiling:
    """A profile under way; the tables are written again after each case."""

    def __init__(self, plan: Plan, folder: Path, seconds: float) -> None:
        self._plan = plan
        self._folder = folder
        self._seconds = seconds
        self._inventory = devices.inventory()
        self.profiles: list[Profile] = []

    def add(self, case: Case, launcher: Launcher) -> None:
        """Profile one case and put it on disk."""
        reason = devices.skip_reason(case, self._inventory)
        if case.loop == SKLEARN_LOOP:
            reason = "scikit-learn's fit has no steps that could be taken apart"
        if reason:
            found = Profile(ProfileRecord(case, Status.SKIPPED, reason))
        else:
            found = self._profile(case, launcher)
        self.profiles.append(found)
        with explained(self._folder):
            write_tables(self.profiles, self._folder)

    def _profile(self, case: Case, launcher: Launcher) -> Profile:
        settings = self._plan.settings
        work = self._folder / "work" / case.id.replace(":", "_").replace("/", "_")
        with explained(self._folder):
            work.mkdir(parents=True, exist_ok=True)
        place = LaunchPlace(
            environment=devices.child_environment(case, self._inventory),
            fork=False,
            log=work / "log.txt",
            timeout_s=settings.timeout_s,
            gpu=devices.resolve(case.device, self._inventory),
        )
        request = ProfileRequest(case, settings.seed, str(work.resolve()), self._seconds, ROUNDS)
        record = launcher.profile(request, place)
        if record.readings is None:
            return Profile(record)
        found = self._read(record, record.readings, work)
        shutil.rmtree(work, ignore_errors=True)
        return found

    def _read(self, record: ProfileRecord, readings: Readings, work: Path) -> Profile:
        split = phases.split(record.case.loop, readings.wall_s, readings.cpu_s)
        if abs(split.unexplained) > MOST_UNEXPLAINED:
            warning = f"{split.unexplained:.0%} of the step is not explained"
            record = replace(record, warnings=(*record.warnings, warning))
        traces = self._folder / "traces"
        name = work.name
        with explained(self._folder):
            trace = read_traces(work / STARTUP, work / STEPS, traces, name, readings.model_name)
            stack = None
            if (work / STACK).exists():
                stack = (work / STACK).replace(traces / f"{name}-{STACK}")
        return Profile(record, split, trace, stack)


def _new_folder(path: Path) -> Path:
    for name in ("profile.csv", "plan.json"):
        if (path / name).exists():
            raise UserError(f"{path} already holds a profile or a run: name another --output")
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
    return path


def write_tables(profiles: Sequence[Profile], folder: Path) -> None:
    """Write profile.csv and the other tables, and the raw readings as profiles.jsonl."""
    tables: dict[str, tuple[tuple[str, ...], list[dict[str, Any]]]] = {
        "profile.csv": (PHASE_COLUMNS, [row for p in profiles for row in phase_rows(p)]),
        "operations.csv": (OPERATION_COLUMNS, [row for p in profiles for row in _operations(p)]),
        "memory.csv": (MEMORY_COLUMNS, [row for p in profiles for row in memory_rows(p.record)]),
        "startup.csv": (STARTUP_COLUMNS, [row for p in profiles for row in startup_rows(p)]),
    }
    on_devices = [row for p in profiles for row in _devices(p)]
    if on_devices:
        tables["devices.csv"] = (DEVICE_COLUMNS, on_devices)
    for name, (columns, rows) in tables.items():
        write_csv(folder / name, columns, rows)
    lines = [json.dumps(p.record.to_json(), ensure_ascii=False) for p in profiles]
    (folder / "profiles.jsonl").write_text("\n".join(lines) + "\n", "utf-8")


def phase_rows(profile: Profile) -> list[dict[str, Any]]:
    """A row a phase, with the keys `PHASE_COLUMNS`; one with the reason where there are none."""
    record = profile.record
    row: dict[str, Any] = {
        **dict.fromkeys(PHASE_COLUMNS),
        "case": record.case.id,
        "phase": "",
        "status": str(record.status),
        "reason": record.reason,
        "warnings": "; ".join(record.warnings),
    }
    if profile.split is None or record.readings is None:
        return [row]
    row |= {
        "step_s": profile.split.step_s,
        "epoch_step_s": record.readings.epoch_step_s,
        "rounds": len(record.readings.wall_s[Variant.STEP]),
        "steps": record.readings.steps,
        "trace_overhead": profile.overhead(Variant.TRACED),
        "sampler_overhead": profile.overhead(Variant.SAMPLED),
    }
    return [
        {**row, "phase": str(share.phase), "share": share.share, "low_s": share.low,
         "high_s": share.high, "seconds_per_step": share.seconds}
        for share in profile.split.shares
    ]  # fmt: skip


def memory_rows(record: ProfileRecord) -> list[dict[str, Any]]:
    """What holds the memory, host and device: the holders, and the rest up to the peak.

    Where the holders are of a CPU they are the host's. Rows add up to the peak.
    """
    readings = record.readings
    if readings is None:
        return []
    rows = []
    for where, peak in (("host", readings.peak_host_bytes), ("device", readings.peak_device_bytes)):
        own = [(holder, size) for place, holder, size in readings.memory if place == where]
        if peak is None:
            continue
        own.append((REST, peak - sum(size for _, size in own)))
        rows += [
            {"case": record.case.id, "where": where, "holder": holder, "bytes": size,
             "share": size / peak}
            for holder, size in own
        ]  # fmt: skip
    return rows


def startup_rows(profile: Profile) -> list[dict[str, Any]]:
    """Seconds by stage of the start; tracing and compiling are told apart by the trace."""
    readings, trace = profile.record.readings, profile.trace
    if readings is None or trace is None:
        return []
    stages = dict(readings.startup_s)
    first_s = stages.pop("first steps")
    stages |= {"trace": trace.tracing_s, "compile": trace.compiling_s}
    stages["first steps"] = first_s - trace.tracing_s - trace.compiling_s
    case = profile.case.id
    return [{"case": case, "stage": name, "seconds": s} for name, s in stages.items()]


def _operations(profile: Profile) -> list[dict[str, Any]]:
    readings, trace = profile.record.readings, profile.trace
    if readings is None or trace is None:
        return []
    return [
        {
            "case": profile.case.id,
            "operation": found.name,
            "kind": found.kind,
            "phase": found.phase and str(found.phase),
            "count": found.count,
            "count_per_step": found.count / readings.traced_steps,
            "total_s": found.total_s,
            "self_s": found.self_s,
            "share": found.share,
            "flops_per_s": found.flops_per_s,
        }
        for found in trace.operations
    ]


def _devices(profile: Profile) -> list[dict[str, Any]]:
    times = profile.trace.devices if profile.trace else ()
    return [
        {"case": profile.case.id, **{name: getattr(t, name) for name in DEVICE_COLUMNS[1:]}}
        for t in times
    ]
