"""A or B on one noisy machine: paired blocks in random order, and looks that may stop early.

duel.json      the two sides and the settings that resuming takes up again
a/, b/         a run's folder each: every launch of that side
blocks.csv     a row a finished block: its order, and the control probe before the rounds
verdict.json   what it came to
checkouts/     revisions that were unpacked
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from bench.blocks import SIDES, Block, Blocks
from bench.case import SKLEARN_LOOP, Case
from bench.check import ACCURACY_MARGIN, MARGIN, Verdict
from bench.devices import inventory, skip_reason
from bench.errors import ExitCode, UserError
from bench.lock import the_machine
from bench.record import RunSettings
from bench.run import Progress, RunUnderWay, refuse_mixing
from bench.sequential import (
    ACCURACY_SHARE,
    DUEL_GATE,
    LAST_LOOK,
    SPEED_SHARE,
    SPENDING,
    Decision,
    Look,
    look,
    paired_p,
)
from bench.sides import Side, Spec, prepare
from bench.store import Plan, RunFolder, explained, write_json
from fmnist_models import dataset

# So many pairs of rounds average out what comes and goes within seconds. Epochs of `fit` can be
# long, so that it is held to seconds alone.
LEAST = {"fit": (0, 2.0), "multistep": (20, 0.5), "compiled": (20, 0.5)}
# A duel pairs its launches, so it sees a smaller drop of accuracy than a stored baseline.
DUEL_ACCURACY_MARGIN, DUEL_ACCURACY_GATE = 0.005, ACCURACY_MARGIN
_DUEL_VERSION = 2


@dataclass(frozen=True, slots=True)
class DuelPlan:
    """What a duel is to measure.

    Attributes:
        a, b: the sides; B is judged.
        gate: the slow-down that has to be seen, as a share.
        budget_s: no block begins after so many seconds; None for no limit.
        rows: the first so many training images are used; None for all.
    """

    a: Spec
    b: Spec
    cases: tuple[Case, ...]
    settings: RunSettings
    gate: float = DUEL_GATE
    budget_s: float | None = None
    rows: int | None = None
    command: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"version": _DUEL_VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> DuelPlan:
        """The plan that `to_json` wrote."""
        fields = {name: value for name, value in values.items() if name != "version"}
        fields["a"], fields["b"] = (Spec.from_json(fields[side]) for side in SIDES)
        fields["cases"] = tuple(Case(**case) for case in values["cases"])
        fields["settings"] = RunSettings(**values["settings"])
        return cls(**fields)


@dataclass(slots=True)
class Standing:
    """One case of a duel, as far as it has come.

    Attributes:
        speed: of each block, the log of B's time over A's.
        accuracy: of each block, how far B's validation accuracy is below A's; empty where
            the loop has none.
        speed_look, accuracy_look: the last ones.
        failure: why the case could not be measured.
    """

    case: Case
    speed: list[float] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    speed_look: Look | None = None
    accuracy_look: Look | None = None
    failure: str = ""

    def add(self, block: Block) -> None:
        """One more block, measured."""
        self.failure = block.failure
        if not block.failure:
            self.speed.append(block.speed)
            if block.accuracy is not None:
                self.accuracy.append(block.accuracy)

    @property
    def looks(self) -> list[Look]:
        """The last look at each measure."""
        return [seen for seen in (self.speed_look, self.accuracy_look) if seen]

    @property
    def verdict(self) -> Verdict:
        """`BLIND` as long as nothing is decided."""
        if self.failure:
            return Verdict.FAILED
        decisions = {seen.decision for seen in self.looks}
        if Decision.WORSE in decisions:
            return Verdict.REGRESSION
        return Verdict.PASSED if decisions == {Decision.NOT_WORSE} else Verdict.BLIND

    @property
    def is_over(self) -> bool:
        """No further block can change it."""
        done = len(self.speed) >= LAST_LOOK
        return done or self.verdict is not Verdict.BLIND


@dataclass(frozen=True, slots=True)
class DuelReport:
    """The outcome of a duel.

    Attributes:
        cases: one for each case of the plan.
        control: of each block, the log of the control probe's time before B over that
            before A; the mean over the cases of the block.
        control_differs: something that neither side can change was not the same for both.
        stopped: why it ended before its time, such as the budget; empty where it did not.
    """

    plan: DuelPlan
    cases: tuple[Standing, ...]
    control: tuple[float, ...]
    control_differs: bool
    stopped: str = ""

    @property
    def exit_code(self) -> ExitCode:
        """3 where the control differs; else as `fmnist-bench check`."""
        found = {standing.verdict for standing in self.cases}
        if self.stopped == INTERRUPTED:
            return ExitCode.INTERRUPTED
        if Verdict.FAILED in found:
            return ExitCode.WRONG_USE_OR_FAILED_CASE
        if self.control_differs:
            return ExitCode.INCONCLUSIVE
        if Verdict.REGRESSION in found:
            return ExitCode.REGRESSION
        return ExitCode.PASSED if found == {Verdict.PASSED} else ExitCode.INCONCLUSIVE


INTERRUPTED = "interrupted"


class DuelProgress(Protocol):
    """What a person sees while a duel goes on."""

    def waits(self, reason: str) -> None:
        """Another run has the machine."""

    def duel_begins(self, plan: DuelPlan, folder: Path) -> None:
        """The first block is next."""

    def block_voided(self, case: Case, reason: str) -> None:
        """A block was disturbed, as the reason says, and starts again."""

    def block_ends(self, standing: Standing, control: float) -> None:
        """A block of a case was measured; `control` is its log ratio."""

    def looked(self, standing: Standing) -> None:
        """A look was taken at a case."""


def begin(plan: DuelPlan, path: Path) -> DuelPlan:
    """A new duel's folder, with duel.json; returns the plan with its sides fixed.

    Raises:
        UserError: the folder holds a duel, cannot be written, or a side does not exist.
    """
    if (path / "duel.json").exists():
        raise UserError(
            f"{path} already holds a duel: name another --output, or finish it with "
            f"fmnist-bench duel --resume {path}"
        )
    if plan.rows is not None:
        whole = len(dataset.load(dataset.data_folder(plan.settings.data)).train_labels)
        if not 100 <= plan.rows <= whole:
            raise UserError(f"--rows {plan.rows}: must be between 100 and {whole}")
    for case in plan.cases:
        reason = skip_reason(case, inventory())
        if case.loop == SKLEARN_LOOP:
            reason = f"a duel trains networks; leave {SKLEARN_LOOP} out of --loops"
        if reason:
            raise UserError(f"{case.id} cannot duel: {reason}")
    plan = replace(plan, a=plan.a.fixed(), b=plan.b.fixed())
    with explained(path):
        path.mkdir(parents=True, exist_ok=True)
        write_json(path / "duel.json", plan.to_json())
    return plan


def resume(path: Path) -> DuelPlan:
    """The plan of an unfinished duel.

    Raises:
        UserError: the folder holds no duel, or its plan cannot be read.
    """
    try:
        return DuelPlan.from_json(json.loads((path / "duel.json").read_text("utf-8")))
    except FileNotFoundError:
        raise UserError(f"{path} holds no duel to resume: duel.json is missing") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, UserError) as error:
        raise UserError(f"{path / 'duel.json'} cannot be read: {error}") from error


def fight(plan: DuelPlan, path: Path, progress: DuelProgress, *, wait: bool = False) -> DuelReport:
    """Measure the blocks that the folder does not hold yet, until all cases are decided.

    Ctrl-C ends the launch under way and the duel; what was measured is kept.

    Raises:
        UserError: another run has the machine (unless `wait`), a side does not run this
            suite, or the disk is full.
    """
    with the_machine(progress.waits, wait), sides_under_way(plan, path) as sides:
        blocks = Blocks(path, sides, plan.settings.epochs, progress.block_voided)
        report = _to_the_end(plan, path, blocks, progress)
    with explained(path):
        write_json(path / "verdict.json", as_json(report))
    return report


@contextmanager
def sides_under_way(plan: DuelPlan, path: Path) -> Iterator[dict[str, RunUnderWay]]:
    """Both sides, ready to be measured; their processes end with the context.

    Raises:
        UserError: a side does not run this suite, or its machine, data or software is no longer
            what it was.
    """
    data = _data(plan, path)
    with explained(path):
        (path / "checkouts").mkdir(exist_ok=True)
    specs = zip(SIDES, (plan.a, plan.b), strict=True)
    sides = {name: prepare(spec, path / "checkouts") for name, spec in specs}
    with ExitStack() as stack:
        under_way = {}
        for name, side in sides.items():
            launcher = stack.enter_context(side.launcher(data))
            folder = _side_folder(plan, path / name, name.upper(), side, data)
            under_way[name] = RunUnderWay(
                Plan(plan.cases, replace(plan.settings, launches=LAST_LOOK, data=data)),
                folder,
                Progress(),
                launcher,
                side.environ,
                LEAST,
            )
        yield under_way


def _to_the_end(plan: DuelPlan, path: Path, blocks: Blocks, progress: DuelProgress) -> DuelReport:
    """All blocks, or as many as are needed."""
    standings = {case: Standing(case) for case in plan.cases}
    control: list[float] = []
    started = time.perf_counter()
    progress.duel_begins(plan, path)
    stopped, differs = "", False
    try:
        for number in range(LAST_LOOK):
            open_cases = [case for case, standing in standings.items() if not standing.is_over]
            if not open_cases or differs:
                break
            spent = time.perf_counter() - started
            is_new = not all(blocks.holds(case, number) for case in open_cases)
            if is_new and spent >= (plan.budget_s or math.inf):
                stopped = f"the budget of {plan.budget_s:g} s was spent"
                break
            draw = random.Random(f"{plan.settings.seed} {number}")
            draw.shuffle(open_cases)
            controls = []
            for case in open_cases:
                block = blocks.measured(case, number, draw)
                controls.append(block.control)
                standings[case].add(block)
                if not block.failure:
                    progress.block_ends(standings[case], block.control)
            control.append(fmean(controls))
            if number + 1 in SPENDING:
                differs = control_differs(control)
                for case in open_cases:
                    if not standings[case].failure:
                        take_look(standings[case], plan.gate, len(plan.cases))
                        progress.looked(standings[case])
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    return DuelReport(plan, tuple(standings.values()), tuple(control), differs, stopped)


def take_look(standing: Standing, gate: float, cases: int) -> None:
    """Look at the blocks of one of so many cases."""
    margin, allowed = math.log1p(MARGIN), math.log1p(gate)
    standing.speed_look = look(standing.speed, margin, allowed, SPEED_SHARE / cases)
    if standing.accuracy:
        standing.accuracy_look = look(
            standing.accuracy, DUEL_ACCURACY_MARGIN, DUEL_ACCURACY_GATE, ACCURACY_SHARE / cases
        )


def control_differs(values: Sequence[float]) -> bool:
    """Whether the control was slower before one side than before the other, beyond the margin
    and at 1% over all looks."""
    margin = math.log1p(MARGIN)
    level = SPENDING[len(values)] / 2
    return any(paired_p(way, margin) <= level for way in (values, [-v for v in values]))


def as_json(report: DuelReport) -> dict[str, Any]:
    """The report as plain JSON values; what is not finite is null."""
    return {
        "schema_version": 1,
        "exit_code": int(report.exit_code),
        "gate": report.plan.gate,
        "margin": MARGIN,
        "accuracy_margin": DUEL_ACCURACY_MARGIN,
        "accuracy_gate": DUEL_ACCURACY_GATE,
        "stopped": report.stopped,
        "control": list(report.control),
        "control_differs": report.control_differs,
        "cases": [
            {
                "case": standing.case.id,
                "verdict": str(standing.verdict),
                "failure": standing.failure,
                "speed": standing.speed,
                "accuracy": standing.accuracy,
                "speed_look": _look_json(standing.speed_look),
                "accuracy_look": _look_json(standing.accuracy_look),
            }
            for standing in report.cases
        ],
    }


def _look_json(seen: Look | None) -> dict[str, Any] | None:
    if seen is None:
        return None
    values = asdict(seen)
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v
            for k, v in values.items()}  # fmt: skip


def _data(plan: DuelPlan, path: Path) -> str | None:
    """The folder of images: the plan's, or its first rows, written once."""
    if plan.rows is None:
        return plan.settings.data
    folder = path / "data"
    if not folder.exists():
        whole = dataset.load(dataset.data_folder(plan.settings.data))
        partial = path / "data.partial"
        with explained(path):
            dataset.write(
                partial,
                whole.train_images[: plan.rows],
                whole.train_labels[: plan.rows],
                whole.test_images[: plan.rows],
                whole.test_labels[: plan.rows],
            )
            partial.rename(folder)
    return str(folder.resolve())


def _side_folder(plan: DuelPlan, path: Path, label: str, side: Side, data: str | None) -> RunFolder:
    """A side's folder, new or as it was left.

    Raises:
        UserError: its machine, data or software is no longer what it was.
    """
    described = side.describe(label, dataset.load(dataset.data_folder(data)).digest)
    if (path / "plan.json").exists():
        folder = RunFolder.resume(path)[0]
        refuse_mixing(path, folder.environment() or {}, described)
        return folder
    settings = replace(plan.settings, launches=LAST_LOOK, data=data)
    folder = RunFolder.create(path, Plan(plan.cases, settings, "", label, plan.command))
    folder.write_environment(described)
    return folder
