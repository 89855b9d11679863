"""The folder of a bisection: what was found is appended at once, and never changed afterwards.

bisect.json      the two commits, the case and the settings, for resuming
trials.jsonl     a line for each finished trial
setups.jsonl     a line for each checkout in which the user's command has ended
checkouts/       unpacked commits
environments/    the virtual environment of each checkout, where there is a command
trials/          the folder of each trial, as that of a duel
logs/            what the user's commands printed
data/            the first images, where only these are trained on
verdict.json     the report
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, Self

from bench.schema.bisect import BISECT_VERSION, BisectPlan, SetUp, Trial
from bench.schema.bounds import Plain
from bench.schema.errors import ELSEWHERE, explained
from bench.store.files import refuse_unwritable
from bench.store.reader import COPY, read_json, read_json_lines
from bench.store.tables import cut_half_line, encoded, write_json
from fmnist_models.errors import UserError

_PLAN, TRIALS, _SETUPS = "bisect.json", "trials.jsonl", "setups.jsonl"
_FOLDERS = ("checkouts", "environments", "trials", "logs")
_WRITTEN = (*_FOLDERS, TRIALS, _SETUPS, "data", "verdict.json")


class BisectFolder:
    """One folder of a bisection, being written.

    Args:
        path: the folder, which must exist.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.checkouts, self.environments, self.duels, self.logs = (
            path / name for name in _FOLDERS
        )

    @classmethod
    def create(cls, path: Path, plan: BisectPlan) -> Self:
        """Create the folder of a new bisection.

        Raises:
            UserError: it cannot be written.
        """
        with explained(path, ELSEWHERE):
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / _PLAN, plan.to_json())
        return cls.opened(path)

    @classmethod
    def opened(cls, path: Path) -> Self:
        """Open the folder to go on; half-written last lines are cut off."""
        folder = cls(path)
        with explained(path):
            for name in (TRIALS, _SETUPS):
                cut_half_line(path / name)
            for below in (folder.checkouts, folder.environments, folder.duels, folder.logs):
                below.mkdir(exist_ok=True)
        return folder

    def trials(self) -> list[Trial]:
        """The finished trials, in order.

        Raises:
            UserError: a line cannot be read; the message names it.
        """
        return read_json_lines(self.path / TRIALS, Trial, COPY)

    def setups(self) -> dict[str, SetUp]:
        """How the user's command ended, by commit; as `trials`."""
        found = read_json_lines(self.path / _SETUPS, SetUp, COPY)
        return {one.commit: one for one in found}

    def keep_trial(self, trial: Trial) -> None:
        """Append a finished trial."""
        self._append(TRIALS, trial)

    def keep_setup(self, setup: SetUp) -> None:
        """Append how the user's command ended in a checkout."""
        self._append(_SETUPS, setup)

    def write_verdict(self, values: dict[str, Any]) -> None:
        """Replace verdict.json in one move."""
        with explained(self.path):
            write_json(self.path / "verdict.json", values)

    def _append(self, name: str, record: Plain) -> None:
        line = json.dumps(record.to_json(), ensure_ascii=False) + "\n"
        with explained(self.path), (self.path / name).open("ab") as out:
            out.write(encoded(line))
            out.flush()
            os.fsync(out.fileno())


def plan_of(path: Path) -> BisectPlan:
    """The plan of the bisection in a folder.

    Raises:
        UserError: the folder holds no bisection, or its plan cannot be read.
    """
    found = read_json(path / _PLAN, BisectPlan, newest=BISECT_VERSION)
    if found is None:
        raise UserError(
            f"{path} holds no bisection to resume: {_PLAN} is missing; name a bisection's folder"
        )
    return found[0]


def refuse_taken(path: Path) -> None:
    """Refuse the folder of another bisection, or one with files of its names.

    Raises:
        UserError: such a file is there.
    """
    refuse_unwritable(path, "--output")
    if (path / _PLAN).exists():
        raise UserError(
            f"{path} already holds a bisection: name another --output, or finish it with "
            f"fmnist-bench bisect --resume {path}"
        )
    for name in _WRITTEN:
        if os.path.lexists(path / name):
            raise UserError(
                f"{path / name} is there already and belongs to no bisection: name another --output"
            )
