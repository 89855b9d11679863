"""Takes away what a command needs: space on the disk, its folder, its streams or its terminal.

Each trial records what was taken away, and what was wrong: a wrong exit code, no line with the
remedy, a traceback, a half-written file, or the loss of a result that was on disk.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.launch.origin import child_command
from bench.machine.lock import LOCK_VARIABLE
from fmnist_models.errors import UserError

_LIMIT_S = 120.0
# Sizes of a small file system; a command writes about ten times as much.
_KIB = (8, 16, 24, 40, 64, 96, 160, 320)
_INODES = (2, 4, 6, 8, 10, 12, 16)
_LARGE = "size=64m,nr_inodes=10000"
_CLOSED_PIPE, _HANGUP = 141, 129


@dataclass(slots=True)
class Loss:
    """One trial: what was taken away from which command, and what was wrong after it."""

    taken: str
    verb: str
    code: int | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Command:
    """One command that writes into a folder.

    Attributes:
        verb: its verb.
        words: its command line; `{out}` stands for the folder it writes to.
        again: the command line that resumes it, where `mark` exists.
        mark: a file of a command that can be resumed; empty where it is repeated.
        fine: exit codes of the finished command.
        written: files that must exist at its end.
    """

    verb: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ()
    mark: str = ""
    fine: tuple[int, ...] = (0,)
    written: tuple[str, ...] = ()


def commands(baseline: Path, candidate: Path, data: Path) -> tuple[Command, ...]:
    """The commands of all verbs that write files.

    Args:
        baseline: a folder of three runs.
        candidate: folder of another run.
        data: folder of a small data set.
    """
    words = "--models relu_mlp --optimizers adam --devices cpu --precisions float32 "
    words += "--loops compiled --epochs 1 --data"
    chosen = (*words.split(), str(data))
    stored, now = str(sorted(baseline.iterdir())[0]), str(candidate)
    # Not formatted, so that each command is on one or two lines.
    return (
        Command("run", ("run", *chosen, "--batch-sizes", "50,100", "--output", "{out}/x"),
                ("run", "--resume", "{out}/x"), "x/plan.json", (0,), ("x/results.csv",)),
        Command("duel", ("duel", "--a", "here", "--b", "here", *chosen, "--batch-sizes", "100",
                         "--gate", "5", "--output", "{out}/x"),
                ("duel", "--resume", "{out}/x"), "x/duel.json", (0, 3), ("x/verdict.json",)),
        Command("compare", ("compare", now, stored, "--output", "{out}/x"),
                written=("x/comparison.csv",)),
        Command("check", ("check", "--baseline", str(baseline), now, "--output", "{out}/x"),
                fine=(0, 1, 3), written=("x/check.json",)),
        Command("report", ("report", now, "--output", "{out}/x.html"), written=("x.html",)),
        Command("export", ("export", now, "--format", "bmf", "--output", "{out}/x.json"),
                written=("x.json",)),
        Command("baseline", ("baseline", "add", "{out}/x", now),
                written=(f"x/{candidate.name}/results.csv",)),
        Command("describe", ("describe", "--models", "softmax", "--output", "{out}/x.png"),
                written=("x.png",)),
    )  # fmt: skip


class Thief:
    """Carries out the trials, below one folder.

    Args:
        folder: each trial has its own folder in it.
        asked: the commands.
        seed: the seed of the moments.
    """

    def __init__(self, folder: Path, asked: Sequence[Command], seed: int) -> None:
        self._folder = folder
        self._asked = asked
        self._draw = random.Random(seed)
        self._number = 0

    def trials(self, *, short: bool = False) -> Iterator[Loss]:
        """Carry out every trial; with `short`, only a few of each kind."""
        kib, inodes = (_KIB[1::3], _INODES[1::3]) if short else (_KIB, _INODES)
        for command in self._asked:
            if _can_mount():
                for size in kib:
                    yield self._full(command, f"size={size}k", f"{size} KiB of disk")
                for count in inodes:
                    yield self._full(command, f"nr_inodes={count}", f"{count} inodes")
                yield self._read_only(command)
            yield self._closed_pipe(command)
            yield self._full_stdout(command)
            yield self._no_streams(command)
            yield self._narrow_streams(command)
            if command.mark:
                yield self._removed(command)
                yield self._no_terminal(command)

    def _full(self, command: Command, limit: str, taken: str) -> Loss:
        """The disk is full while the command writes; later there is space again."""
        loss, place = self._begun(command, taken)
        with _mounted(place.out, limit):
            place.ends_well_or(2, loss)
            _remount(place.out, _LARGE)
            place.finishes(loss)
        return loss

    def _read_only(self, command: Command) -> Loss:
        loss, place = self._begun(command, "the right to write")
        with _mounted(place.out, "ro"):
            place.ends(loss, (2,))
            _remount(place.out, "rw")
            place.finishes(loss)
        return loss

    def _closed_pipe(self, command: Command) -> Loss:
        """The reader of the command's output has ended, as with `| head -1`."""
        loss, place = self._begun(command, "the reader of its pipe")
        read, write = os.pipe()
        os.close(read)
        with os.fdopen(write, "wb") as closed:
            place.ends(loss, (_CLOSED_PIPE, *command.fine), stdout=closed)
        # A command that measures prints at once, so it ends before it has measured.
        (place.finishes if command.mark else place.holds_all)(loss)
        return loss

    def _full_stdout(self, command: Command) -> Loss:
        loss, place = self._begun(command, "room for what it prints")
        with Path("/dev/full").open("wb") as full:
            place.ends(loss, (2,), stdout=full)
        place.holds_all(loss)
        return loss

    def _no_streams(self, command: Command) -> Loss:
        """Standard input, output and error are closed."""
        loss, place = self._begun(command, "its three streams")
        place.ends(loss, (2, *command.fine), script='exec "$@" <&- >&- 2>&-')
        place.holds_all(loss)
        return loss

    def _narrow_streams(self, command: Command) -> Loss:
        """The terminal can show only ASCII."""
        loss, place = self._begun(command, "all letters but ASCII")
        place.ends(loss, command.fine, variables={"PYTHONIOENCODING": "ascii", "LC_ALL": "C"})
        place.holds_all(loss)
        return loss

    def _removed(self, command: Command) -> Loss:
        """The output folder is removed while the command measures."""
        loss, place = self._begun(command, "its folder")
        process = place.started()
        until = time.perf_counter() + _LIMIT_S
        while not (place.out / command.mark).exists() and time.perf_counter() < until:
            time.sleep(0.005)
        time.sleep(self._draw.uniform(0, 0.3))
        shutil.rmtree(place.out / "x", ignore_errors=True)
        place.judge(process, loss, (2, *command.fine))
        if loss.code in command.fine and not (place.out / command.written[0]).exists():
            loss.problems.append(f"ended with {loss.code} and left nothing")
        return loss

    def _no_terminal(self, command: Command) -> Loss:
        """The terminal closes while the command measures."""
        loss, place = self._begun(command, "its terminal")
        import pty

        ours, theirs = pty.openpty()
        with os.fdopen(theirs, "r+b", buffering=0) as terminal:
            streams: dict[str, Any] = dict.fromkeys(("stdin", "stdout", "stderr"), terminal)
            process = place.started(script=_SESSION, **streams)
        until = time.perf_counter() + self._draw.uniform(0.3, 2.0)
        os.set_blocking(ours, False)
        while time.perf_counter() < until and process.poll() is None:
            with contextlib.suppress(OSError):
                os.read(ours, 65536)
            time.sleep(0.01)
        os.close(ours)
        # -SIGHUP: the command had not yet set its handlers, as after a kill.
        place.judge(process, loss, (_HANGUP, -signal.SIGHUP, 2, *command.fine), told=False)
        place.finishes(loss)
        return loss

    def _begun(self, command: Command, taken: str) -> tuple[Loss, _Place]:
        self._number += 1
        name = f"{self._number:03d}-{command.verb}"
        return Loss(taken, command.verb), _Place(self._folder / name, command)


# The controlling terminal of the command is the one on its standard input.
_SESSION = 'exec setsid -c "$@"'


class _Place:
    """The folder and the command of a trial."""

    def __init__(self, folder: Path, command: Command) -> None:
        self.out = folder / "out"
        self._command = command
        self._log = folder / "log.txt"
        self._temporary = folder / "tmp"
        for path in (self.out, self._temporary):
            path.mkdir(parents=True)

    def started(
        self,
        words: Sequence[str] = (),
        script: str = "",
        variables: dict[str, str] | None = None,
        **streams: Any,
    ) -> subprocess.Popen[bytes]:
        """Start the command, or another one; streams that are not given go to the log."""
        asked = [word.replace("{out}", str(self.out)) for word in words or self._command.words]
        line = [*child_command("bench.evidence.torture.scripted"), *asked]
        if script:
            line = ["sh", "-c", script, "sh", *line]
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
        environment |= dict.fromkeys(("TMPDIR", LOCK_VARIABLE), str(self._temporary))
        environment |= variables or {}
        with self._log.open("ab") as log:
            chosen = {"stdin": subprocess.DEVNULL, "stdout": log, "stderr": log, **streams}
            return subprocess.Popen(line, env=environment, **chosen)

    def ends(
        self,
        loss: Loss,
        codes: Sequence[int],
        script: str = "",
        variables: dict[str, str] | None = None,
        **streams: Any,
    ) -> None:
        """Run the command; its exit code must be one of `codes`."""
        told = not streams and not script
        self.judge(self.started((), script, variables, **streams), loss, codes, told=told)

    def ends_well_or(self, code: int, loss: Loss) -> None:
        """Run the command; it must finish, or end with `code` and an error message."""
        self.ends(loss, (code, *self._command.fine))

    def judge(
        self,
        process: subprocess.Popen[bytes],
        loss: Loss,
        codes: Sequence[int],
        *,
        told: bool = True,
    ) -> None:
        """Wait for the end of the command, and check its exit code and output."""
        try:
            loss.code = process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            loss.problems.append(f"did not end within {_LIMIT_S:g} s")
            return
        if loss.code not in codes:
            loss.problems.append(f"exit code {loss.code} in place of {', '.join(map(str, codes))}")
        said = self._log.read_text(errors="replace")
        if "Traceback" in said or "Exception ignored" in said:
            loss.problems.append("a traceback was shown")
        if told and loss.code == 2 and "error:" not in said:
            loss.problems.append("it does not say what was wrong")

    def finishes(self, loss: Loss) -> None:
        """Resume or repeat an unfinished command, which must finish now."""
        if loss.code in self._command.fine:
            self.holds_all(loss)
            return
        again = self._command.mark and (self.out / self._command.mark).exists()
        process = self.started(self._command.again if again else ())
        self.judge(process, after := Loss(loss.taken, loss.verb), self._command.fine)
        loss.problems += [f"afterwards: {problem}" for problem in after.problems]
        self.holds_all(loss)

    def holds_all(self, loss: Loss) -> None:
        """Check that the command's files exist, and that no half-written file is left."""
        if loss.code in self._command.fine or loss.code == _CLOSED_PIPE or not loss.problems:
            loss.problems += [
                f"{name} is missing"
                for name in self._command.written
                if not (self.out / name).exists() and loss.code not in (2, None)
            ]
        loss.problems += [
            f"{file.relative_to(self.out)} was left behind"
            for file in self.out.rglob("*")
            if file.name.startswith(".") or ".partial" in file.name
        ]


def _can_mount() -> bool:
    """Whether small file systems can be mounted: on Linux, as root."""
    return sys.platform == "linux" and os.geteuid() == 0 and shutil.which("mount") is not None


@contextlib.contextmanager
def _mounted(place: Path, options: str) -> Iterator[None]:
    """Mount a small file system on `place` within the context."""
    _call("mount", "-t", "tmpfs", "-o", options, "torture", str(place))
    try:
        yield
    finally:
        _call("umount", "--lazy", str(place))


def _remount(place: Path, options: str) -> None:
    _call("mount", "-o", f"remount,{options}", str(place))


def _call(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(words)}: {done.stderr.strip()}")
