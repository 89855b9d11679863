"""Looks at the user's own models before a plan is made, each in a process of its own.

What a function does there, such as `sys.exit` or taking all memory, ends that process alone.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.launch.launcher import Launcher
from bench.launch.placement import LaunchPlace
from bench.machine import devices, placement
from bench.machine.lock import the_machine
from bench.schema.case import Case
from bench.schema.cells import counted
from bench.schema.errors import Unavailable
from bench.schema.matrix import Axes, expand
from bench.schema.plan import Plan, RunSettings
from bench.schema.workload import InspectRequest, WorkFacts
from bench.session.places import place_of
from bench.session.preflight import require_keras
from bench.store.files import scratch
from fmnist_models import dataset
from fmnist_models.optimizers import OWN
from fmnist_models.own import FUNCTION

if TYPE_CHECKING:
    from bench.session.sides import Side


def with_works(
    plan: Plan,
    axes: Axes,
    told: Callable[[str], None],
    epochs: int | None = None,
    side: Side | None = None,
    wait: bool | None = False,
) -> Plan:
    """The plan with the cases and settings that the user's own models ask for.

    The cases of a model that cannot be trained are `Plan.refused`.

    Args:
        plan: a plan of `axes`, in which nothing is known of these models.
        axes: the axes of the user, with devices.
        told: called with a line where the models are looked at, because that takes seconds.
        epochs: the user's number of epochs; None lets each model's own hold.
        side: the side of a duel that holds the models; None for the user's working folder.
        wait: as in `look_at`.

    Raises:
        UserError: the models cannot be looked at, the user names no optimizer that one of them
            can have, or another run measures.
    """
    own = [model for model in axes.models or () if FUNCTION.fullmatch(model)]
    works = look_at(own, plan, told, side, wait)
    reasons = {work.model: work.reason for work in works if work.reason}
    cases = expand(plan.matrix, axes, (), works)
    own_epochs = {work.model: work.epochs for work in works if work.epochs and epochs is None}
    return replace(
        plan,
        cases=tuple(cases),
        settings=replace(plan.settings, own_epochs=own_epochs),
        works=works,
        refused={case.id: reasons[case.model] for case in cases if case.model in reasons},
    )


def looked_at_again(plan: Plan, told: Callable[[str], None], wait: bool | None = False) -> Plan:
    """A plan that is resumed, in which models that were mended since are refused no more.

    The arguments and the errors are those of `look_at`.
    """
    bad = [work.model for work in plan.works if work.reason]
    again = {work.model: work for work in look_at(bad, plan, told, wait=wait)}
    refused = dict(plan.refused)
    for case in plan.cases:
        if (work := again.get(case.model)) is None:
            continue
        refused[case.id] = work.reason
        if not work.reason and (is_now := _unplanned(work, case, plan.settings)):
            refused[case.id] = (
                f"model {case.model!r}: it {is_now} now, which this run's cases are not made for: "
                "measure it in a new run"
            )
    works = tuple(again.get(work.model, work) for work in plan.works)
    return replace(plan, works=works, refused={case: why for case, why in refused.items() if why})


def _unplanned(work: WorkFacts, case: Case, settings: RunSettings) -> str:
    """What a mended model is or asks for, where the case was planned without it; else empty.

    The plan does not say which values the user named, so all that differ are told.
    """
    if work.compiled != (case.optimizer == OWN):
        return "is compiled" if work.compiled else "is not compiled"
    if work.batch_size not in (None, case.batch_size):
        return f"asks for a batch size of {work.batch_size}"
    if work.epochs not in (None, settings.epochs_of(case)):
        return f"asks for {counted(work.epochs, 'epoch')}"
    return ""


def look_at(
    models: Sequence[str],
    plan: Plan,
    told: Callable[[str], None],
    side: Side | None = None,
    wait: bool | None = False,
) -> tuple[WorkFacts, ...]:
    """What is known of each of the user's own models, with a reason for one that is no use.

    Args:
        models: `module:function` of each.
        plan: its limit of a launch holds for each model, and the models are built as for one of
            their cases, with a backend that can be used here and on the CPU if there is one.
        told: called with a line before it begins, because the imports take seconds.
        side: whose interpreter, files and variables build them; None for those of this process.
        wait: wait for another run on this machine, which the imports would disturb; with False,
            another run is an error; with None, nothing is asked.

    Raises:
        UserError: no framework is installed, the data cannot be read, or another run measures.
    """
    if not models:
        return ()
    require_keras()
    data = plan.settings.data
    dataset.load(dataset.data_folder(data))
    launcher = side.launcher(data) if side else Launcher(data=data)
    with ExitStack() as alone, scratch() as folder, launcher as asked:
        if wait is not None:
            alone.enter_context(the_machine(lambda reason: told(f"waiting: {reason}"), wait))
        told(f"looking at {', '.join(models)} ...")
        place = _place(_like(models, plan, side), Path(folder) / "log", plan.settings, side)
        # Without forks each process imports the framework, so they are asked for together.
        found = {} if place.fork else _together(asked, models, place)
        for number, model in enumerate(models):
            if model not in found:
                own = replace(place, log=Path(folder) / f"log-{number}")
                facts = asked.inspect(InspectRequest((model,)), own)
                found[model] = _unknown(model, facts) if isinstance(facts, str) else facts[0]
    return tuple(found[model] for model in models)


def _like(models: Sequence[str], plan: Plan, side: Side | None) -> Case:
    """The case as for which the models are built."""
    default = Case(models[0], OWN, "fit", backend=placement.wanted_backend())
    cases = [case for case in plan.cases if case.model in models] or [default]
    if side is not None:
        # Its interpreter may have other frameworks than this one.
        like = min(cases, key=lambda case: case.device != "cpu")
        return like if side.backend is None else replace(like, backend=side.backend)
    absent = {case.backend: placement.why_missing(case.backend) is not None for case in cases}
    return min(cases, key=lambda case: (absent[case.backend], case.device != "cpu"))


def _together(
    launcher: Launcher, models: Sequence[str], place: LaunchPlace
) -> dict[str, WorkFacts]:
    """The facts of all models from one process; empty where one of them has ended it."""
    facts = launcher.inspect(InspectRequest(tuple(models)), place)
    return {} if isinstance(facts, str) else {work.model: work for work in facts}


def _place(case: Case, log: Path, settings: RunSettings, side: Side | None) -> LaunchPlace:
    machine = devices.inventory()
    environ = side.environ if side else os.environ
    try:
        devices.resolve(case.device, machine)
    except Unavailable:
        # Its cases are skipped; their number is known all the same.
        case = replace(case, device="cpu")
    # The functions are called once, whatever trains later.
    alone = replace(case, replicas=1, processes=1)
    return replace(place_of(alone, machine, log, settings, environ), gpus={})


def _unknown(model: str, reason: str) -> WorkFacts:
    return WorkFacts(
        model,
        f"model {model!r}: no answer from its function: {reason}; call it in Python alone to see "
        "why",
    )
