"""What is drawn at random in a duel: orders and templates, the same again when it is resumed.

The training seed decides none of it. An order fixed by the seed would be the same in every duel,
and any unevenness in it would bias all of them towards the same side.
"""

from __future__ import annotations

import random
import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from bench.schema.case import Case

SIDES = ("a", "b")


@dataclass(frozen=True, slots=True)
class BlockDraw:
    """What is drawn for one block.

    Attributes:
        templates: index of the template that the launches are forked from, by side.
        firsts: the side that goes first in each pair of turns; an endless iterator.
    """

    templates: Mapping[str, int]
    firsts: Iterator[str]


class Draws(Protocol):
    """What is drawn for each block."""

    def cases(self, number: int, cases: Sequence[Case]) -> list[Case]:
        """The cases in the order in which block `number` measures them; call it before `block`."""

    def block(self, case: Case, number: int) -> BlockDraw:
        """The draw of a block of a case."""


def new_entropy() -> str:
    """128 bits from the system, as hexadecimal digits."""
    return secrets.token_hex(16)


@dataclass(frozen=True, slots=True)
class EvenDraws:
    """Balanced orders of turns and of templates.

    Of every two pairs of turns, each side goes first in one. Of every `templates` blocks, each
    template serves one. A block's draw depends only on the fields, the case and the block's
    number: blocks measured or stopped before do not change it.

    Attributes:
        entropy: the seed of all draws.
        templates: number of templates of each side; the two sides draw theirs independently.
    """

    entropy: str
    templates: int

    def cases(self, number: int, cases: Sequence[Case]) -> list[Case]:
        """As `Draws.cases`."""
        return self._chance("cases", number).sample(cases, len(cases))

    def block(self, case: Case, number: int) -> BlockDraw:
        """As `Draws.block`."""
        turn, place = divmod(number, self.templates)
        templates = {
            side: self._chance("templates", side, case.id, turn).sample(
                range(self.templates), self.templates
            )[place]
            for side in SIDES
        }
        return BlockDraw(templates, _even(self._chance("turns", case.id, number)))

    def _chance(self, *words: object) -> random.Random:
        return random.Random(" ".join(map(str, (self.entropy, *words))))


class SeededDraws:
    """The draws of earlier revisions, which took them from the training seed.

    A duel that such a revision began goes on with them. `block` raises ValueError where `cases`
    was not called for that block.

    Args:
        seed: the training seed.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._number, self._chance = -1, random.Random()

    def cases(self, number: int, cases: Sequence[Case]) -> list[Case]:
        """As `Draws.cases`."""
        self._number, self._chance = number, random.Random(f"{self._seed} {number}")
        shuffled = list(cases)
        self._chance.shuffle(shuffled)
        return shuffled

    def block(self, case: Case, number: int) -> BlockDraw:
        """As `Draws.block`."""
        if number != self._number:
            raise ValueError(f"block {number}: its cases were not drawn")
        return BlockDraw(dict.fromkeys(SIDES, 0), _uneven(self._chance))


def _even(chance: random.Random) -> Iterator[str]:
    while True:
        yield from chance.sample(SIDES, len(SIDES))


def _uneven(chance: random.Random) -> Iterator[str]:
    yield chance.choice(SIDES)
    while True:
        yield chance.sample(SIDES, len(SIDES))[0]
