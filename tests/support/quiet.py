"""`python quiet.py MODULE ARGUMENTS`: as `python -m MODULE`, where nothing disturbs a launch.

How busy the machine of the tests is must decide none of them.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from pathlib import Path

from bench.machine import counters
from bench.machine.nvml import Gpu
from bench.schema.noise import Noise

PROGRAM = (sys.executable, __file__)


def watch(pid: int, gpus: Mapping[Gpu, int], forks: bool = True) -> counters.Close:
    """Reads nothing."""
    return lambda usage: Noise()


if __name__ == "__main__":
    counters.watch = watch
    del sys.argv[0]
    # As with -m, modules are looked for where the user is, and not beside this file.
    sys.path[0] = str(Path.cwd())
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
