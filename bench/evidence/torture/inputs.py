"""Types wrong values for every option and argument of every verb.

Each command must end with exit code 2 and one line that names the value or the option, before
anything is measured.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import click

from bench import cli
from bench.cli.declared import AXES
from bench.launch import channel
from bench.schema.errors import ExitCode
from bench.session.fleet import cluster
from bench.session.revision import git

LONG = "a" * 300
NUMBERS = ("", " ", "x", "-1", "nan", "1e999", "9" * 40, "0x10", "1,5")
WORDS = ("", " ", ",", "nope!", LONG, "\udcff", "\u2028", "a\nb")
SIDES = (
    "",
    "nonsense",
    "=",
    "=x",
    "a'",
    "python=",
    "python=/nope",
    "python=/bin/true",
    "checkout=",
    "checkout=/nope",
    "checkout=.@",
    "checkout=/@nope",
    "here there",
    LONG,
)
LABELS = ("", "a\nb", "\u2028", "\udcff", LONG)
# Options for a word of a fixed set, or a list of such words; other options for text take paths.
_LISTS = frozenset((*AXES, "matrix", "device", "what"))
_STORES = ("mysql://host/x", "sqlite://", "postgresql://host:x/y")
_SIDES = frozenset(("a", "b", "confirm"))
# What each node of a fleet must have is refused there.
_TOLD_BY_NODES = frozenset((("fleet run", "data"),))
# Options of which a command line has one.
_OTHER_WAY = {"--address": "--local"}
_VALUE_SHOWN = 12


class _Accepted(BaseException):
    """The command began to measure."""

    happened: ClassVar[bool] = False


@dataclass(slots=True)
class Mistake:
    """One wrong command line, and what was wrong with the answer."""

    words: tuple[str, ...]
    code: int | None = None
    problems: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ground:
    """The files with which a command line has no other error than the tested one.

    Attributes:
        folder: folder for wrong paths, and the working folder of the commands.
        candidate: folder of a finished run.
        baseline: a folder of three other runs.
        data: folder of a small data set.
        fleet: folder of a fleet.
        history: a history of these runs.
        run: the id of one of them.
    """

    folder: Path
    candidate: Path
    baseline: Path
    data: Path
    fleet: Path
    history: Path
    run: str

    def right(self, verb: str) -> tuple[str, ...]:
        """A command line that the verb accepts."""
        store = ("--store", str(self.history))
        first, second = str(self.candidate), str(next(iter(sorted(self.baseline.iterdir()))))
        measured = (
            "--models",
            "softmax",
            "--loops",
            "fit",
            "--devices",
            "cpu",
            "--data",
            str(self.data),
        )
        return {
            "run": ("run", *measured, "--output", "new"),
            "list": ("list", *measured),
            "duel": ("duel", "--a", "here", "--b", "here", *measured, "--output", "new"),
            "bisect": (
                *("bisect", "HEAD~1", "HEAD", "--checkout", str(self.repository())),
                *measured,
                *("--output", "new"),
            ),
            "profile": ("profile", *measured, "--output", "new"),
            "describe": ("describe", "--models", "softmax", "--output", "new.png"),
            "doctor": ("doctor",),
            "compare": ("compare", first, second, "--output", "new"),
            "report": ("report", first, "--output", "new.html"),
            "export": ("export", "--format", "bmf", "--output", "new.json", first),
            "check": ("check", "--baseline", str(self.baseline), first, "--output", "new"),
            "baseline add": ("baseline", "add", "new", first),
            "baseline list": ("baseline", "list", str(self.baseline)),
            "fleet run": ("fleet", "run", "--local", "1", *measured, "--output", "new"),
            "fleet check": ("fleet", "check", str(self.fleet), "--output", "new"),
            "history add": ("history", "add", *store, first),
            "history list": ("history", "list", *store),
            "history show": ("history", "show", *store, "relu_mlp-adam-fit-cpu-b50-float32"),
            "history restore": ("history", "restore", "--output", "new", *store, self.run),
            "history remove": ("history", "remove", *store, self.run),
            "history prune": ("history", "prune", "--keep", "1", *store),
            "history changes": ("history", "changes", *store),
            "history page": ("history", "page", "--output", "new.html", *store),
            # So few runs show no change that could be acknowledged.
            "history ack": ("history", "ack", "--note", "why", *store, "0123456789"),
            "baseline remove": ("baseline", "remove", str(self.baseline), Path(second).name),
        }[verb]

    def repository(self) -> Path:
        """A repository of two commits, which is made at the first call."""
        folder = self.folder / "repository"
        if not folder.exists():
            folder.mkdir()
            who = ("-c", "user.name=torture", "-c", "user.email=torture@example.com")
            git(str(folder), "init", "-q")
            for text in ("first", "second"):
                (folder / "work.py").write_text(f"# {text}\n", "utf-8")
                git(str(folder), "add", "work.py")
                git(str(folder), *who, "commit", "-q", "-m", text)
        return folder

    def wrong_places(self) -> tuple[str, ...]:
        """Paths that cannot be folders; the files for them are created."""
        file, loop, fifo = (self.folder / name for name in ("file", "loop", "fifo"))
        file.write_text("a file", "utf-8")
        if not loop.is_symlink():
            loop.symlink_to(loop)
        if hasattr(os, "mkfifo") and not fifo.exists():
            os.mkfifo(fifo)
        return ("", str(file / "below"), LONG, str(loop / "below"), "/dev/null/below")

    def nothing_there(self) -> tuple[str, ...]:
        """Paths at which a command cannot find what it must read."""
        return (
            *self.wrong_places(),
            "missing",
            str(self.folder / "file"),
            "/dev/null",
            "/dev/zero",
            str(self.folder / "loop"),
            str(self.folder / "fifo"),
            "\udcff",
        )


def mistakes(ground: Ground) -> Iterator[tuple[tuple[str, ...], str]]:
    """(command line, wrong value) for every option and argument with every wrong value."""
    for verb, command in _verbs():
        right = ground.right(verb)
        for parameter in command.params:
            if (verb, parameter.name) in _TOLD_BY_NODES:
                continue
            for value in _wrong(parameter, ground):
                if isinstance(parameter, click.Option):
                    yield _replaced(right, parameter.opts[-1], value), value
                elif verb in ("baseline add", "baseline remove") and parameter.nargs == 1:
                    # The folder is wrong, and the name of a run must follow it.
                    yield (*verb.split(), value, str(ground.candidate)), value
                else:
                    yield (*_leading(right, verb, parameter), value), value
        yield (*right, "--no-such-option"), "--no-such-option"


def answered(words: tuple[str, ...], wrong: str, folder: Path) -> Mistake:
    """Run a command line in `folder`, and test the answer to its wrong value."""
    mistake = Mistake(words)
    said = io.StringIO()
    with (
        contextlib.chdir(folder),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(said),
        contextlib.ExitStack() as stack,
    ):
        stack.enter_context(_instead(sys, "argv", ["fmnist-bench", *words]))
        for module, name in _MEASURING:
            stack.enter_context(_instead(module, name, _accept))
        try:
            cli.main()
        except SystemExit as end:
            mistake.code = int(end.code or 0) if isinstance(end.code, int | None) else None
        except BaseException as error:  # noqa: BLE001 - whatever comes out is the finding
            mistake.problems.append(f"{type(error).__name__}: {error}")
            return mistake
    _clear(folder)
    if _Accepted.happened:
        _Accepted.happened = False
        mistake.problems.append("accepted")
        return mistake
    mistake.problems += _judged(words, wrong, mistake.code, said.getvalue())
    return mistake


def _accept(*_: Any, **__: Any) -> None:
    _Accepted.happened = True
    raise _Accepted


# Every launch starts a worker, and nodes of this machine are started first; `doctor` and `describe`
# start processes of their own.
_MEASURING = ((channel, "LocalChannel"), (cluster, "_started"))


def _clear(folder: Path) -> None:
    """Remove the files of a command, because the next one would be refused."""
    for path in folder.glob("new*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextlib.contextmanager
def _instead(place: Any, name: str, value: Any) -> Iterator[None]:
    """Within the context, the attribute `name` of `place` is `value`."""
    before = getattr(place, name)
    setattr(place, name, value)
    try:
        yield
    finally:
        setattr(place, name, before)


def _judged(words: Sequence[str], wrong: str, code: int | None, said: str) -> list[str]:
    if code not in (ExitCode.WRONG_USE_OR_FAILED_CASE, ExitCode.INCONCLUSIVE):
        return [f"exit code {code}: {said[-200:]}"]
    problems = []
    lines = [line for line in said.splitlines() if "error:" in line.lower()]
    if len(lines) != 1:
        problems.append(f"{len(lines)} lines of error: {said[-200:]}")
    # A message may name only the wrong part of a side; an empty argument is named as ''.
    parts = [part[:_VALUE_SHOWN] for part in re.split("[=@]", wrong) if part] or [repr(wrong)]
    names = [*parts, *(ascii(part)[1:-1] for part in parts), *(repr(part)[1:-1] for part in parts)]
    names += [word for word in words if word[:2] == "--"]
    if not any(name in said for name in names if name):
        problems.append(f"names neither value nor option: {said[-200:]}")
    if "Traceback" in said:
        problems.append("a traceback was shown")
    return problems


def _verbs() -> Iterator[tuple[str, click.Command]]:
    for name, command in cli.cli.commands.items():
        if isinstance(command, click.Group):
            yield from ((f"{name} {inner}", verb) for inner, verb in command.commands.items())
        else:
            yield name, command


def _wrong(parameter: click.Parameter, ground: Ground) -> Sequence[str]:
    """Values that this option or argument must refuse."""
    name = parameter.name or ""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return ()
    if isinstance(parameter.type, click.types.IntParamType | click.types.FloatParamType):
        return NUMBERS
    if name in _LISTS:
        return WORDS
    if name in _SIDES:
        # Without a suspect, no side is run, so an interpreter that is no Python is not noticed.
        return [side for side in SIDES if name != "confirm" or side != "python=/bin/true"]
    if name == "setup":
        # Any other text is a command.
        return ("", " ")
    if name in ("label", "machine"):
        return LABELS
    if name == "note":
        return tuple(2 * note if note == LONG else note for note in LABELS)
    if name in ("store", "history"):
        return (*ground.wrong_places(), *_STORES)
    if name in ("output", "picture") or (name == "folder" and parameter.nargs == 1):
        return ground.wrong_places()
    return ground.nothing_there()


def _replaced(right: tuple[str, ...], option: str, value: str) -> tuple[str, ...]:
    """The right command line with another value of this option, which is put at the end."""
    kept = list(right)
    for gone in (option, _OTHER_WAY.get(option)):
        if gone in kept:
            place = kept.index(gone)
            del kept[place : place + 2]
    return (*kept, option, value)


def _leading(right: tuple[str, ...], verb: str, argument: click.Parameter) -> tuple[str, ...]:
    """The part of the right command line before a wrong argument."""
    if argument.nargs != 1:
        return right
    # At the end, it follows the options that the verb requires.
    is_last = not right[-2].startswith("-")
    return right[:-1] if is_last else tuple(verb.split())
