"""A pytest plugin: `pytest bench -p fake_launcher` measures with the fake worker."""

from __future__ import annotations

from bench.launch.launcher import Launcher
from bench.session import run
from support import FAKE_WORKER


def pytest_configure() -> None:
    run.Launcher = lambda data=None: Launcher(FAKE_WORKER, data)  # type: ignore[misc, assignment]
