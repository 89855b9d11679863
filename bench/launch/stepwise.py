"""A measurement in steps, so that two launches can take turns."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from bench.schema.launch import Round

_T = TypeVar("_T")
OnRound = Callable[[Round], None]
# A measurement under way; each pause is before a round, until it is taken up again.
Turns = Generator[None, None, _T]


def to_the_end(steps: Turns[_T]) -> _T:
    """What a measurement comes to that nothing else takes turns with."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
