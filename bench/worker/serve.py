"""The child process that measures launches: `python -m bench.worker`.

Requests and messages are JSON objects, one per line. Requests come on stdin:

    {"op": "launch", "fork": true, "log": PATH, "request": {...}}     a `LaunchRequest`
    {"op": "ceilings", "fork": true, "log": PATH, "request": {...}}   a `CeilingsRequest`
    {"op": "profile", "fork": false, "log": PATH, "request": {...}}   a `ProfileRequest`
    {"op": "inspect", "fork": true, "log": PATH, "request": {...}}    an `InspectRequest`
    {"op": "go_on"}                                                   the answer to a `pause`

With "folder": PATH, a request is served in that working folder.

Messages go to a separate pipe, whose number `--channel` gives, so that the output of libraries
cannot damage them:

    {"kind": "ready"}                          imports done, data read
    {"kind": "forked", "pid": N}               a launch runs in this process
    {"kind": "pause"}                          waits before a round, where the request has
                                               "pauses": true
    {"kind": "round", ...}                     a `Round`
    {"kind": "result", ...}                    fields of a `LaunchRecord` and its `usage`, a
                                               `bench.schema.noise.Usage`, or the `ceilings`, or the
                                               `readings` of a profile, or the `facts` of own
                                               models, each a `WorkFacts`; with each the `files`
                                               of `bench.machine.loaded.loaded_files`
    {"kind": "failure", "status": S, "reason": R}
    {"kind": "exit", "code": N}                the forked launch ended; -N is a signal

With `fork`, the worker is a template: it has imported the framework and read the data, but has used
no device and started no thread. Each launch is a fork of it, and what a user's code started in it
ends with it. Without `fork`, the launch runs in the worker itself, which then ends.
"""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import psutil

from bench.machine.loaded import loaded_files
from bench.schema.errors import Invalid, Unavailable
from bench.schema.launch import Status
from bench.schema.requests import CeilingsRequest, LaunchRequest, ProfileRequest
from bench.schema.workload import InspectRequest
from bench.worker.protocol import Emit, Pause
from bench.worker.quoting import ends_of
from bench.worker.usage import OwnUsage
from fmnist_models.errors import Unsupported, UserError
from fmnist_models.own import FUNCTION

Measure = Callable[[str, dict[str, Any], Emit, Pause | None], None]
_PR_SET_PDEATHSIG = 1
LONGEST_REASON = 400
# Lines from the thread that reads requests; on Linux there is no such thread.
_REQUESTS: queue.SimpleQueue[bytes] = queue.SimpleQueue()


def main() -> None:
    """Serve launches until stdin ends."""
    parser = argparse.ArgumentParser(prog="python -m bench.worker", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, help="the pipe to write to")
    parser.add_argument("--data", help="folder of IDX files in place of the embedded ones")
    arguments = parser.parse_args()
    emit = open_channel(arguments.channel)
    end_with_parent()
    requests = _take_stdin()
    try:
        measure = _prepare(arguments.data)
    except Exception as error:
        emit(_failure(error))
        raise SystemExit(1) from error
    emit({"kind": "ready"})
    for line in requests:
        message = json.loads(line)
        if message["op"] == "go_on":
            # Meant for a launch that has died in its pause.
            continue
        if message["fork"]:
            _fork(message, measure, emit, requests)
        else:
            _watch(requests)
            _leave(_launch(message, measure, emit, requests))


def _prepare(folder: str | None) -> Measure:
    """Import everything and read the data, once for all launches."""
    began_at, began = time.time(), time.perf_counter()
    from bench.worker import launch
    from bench.worker.ceilings import measure_ceilings
    from bench.worker.training import named_errors
    from fmnist_models import dataset

    imported = time.perf_counter()
    raw = dataset.load(dataset.data_folder(folder))
    data = dataset.split(raw)
    spent_s = {"import": imported - began, "images": time.perf_counter() - imported}
    # Digests of the files as imported, computed once for all launches.
    loaded_files()

    def measure(op: str, request: dict[str, Any], emit: Emit, pause: Pause | None) -> None:
        """Serve the request of kind `op`."""
        if op == "ceilings":
            found = measure_ceilings(CeilingsRequest(**request), data)
            emit({"kind": "result", "ceilings": found.to_json()})
        elif op == "inspect":
            from bench.worker import inspection

            models = InspectRequest.from_json(request).models
            facts = [inspection.facts_of(name, data).to_json() for name in models]
            emit({"kind": "result", "facts": facts})
        elif op == "profile":
            from bench.worker import profile

            created_at = psutil.Process().create_time()
            started_s = {"interpreter": max(0.0, began_at - created_at), **spent_s}
            asked_for = ProfileRequest.from_json(request)
            with named_errors(asked_for.case):
                readings = profile.profile_case(asked_for, raw, data, started_s)
            emit({"kind": "result", "readings": readings.to_json()})
        else:
            usage = OwnUsage()

            def emit_with_usage(message: dict[str, Any]) -> None:
                """Emit a message; the result, which is the last one, with this process's usage."""
                used = {"usage": usage.so_far().to_json()} if message["kind"] == "result" else {}
                emit({**message, **used})

            asked = LaunchRequest.from_json(request)
            with named_errors(asked.case):
                launch.measure(asked, raw, data, emit_with_usage, pause)

    return measure


def _fork(message: dict[str, Any], measure: Measure, emit: Emit, requests: BinaryIO) -> None:
    """Measure one launch in a fork; what it started, such as a server, ends with it."""
    template = os.getpid()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        end_with_parent(fork_of=template)
        _leave(_launch(message, measure, emit, requests))
    # The fork may not have come to its own call yet.
    with suppress(OSError):
        os.setpgid(pid, pid)
    emit({"kind": "forked", "pid": pid})
    # Its number, which is that of its group, is taken until it is waited for.
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    with suppress(OSError):
        os.killpg(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    emit({"kind": "exit", "code": os.waitstatus_to_exitcode(status)})


def _launch(message: dict[str, Any], measure: Measure, emit: Emit, requests: BinaryIO) -> int:
    """Measure one launch; any error becomes a `failure` message. Returns the exit code."""
    _redirect_output(message["log"])
    if "folder" in message:
        os.chdir(message["folder"])
    with suppress(OSError):
        # Where the system itself runs out of memory, it ends this launch, not the parent's process.
        Path("/proc/self/oom_score_adj").write_text("1000")

    def pause() -> None:
        """Wait until the parent sends `go_on`."""
        emit({"kind": "pause"})
        # The requests end when the parent ends.
        if not _next(requests):
            os._exit(1)

    def emit_with_files(told: dict[str, Any]) -> None:
        """Emit a message; the result, which is the last one, with the files that were run."""
        is_last = told["kind"] == "result"
        emit({**told, "files": loaded_files(_own(message["request"]))} if is_last else told)

    pauses = pause if message["pauses"] else None
    try:
        measure(message["op"], message["request"], emit_with_files, pauses)
    except BaseException as error:  # noqa: BLE001 - a user's builder may call sys.exit()
        traceback.print_exc()
        emit(_failure(error))
        return 1
    return 0


def _own(request: dict[str, Any]) -> list[str]:
    """The user's own functions that a request names."""
    case = request.get("case")
    if case:
        names = [case["model"], case["optimizer"]]
    else:
        names = request.get("models") or [model for model, _ in request["cases"]]
    return [name for name in names if FUNCTION.fullmatch(name)]


def _failure(error: BaseException) -> dict[str, Any]:
    status = Status.FAILED
    if isinstance(error, Unavailable | Unsupported):
        status = Status.SKIPPED
    elif isinstance(error, Invalid):
        status = Status.INVALID
    reason = ends_of(error)[:LONGEST_REASON]
    if not isinstance(error, Unavailable | Invalid | UserError):
        reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
    return {"kind": "failure", "status": status, "reason": reason}


def open_channel(number: int) -> Emit:
    """The function that sends messages to the parent, by the pipe of this number."""
    if sys.platform == "win32":
        import msvcrt

        number = msvcrt.open_osfhandle(number, os.O_WRONLY)
    channel = os.fdopen(number, "wb", buffering=0)

    def emit(message: dict[str, Any]) -> None:
        """Write one message with a single call."""
        channel.write(json.dumps(message).encode() + b"\n")

    return emit


def _redirect_output(log: str) -> None:
    """Send all further output, also that of C++ code, to the launch's own log."""
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    os.close(handle)


def end_with_parent(fork_of: int | None = None) -> None:
    """Have this process end when its parent ends, for whatever reason.

    On Linux the system sends a signal. Elsewhere every launch is a fresh process, in which a
    thread waits for the end of the requests, whose other side the parent holds.
    """
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        # No signal comes from a parent that ended before that call.
        gone = _parent_has_gone() if fork_of is None else os.getppid() != fork_of
        if gone:
            os._exit(1)


def _parent_has_gone() -> bool:
    """Whether the parent has closed its side of stdin, and no request is left to read."""
    import select

    poll = select.poll()
    poll.register(0, select.POLLIN)
    return any(event & select.POLLHUP and not event & select.POLLIN for _, event in poll.poll(0))


def _take_stdin() -> BinaryIO:
    """The requests, from a stream that a user's code does not find; `input()` finds the end."""
    requests = os.fdopen(os.dup(0), "rb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    return requests


def _next(requests: BinaryIO) -> bytes:
    """The next line from the parent; empty where the parent has ended."""
    return requests.readline() if sys.platform == "linux" else _REQUESTS.get()


def _watch(requests: BinaryIO) -> None:
    def wait() -> None:
        """Queue the requests, and end this process when they end with the parent."""
        for line in requests:
            _REQUESTS.put(line)
        os._exit(1)

    if sys.platform != "linux":
        threading.Thread(target=wait, daemon=True).start()


def _leave(code: int) -> NoReturn:
    """End the process without TensorFlow's teardown, which takes time and can hang."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
