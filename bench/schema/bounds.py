"""What a value of a file or a message may be: bounded types, and the one check of them.

The annotations of a dataclass are its schema. msgspec checks them: it takes plain dataclasses
and names the wrong field. For 45,000 rounds msgspec 0.22.0 took 0.05 s, and 0.04 s to import;
pydantic 2.14.4 took 0.11 s and 0.23 s. msgspec is one package, pydantic five.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any, ClassVar, Self, TypeVar

import msgspec
from msgspec import Meta

from bench.schema.earlier import in_present_names

_T = TypeVar("_T")
# Limits of a run's options, and of what its plan may say.
MOST_EPOCHS, MOST_LAUNCHES, MOST_SECONDS, MOST_STEPS = 100_000, 1_000, 1e9, 10**9
_MOST_TEXT = 100_000
_MOST_COUNT = 10**15
# The largest float is 1.8e308; sums of values that were read must stay below it.
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
# Not bounded: a training that diverges has a loss of NaN or infinity, and the row says so.
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
    """A value has the wrong type or is out of bounds; the message is one line.

    Attributes:
        path: field names and list indices that lead to the value; empty for the whole input.
        shown: the value, shortened.
        wanted: what it must be, as the end of a sentence.
    """

    def __init__(self, path: Sequence[str | int], shown: str, wanted: str) -> None:
        self.path, self.shown, self.wanted = tuple(path), shown, wanted
        where = joined(self.path)
        super().__init__(f"{where}: {shown} {wanted}" if where else f"{shown} {wanted}")


class Plain:
    """Base of a dataclass that is converted to plain JSON values and back."""

    __slots__ = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The record that `to_json` wrote, of this version or an earlier one.

        Fields of a later version are ignored.

        Raises:
            ValueError: a field is missing or out of bounds; the message names it.
        """
        return checked(in_present_names(values), cls)


def checked(values: Any, kind: type[_T], *, cells: bool = False) -> _T:
    """`values` converted to `kind`, a dataclass or a generic type of dataclasses.

    Fields that `kind` does not have are taken for those of a later version, and are ignored.

    Args:
        values: plain JSON values, or cells by column.
        kind: the type to convert to.
        cells: numbers and truth values are written as text, as in a table.

    Raises:
        Misfit: a value is of another type or outside its bounds; the message names it.
        UserError: a field of a case holds an unknown value, such as an unknown model.
    """
    try:
        return msgspec.convert(values, kind, strict=not cells)
    except msgspec.ValidationError as error:
        raise _misfit(str(error), values) from None
    except RecursionError:
        raise Misfit((), "it", "is nested too deeply") from None


def joined(path: Sequence[str | int]) -> str:
    """A path as text, such as `cases[3].model`."""
    text = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in path)
    return text.removeprefix(".")


def shortened(value: Any) -> str:
    """A value as ASCII text on one line, of at most 60 characters and an ellipsis."""
    if isinstance(value, Mapping):
        return "a JSON object"
    if isinstance(value, list | tuple):
        return "a JSON list"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, int):
        # Python refuses to convert an integer of thousands of digits to text.
        return str(value) if abs(value) < 10**40 else "a number of more than 40 digits"
    # ASCII, because a damaged value may be text that a terminal cannot print.
    text = ascii(value if not isinstance(value, str) else value[: _SHOWN + 1])
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _misfit(message: str, values: Any) -> Misfit:
    """The message of msgspec in the words of this suite, with the value that is wrong."""
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
    """The first value of a mapping that breaks the limit in `said`.

    Msgspec does not name the key, so the value is searched for.

    Raises:
        KeyError: none breaks it, or `said` holds no limit.
    """
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
        return shortened(value), "is not a known value"
    if expected := re.match(r"Expected `([^`]*)`(?: of length)?( [<>]=? [\d.e+-]+)?", said):
        kinds = [_KINDS.get(word, word) for word in expected.group(1).split(" | ")]
        kinds = [word for word in kinds if word != "nothing"]
        limit = (expected.group(2) or "").removesuffix(".0")
        length = "of length" if " of length" in said else ""
        wanted = " ".join(filter(None, (" or ".join(kinds), length, limit.strip())))
        return shortened(value), f"must be {wanted}"
    return shortened(value), f"cannot be: {said}"
