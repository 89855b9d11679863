"""Ends a program of this suite: exit codes, signals, and streams that cannot be written.

`run_program` is the only place that turns a user's error into one line, a signal into its exit
code, and an unexpected exception into a file with the traceback.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from types import FrameType
from typing import TYPE_CHECKING, NoReturn, TextIO

import click

from bench.schema.errors import ExitCode, NotComparable
from bench.session import streams
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

# Windows has no SIGHUP.
_ORDERLY = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name))


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP came; code that ends properly at Ctrl-C does so here as well."""


class Stops:
    """A signal handler that keeps the signal that ended the program; None if there was none."""

    def __init__(self) -> None:
        self.number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Raise `Stopped` at the first signal, and ignore later ones.

        A later signal, such as the SIGHUP that some service managers add, must not interrupt the
        ending.
        """
        if self.number is None:
            self.number = number
            raise Stopped

    def code(self, code: int) -> int:
        """The exit code of a program that would end with `code`: 143 or 129 after a signal."""
        interrupted = self.number is not None and code == ExitCode.INTERRUPTED
        return 128 + self.number if interrupted and self.number is not None else code


@contextlib.contextmanager
def orderly_stops(*, process_ends: bool = False) -> Iterator[Stops]:
    """Within the context, SIGTERM and SIGHUP raise `Stopped`, and Ctrl-C KeyboardInterrupt.

    A signal that the starting process ignores stays ignored.

    Args:
        process_ends: the process ends right after the context. Once it was stopped, later signals
            are then ignored to its end, because they would replace its exit code.
    """
    stops, before = Stops(), {}
    if signal.getsignal(signal.SIGINT) == signal.SIG_DFL:
        # `bench.__main__` has set SIGINT to its default.
        with contextlib.suppress(ValueError):
            before[signal.SIGINT] = signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in _ORDERLY:
        if signal.getsignal(number) == signal.SIG_DFL:
            # ValueError: only the main thread may set a handler.
            with contextlib.suppress(ValueError):
                before[number] = signal.signal(number, stops)
    try:
        yield stops
    finally:
        is_ending = process_ends and stops.number is not None
        for number, handler in before.items():
            signal.signal(number, signal.SIG_IGN if is_ending else handler)


@contextlib.contextmanager
def put_off(later: list[UserError]) -> Iterator[None]:
    """Append a UserError in the context to `later`, so that the rest can be shown first."""
    try:
        yield
    except UserError as error:
        later.append(error)


def run_program(name: str, verb: Callable[[], int | None]) -> NoReturn:
    """Run `verb` and end the process with its exit code, whatever happens.

    Args:
        name: the program's name, which precedes a message.
        verb: the function to run; returns an exit code, or None for 0.
    """
    streams.open_missing()
    sys.stdout, sys.stderr = out, err = _recording(sys.stdout), _recording(sys.stderr)
    with orderly_stops(process_ends=True) as stops:
        try:
            try:
                code, line = verb() or 0, ""
            except BaseException as error:  # noqa: BLE001 - the one place that catches everything
                code, line = _told(error, (out, err))
            # click may have replaced the streams.
            sys.stdout, sys.stderr = out, err
            if code != ExitCode.INTERRUPTED:
                if code != ExitCode.DEFECT and (lost := _flush(out)):
                    # An earlier error is reported in place of the stream's.
                    code, of_stream = _of_stream(lost)
                    line = line or of_stream
                _say(name, line)
        except KeyboardInterrupt:
            # The signal came while another ending was reported.
            code, line = ExitCode.INTERRUPTED, "interrupted"
        sys.stdout, sys.stderr = out, err
        # Nothing in this block waits, so no interrupt is needed.
        with _deaf_to_ctrl_c(), _without_waiting(out), _without_waiting(err):
            if code == ExitCode.INTERRUPTED:
                _flush(out)
                _say(name, line)
            for stream in (out, err):
                _abandon_broken(stream)
    sys.exit(stops.code(code))


def _say(name: str, line: str) -> None:
    if line:
        with contextlib.suppress(OSError):
            click.echo(f"{name}: {line}", err=True)


@contextlib.contextmanager
def _deaf_to_ctrl_c() -> Iterator[None]:
    before = None
    # ValueError: only the main thread may set a handler.
    with contextlib.suppress(ValueError):
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _without_waiting(stream: TextIO | None) -> Iterator[None]:
    """Make writes to `stream` fail instead of wait, because its reader may have stopped."""
    try:
        number = stream.fileno() if stream is not None else None
    except (OSError, ValueError):
        number = None
    if number is None or sys.platform == "win32":
        yield
        return
    with contextlib.suppress(OSError):
        os.set_blocking(number, False)
    try:
        yield
    finally:
        # Other processes, such as the terminal's shell, may share the stream.
        with contextlib.suppress(OSError):
            os.set_blocking(number, True)


class _Recording(io.FileIO):
    """A stream's file that remembers its first failed write."""

    lost: OSError | None = None

    def write(self, data: Buffer, /) -> int:
        """Write `data`, and remember the error of a failed write."""
        try:
            return super().write(data)
        except OSError as error:
            self.lost = error
            raise


def _recording(stream: TextIO | None) -> TextIO | None:
    """The same stream, which remembers failed writes and replaces characters it cannot encode."""
    if not isinstance(stream, io.TextIOWrapper):
        return stream
    if sys.platform == "win32" and stream.isatty():
        # A console of Windows is no plain file: it takes characters, not bytes.
        stream.reconfigure(errors="replace")
        return stream
    try:
        file = _Recording(stream.fileno(), "wb", closefd=False)
    except (OSError, ValueError):
        # A stream without a file, such as a test's.
        stream.reconfigure(errors="replace")
        return stream
    _flush(stream)
    return io.TextIOWrapper(
        io.BufferedWriter(file),
        encoding=stream.encoding,
        errors="replace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _lost(stream: TextIO | None) -> OSError | None:
    """The error of a failed write to `stream`; None where none failed."""
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.lost if isinstance(raw, _Recording) else None


def _told(error: BaseException, streams: Sequence[TextIO | None]) -> tuple[int, str]:
    """The exit code and the message for an exception."""
    for lost in filter(None, map(_lost, streams)):
        # click and rich turn a closed pipe into a SystemExit of code 1.
        closed = isinstance(error, SystemExit) and lost.errno == errno.EPIPE
        if error is lost or closed:
            return _of_stream(lost)
    if isinstance(error, SystemExit):
        code = error.code
        return (code, "") if isinstance(code, int) else (0 if code is None else 2, str(code or ""))
    if isinstance(error, NotComparable):
        return ExitCode.INCONCLUSIVE, f"error: {error}"
    if isinstance(error, UserError):
        return ExitCode.WRONG_USE_OR_FAILED_CASE, f"error: {error}"
    if isinstance(error, click.ClickException):
        with contextlib.suppress(OSError):
            error.show()
        return ExitCode.WRONG_USE_OR_FAILED_CASE, ""
    if isinstance(error, click.Abort | KeyboardInterrupt):
        return ExitCode.INTERRUPTED, "interrupted"
    refused = _by_the_system(error)
    if refused:
        return ExitCode.WRONG_USE_OR_FAILED_CASE, f"error: {refused}"
    return ExitCode.DEFECT, _defect(error)


def _by_the_system(error: BaseException) -> str:
    """The message for an error of the system or the installation; empty for a defect."""
    if isinstance(error, ImportError) and not _is_own(error):
        return f"{error}: install what it needs again"
    if isinstance(error, MemoryError):
        return "there is not enough memory: free some"
    if isinstance(error, OSError) and error.errno is not None:
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return ""


def _is_own(error: ImportError) -> bool:
    """Whether a module of the suite is missing or lacks a name."""
    return (error.name or "bench").partition(".")[0] in ("bench", "fmnist_models")


def _defect(error: BaseException) -> str:
    """The message for an unexpected exception; its traceback is written to a file."""
    text = "".join(traceback.format_exception(error))
    words = " ".join(str(error).split())
    said = f"error: a defect of this suite: {type(error).__name__}: {words}"
    stamp = time.strftime("%Y%m%d-%H%M%S")
    try:
        handle, path = tempfile.mkstemp(prefix=f"fmnist-bench-{stamp}-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="replace") as out:
            out.write(text)
    except OSError:
        return f"{said}; its traceback could not be written to a file\n{text}"
    return f"{said}; please report it with the traceback in {path}"


def _of_stream(lost: OSError) -> tuple[int, str]:
    if lost.errno == errno.EPIPE:
        return ExitCode.CLOSED_PIPE, ""
    if lost.errno == errno.EIO:
        # The terminal is closed; its SIGHUP may come later, or be ignored.
        return ExitCode.HUNG_UP, ""
    why = lost.strerror or str(lost)
    said = f"error: cannot write to standard output: {why}; what was to be kept is on disk"
    return ExitCode.WRONG_USE_OR_FAILED_CASE, said


def _flush(stream: TextIO | None) -> OSError | None:
    """Flush `stream`; the error of this or an earlier failed write, None where none failed."""
    try:
        if stream is not None and not stream.closed:
            stream.flush()
    except OSError as error:
        return error
    return _lost(stream)


def _abandon_broken(stream: TextIO | None) -> None:
    """Point a broken stream to the null device, because Python's flush at exit would fail."""
    if stream is not None and _flush(stream) is not None:
        with contextlib.suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
