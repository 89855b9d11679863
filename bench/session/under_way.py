"""The two sides of a duel, ready to be measured: their folders, their launchers and their data."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from bench.backends import KNOWN
from bench.launch.launcher import Templates
from bench.machine.devices import inventory
from bench.machine.environment import variables_of
from bench.schema.draws import SIDES
from bench.schema.duel import DuelPlan, Spec
from bench.schema.errors import explained
from bench.schema.launch import LaunchRecord
from bench.schema.plan import Plan
from bench.session.attempts import RunUnderWay
from bench.session.duel_side import DuelSide
from bench.session.events import Progress
from bench.session.places import ThisMachine
from bench.session.sides import Side, prepare, refuse_other_files
from bench.store.run_folder import RunFolder
from bench.verdicts.compatibility import refuse_changed_files, refuse_lost_record, refuse_mixing
from bench.verdicts.sequential import LAST_LOOK
from fmnist_models import dataset

# Least (rounds, seconds) of a launch: enough pairs of rounds to average out load that changes
# within seconds. `fit` has no least number of rounds, because its epochs can be long.
LEAST = {"fit": (0, 2.0), "multistep": (20, 0.5), "compiled": (20, 0.5)}


class Expected(Protocol):
    """What the sides of a duel must be."""

    def code(self, label: str, side: Side, described: Mapping[str, Any]) -> Mapping[str, Any]:
        """The listings of files that the launches of a side must run.

        Args:
            label: `A` or `B`.
            side: the side.
            described: its facts.

        Raises:
            UserError: the side is not the expected one.
        """

    def other_work(self, record: LaunchRecord) -> str:
        """In what a launch of B did other work than it must; empty where it did not."""


@dataclass(frozen=True, slots=True)
class Shared:
    """What several duels share.

    Attributes:
        checkouts: the folder of unpacked revisions.
        templates: the templates of each side, which outlive its launchers (`Launcher`).
    """

    checkouts: Path
    templates: Mapping[str, Templates] = field(default_factory=dict)


@contextmanager
def sides_under_way(
    plan: DuelPlan,
    path: Path,
    expected: Expected | None = None,
    shared: Shared | None = None,
) -> Iterator[dict[str, DuelSide]]:
    """The runs of both sides, ready to be measured; their processes end with the context.

    Args:
        plan: the duel.
        path: its folder.
        expected: checks each side; None accepts any.
        shared: what the duel shares with others; None for a duel alone.

    Raises:
        UserError: a side does not run this suite or is not the `expected` one, or its machine,
            data or software has changed since the duel began.
    """
    data = data_of(plan, path)
    shared = shared or Shared(path / "checkouts")
    with explained(path):
        shared.checkouts.mkdir(exist_ok=True)
    specs = dict(zip(SIDES, (plan.a, plan.b), strict=True))
    own = [name for case in plan.cases for name in case.own]
    sides = {name: prepare(spec, shared.checkouts, own=own) for name, spec in specs.items()}
    with ExitStack() as stack:
        under_way = {}
        for name, side in sides.items():
            launcher = stack.enter_context(side.launcher(data, shared.templates.get(name)))
            asked = _plan_of_side(plan, specs[name], name.upper(), data)
            folder = _side_folder(asked, path / name, side, expected)
            here = ThisMachine(side.environ)
            run = RunUnderWay(asked, folder, Progress(), launcher, here, LEAST)
            stack.callback(run.write_results)
            under_way[name] = DuelSide(run, specs[name])
        yield under_way


def _plan_of_side(plan: DuelPlan, spec: Spec, label: str, data: str | None) -> Plan:
    """The plan of a side's own run."""
    both = plan.a.backend != plan.b.backend
    settings = replace(plan.settings, launches=LAST_LOOK, data=data, same_start=both)
    return Plan(tuple(map(spec.case_of, plan.cases)), settings, "", label, plan.command)


def data_of(plan: DuelPlan, path: Path) -> str | None:
    """The folder of the images: the plan's, or a copy of its first rows, which is written once."""
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


def _side_folder(plan: Plan, path: Path, side: Side, expected: Expected | None) -> RunFolder:
    """The folder of a side, created or resumed.

    Raises:
        UserError: its machine, data or software is not the expected one, or has changed.
    """
    label = str(plan.label)
    digest = dataset.load(dataset.data_folder(plan.settings.data)).digest
    backends = dict.fromkeys(case.backend for case in plan.cases if case.backend in KNOWN)
    packages = [package for name in backends for package in KNOWN[name].packages]
    described = side.describe(label, digest, packages)
    described |= variables_of(plan.cases, inventory(), side.environ)
    if expected is not None:
        described["code"] = dict(expected.code(label, side, described))
    if (path / "plan.json").exists():
        folder = RunFolder.resume(path)[0]
        then = folder.environment()
        refuse_lost_record(path, then, len(folder.launches()))
        if then is None:
            # There is no launch yet, so the facts of now hold.
            folder.write_environment(described)
        else:
            refuse_mixing(path, then, described)
            if then.get("code"):
                # The launches so far list the files that they ran.
                roots = {"suite": side.suite, "models": side.models or Path.cwd()}
                refuse_changed_files(path, then, {k: v for k, v in roots.items() if v})
            else:
                refuse_other_files(path, label, then, described)
        return folder
    return RunFolder.create(path, plan, described)
