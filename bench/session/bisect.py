"""Finds the commit that made training slower, or less accurate, by duels.

The trials are duels in folders of their own; `bench.verdicts.bisect` decides them. What a trial
found is on disk before the next one begins, and the draws of each are those of its number. So a
bisection that was stopped goes on where it was, and measures no launch twice.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from bench.launch.launcher import end_templates
from bench.machine.lock import the_folder, the_machine
from bench.schema.bisect import BisectPlan, Finding, Purpose, Trial, What
from bench.schema.draws import SIDES, EvenDraws, new_entropy
from bench.schema.duel import DuelPlan, Spec
from bench.schema.launch import Status
from bench.session import duel as duelling
from bench.session.blocks import Blocks, same_score, same_work
from bench.session.commits import GitHistory, refuse_unsearchable
from bench.session.duel_side import DuelSide
from bench.session.events import BisectProgress
from bench.session.setups import environment_of, python_of, set_up
from bench.session.sides import BadSide
from bench.session.under_way import Shared, data_of, sides_under_way
from bench.store.bisect_folder import TRIALS, BisectFolder, plan_of, refuse_taken
from bench.store.reader import COPY
from bench.verdicts.bisect import LOOKS, confirmed, control_off, judged
from bench.verdicts.bisect_search import (
    INTERRUPTED,
    BisectReport,
    Ended,
    Outcome,
    Wanted,
    next_of,
)
from bench.verdicts.bisect_told import as_json
from bench.verdicts.duel import Standing
from bench.verdicts.sequential import LAST_LOOK
from fmnist_models.errors import UserError


class _Unmeasurable(Exception):
    """A commit cannot be measured; the message is the reason."""


def fixed(plan: BisectPlan, path: Path) -> BisectPlan:
    """The plan with the commits that its revisions name, after a test that it can be searched.

    Nothing is written.

    Raises:
        UserError: the folder holds other files, a revision is unknown, no commit lies between, or
            the case cannot duel.
    """
    refuse_taken(path)
    duel = duelling.fixed(plan.duel, path)
    plan = replace(plan, duel=replace(duel, entropy=duel.entropy or new_entropy()))
    refuse_unsearchable(plan)
    return plan


def resume(path: Path) -> BisectPlan:
    """The plan of the bisection in the folder `path`.

    Raises:
        UserError: there is none, or its repository no longer holds the two commits.
    """
    plan = plan_of(path)
    refuse_unsearchable(plan)
    return plan


def bisect(
    plan: BisectPlan,
    path: Path,
    progress: BisectProgress,
    *,
    wait: bool = False,
    new: bool = False,
) -> BisectReport:
    """Measure the missing trials until the commit is known or cannot be, and write verdict.json.

    Ctrl-C ends the current launch and the bisection; finished blocks are kept.

    Args:
        plan: the bisection, from `fixed` or `resume`.
        path: its folder.
        progress: is told of each event.
        wait: wait for another run on this machine; otherwise another run is an error.
        new: create the folder, after the lock was taken.

    Raises:
        UserError: another run has the lock (unless `wait`) or writes there, GOOD or BAD cannot be
            set up, or a file cannot be written.
    """
    with the_machine(progress.waits, wait), the_folder(path):
        if new:
            refuse_taken(path)
        folder = BisectFolder.create(path, plan) if new else BisectFolder.opened(path)
        with _shared(folder) as shared:
            report = _Search(plan, folder, progress, shared).to_the_end()
    folder.write_verdict(as_json(report))
    return report


@contextmanager
def _shared(folder: BisectFolder) -> Iterator[Shared]:
    """What all trials share: the checkouts, and templates that import the framework once."""
    shared = Shared(folder.checkouts, {side: {} for side in SIDES})
    try:
        yield shared
    finally:
        for templates in shared.templates.values():
            end_templates(templates)


class _Search:
    """A bisection under way."""

    def __init__(
        self, plan: BisectPlan, folder: BisectFolder, progress: BisectProgress, shared: Shared
    ) -> None:
        self._plan, self._folder, self._progress, self._shared = plan, folder, progress, shared
        self._history = GitHistory.of(plan)
        self._setups = folder.setups()
        self._data = data_of(plan.duel, folder.path)

    def to_the_end(self) -> BisectReport:
        """Measure trials until the search ends."""
        trials = self._kept()
        commits = len(self._history.candidates(self._plan.bad, [self._plan.good]))
        self._progress.bisect_begins(self._plan, self._folder.path, commits, len(trials))
        try:
            while isinstance(found := next_of(self._plan, self._history, trials), Wanted):
                told = self._history.told(found.commit)
                self._progress.trial_begins(len(trials), found, told)
                trial = self._tried(found, len(trials))
                trials.append(trial)
                if trial.purpose is not Purpose.CONFIRM or trial.finding is not Finding.SKIPPED:
                    # GOOD and BAD are tried again by --resume.
                    self._folder.keep_trial(trial)
                self._progress.trial_ends(self._plan, trial)
        except KeyboardInterrupt:
            found = Ended(Outcome.STOPPED, reason=INTERRUPTED)
        return BisectReport(self._plan, tuple(trials), found, commits)

    def _kept(self) -> list[Trial]:
        """The finished trials, each with as many blocks as a look needs.

        Raises:
            UserError: the file is damaged.
        """
        trials = self._folder.trials()
        for number, trial in enumerate(trials, 1):
            values = {len(trial.speed), len(trial.values(self._plan.what))}
            if (
                trial.finding is not Finding.SKIPPED
                and not trial.reason
                and not values <= set(LOOKS)
            ):
                raise UserError(
                    f"{self._folder.path / TRIALS} line {number}: {min(values)} blocks, and a "
                    f"trial ends after {', '.join(map(str, LOOKS))}: {COPY}"
                )
        return trials

    def _tried(self, wanted: Wanted, number: int) -> Trial:
        own = wanted.purpose, wanted.against, wanted.commit, wanted.error
        folder = self._folder.duels / f"{number + 1:02}-{wanted.commit[:12]}"
        try:
            duel = self._duel(wanted, number)
            with sides_under_way(duel, folder, shared=self._shared) as sides:
                return self._fought(wanted, duel, folder, sides)
        except BadSide as error:
            if error.label == SIDES[0].upper() and wanted.purpose is not Purpose.PROOF:
                raise
            reason = str(error)
        except _Unmeasurable as error:
            reason = str(error)
        return Trial(*own, Finding.SKIPPED, reason)

    def _duel(self, wanted: Wanted, number: int) -> DuelPlan:
        """The duel of a trial, whose draws are those of its number."""
        plan = self._plan.duel
        specs = [self._spec(commit) for commit in (wanted.against, wanted.commit)]
        settings = replace(plan.settings, data=self._data)
        entropy = f"{plan.entropy} {number}"
        return replace(plan, a=specs[0], b=specs[1], settings=settings, rows=None, entropy=entropy)

    def _spec(self, commit: str) -> Spec:
        """The side of a commit, set up where the user has a command for it.

        Raises:
            _Unmeasurable: the command failed.
        """
        spec = Spec(checkout=self._plan.repository, revision=commit)
        if not self._plan.setup:
            return spec
        below = self._folder.path
        done = self._setups.get(commit)
        if done is None:
            self._progress.setup_begins(commit)
            log = self._folder.logs / f"setup-{commit[:12]}.log"
            done, _ = set_up(self._plan.repository, commit, self._plan.setup, below, log)
            if done.reason:
                done = replace(done, reason=f"{done.reason} ({log})")
            if done.reason and commit in (self._plan.good, self._plan.bad):
                raise UserError(f"{commit[:12]}: {done.reason}")
            self._folder.keep_setup(done)
            self._setups[commit] = done
        if done.reason:
            raise _Unmeasurable(done.reason)
        return replace(spec, python=str(python_of(environment_of(below, commit))))

    def _fought(
        self, wanted: Wanted, duel: DuelPlan, folder: Path, sides: dict[str, DuelSide]
    ) -> Trial:
        """The trial, measured block by block until a look decides it."""
        told = self._progress.block_voided
        # Another model, or other data, may be what lowered the score.
        compared = same_work if self._plan.what is What.SPEED else same_score
        blocks = Blocks(folder, sides, duel.settings, told, other_work=compared)
        draws = EvenDraws(duel.entropy, duel.templates)
        standing, control = Standing(self._plan.case), list[float]()
        own = wanted.purpose, wanted.against, wanted.commit, wanted.error

        def ended(finding: Finding, reason: str = "") -> Trial:
            """The trial with this finding and the blocks so far."""
            measured = tuple(standing.speed), tuple(standing.score), standing.scale
            pythons = tuple(filter(None, (duel.a.python, duel.b.python)))
            return Trial(*own, finding, reason, *measured, folder.name, pythons)

        for number in range(LAST_LOOK):
            block = blocks.measured(standing.case, number, draws.block(standing.case, number))
            standing.add(block)
            if block.failure:
                self._refuse_broken_good(wanted, sides, number)
                return ended(Finding.SKIPPED, block.failure)
            control.append(block.control)
            self._progress.block_ends(self._plan, standing, block.control)
            if number + 1 in LOOKS:
                if control_off(control, wanted.error):
                    return ended(Finding.UNDECIDED, "the machine was not the same for both sides")
                if len(self._values(standing)) < len(standing.speed):
                    return ended(Finding.UNDECIDED, "the score of some blocks is missing")
                if (finding := self._look(wanted, standing)) is not None:
                    return ended(finding)
        raise AssertionError("the last look decides")

    def _values(self, standing: Standing) -> list[float]:
        return standing.speed if self._plan.what is What.SPEED else standing.score

    def _look(self, wanted: Wanted, standing: Standing) -> Finding | None:
        told = self._values(standing), self._plan.what, self._plan.margin
        if wanted.purpose is Purpose.STEP:
            return judged(*told, wanted.least, wanted.error)
        return confirmed(*told, wanted.error)

    def _refuse_broken_good(self, wanted: Wanted, sides: dict[str, DuelSide], number: int) -> None:
        """Refuse to skip a commit because a launch of GOOD failed, which it has nothing to do with.

        Raises:
            UserError: it failed in a step.
        """
        record, _ = sides[SIDES[0]].measured(self._plan.case, number)
        if wanted.purpose is Purpose.STEP and (record is None or record.status is not Status.OK):
            why = record.reason if record else "it was not measured"
            raise UserError(
                f"GOOD {wanted.against[:12]} could be measured before, but now {why}: mend that, "
                f"then fmnist-bench bisect --resume {self._folder.path}"
            )
