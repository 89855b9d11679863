"""The way back from the id of a case to its fields."""

from __future__ import annotations

import re

from bench.backends import BACKENDS
from bench.schema.case import NETWORK_LOOPS, PRECISIONS, Case, logistic_case
from fmnist_models.errors import UserError

_ID = re.compile(
    rf"(?P<what>.+)-(?P<loop>{'|'.join(NETWORK_LOOPS)})-(?P<device>cpu|gpu(?::\d+)?)"
    rf"-b(?P<batch_size>\d{{1,15}})-(?P<precision>{'|'.join(PRECISIONS)})"
    rf"(?:-t(?P<threads>\d{{1,4}}))?(?:-(?P<backend>{'|'.join(BACKENDS)}))?"
    r"(?:-r(?P<replicas>\d{1,4}))?(?:-p(?P<processes>\d{1,4}))?",
    re.DOTALL,
)
_NUMBERS = ("batch_size", "threads", "replicas", "processes")


def case_of(name: str) -> Case | None:
    """The case with this id; None where no case has it, such as of another version of the suite."""
    if name == logistic_case().id:
        return logistic_case()
    match = _ID.fullmatch(name)
    if match is None:
        return None
    given = {field: value for field, value in match.groupdict().items() if value is not None}
    parts = given.pop("what").split("-")
    axes = {f: int(value) if f in _NUMBERS else value for f, value in given.items()}
    # The name of a file may hold a hyphen.
    for place in range(1, len(parts)):
        try:
            case = Case("-".join(parts[:place]), "-".join(parts[place:]), **axes)  # type: ignore[arg-type]
        except UserError:
            continue
        if case.id == name:
            return case
    return None
