"""Reads the traces of a profiler, and makes files that can be published.

It runs in the parent process. What TensorFlow and JAX write is read with `xprof`, which needs
neither; what PyTorch writes is JSON.
"""

from __future__ import annotations

import contextlib
import gzip
import importlib.util
import json
import os
import socket
import sys
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.analysis import torch_events, trace_events
from bench.analysis.hlo import HloInstruction, parse_hlo, parsed
from bench.analysis.trace_events import Trace
from bench.backends import KNOWN
from bench.machine.loaded import CHECKOUT
from bench.machine.placement import why_missing
from bench.schema.requests import TORCH_TRACE
from fmnist_models.errors import UserError

TRACE_FILE = "host.xplane.pb"
# A shorter host name may be a part of other words.
_SHORTEST_NAME = 6


def require_extra(backends: Iterable[str]) -> None:
    """Check that the packages for profiling with these backends are installed.

    A backend that is not installed itself needs none: its cases are skipped.

    Raises:
        UserError: a package is missing; the message names the extra to install.
    """
    known = [KNOWN[name] for name in backends if name in KNOWN and not why_missing(name)]
    for package in dict.fromkeys(name for each in known for name in each.profiling):
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f'{package} is not installed: pip install "fmnist-bench[profile]", or '
                'pip install ".[profile]" in a clone'
            )


def read_traces(startup: Path, steps: Path, output: Path, case: str, model: str) -> Trace:
    """Read the two traces of a case, and write files without private names to `output`.

    `CASE.json.gz` is for Perfetto and Chrome; `plugins/profile/CASE/`, not of PyTorch, is for
    TensorBoard and `xprof`, which take `output` as their folder.

    Args:
        startup: folder of the trace of the start.
        steps: folder of the trace of a few steps after the warm-up.
        output: folder of the files.
        case: name of the case, after which the files are named.
        model: the Keras name of the model.

    Raises:
        OSError, ValueError, LookupError: a trace is missing or cannot be read.
    """
    hlo: dict[str, HloInstruction] = {}
    if (steps / TORCH_TRACE).exists():
        started = torch_events.starting(_torch_events(startup))
        events = torch_events.normalized(_torch_events(steps), case)
    else:
        started = trace_events.starting(_events(startup / TRACE_FILE))
        events = _events(steps / TRACE_FILE)
        hlo = _hlo(steps / TRACE_FILE, events)
        board = output / "plugins" / "profile" / case
        board.mkdir(parents=True, exist_ok=True)
        (board / TRACE_FILE).write_bytes(anonymous((steps / TRACE_FILE).read_bytes()))
    shown = trace_events.named(events, case, hlo, model)
    output.mkdir(parents=True, exist_ok=True)
    file = output / f"{case}.json.gz"
    # Without time and file name in the gzip header, the same trace gives the same file.
    with file.open("wb") as out, gzip.GzipFile("", "wb", fileobj=out, mtime=0) as packed:
        packed.write(json.dumps({"traceEvents": shown, "displayTimeUnit": "ns"}).encode())
    return Trace(
        *started,
        tuple(trace_events.operations(events, hlo, model)),
        tuple(trace_events.device_times(events)),
        file,
    )


def anonymous(space: bytes, private: Collection[str] | None = None) -> bytes:
    """A trace without the host name and the user's folders.

    A replaced word keeps its length, because the format stores lengths.

    Args:
        space: an XSpace, as TensorFlow writes it.
        private: the words to replace; None for those of this machine.
    """
    message = parsed("XSpace", space)
    message.ClearField("hostnames")
    kept: bytes = message.SerializeToString()
    folders = (Path.home(), Path(sys.prefix), CHECKOUT, Path.cwd())
    words = set(map(str, folders)) if private is None else set(private)
    if private is None and len(socket.gethostname()) >= _SHORTEST_NAME:
        words.add(socket.gethostname())
    for word in sorted((w.encode() for w in words if len(w) > 1), key=len, reverse=True):
        kept = kept.replace(word, b"_" * len(word))
    return kept


def _torch_events(folder: Path) -> list[dict[str, Any]]:
    told = json.loads((folder / TORCH_TRACE).read_text("utf-8"))
    return [event for event in told["traceEvents"] if event]


def _events(file: Path) -> list[dict[str, Any]]:
    with _quiet():
        from xprof.convert import raw_to_tool_data

        told, _ = raw_to_tool_data.xspace_to_tool_data([str(file)], "trace_viewer", {})
    if told is None:
        raise ValueError("xprof finds nothing in it")
    return [event for event in json.loads(told)["traceEvents"] if event]


def _hlo(file: Path, events: list[dict[str, Any]]) -> dict[str, HloInstruction]:
    """The instructions, by name, of the modules that ran in the trace.

    A trace holds all modules that the process compiled. Where several of one name have an
    instruction of one name, as those of JAX for two sizes of a batch, which of them ran is not
    told: its FLOPs are not known unless they agree.
    """
    ran = {event.get("args", {}).get("hlo_module") for event in events}
    with _quiet():
        from xprof.convert import raw_to_tool_data

        # Writes every module to a file, named after the module with a number.
        raw_to_tool_data.xspace_to_tool_names([str(file)])
    known: dict[str, HloInstruction] = {}
    for module in sorted(file.parent.glob("*.hlo_proto.pb")):
        name = module.name.removesuffix(".hlo_proto.pb")
        if name.rpartition("(")[0] in ran:
            for instruction, found in parse_hlo(module.read_bytes()).items():
                before = known.get(instruction, found)
                alike = before.flops == found.flops
                known[instruction] = found if alike else replace(found, flops=0)
    return known


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Discard standard error, because xprof's library writes logs to it and has no option."""
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)
