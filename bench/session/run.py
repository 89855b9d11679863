"""Runs a plan and writes its folder; every entry point uses it."""

from __future__ import annotations

import contextlib

from bench.launch.launcher import Launcher
from bench.machine.lock import the_folder, the_machine
from bench.schema.plan import LEAST, Plan
from bench.session.attempts import RunUnderWay
from bench.session.events import Progress
from bench.session.outcome import RunOutcome
from bench.session.preflight import Opening
from bench.store.measured import read_in_full
from bench.store.proof import keep_proof
from fmnist_models.errors import UserError


def execute(
    plan: Plan,
    opening: Opening,
    progress: Progress,
    *,
    wait: bool = False,
    launcher: Launcher | None = None,
    trial: bool = False,
) -> RunOutcome:
    """Measure the launches of `plan` that the folder does not have yet.

    The folder is opened after the lock was taken, so a refused run leaves no files. Ctrl-C ends
    the current launch and the run; finished launches are kept. A `trial` shows that the cases
    train: each launch ends after its epochs, and the machine's ceilings are not measured.

    Raises:
        UserError: another run has the machine's lock (unless `wait`) or the folder's, or a file
            cannot be written.
    """
    with (
        the_machine(progress.waits, wait),
        the_folder(opening.path),
        launcher or Launcher(data=plan.settings.data) as launching,
    ):
        least = {} if trial else LEAST
        under_way = RunUnderWay(plan, opening.open(), progress, launching, least=least)
        outcome = under_way.to_the_end(ceilings=not trial)
    # Of a run that was stopped, or whose files were changed meanwhile, there is nothing to prove.
    with contextlib.suppress(UserError):
        keep_proof(read_in_full(opening.path))
    return outcome
