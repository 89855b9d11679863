"""`python -P child.py SUITE bench.api.in_pytest REQUEST ANSWER`: measures one test's case.

The plug-in `fmnist_bench_pytest` starts it, because in the process of pytest another package may
be called `bench`. Both files are JSON. The request:

    {"what": MODEL, "options": {...}, "test": ID, "trial": false, "save": FOLDER or null,
     "baseline": FOLDER or null, "gate": SHARE or null, "margin": SHARE or null, "tests": N}

`options` are those of `bench.run`, axes in the singular. `tests` is the number of tests that share
the level of false alarms. With `trial`, the case is trained as
short as can be, and not judged. The answer holds the row of results.csv, the seconds of the rounds,
and the verdict where there is a baseline; or one line that says what was wrong:

    {"row": {...}, "seconds": [...], "verdict": V or null, "reason": R}
    {"error": LINE}
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.api.functions import Parcel
from bench.api.measuring import KNOWN, in_python_words, values_of
from bench.cli.declared import AXES
from bench.cli.gate import Guard
from bench.cli.options import plan_from
from bench.machine.devices import inventory, present
from bench.reports.terminal.check import told
from bench.reports.terminal.progress import progress_for
from bench.schema.case import Case
from bench.schema.cells import counted
from bench.schema.launch import Status
from bench.schema.matrix import field_of, parse_axis
from bench.schema.plan import Plan
from bench.schema.runs import MeasuredRun
from bench.schema.sizes import Sizes
from bench.session import preflight
from bench.session.ending import orderly_stops
from bench.session.outcome import RunOutcome
from bench.session.run import execute
from bench.store.measured import read_baseline
from bench.store.run_folder import RunFolder
from bench.verdicts.check import Verdict
from bench.verdicts.check_data import times
from bench.verdicts.regression import LEAST_RUNS
from fmnist_models.errors import UserError

# What a test trains where it says nothing else: one case, long enough for a gate.
_SHORT = {"matrix": "quick", "loop": "compiled", "launches": 3}
_TRIAL = {"epochs": 1, "launches": 1, "wait": True}
# The axes as a test writes them, of one value each; the model is its first argument.
_SINGULAR = {field_of(axis): axis for axis in AXES if axis != "models"}
_OPTIONS = (
    *_SINGULAR,
    *(k for k in KNOWN if k not in (*AXES, "output", "resume", "find_batch")),
)
_IN_PYTEST = {name: f"--training-{name}" for name in ("baseline", "gate", "margin")}


def main() -> None:
    """Measure what the request asks for, and write the answer."""
    request, answer = map(Path, sys.argv[1:3])
    with orderly_stops():
        try:
            found = answered(json.loads(request.read_text("utf-8")))
        except (UserError, OSError) as error:
            found = {"error": " ".join(str(error).split())}
    answer.write_text(json.dumps(found), "utf-8")


def answered(request: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a request.

    Raises:
        UserError: an option or the baseline is wrong, or another run measures on this machine.
        KeyboardInterrupt: the run was stopped.
    """
    with (
        tempfile.TemporaryDirectory(prefix="fmnist-bench-") as temporary,
        in_python_words(_IN_PYTEST),
    ):
        plan, wait = _plan(request)
        guard, held = _guard(request, plan)
        trial = request["trial"]
        kept = None if trial else request["save"]
        test = re.sub(r".*::", "", request["test"])[:60]
        folder = Path(kept or temporary) / preflight.new_folder_name(plan.matrix, test).name
        opening = preflight.begin(plan, folder)
        outcome = execute(plan, opening, progress_for(Console()), wait=wait, trial=trial)
        if outcome.interrupted:
            raise KeyboardInterrupt
        return _measured(outcome) | _judged(guard, held, outcome)


def _plan(request: Mapping[str, Any]) -> tuple[Plan, bool]:
    """The plan of one case, and whether it waits for another run."""
    given = {**_SHORT, **request["options"]}
    given |= _TRIAL if request["trial"] else {}
    for key in given:
        if key in AXES and key not in _SINGULAR and key != "models":
            raise UserError(f"{key}: a test measures one case: write {field_of(key)}=...")
        if key not in _OPTIONS:
            raise UserError(f"{key}: no option of a test; choose from {', '.join(_OPTIONS)}")
    machine = inventory()
    if given.get("device") is None:
        # As Keras does, the first GPU where there is one.
        given["device"] = next((d for d in present(machine) if d != "cpu"), "cpu")
    named = {_SINGULAR.get(key, key): value for key, value in given.items()}
    values = values_of({**named, "models": request["what"]}, Parcel())
    for key, axis in {"models": "models", **_SINGULAR}.items():
        if axis in values and len(parse_axis(axis, values[axis])) > 1:
            raise UserError(f"{key}={values[axis]!r}: a test measures one case: parametrize it")
    command = shlex.join(["pytest", request["test"]])
    wait = bool(values.get("wait"))
    plan = plan_from(values, lambda: present(machine), command, wait=wait)
    # What the test does not name is as in the first case of the matrix.
    plan = replace(plan, cases=plan.cases[:1])
    if values.get("require_all"):
        preflight.refuse_skips(plan, machine)
    return plan, wait


def _guard(request: Mapping[str, Any], plan: Plan) -> tuple[Guard | None, int | None]:
    """The guard with the stored runs of the test, and at how many times these were measured.

    There is no guard where they are too few, and no number where there is no baseline.
    """
    if request["baseline"] is None or request["trial"]:
        return None, None
    sizes = Sizes.of_check(request["gate"], request["margin"])
    sizes = replace(sizes, checks=request["tests"])
    stored = read_baseline(Path(request["baseline"]))
    case: Case = plan.cases[0]
    runs = tuple(run for run in stored if case.id in run.logs and _may_be_of(run, plan.command))
    held = len(times(runs))
    if held < LEAST_RUNS:
        return None, held
    guard = Guard(runs, sizes)
    guard.refuse(plan)
    return guard, held


def _may_be_of(run: MeasuredRun, command: str) -> bool:
    """Whether a stored run is of the test with that command, or of none, as of `fmnist-bench run`.

    Tests may share a case, whose id holds neither its epochs nor what a closure refers to.
    """
    plan = RunFolder(run.path).plan()
    then = plan.command if plan else ""
    return then == command or not (then.startswith("pytest ") and "::" in then)


def _measured(outcome: RunOutcome) -> dict[str, Any]:
    good = {(r.launch, r.attempt) for r in outcome.launches if r.status is Status.OK}
    seconds = [s.round.seconds for s in outcome.rounds if (s.launch, s.attempt) in good]
    return {"row": outcome.rows[0], "seconds": seconds}


def _judged(guard: Guard | None, held: int | None, outcome: RunOutcome) -> dict[str, Any]:
    if held is None or outcome.rows[0]["status"] != Status.OK:
        return {"verdict": None, "reason": ""}
    if guard is None:
        reason = f"the baseline holds it at {counted(held, 'time')}, {LEAST_RUNS} are needed"
        return {"verdict": Verdict.NEW, "reason": reason}
    report, _ = guard.check(outcome.folder.path)
    case = next(case for case in report.cases if case.case == outcome.rows[0]["case"])
    is_sure = case.verdict is Verdict.REGRESSION
    return {"verdict": case.verdict, "reason": case.reason if is_sure else told(case)}


if __name__ == "__main__":
    main()
