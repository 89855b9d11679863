"""`python -m bench.evidence.torture.scripted VERB...`: runs the verbs with the scripted worker.

Its launches never count as disturbed, however busy the machine is.
"""

from __future__ import annotations

from typing import Any

from bench import __main__ as entry
from bench.launch.launcher import Launcher
from bench.launch.origin import child_command
from bench.schema.noise import Noise
from bench.session import profile, run, sides

COMMAND = child_command("bench.evidence.torture.worker")


class _Scripted(Launcher):
    """A launcher of the scripted worker, which replaces the suite's launcher."""

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__(COMMAND, watch=lambda *_: lambda _: Noise())


def use_scripted_worker() -> None:
    """Have every launcher of this process start the scripted worker from now on."""
    for module in (run, sides, profile):
        module.Launcher = _Scripted  # type: ignore[attr-defined]


if __name__ == "__main__":
    use_scripted_worker()
    entry.main()
