"""Which plans can be measured across nodes."""

from __future__ import annotations

from bench.backends import KNOWN
from bench.schema.case import Case
from bench.schema.plan import Plan
from fmnist_models.errors import UserError


def refuse_unspreadable(plan: Plan) -> None:
    """Refuse a plan with a case that has no process for each replica.

    Exception: the cases of one replica with which those of several are compared.

    Raises:
        UserError: there is such a case, or none of several replicas; the message names it.
    """
    spread = [case for case in plan.cases if case.processes > 1]
    compared = {case.alone(plan.settings.scaling) for case in spread}
    for case in plan.cases:
        if case not in compared and (reason := _why_not(case)):
            raise UserError(f"--across: {case.id} cannot be spread: {reason}")
    if not spread:
        raise UserError("--across: no case has several replicas: name their number in --replicas")


def _why_not(case: Case) -> str:
    known = KNOWN.get(case.backend)
    if known is None:
        return "scikit-learn has no replicas: choose --models"
    if "each" not in known.spreads:
        able = ", ".join(name for name, other in KNOWN.items() if "each" in other.spreads)
        return f"{known.title} has no process for each replica: name --backends {able}"
    if case.replicas > 1 and (reason := known.refuses(case)):
        return reason
    return "" if case.processes > 1 else "it has one replica: leave it out"


def refuse_uneven(plan: Plan, nodes: int) -> None:
    """Refuse a number of nodes over which the replicas of a case cannot be spread evenly.

    Raises:
        UserError: there is one node, or the replicas of a case are no multiple of the nodes.
    """
    if nodes < 2:
        raise UserError(
            f"--across: the cluster has {nodes} node that can be used: start others, or leave "
            "--across out"
        )
    for case in plan.cases:
        if case.processes > 1 and case.replicas % nodes:
            raise UserError(
                f"--replicas {case.replicas}: --across spreads replicas evenly over the {nodes} "
                f"nodes of the cluster: name a multiple of {nodes}"
            )
