"""Kills a process of a launch of several at a random moment, and looks at what is left of it."""

from __future__ import annotations

import contextlib
import random
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import psutil

from bench.launch.launcher import Launcher
from bench.machine.devices import inventory
from bench.machine.placement import why_missing
from bench.schema.case import Case
from bench.schema.launch import Status
from bench.schema.plan import RunSettings
from bench.schema.requests import LaunchRequest
from bench.session.places import place_of
from fmnist_models import dataset
from fmnist_models.errors import UserError

PROCESSES, TIMES, SEED = 2, 20, 18
_IMAGES, _BATCH, _LIMIT_S = 2_000, 128, 120.0
_SHARED = Path("/dev/shm")  # noqa: S108 - it is looked at, not written to
# What a process of Python or of a framework keeps open for a moment after it was killed.
_SETTLE_S = 1.0


def killed_rows(
    work: Path, backends: Sequence[str], told: Callable[[str], None], times: int = TIMES
) -> list[dict[str, Any]]:
    """A row for each launch, of which a random process is killed after a random time.

    `killed_after_s` is drawn between 0 and what a whole launch takes. `ended_after_s` is how long
    after the kill the launch had ended; `named` is whether its reason names the process that was
    killed. `processes`, `ports` and `shared_files` are what is left of it a second later: children,
    ports that this machine listens at, files of shared memory.

    Raises:
        UserError: a backend is missing, or its launch fails without a kill.
    """
    images = dataset.load()
    few = (images.train_images, images.train_labels, images.test_images, images.test_labels)
    dataset.write(work / "data", *(part[:_IMAGES] for part in few))
    rows = []
    draw = random.Random(SEED)
    for backend in backends:
        if reason := why_missing(backend):
            raise UserError(reason)
        whole = _launched(work, backend, None, 0)
        if whole["status"] != Status.OK:
            raise UserError(f"{backend}: {whole['reason']}")
        for number in range(times):
            after_s = draw.uniform(0.0, whole["total_s"])
            rank = draw.randrange(PROCESSES)
            row = _launched(work, backend, after_s, rank)
            rows.append({"backend": backend, "launch": number, **row})
            told(f"{backend}, {after_s:.1f} s, rank {rank}: {row['status']}: {row['reason']}")
    return rows


def _launched(work: Path, backend: str, after_s: float | None, rank: int) -> dict[str, Any]:
    case = Case(
        "relu_mlp",
        "adam",
        "compiled",
        batch_size=_BATCH,
        backend=backend,
        threads=1,
        replicas=PROCESSES,
        processes=PROCESSES,
    )
    settings = RunSettings(data=str(work / "data"), timeout_s=_LIMIT_S, fork=False)
    place = place_of(case, inventory(), work / "log.txt", settings)
    request = LaunchRequest(case, 0, 1, epochs=2, seed=1, data=settings.data)
    before = _there()
    killed_at: list[float] = []

    def kill() -> None:
        """Kill the process of the rank, where it is still there."""
        workers = sorted(psutil.Process().children(), key=lambda child: child.pid)
        if rank < len(workers):
            with contextlib.suppress(psutil.NoSuchProcess):
                workers[rank].kill()
                killed_at.append(time.perf_counter())

    with Launcher(data=settings.data) as launcher:
        killer = None if after_s is None else threading.Timer(after_s, kill)
        if killer:
            killer.start()
        began = time.perf_counter()
        record = launcher.run(request, place, lambda _: None)
        ended = time.perf_counter()
        if killer:
            killer.cancel()
            killer.join()
    time.sleep(_SETTLE_S)
    left = {name: len(found - before[name]) for name, found in _there().items()}
    return {
        "status": str(record.status),
        "rank": rank if killed_at else None,
        "killed_after_s": after_s if killed_at else None,
        "ended_after_s": ended - killed_at[0] if killed_at else None,
        "named": record.reason.startswith(f"rank {rank} of {PROCESSES}: killed by SIGKILL"),
        **left,
        "reason": record.reason,
        "total_s": ended - began,
    }


def _there() -> dict[str, set[Any]]:
    """Children of this process, ports that are listened at, and files of shared memory."""
    listening = psutil.net_connections("tcp")
    return {
        "processes": {child.pid for child in psutil.Process().children(recursive=True)},
        "ports": {c.laddr.port for c in listening if c.status == psutil.CONN_LISTEN},
        "shared_files": set(_SHARED.iterdir()) if _SHARED.is_dir() else set(),
    }
