"""What a value of a file or a message may be: bounded types, and the one check that they hold.

The annotations of a dataclass are its schema. msgspec checks them: it takes plain dataclasses as
they are, and names the field. Of 45,000 rounds it took 0.05 s (0.22.0) and its import 0.04 s, where
pydantic (2.14.4) took 0.11 s and 0.23 s, and it is one package where that is five.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import Meta

_T = TypeVar("_T")
# Of a run: what its options take, and what its plan may say.
MOST_EPOCHS, MOST_LAUNCHES, MOST_SECONDS = 100_000, 1_000, 1e9
_MOST_TEXT = 100_000
_MOST_COUNT = 10**15
# A float's own limit is 1.8e308; sums of what is read must stay below it.
_MOST = 1e200

# An id, a name: never empty.
Word = Annotated[str, Meta(min_length=1, max_length=4096)]
Text = Annotated[str, Meta(max_length=_MOST_TEXT)]
Number = Annotated[int, Meta(ge=0, le=_MOST_COUNT)]
Count = Annotated[int, Meta(ge=1, le=_MOST_COUNT)]
Whole = Annotated[int, Meta(ge=-_MOST_COUNT, le=_MOST_COUNT)]
Size = Annotated[float, Meta(ge=0, le=_MOST)]
Positive = Annotated[float, Meta(gt=0, le=_MOST)]
Share = Annotated[float, Meta(ge=0, le=1)]
Finite = Annotated[float, Meta(ge=-_MOST, le=_MOST)]
Epochs = Annotated[int, Meta(ge=1, le=MOST_EPOCHS)]
Launches = Annotated[int, Meta(ge=1, le=MOST_LAUNCHES)]
Seconds = Annotated[float, Meta(gt=0, le=MOST_SECONDS)]
# A training that diverges has a loss that is no number, and the row says so.
Loss = float

_KINDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "null": "nothing",
    "object": "a JSON object",
    "array": "a JSON list",
}
_PATH = re.compile(r" - at `(?:key in )?\$(.*)`$", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_LIMITS = {">": "gt", ">=": "ge", "<": "lt", "<=": "le"}
_SHOWN = 60


class Misfit(ValueError):
    """A value that is not what it must be; the message is one line.

    Attributes:
        path: names and places that lead to it, empty for the whole.
        shown: the value, shortened.
        wanted: what it must be, as the end of a sentence.
    """

    def __init__(self, path: Sequence[str | int], shown: str, wanted: str) -> None:
        self.path, self.shown, self.wanted = tuple(path), shown, wanted
        where = joined(self.path)
        super().__init__(f"{where}: {shown} {wanted}" if where else f"{shown} {wanted}")


class Plain:
    """A record, a dataclass, that travels as plain JSON values."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote; fields of a later version are ignored.

        Raises:
            ValueError: a field is missing or out of bounds; it is named.
        """
        return checked(values, cls)


def checked(values: Any, kind: type[_T], *, cells: bool = False) -> _T:
    """`values`, plain JSON values, as a `kind`: a dataclass, or a generic type of such.

    Fields that `kind` does not know are those of a later version, and are ignored.

    Args:
        values: what `json` gave, or cells by column.
        kind: what they must be.
        cells: text stands for numbers and truth values, as in a table.

    Raises:
        Misfit: a value is of another type or outside its bounds; it is named.
        UserError: a field holds a value that its axis does not know.
    """
    try:
        return msgspec.convert(values, kind, strict=not cells)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), values) from None
    except RecursionError:
        raise Misfit((), "it", "is nested too deeply") from None


def joined(path: Sequence[str | int]) -> str:
    """The way to a value as a person reads it: `cases[3].model`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def shortened(value: Any) -> str:
    """A value on one line, of a length that a person reads."""
    if isinstance(value, Mapping):
        return "a JSON object"
    if isinstance(value, list | tuple):
        return "a JSON list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        # Python refuses to write a whole number of thousands of digits.
        return str(value) if abs(value) < 10**40 else "a number of more than 40 digits"
    # ASCII, for what is broken may be text that no screen takes.
    text = ascii(value if not isinstance(value, str) else value[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _misfit(message: str, values: Any) -> Misfit:
    """What msgspec says, in the words of this suite, with the value that it is about."""
    found = _PATH.search(message)
    path: list[str | int] = []
    for name, place in _STEP.findall(found.group(1)) if found else ():
        path.append(name or (int(place) if place.isdigit() else "*"))
    said = _PATH.sub("", message)
    value: Any = values
    for step in path:
        try:
            value = _first_unfit(value, said) if step == "*" else value[step]
        except (KeyError, IndexError, TypeError):
            return Misfit(path, "a value", _told(said, None)[1])
    return Misfit(path, *_told(said, value))


def _first_unfit(values: Mapping[str, Any], said: str) -> Any:
    """Msgspec does not name the key of a table, so the value is looked for."""
    limits = re.search(r"([<>]=?) ([\d.e+-]+)$", said)
    for value in values.values():
        if not isinstance(value, int | float) or limits is None:
            continue
        kind = Annotated[float, Meta(**{_LIMITS[limits.group(1)]: float(limits.group(2))})]
        try:
            msgspec.convert(value, kind)
        except msgspec.ValidationError:
            return value
    raise KeyError(said)


def _told(said: str, value: Any) -> tuple[str, str]:
    if missing := re.fullmatch(r"Object missing required field `(.*)`", said):
        return f"the field {missing.group(1)}", "is missing"
    if said.startswith("Invalid enum value"):
        return shortened(value), "is none of the values that are known here"
    if expected := re.match(r"Expected `([^`]*)`(?: of length)?( [<>]=? [\d.e+-]+)?", said):
        kinds = [_KINDS.get(word, word) for word in expected.group(1).split(" | ")]
        kinds = [word for word in kinds if word != "nothing"]
        limit = (expected.group(2) or "").removesuffix(".0")
        length = "of length" if " of length" in said else ""
        wanted = " ".join(filter(None, (" or ".join(kinds), length, limit.strip())))
        return shortened(value), f"must be {wanted}"
    return shortened(value), f"cannot be: {said}"
