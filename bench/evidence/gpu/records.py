"""The records of GPU evidence: one JSON line each, on disk as soon as it is measured."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from fmnist_models.errors import UserError

REHEARSAL = "rehearsal, no GPU"


class Result(StrEnum):
    """How a part ended.

    With a fault put in, a check that fails is `FOUND`, and one that passes is `MISSED`.
    """

    PASSED = "passed"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"
    SKIPPED = "skipped"
    DID_NOT_FIT = "did not fit"
    FOUND = "fault found"
    MISSED = "fault missed"


# With one of these the evidence does not hold.
BAD = (Result.FAILED, Result.MISSED)


class TooShort(UserError):
    """The time was too short to measure what a check needs; it proves nothing either way."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check says about the values of a part.

    Attributes:
        result: `PASSED`, `FAILED`, `NOT_APPLICABLE`, `SKIPPED` or `DID_NOT_FIT`.
        words: the finding, in one sentence.
    """

    result: Result
    words: str


@dataclass(frozen=True, slots=True)
class Record:
    """One part on one backend.

    Attributes:
        label: the GPU's name, or that this is a rehearsal.
        part: name of the part.
        backend: the framework.
        fault: the fault that was put in, in words; empty where none was.
        result, words: what the check says.
        seconds: how long the part took.
        values: what was measured; what the check read.
    """

    label: str
    part: str
    backend: str
    fault: str
    result: Result
    words: str
    seconds: float
    values: Mapping[str, Any] = field(default_factory=dict)


def judged(outcome: Outcome, fault: str) -> Outcome:
    """What a check's outcome means for the evidence, where `fault` was put in on purpose."""
    if not fault or outcome.result not in (Result.PASSED, Result.FAILED):
        return outcome
    if outcome.result is Result.FAILED:
        return Outcome(Result.FOUND, f"check failed as it must: {outcome.words}")
    return Outcome(Result.MISSED, f"check passed, though the fault was put in: {outcome.words}")


class Records:
    """The records of one folder.

    Args:
        folder: the folder.
        label: the GPU's name, or `REHEARSAL`.

    Attributes:
        all: the records so far.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self._file = folder / name_of("records.jsonl", label)
        self.label = label
        self.all: list[Record] = []

    def add(self, record: Record) -> None:
        """Keep a record, and return when it is on disk."""
        self.all.append(record)
        with self._file.open("a", encoding="utf-8") as out:
            out.write(json.dumps(asdict(record)) + "\n")
            out.flush()
            os.fsync(out.fileno())


def name_of(file: str, label: str) -> str:
    """The name of a file of evidence, which says where it is of a rehearsal."""
    return f"rehearsal-no-gpu-{file}" if label == REHEARSAL else file


def records_of(text: str) -> list[Record]:
    """The records in the text of a file; an unfinished last line is left out.

    Raises:
        ValueError, TypeError, KeyError: a line is no record.
    """
    found = []
    for line in text.rpartition("\n")[0].splitlines():
        told = json.loads(line)
        found.append(Record(**{**told, "result": Result(told["result"])}))
    return found
