"""A measurement in steps, so that two launches can alternate."""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import TypeVar

from bench.schema.launch import Round

_T = TypeVar("_T")
OnRound = Callable[[Round], None]
# A running measurement; it pauses before each round until the generator is resumed.
Turns = Generator[None, None, _T]


def to_the_end(steps: Turns[_T]) -> _T:
    """Run a measurement to its end without others in between, and return its result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value  # type: ignore[no-any-return]
