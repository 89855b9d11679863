"""A pytest plugin: `pytest bench -p fake_launcher` measures with the fake worker."""

from __future__ import annotations

import sys
from pathlib import Path

from bench import run
from bench.launch import Launcher

FAKE = (sys.executable, str(Path(__file__).with_name("fake_worker.py")))


def pytest_configure():
    run.Launcher = lambda data=None: Launcher(FAKE, data)
