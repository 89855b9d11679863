"""Ray's own daemons on this machine, so that what they take need not stay anonymous."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence

# Programs of their own, and workers that rename themselves; an actor's name is its user's work.
_NAMED = re.compile(r"raylet|gcs_server|ray::(IDLE|DashboardA|RuntimeEnv).*")
_SCRIPT = re.compile(
    r".*[/\\]ray[/\\](dashboard[/\\]\w+|autoscaler[/\\]_private[/\\]monitor|_private[/\\]log_monitor"
    r"|_private[/\\]runtime_env[/\\]agent[/\\]main)\.py"
)


def ray_daemons_s() -> dict[int, float]:
    """CPU seconds so far of each of Ray's own daemons on this machine, by process id.

    Those are raylet, GCS, dashboard, its agent, the agent of runtime environments, the monitors of
    logs and of the autoscaler, and idle workers. Empty where none runs, or none can be seen.
    """
    import psutil

    spent: dict[int, float] = {}
    with contextlib.suppress(OSError, psutil.Error):
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if _is_rays(process.name(), process.cmdline):
                    times = process.cpu_times()
                    spent[process.pid] = times.user + times.system
    return spent


def risen_s(before: Mapping[int, float], after: Mapping[int, float]) -> float | None:
    """CPU seconds of the daemons between two readings; None where there was none in the second.

    Args:
        before: the first reading; a daemon that is not in it began later.
        after: the second one.
    """
    if not after:
        return None
    return sum(max(0.0, spent - before.get(pid, 0.0)) for pid, spent in after.items())


def _is_rays(name: str, command: Callable[[], Sequence[str]]) -> bool:
    if _NAMED.fullmatch(name):
        return True
    if not name.startswith("python"):
        return False
    script = next((word for word in command()[1:] if not word.startswith("-")), "")
    return bool(_SCRIPT.fullmatch(script))
