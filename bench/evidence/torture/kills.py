"""Kills commands at random moments, and then resumes them to their end.

After each kill, every round and launch that was on disk must still be there, no launch may count
twice, and no process, lock or half-written file may be left.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.evidence.torture.processes import MARK, marked, target_of_kill
from bench.launch.origin import child_command
from bench.machine.lock import LOCK_VARIABLE
from bench.schema.launch import Status
from bench.store.run_folder import RunFolder
from fmnist_models.errors import UserError

SIGNALS = tuple(
    name for name in ("SIGKILL", "SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name)
)
TARGETS = ("parent", "template", "launch")
VERBS = ("run", "duel", "profile")
# Limit from the parent's end to the end of its processes.
_GONE_S = 5.0
_MOST_ROUNDS_OF_RESUMING = 4
_LIMIT_S = 300.0


@dataclass(frozen=True, slots=True)
class Kill:
    """One drawn trial.

    Attributes:
        number: its number, from 0.
        verb: `run`, `duel` or `profile`.
        scripted: measure with the scripted worker; otherwise with TensorFlow.
        target: the process that gets the signal, of `TARGETS`.
        signal: the name of the signal.
        moment: when, as a share of the time of an undisturbed command.
    """

    number: int
    verb: str
    scripted: bool
    target: str
    signal: str
    moment: float


@dataclass(slots=True)
class Trial:
    """The outcome of a trial.

    Attributes:
        kill: the trial.
        hit: the process that got the signal; `none` where the command had ended before.
        kept: number of rounds on disk at the moment of the signal.
        whole_lines: the finished lines of each growing table at that moment.
        code: the exit code of the killed command.
        problems: what was wrong after it; empty where nothing was.
    """

    kill: Kill
    hit: str = "none"
    kept: int = 0
    whole_lines: dict[Path, bytes] = field(default_factory=dict)
    code: int | None = None
    problems: list[str] = field(default_factory=list)


def drawn(scripted: int, real: int, seed: int) -> Iterator[Kill]:
    """The kills of all trials: verbs, targets and signals in turn, moments at random."""
    draw = random.Random(seed)
    for number in range(scripted + real):
        yield Kill(
            number,
            VERBS[number % len(VERBS)],
            number < scripted,
            TARGETS[number // len(VERBS) % len(TARGETS)],
            SIGNALS[number // (len(VERBS) * len(TARGETS)) % len(SIGNALS)],
            draw.random(),
        )


class Torturer:
    """Carries out kills below one folder.

    Args:
        folder: each trial has its own folder in it.
        data: folder of a small data set.
    """

    def __init__(self, folder: Path, data: Path) -> None:
        self._folder = folder
        self._data = data
        self._whole_s: dict[tuple[str, bool], float] = {}

    def tried(self, kill: Kill) -> Trial:
        """Carry out one kill, then resume the command to its end.

        Raises:
            UserError: the command fails even without a kill.
        """
        whole_s = self._undisturbed_s(kill)
        place = _Place(self._folder / f"{kill.number:03d}", self._data, kill)
        trial = Trial(kill)
        process = place.started()
        try:
            _strike(process, kill, whole_s, trial, place)
            trial.code = _ended(process, trial)
        finally:
            process.kill()
            process.wait()
        trial.problems += place.left_over()
        if trial.code not in _codes(kill, trial.hit, place.fine):
            trial.problems.append(f"exit code {trial.code}")
        place.finish(trial)
        return trial

    def _undisturbed_s(self, kill: Kill) -> float:
        """Seconds of the same command without a kill."""
        key = kill.verb, kill.scripted
        if key not in self._whole_s:
            name = f"whole-{kill.verb}-{'scripted' if kill.scripted else 'real'}"
            place = _Place(self._folder / name, self._data, kill)
            began = time.perf_counter()
            process = place.started()
            try:
                code: int | str = process.wait(_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                code = f"no end within {_LIMIT_S:g} s"
            if code not in place.fine:
                raise UserError(f"{place.log}: {kill.verb} ended with {code} before any kill")
            self._whole_s[key] = time.perf_counter() - began
        return self._whole_s[key]


class _Place:
    """The folder and the command of a trial, and the checks of the folder."""

    def __init__(self, folder: Path, data: Path, kill: Kill) -> None:
        self.folder = folder
        self.log = folder / "log.txt"
        self._kill = kill
        self._data = data
        self._token = f"{os.getpid()}-{folder.name}"
        self._outputs = 0
        (folder / "tmp").mkdir(parents=True)

    @property
    def fine(self) -> tuple[int, ...]:
        """Exit codes of a finished command; a duel of equals may be undecided."""
        return (0, 3) if self._kill.verb == "duel" else (0,)

    @property
    def output(self) -> Path:
        """The folder that the command writes."""
        return self.folder / f"out{self._outputs}"

    def started(self) -> subprocess.Popen[bytes]:
        """Start the command."""
        return self._start(_words(self._kill, self._data, self.output))

    def _start(self, words: Sequence[str]) -> subprocess.Popen[bytes]:
        module = "bench.evidence.torture.scripted" if self._kill.scripted else "bench"
        environment = {**os.environ, MARK: self._token}
        environment |= dict.fromkeys(("TMPDIR", LOCK_VARIABLE), str(self.folder / "tmp"))
        with self.log.open("ab") as log, _signals_as_usual():
            return subprocess.Popen(
                [*child_command(module), *words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )

    def snapshot(self) -> dict[Path, bytes]:
        """The finished lines of each growing table."""
        files = [*self.output.rglob("rounds.csv"), *self.output.rglob("launches.jsonl")]
        found = {}
        for file in files:
            content = file.read_bytes()
            found[file] = content[: content.rfind(b"\n") + 1]
        return found

    def left_over(self) -> list[str]:
        """Problems: processes of the trial that outlived their parent; they are killed."""
        until = time.perf_counter() + _GONE_S
        while (left := marked(self._token)) and time.perf_counter() < until:
            time.sleep(0.05)
        for process in left:
            process.kill()
        return [f"process {process.pid} outlived its parent" for process in left]

    def finish(self, trial: Trial) -> None:
        """Resume or repeat the command to its end, and check its files."""
        before = self.snapshot()
        for _ in range(_MOST_ROUNDS_OF_RESUMING):
            code = self._start(self._going_on()).wait(_LIMIT_S)
            if code in self.fine:
                break
        else:
            trial.problems.append(f"did not come to its end: {self._last_line()}")
            return
        for then in (trial.whole_lines, before):
            for file, lines in then.items():
                if not file.exists() or not file.read_bytes().startswith(lines):
                    trial.problems.append(f"{file.name} lost what was on disk")
        trial.problems += self._half_files()
        if self._kill.verb != "profile":
            trial.problems += [
                problem
                for folder in sorted(file.parent for file in self.output.rglob("launches.jsonl"))
                for problem in _counted_twice(folder, self._kill.verb)
            ]
        if _shows_traceback(self.log.read_text(errors="replace")):
            trial.problems.append("a traceback was shown")

    def _going_on(self) -> list[str]:
        verb = self._kill.verb
        mark = {"run": "plan.json", "duel": "duel.json", "profile": "profile.csv"}[verb]
        if not (self.output / mark).exists():
            return _words(self._kill, self._data, self.output)
        if verb == "profile":
            # A profile cannot be resumed; it is measured again in another folder.
            self._outputs += 1
            return _words(self._kill, self._data, self.output)
        return [verb, "--resume", str(self.output), *(("--no-report",) if verb == "run" else ())]

    def _half_files(self) -> list[str]:
        """Problems: files that only a killed writer leaves."""
        return [
            f"{file.relative_to(self.output)} was left behind"
            for file in self.output.rglob("*")
            if file.name.startswith(".") or ".partial" in file.name or ".tmp" in file.name
        ]

    def _last_line(self) -> str:
        lines = self.log.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"


@contextlib.contextmanager
def _signals_as_usual() -> Iterator[None]:
    """Processes started in the context obey each signal, even where this one runs under `nohup`."""
    caught = [name for name in SIGNALS if name != "SIGKILL"]
    before = {name: signal.signal(getattr(signal, name), signal.SIG_DFL) for name in caught}
    try:
        yield
    finally:
        for name, handler in before.items():
            signal.signal(getattr(signal, name), handler)


def _words(kill: Kill, data: Path, output: Path) -> list[str]:
    """The command line of a trial."""
    # With a gate of 500%, the duel ends at its first look. A profile with TensorFlow has one case,
    # because it takes much longer than its readings.
    own = {
        "run": "--loops fit,compiled --batch-sizes 50,100 --epochs 1 --launches 2 --no-report",
        "duel": "--a here --b here --loops compiled --batch-sizes 100 --epochs 1 --gate 5",
        "profile": f"--loops compiled --batch-sizes {'50,100' if kill.scripted else '100'} "
        "--seconds 0.1",
    }
    chosen = "--models relu_mlp --optimizers adam --devices cpu --precisions float32"
    folders = ["--data", str(data), "--output", str(output)]
    return [kill.verb, *chosen.split(), *own[kill.verb].split(), *folders]


def _strike(
    process: subprocess.Popen[bytes], kill: Kill, whole_s: float, trial: Trial, place: _Place
) -> None:
    """Wait for the moment, then for the target, and send it the signal."""
    until = time.perf_counter() + kill.moment * whole_s
    target = None
    while process.poll() is None:
        if time.perf_counter() >= until:
            target = target_of_kill(process.pid, kill.target)
            if target is not None:
                break
        time.sleep(0.001)
    if target is None:
        return
    trial.whole_lines = place.snapshot()
    tables = (lines for file, lines in trial.whole_lines.items() if file.suffix == ".csv")
    trial.kept = sum(max(0, lines.count(b"\n") - 1) for lines in tables)
    with contextlib.suppress(ProcessLookupError):
        os.kill(target, getattr(signal, kill.signal))
        trial.hit = kill.target


def _codes(kill: Kill, hit: str, fine: tuple[int, ...]) -> set[int]:
    """The allowed exit codes of a command.

    2 where a template or launch got the signal; 128 plus the signal where the command did, or the
    negative signal where it had not yet set its handlers.
    """
    if hit != "parent":
        return {*fine, 2}
    number = int(getattr(signal, kill.signal))
    return {*fine, -number, 128 + number}


def _ended(process: subprocess.Popen[bytes], trial: Trial) -> int | None:
    try:
        return process.wait(_LIMIT_S)
    except subprocess.TimeoutExpired:
        trial.problems.append(f"did not end within {_LIMIT_S:g} s of the signal")
        return None


def _counted_twice(folder: Path, verb: str) -> list[str]:
    """Problems: launches of a finished run that ended ok twice, and duplicate rounds.

    In a duel, a block is measured again as a whole, so attempts are counted separately.
    """
    run = RunFolder(folder)
    ok = Counter(
        (r.case, r.launch, r.attempt if verb == "duel" else 0)
        for r in run.launches()
        if r.status is Status.OK
    )
    rounds = Counter((s.case, s.launch, s.attempt, s.round.round) for s in run.rounds())
    return [f"{key} is there {count} times" for key, count in (ok | rounds).items() if count > 1]


def _shows_traceback(said: str) -> bool:
    """Whether a traceback of the suite was shown.

    A traceback of Python's own start, which a signal can interrupt, does not count.
    """
    frames = [Path(file) for file in re.findall(r'^  File "(.*?)"', said, re.MULTILINE)]
    return any("bench" in file.parts and file.name != "child.py" for file in frames)
