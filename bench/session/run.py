"""A run from its plan to its folder: the one path that every entry point takes."""

from __future__ import annotations

from bench.launch.launcher import Launcher
from bench.machine.lock import the_folder, the_machine
from bench.schema.plan import Plan
from bench.session.attempts import RunOutcome, RunUnderWay
from bench.session.events import Progress
from bench.session.preflight import Opening


def execute(
    plan: Plan,
    opening: Opening,
    progress: Progress,
    *,
    wait: bool = False,
    launcher: Launcher | None = None,
) -> RunOutcome:
    """Measure what of `plan` the folder does not hold yet.

    The folder is opened once the machine is this run's: a run that is refused leaves nothing.
    Ctrl-C ends the launch under way and the run; what was measured is kept.

    Raises:
        UserError: another run has the machine (unless `wait`) or the folder, or the disk is full.
    """
    with (
        the_machine(progress.waits, wait),
        the_folder(opening.path),
        launcher or Launcher(data=plan.settings.data) as launching,
    ):
        return RunUnderWay(plan, opening.open(), progress, launching).to_the_end()
