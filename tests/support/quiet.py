"""`python quiet.py MODULE ARGUMENTS`: as `python -m MODULE`, where nothing disturbs a launch.

How busy the machine of the tests is must decide none of them. With `--without-ceilings` before
MODULE, the best rates of the machine are not measured, which take most of a short run. MODULE may
be a script too, a file.
"""

from __future__ import annotations

import runpy
import sys
from collections.abc import Collection, Mapping
from pathlib import Path

from bench.machine import counters
from bench.machine.nvml import Gpu
from bench.schema.noise import Noise

PROGRAM = (sys.executable, __file__)


def watch(
    pid: int, gpus: Mapping[Gpu, int], forks: bool = True, beside: Collection[int] = ()
) -> counters.Close:
    """Reads nothing."""
    return lambda usage: Noise()


def watch_nodes(nodes: object, pid: int, gpus: Mapping[Gpu, int], forks: bool) -> counters.Close:
    """Reads nothing on any node, in the place of `Nodes.watch`."""
    return watch(pid, gpus, forks)


if __name__ == "__main__":
    counters.watch = watch
    if "--across" in sys.argv:
        from bench.session.fleet.nodes import Nodes

        Nodes.watch = watch_nodes  # type: ignore[assignment, method-assign]
    del sys.argv[0]
    if sys.argv[0] == "--without-ceilings":
        from bench.session import attempts

        del sys.argv[0]
        attempts.RunUnderWay._measure_ceilings = lambda *_: None  # type: ignore[method-assign]
    # As with -m, modules are looked for where the user is, and not beside this file.
    sys.path[0] = str(Path.cwd())
    if sys.argv[0].endswith(".py"):
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
