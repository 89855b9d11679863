"""Makes the plan of a duel from its options, and checks the options of a resumed one."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from bench.cli.declared import AXES
from bench.cli.here import with_replicas
from bench.cli.options import is_given, plan_from, spread_of
from bench.machine import devices
from bench.machine.loaded import CHECKOUT
from bench.schema.bounds import MOST_SECONDS
from bench.schema.draws import SIDES
from bench.schema.duel import FORM, DuelPlan, Spec
from bench.schema.matrix import DUEL, Axes, field_of, parse_axes
from bench.schema.sizes import Sizes
from bench.session.sides import Side, fixed_side, prepare
from bench.store.files import scratch
from fmnist_models.errors import UserError
from fmnist_models.own import FUNCTION

# The field of `RunSettings` that each option sets.
_SETTINGS = {
    "epochs": "epochs",
    "seed": "seed",
    "data": "data",
    "timeout": "timeout_s",
    "fresh": "fork",
    "steps": "steps",
    "cache_stream": "cache_stream",
    "scaling": "scaling",
}


def resumed(plan: DuelPlan, values: Mapping[str, Any], path: Path) -> DuelPlan:
    """The plan of a resumed duel: its own, with `--budget` where that is given.

    Another option is allowed where it has the value that the duel began with.

    Args:
        plan: the duel's plan.
        values: the values by option; None where the user gave none.
        path: the duel's folder.

    Raises:
        UserError: another option differs from the duel; the message names it.
    """
    for name, theirs, same in differing(plan, values, path):
        if not same():
            option = name.replace("_", "-")
            raise UserError(
                f"--{option} {theirs}: the duel in {path} began with another; leave --{option} "
                "out, or begin a new duel (only --budget may change)"
            )
    budget = budget_of(values)
    return plan if budget is None else replace(plan, budget_s=budget)


def differing(
    plan: DuelPlan, values: Mapping[str, Any], path: Path
) -> list[tuple[str, Any, Callable[[], bool]]]:
    """(option, value, whether the duel began with that value) for each option that is given."""
    same: dict[str, Callable[[], bool]] = {
        "a": lambda: fixed_side(Spec.parse(values["a"])) == plan.a,
        "b": lambda: fixed_side(Spec.parse(values["b"])) == plan.b,
        "gate": lambda: bool(values["gate"] == plan.gate),
        "margin": lambda: bool(values["margin"] == plan.margin),
        "accuracy_gate": lambda: math.isclose(values["accuracy_gate"], 100 * plan.accuracy_gate),
        "rows": lambda: bool(values["rows"] == plan.rows),
        "output": lambda: os.path.realpath(values["output"]) == os.path.realpath(path),
    }
    same |= {axis: partial(_same_axis, plan, values, axis) for axis in AXES}
    same["processes"] = partial(_same_spread, plan, values)
    same |= {option: partial(_same_setting, plan, values, option) for option in _SETTINGS}
    given = [name for name in same if is_given(values.get(name))]
    return [(name, values[name], same[name]) for name in given]


def _same_setting(plan: DuelPlan, values: Mapping[str, Any], option: str) -> bool:
    # `plan_from` raises the usual error for a value out of range.
    named = {option: values[option], "devices": "cpu", "replicas": "1"}
    asked = plan_from(named, list, "").settings
    field = _SETTINGS[option]
    return bool(getattr(asked, field) == getattr(plan.settings, field))


def _same_axis(plan: DuelPlan, values: Mapping[str, Any], axis: str) -> bool:
    axes = parse_axes({axis: values[axis]})
    asked = getattr(axes, axis)
    if axis == "devices":
        asked = [devices.known_as(device, devices.inventory()) for device in asked]
    elif axis == "replicas":
        named = tuple(dict.fromkeys(case.device for case in plan.cases))
        asked = with_replicas(replace(axes, devices=named)).replicas
    cases = [case.alone(plan.settings.scaling) for case in plan.cases]
    cases = cases if axis == "batch_sizes" else list(plan.cases)
    return set(asked) == {getattr(case, field_of(axis)) for case in cases}


def _same_spread(plan: DuelPlan, values: Mapping[str, Any]) -> bool:
    own = Axes(spread=spread_of(values))
    return all(own.processes(case.backend, case.replicas) == case.processes for case in plan.cases)


def plan_of_duel(values: Mapping[str, Any], command: str) -> DuelPlan:
    """The plan from the options of `fmnist-bench duel`.

    Raises:
        UserError: a side is missing, or a value is out of range or unknown.
    """
    for side in SIDES:
        if not values[side]:
            raise UserError(f"--{side} is missing: {FORM}")
    sides = Spec.parse(values["a"]), Spec.parse(values["b"])
    own = own_models(values)
    with scratch() as folder:
        # The models of the side that is judged; a revision is unpacked for the look alone.
        judged = prepare(fixed_side(sides[1]), Path(folder), own=own) if own else None
        return duel_of(values, command, sides, judged, wait=bool(values.get("wait")))


def own_models(values: Mapping[str, Any]) -> list[str]:
    """The user's own models among `--models`."""
    models = parse_axes({"models": values["models"]}).models or ()
    return [name for name in models if FUNCTION.fullmatch(name)]


def duel_of(
    values: Mapping[str, Any],
    command: str,
    sides: tuple[Spec, Spec],
    judged: Side | None,
    *,
    wait: bool | None,
) -> DuelPlan:
    """The plan of a duel of two sides.

    Args:
        values: the values by option; None where the user gave none.
        command: the command line that repeats it.
        sides: A and B.
        judged: the side whose models are looked at; None where no model is the user's own.
        wait: how they are looked at where another run measures (`inspection.look_at`).

    Raises:
        UserError: a value is out of range or unknown, or the case cannot duel.
    """
    budget = budget_of(values)
    sizes = Sizes.of_duel(values["gate"], values["margin"], values["accuracy_gate"])
    judged = _with_this_suite(judged) if judged else None
    plan = plan_from({**values, "matrix": DUEL}, list, command, judged, wait=wait)
    for case in plan.cases:
        if reason := plan.refused.get(case.id):
            raise UserError(reason)
        if reason := plan.skip_reason(case):
            raise UserError(f"{case.id} cannot duel: {reason}")
    if values["rows"] is not None:
        for work in plan.works:
            if not work.images:
                raise UserError(
                    f"--rows {values['rows']}: {work.model} trains on data of its own, which only "
                    "its function can shorten: leave --rows out, or add --steps"
                )
    return DuelPlan(
        *sides,
        plan.cases,
        plan.settings,
        sizes.gate,
        budget,
        values["rows"],
        command,
        sizes.margin,
        sizes.accuracy_gate,
    )


def _with_this_suite(side: Side) -> Side:
    """The side with the suite of this process, because an earlier one cannot look at models."""
    return side if side.suite is None else replace(side, suite=CHECKOUT)


def budget_of(values: Mapping[str, Any]) -> float | None:
    """The seconds of `--budget`; None where it is not given.

    Raises:
        UserError: it is out of range.
    """
    budget: float | None = values["budget"]
    if budget is not None and not 0 < budget <= MOST_SECONDS:
        raise UserError(f"--budget {budget:g}: must be above 0 and at most {MOST_SECONDS:g}")
    return budget
