"""The report of a bisection as plain values, and the command that shows the change again."""

from __future__ import annotations

import math
import shlex
from typing import Any

from bench.analysis.stats import student_interval
from bench.schema.bisect import BisectPlan, Trial, What
from bench.schema.cells import finite
from bench.schema.draws import SIDES
from bench.schema.score import Scale
from bench.schema.sizes import MARGIN
from bench.verdicts.bisect import WRONG, Change, change_of
from bench.verdicts.bisect_search import BisectReport


def as_json(report: BisectReport) -> dict[str, Any]:
    """The report as plain JSON values; a number that is not finite is null."""
    plan, proof = report.plan, report.proof
    return {
        "schema_version": 1,
        "exit_code": int(report.exit_code),
        "outcome": str(report.end.outcome),
        "commit": report.end.commit or None,
        "parent": proof and proof.against,
        "candidates": list(report.end.candidates),
        "reason": report.end.reason,
        "what": str(plan.what),
        "good": plan.good,
        "bad": plan.bad,
        "commits": report.commits,
        "margin": plan.duel.margin,
        "wrong_at_most": WRONG,
        "speed": proof and _ratio(speed_of(proof)),
        "score": proof and _score(proof),
        "see_again": proof and see_again(plan, proof),
        "trials": [trial.to_json() for trial in report.trials],
    }


def speed_of(trial: Trial) -> Change:
    """The log of B's time over A's, with a 99% interval for all looks together."""
    return change_of(trial.speed, WRONG / 2)


def score_of(trial: Trial) -> tuple[float, tuple[float, float] | None] | None:
    """The change of the score, in points or percent (`Scale.change`), with a 95% interval.

    None where no score was taken.
    """
    if not trial.score:
        return None
    scale, mean = trial.scale, sum(trial.score) / len(trial.score)
    ends = student_interval(trial.score)
    if ends is None:
        return scale.change(mean), None
    low, high = sorted(map(scale.change, ends))
    return scale.change(mean), (low, high)


def see_again(plan: BisectPlan, trial: Trial) -> str:
    """The command that measures a trial's two commits again.

    A duel, or for a loss of accuracy a bisection of one commit: the two may train different models,
    which a duel refuses.
    """
    if plan.what is What.ACCURACY:
        words = ["fmnist-bench", "bisect", trial.against, trial.commit]
        words += ["--checkout", plan.repository, "--what", str(plan.what), "--first-parent"]
        words += ["--setup", plan.setup] if plan.setup else []
        return shlex.join([*words, *_selection(plan)])
    words = ["fmnist-bench", "duel"]
    pythons = [[f"python={python}"] for python in trial.pythons] or [[], []]
    for side, commit, python in zip(SIDES, (trial.against, trial.commit), pythons, strict=True):
        words += [f"--{side}", shlex.join([*python, f"checkout={plan.repository}@{commit}"])]
    return shlex.join([*words, *_selection(plan)])


def _selection(plan: BisectPlan) -> list[str]:
    """The options of a duel that select the case and its settings."""
    case, duel = plan.case, plan.duel
    settings = duel.settings
    alone = case.alone(settings.scaling)
    named = {
        "models": case.model,
        "optimizers": case.optimizer,
        "loops": case.loop,
        "devices": case.device,
        "batch-sizes": alone.batch_size,
        "precisions": case.precision,
        "threads": case.threads,
        "backends": case.backend,
        "replicas": case.replicas if case.replicas > 1 else None,
        "scaling": settings.scaling if case.replicas > 1 else None,
        "epochs": settings.epochs_of(case),
        "seed": settings.seed,
        "steps": settings.steps,
        "data": settings.data,
        "rows": duel.rows,
        "margin": duel.margin if duel.margin != MARGIN else None,
    }
    flags = {"cache-stream": settings.cache_stream, "fresh": not settings.fork}
    words = [w for name, v in named.items() if v is not None for w in (f"--{name}", str(v))]
    return [*words, *(f"--{name}" for name, on in flags.items() if on)]


def _ratio(change: Change) -> dict[str, float | None]:
    return {
        name: finite(math.exp(min(value, 700)))
        for name, value in (("ratio", change.mean), ("low", change.low), ("high", change.high))
    }


def _score(trial: Trial) -> dict[str, Any] | None:
    found = score_of(trial)
    if found is None:
        return None
    low, high = found[1] or (None, None)
    told = {"name": trial.scale.name, "unit": unit_of(trial.scale)}
    return {**told, "change": found[0], "low": low, "high": high}


def unit_of(scale: Scale) -> str:
    """What follows a change of the score: `points`, or `%`."""
    return scale.sign or "points"
