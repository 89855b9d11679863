"""In what the nodes of a fleet differ from most of them: hardware, driver, kernel, software."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.verdicts.compatibility import with_acted
from bench.verdicts.facts import ABSENT, FACTS, Environment, Fact, Purpose, facts

_GIB = 2**30


@dataclass(frozen=True, slots=True)
class Difference:
    """A fact of a node that is not as on most nodes.

    Attributes:
        fact: its name.
        own: its text on the node; several where the runs of the node differ.
        usual: its text on most nodes, or on the largest group of them.
    """

    fact: str
    own: str
    usual: str

    def __str__(self) -> str:
        """The difference in a few words."""
        return f"{self.fact} {self.own}, not {self.usual}"


def _of_each_gpu(key: str) -> Any:
    """Takes one figure of each GPU; not recorded where one has none."""

    def figures(gpus: Sequence[Any]) -> Any:
        """The figures as texts, in the order of the GPUs."""
        found = [gpu.get(key) if isinstance(gpu, Mapping) else None for gpu in gpus]
        return ABSENT if None in found else [f"{value:g}" for value in found]

    return figures


def _gib(memory_bytes: Any) -> Any:
    """Whole GiB: the kernel keeps a few MB more or less of the same memory for itself."""
    is_number = isinstance(memory_bytes, int | float)
    return f"{round(memory_bytes / _GIB)} GiB" if is_number else ABSENT


# What differs between alike machines, or is told in another way below.
_LEFT_OUT = ("data", "allowed cores", "memory in bytes", "UUIDs of the GPUs")
_OF_NODES: tuple[Fact, ...] = (
    *(fact for fact in FACTS if fact.name not in _LEFT_OUT),
    Fact("memory", ("memory_bytes",), frozenset(), of=_gib),
    Fact("CPU governor", ("cpu", "governor"), frozenset()),
    Fact("power limit of the GPUs in W", ("gpus",), frozenset(), of=_of_each_gpu("power_limit_w")),
    Fact(
        "highest clock of the GPUs in Hz",
        ("gpus",),
        frozenset(),
        of=_of_each_gpu("sm_clock_max_hz"),
    ),
)


def differences(nodes: Sequence[Sequence[Environment]]) -> list[tuple[Difference, ...]]:
    """In what each node differs from most of them, in the order of the nodes.

    Args:
        nodes: the environment of each run of each node.
    """
    flat = iter(with_acted([environment for runs in nodes for environment in runs]))
    records = [[next(flat) for _ in runs] for runs in nodes]
    found: list[list[Difference]] = [[] for _ in nodes]
    for fact in _OF_NODES:
        texts = [_texts(fact, runs) for runs in records]
        counts = Counter(text for text in texts if text)
        if len(counts) < 2:
            continue
        usual = counts.most_common(1)[0][0]
        for own, text in zip(found, texts, strict=True):
            if text and text != usual:
                own.append(Difference(fact.name, _said(text), _said(usual)))
    return [tuple(own) for own in found]


def hardware(runs: Iterable[Environment]) -> tuple[tuple[str, ...], ...]:
    """What must be the same in nodes of one kind: a key for each different record of a node."""
    kept = [fact for fact in facts(Purpose.BASELINE) if fact.name != "data"]
    return tuple(dict.fromkeys(tuple(fact.text(run) for fact in kept) for run in runs))


def _texts(fact: Fact, runs: Iterable[Environment]) -> tuple[str, ...]:
    """The different texts of a fact over the runs of a node; empty where not recorded."""
    texts = (fact.text(run) for run in runs)
    return tuple(dict.fromkeys(text for text in texts if text != ABSENT))


def _said(texts: tuple[str, ...]) -> str:
    return " and ".join(texts)
