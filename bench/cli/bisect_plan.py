"""Makes the plan of a bisection from its options, and checks the options of a resumed one."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench.cli.duel_plan import differing, duel_of, own_models
from bench.cli.options import is_given, to_stderr
from bench.machine.lock import the_machine
from bench.schema.bisect import BisectPlan, What
from bench.schema.duel import Spec
from bench.schema.sizes import DUEL_GATE, MOST
from bench.session.revision import commit_of
from bench.session.setups import set_up
from bench.session.sides import Side, fixed_side, prepare
from bench.store.files import scratch
from fmnist_models.errors import UserError


def plan_of_bisect(values: Mapping[str, Any], command: str) -> BisectPlan:
    """The plan from the options of `fmnist-bench bisect`.

    Raises:
        UserError: a revision or the repository is missing or unknown, a value is out of range, or
            the options select several cases.
    """
    good, bad = values["good"], values["bad"]
    if not good or not bad:
        named = f"GOOD {good!r} is named, BAD is missing" if good else "GOOD and BAD are missing"
        raise UserError(f"{named}: write fmnist-bench bisect GOOD BAD --checkout REPO")
    if not values["checkout"]:
        raise UserError("--checkout is missing: name the repository that holds your model")
    what = values["what"] or What.SPEED
    if what not in list(What):
        raise UserError(f"--what {what!r}: choose from {', '.join(What)}")
    sides = [_side_of(values["checkout"], name) for name in (good, bad)]
    margin = values["margin"]
    # A duel's gate must be above the margin; a bisection does not use it.
    gate = DUEL_GATE if margin is None else min(MOST, max(DUEL_GATE, 2 * margin))
    asked = {**values, "gate": gate, "accuracy_gate": None, "budget": None}
    setup = values["setup"] or ""
    own = own_models(values)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(scratch()))
        wait: bool | None = bool(values["wait"])
        if own and setup:
            # The machine is held here, for the command may disturb another run.
            held = the_machine(lambda reason: to_stderr(f"waiting: {reason}"), bool(wait))
            stack.enter_context(held)
            wait = None
        judged = _judged(sides[1], setup, folder, own) if own else None
        duel = duel_of(asked, command, (sides[0], sides[1]), judged, wait=wait)
    if len(duel.cases) != 1:
        raise UserError(
            f"{len(duel.cases)} cases are selected, such as {duel.cases[0].id} and "
            f"{duel.cases[1].id}: a bisection follows one, so name one value of each axis"
        )
    paths = tuple(values["paths"])
    return BisectPlan(duel, What(what), bool(values["first_parent"]), paths, setup, command)


def _side_of(repository: str, revision: str) -> Spec:
    return fixed_side(Spec(checkout=repository, revision=revision))


def _judged(bad: Spec, setup: str, folder: Path, own: list[str]) -> Side:
    """The side of BAD, whose models are looked at; what that takes is made for the look alone."""
    if setup:
        to_stderr(f"setting up {str(bad.revision)[:12]} to look at {', '.join(own)} ...")
        repository, commit = str(bad.checkout), str(bad.revision)
        done, python = set_up(repository, commit, setup, folder, folder / "log")
        if done.reason:
            raise UserError(f"BAD {commit[:12]}: {done.reason}")
        bad = replace(bad, python=str(python))
        folder = folder / "checkouts"
    return prepare(bad, folder, own=own)


def resumed(plan: BisectPlan, values: Mapping[str, Any], path: Path) -> BisectPlan:
    """The plan of a resumed bisection, which no option may change.

    An option is allowed where it has the value that the bisection began with. The command of
    `--setup` must be named again, so that nobody runs a command that only a folder holds.

    Raises:
        UserError: an option or an argument differs, or the command is not named; the message says
            which.
    """
    own: dict[str, Callable[[], bool]] = {
        "good": lambda: commit_of(plan.repository, values["good"]) == plan.good,
        "bad": lambda: commit_of(plan.repository, values["bad"]) == plan.bad,
        "paths": lambda: tuple(values["paths"]) == plan.paths,
        "checkout": lambda: os.path.realpath(values["checkout"]) == plan.repository,
        "what": lambda: values["what"] == plan.what,
        "first_parent": lambda: plan.first_parent,
        "setup": lambda: values["setup"] == plan.setup,
    }
    given = [(name, values[name], own[name]) for name in own if _is_named(values[name])]
    for name, theirs, same in (*given, *differing(plan.duel, values, path)):
        if not same():
            called = {"good": "GOOD", "bad": "BAD", "paths": "PATH"}
            option = called.get(name) or f"--{name.replace('_', '-')}"
            shown = "" if theirs is True else f" {theirs if name != 'paths' else ' '.join(theirs)}"
            raise UserError(
                f"{option}{shown}: the bisection in {path} began with another; leave it out, or "
                "begin a new one"
            )
    if plan.setup and not values["setup"]:
        raise UserError(
            f"--setup is missing: the bisection in {path} runs {plan.setup!r} in each checkout; "
            "read it, and name it again"
        )
    return plan


def _is_named(value: Any) -> bool:
    return is_given(value) and value != ()
