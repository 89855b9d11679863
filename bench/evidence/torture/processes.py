"""The processes of a command that is tormented."""

from __future__ import annotations

import psutil

# Every process of a trial inherits this variable, by which those left over are found.
MARK = "TORTURE_TRIAL"


def target_of_kill(parent: int, target: str) -> int | None:
    """The process that a target names, as far as there is one now."""
    if target == "parent":
        return parent
    try:
        templates = [p for p in psutil.Process(parent).children() if is_worker(p)]
        if target == "launch":
            templates = [launch for template in templates for launch in template.children()]
        return templates[-1].pid if templates else None
    except psutil.Error:
        return None


def is_worker(process: psutil.Process) -> bool:
    """Whether it serves launches: it alone is given a channel."""
    return "--channel" in process.cmdline()


def marked(token: str) -> list[psutil.Process]:
    """The processes that inherited this trial's mark."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get(MARK) == token and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.Error:
            continue
    return found
