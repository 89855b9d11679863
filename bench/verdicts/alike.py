"""Whether the nodes of a fleet are alike enough to be compared, before the first launch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from bench.schema.fleet import NodeFacts
from bench.verdicts.compatibility import differs, first_difference
from bench.verdicts.facts import FACTS, Purpose
from fmnist_models.errors import UserError

# An answer may wait for minutes until it is read, so a smaller difference is not known.
MOST_APART_S = 600.0
_DIGEST_LENGTH, _SHOWN = 64, 12
_HARDWARE = tuple(
    fact
    for fact in FACTS
    if fact.name
    in ("CPU", "logical cores", "number of allowed cores", "CPU quota", "GPUs", "driver")
)
# A node may need other variables, such as those that name its network interface.
_TOLD = (*_HARDWARE, *(fact for fact in FACTS if fact.name == "variables"))


def refuse_unlike(nodes: Mapping[str, NodeFacts]) -> list[str]:
    """Refuse nodes that would do other work, or by other software; returns what is to be known.

    Hardware and driver may differ: whether they do is what a fleet is measured for.

    Args:
        nodes: the facts of each node, by its name.

    Raises:
        UserError: a node cannot measure the plan, has other files of the suite, other versions,
            other data, or a clock that is minutes off; the message names the node.
    """
    first, *others = nodes
    for name, facts in nodes.items():
        if facts.refused:
            raise UserError(f"node {name}: {facts.refused}")
    for name in others:
        facts = nodes[name]
        found = first_difference(Purpose.NODES, nodes[first].environment, facts.environment)
        if found is not None:
            fact, ours, theirs = found
            raise UserError(
                f"node {name} has {fact.words or fact.name} {_short(theirs)}, and node {first} "
                f"{_short(ours)}: "
                "let all nodes have the same, or leave it out"
            )
        if facts.suite != nodes[first].suite:
            raise UserError(
                f"node {name} has other files of fmnist-bench than node {first}: install the same "
                "revision on all nodes"
            )
    for name, facts in nodes.items():
        if abs(facts.ahead_s) > MOST_APART_S:
            way = "ahead of" if facts.ahead_s > 0 else "behind"
            hours = abs(facts.ahead_s) / 3600
            raise UserError(
                f"node {name}: its clock is {hours:.1f} h {way} the one here, so nobody could tell "
                "which run was first: set it, as by NTP"
            )
    slowed = [f"{name} ({facts.niceness})" for name, facts in nodes.items() if facts.niceness > 0]
    if not slowed:
        return []
    return [
        "launches give way to other work (niceness above 0, as Ray starts processes) on "
        f"{', '.join(slowed)}: start those nodes with RAY_worker_niceness=0"
    ]


def hardware_digest(environment: Mapping[str, Any]) -> str:
    """The same 16 characters for nodes of the same processor, cores, GPUs and driver."""
    told = "\n".join(f"{fact.name}: {fact.text(environment)}" for fact in _HARDWARE)
    return hashlib.sha256(told.encode()).hexdigest()[:16]


def differences(nodes: Mapping[str, NodeFacts]) -> tuple[str, ...]:
    """In what the hardware or the variables of nodes differ from the first one's, a line each.

    Args:
        nodes: the facts of each node, by its name.
    """
    (first, first_facts), *others = nodes.items()
    found = []
    for name, facts in others:
        for fact in _TOLD:
            ours, theirs = fact.text(first_facts.environment), fact.text(facts.environment)
            if differs(ours, theirs):
                words = fact.words or fact.name
                found.append(f"nodes differ: {name} has {words} {theirs!r}, and {first} {ours!r}")
    return tuple(found)


def _short(value: str) -> str:
    """A value as it is told; of a digest the first characters."""
    return f"{value[:_SHOWN]}..." if len(value) == _DIGEST_LENGTH else value
