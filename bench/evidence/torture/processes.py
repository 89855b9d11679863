"""Finds the processes of a command in a trial."""

from __future__ import annotations

import psutil

# Every process of a trial inherits this variable, so that remaining processes can be found.
MARK = "TORTURE_TRIAL"


def target_of_kill(parent: int, target: str) -> int | None:
    """The id of the process that a target names; None where there is none at present."""
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
    """Whether a process is a worker: only workers have the option `--channel`."""
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
