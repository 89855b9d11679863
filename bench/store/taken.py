"""Refuses to write a run where something else is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.schema.tries import TRY_COLUMNS
from bench.store.files import ENVIRONMENT, PAGE, PICTURE, Kind, refuse_unwritable, target_of
from fmnist_models.errors import UserError

# Files that a new run replaces, where the suite wrote them.
_REPLACED: Mapping[str, Kind] = {
    "environment.json": ENVIRONMENT,
    "find_batch.csv": Kind.table(TRY_COLUMNS),
    "comparison.png": PICTURE,
    "roofline.png": PICTURE,
    "report.html": PAGE,
}


def refuse_taken(path: Path) -> None:
    """Refuse a folder in which a new run would replace other files.

    Raises:
        UserError: the folder holds a run, or a file with the name of a run's file that the suite
            did not write, or it cannot be created or written.
    """
    refuse_unwritable(path, "--output")
    if (path / "plan.json").exists():
        raise UserError(
            f"{path} already holds a run: name another --output, or finish it with --resume {path}"
        )
    for name in ("rounds.csv", "launches.jsonl", "results.csv", "profile.csv", "duel.json"):
        # A run writes none of these before its plan.json; the last two it never writes.
        if (path / name).exists():
            raise UserError(f"{path} holds {name} but no plan.json: name another --output")
    for name, kind in _REPLACED.items():
        target_of(path / name, kind)
