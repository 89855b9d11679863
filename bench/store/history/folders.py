"""The folders of runs that a user names, whatever holds them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from bench.store.fleet_folder import is_fleet, node_runs
from bench.store.measured import is_run, run_folders
from bench.store.reader import kind_of
from fmnist_models.errors import UserError


def named_runs(path: Path) -> Iterator[tuple[Path, str | None]]:
    """Each run in a folder: of a run itself, of a folder of runs, or of a fleet.

    Yields:
        the folder of a run, and the name of its machine where the folder tells that: of a fleet,
        the name of the node.

    Raises:
        UserError: there is no such folder, or it holds no run.
    """
    if is_fleet(path):
        found: list[tuple[Path, str | None]] = [
            (folder, name) for name, folder in node_runs(path).items() if is_run(folder)
        ]
    elif kind_of(path) != "folder" or is_run(path):
        found = [(path, None)]
    else:
        found = [(folder, None) for folder in run_folders(path)]
    if not found:
        raise UserError(f"{path} holds no run: name the folder of a run, or of several")
    yield from found
