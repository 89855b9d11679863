"""A duel as it is asked for, and a block of it as it is measured."""

from __future__ import annotations

import re
import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Self

from msgspec import Meta

from bench.backends import BACKENDS
from bench.schema.bounds import Count, Plain, Positive, Size, Text
from bench.schema.case import Case
from bench.schema.draws import Draws, EvenDraws, SeededDraws
from bench.schema.plan import RunSettings
from bench.schema.score import ACCURACY
from bench.schema.sizes import DUEL_ACCURACY_GATE, DUEL_ACCURACY_MARGIN, DUEL_GATE, MARGIN, Sizes
from fmnist_models.errors import UserError

DUEL_VERSION = 3
# Template processes of each side; each imports the framework by itself.
# docs/explanation/statistics.md says why three are enough.
TEMPLATES = 3

HERE = "here"
FORM = (
    "write here, or any of python=INTERPRETER, checkout=FOLDER@REVISION, backend=NAME and "
    "NAME=VALUE, with spaces between them"
)
_VARIABLE = re.compile(r"[A-Za-z_]\w*")


@dataclass(frozen=True, slots=True)
class Spec(Plain):
    """One side as the user names it; a field that is not given is as in the user's own set-up.

    Attributes:
        python: an interpreter, or the folder of a virtual environment.
        checkout: a folder that holds the user's model, or another checkout of this suite.
        revision: a revision of the Git repository that holds the checkout.
        backend: the backend of its cases, in place of theirs.
        variables: (name, value) of environment variables.
    """

    python: Text | None = None
    checkout: Text | None = None
    revision: Text | None = None
    backend: Text | None = None
    variables: tuple[tuple[Text, Text], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The side that `text` names, in the form that `FORM` states.

        Raises:
            UserError: `text` has another form, or names a thing twice.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UserError(f"side {text!r}: {error}; {FORM}") from error
        if not words:
            raise UserError(f"side {text!r}: {FORM}")
        spec = cls()
        given: set[str] = set()
        for word in words if words != [HERE] else ():
            name, equals, value = word.partition("=")
            if not equals or not _VARIABLE.fullmatch(name):
                raise UserError(f"side {text!r}: {word!r} is no setting; {FORM}")
            if name in given:
                raise UserError(f"side {text!r}: {name} is named twice")
            given.add(name)
            if name == "python":
                spec = replace(spec, python=_something(word, value))
            elif name == "backend":
                if value not in BACKENDS:
                    known = ", ".join(BACKENDS)
                    raise UserError(
                        f"side {text!r}: unknown backend {value!r}: choose from {known}"
                    )
                spec = replace(spec, backend=value)
            elif name == "checkout":
                folder, revision = _split(word, value)
                spec = replace(spec, checkout=folder, revision=revision)
            else:
                spec = replace(spec, variables=(*spec.variables, (name, value)))
        return spec

    def case_of(self, case: Case) -> Case:
        """The case as this side trains it."""
        return case if self.backend is None else replace(case, backend=self.backend)


def _something(word: str, value: str) -> str:
    if not value:
        raise UserError(f"{word!r} names nothing: is the shell variable after it set? {FORM}")
    return value


def _split(word: str, value: str) -> tuple[str, str | None]:
    """The folder and the revision of a checkout; either may contain the `@` between them."""
    _something(word, value)
    parts = value.split("@")
    ways = [("@".join(parts[:n]), "@".join(parts[n:])) for n in range(len(parts), 0, -1)]
    is_there = [way for way in ways if way[0] and Path(way[0]).is_dir()]
    # The longest folder that exists; else the most likely meaning, for the error message.
    folder, revision = (is_there or [*ways[1:2], *ways])[0]
    if len(folder) == len(value):
        return folder, None
    _something(word, folder)
    return folder, _something(word, revision)


@dataclass(frozen=True, slots=True)
class Block:
    """One block of a case, measured.

    Attributes:
        speed: log of B's time over A's, by `even_log` over the rounds measured in turns.
        scores: the score of A and that of B on the validation data; None where none was taken.
        name, better: the score's name and good direction.
        control: log of the control's time before B over its time before A, by `even_log`.
        failure: why the block gives no result; empty where it gives one.
    """

    speed: float
    scores: tuple[float, float] | None
    control: float
    failure: str = ""
    name: str = ACCURACY
    better: str = "max"


@dataclass(frozen=True, slots=True)
class DuelPlan:
    """What a duel is to measure.

    Attributes:
        a, b: the sides; B is judged.
        gate: the slow-down that must be ruled out, as a share.
        budget_s: no block begins after this many seconds; None for no limit.
        rows: how many training images are used, from the first on; None for all.
        margin: the slow-down that is tolerated, as a share.
        accuracy_gate: the change of the score for the worse that must be ruled out, as a share
            (`bench.schema.score.Scale`).
        templates: number of processes of each side that its launches are forked from.
        entropy: the seed of the orders and templates; empty until the duel begins, and in duels
            of earlier revisions, which drew them from the training seed.
    """

    a: Spec
    b: Spec
    cases: Annotated[tuple[Case, ...], Meta(min_length=1)]
    settings: RunSettings
    gate: Positive = DUEL_GATE
    budget_s: Size | None = None
    rows: Count | None = None
    command: Text = ""
    margin: Size = MARGIN
    accuracy_gate: Positive = DUEL_ACCURACY_GATE
    templates: Count = TEMPLATES
    entropy: Text = ""

    @property
    def sizes(self) -> Sizes:
        """What is tolerated, and what must be ruled out."""
        return Sizes(self.margin, self.gate, DUEL_ACCURACY_MARGIN, self.accuracy_gate)

    @property
    def draws(self) -> Draws:
        """The orders and templates of this duel."""
        if self.entropy:
            return EvenDraws(self.entropy, self.templates)
        return SeededDraws(self.settings.seed)

    def asks_the_same(self, other: DuelPlan) -> bool:
        """Whether both plans measure the same; draws, templates, time limit and command aside."""
        mine, yours = (
            replace(plan, budget_s=None, command="", entropy="", templates=TEMPLATES)
            for plan in (self, other)
        )
        return mine == yours

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return {"version": DUEL_VERSION, **asdict(self)}
