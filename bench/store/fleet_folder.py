"""The folder of a fleet: an ordinary run folder for each node, fed from afar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from bench.schema.errors import explained
from bench.schema.plan import PLAN_VERSION, Plan
from bench.store.files import refuse_unwritable, write_bytes
from bench.store.reader import kind_of, read_json
from bench.store.run_folder import refuse_absent
from bench.store.tables import write_json
from fmnist_models.errors import UserError

NODES, _PLAN = "nodes", "fleet.json"
# Files that only grow: of them what is new is sent and appended.
_GROWING = ("rounds.csv", "launches.jsonl")
_KEPT = (*_GROWING, "plan.json", "environment.json", "results.csv")


class FleetFolder:
    """The folder of a fleet at home.

    Args:
        path: the folder.
        plan: what each node is to measure.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan

    @classmethod
    def create(cls, path: Path, plan: Plan) -> Self:
        """A new folder, with the plan.

        Raises:
            UserError: it cannot be written, or holds something already.
        """
        refuse_unwritable(path, "--output")
        if any(path.iterdir() if path.exists() else ()):
            raise UserError(f"{path} is not empty: name another --output, or --resume {path}")
        with explained(path):
            path.mkdir(parents=True, exist_ok=True)
            write_json(path / _PLAN, plan.to_json())
        return cls(path, plan)

    @classmethod
    def resume(cls, path: Path) -> Self:
        """The folder of a fleet that did not end.

        Raises:
            UserError: there is none, or its plan cannot be read.
        """
        found = read_json(path / _PLAN, Plan, newest=PLAN_VERSION)
        if found is None:
            refuse_absent(path)
            raise UserError(f"{path} holds no fleet to resume: it has no {_PLAN}")
        plan = found[0]
        return cls(path, plan)

    def of_node(self, name: str) -> Path:
        """The run folder of a node."""
        return self.path / NODES / _as_file_name(name)

    def held(self, name: str) -> dict[str, bytes]:
        """The files of a node's run so far; none where it has not begun."""
        folder = self.of_node(name)
        if not (folder / "plan.json").exists():
            return {}
        return {each: (folder / each).read_bytes() for each in _KEPT if (folder / each).exists()}

    def keep(self, name: str, files: Mapping[str, tuple[int, bytes]]) -> None:
        """Write what is new of a node's run.

        Raises:
            UserError: the disk is full, or the folder cannot be written.
        """
        folder = self.of_node(name)
        with explained(self.path):
            folder.mkdir(parents=True, exist_ok=True)
            for each, (place, content) in files.items():
                file = folder / each
                if place == 0:
                    write_bytes(file, content)
                    continue
                with file.open("r+b") as lines:
                    lines.truncate(place)
                    lines.seek(place)
                    lines.write(content)


def is_fleet(path: Path) -> bool:
    """Whether a folder is that of a fleet."""
    return kind_of(path / _PLAN) == "file"


def node_runs(path: Path) -> dict[str, Path]:
    """The run folders in a fleet's folder by the names of their nodes, in their order.

    Raises:
        UserError: it is no folder of a fleet.
    """
    if not is_fleet(path):
        refuse_absent(path)
        raise UserError(f"{path} is no folder of fleet run: it has no {_PLAN}")
    with explained(path):
        folders = sorted((path / NODES).iterdir()) if (path / NODES).exists() else []
    return {unquote(each.name): each for each in folders if each.is_dir()}


def _as_file_name(name: str) -> str:
    """The name as a file system takes it: any but letters, digits, `-`, `_` and a dot inside.

    Letters are those of any script. `unquote` gives the name back.
    """
    kept = "".join(c if c.isalnum() or c in "-_." else quote(c, safe="") for c in name)
    return f"%2E{kept[1:]}" if kept.startswith(".") else kept


def seed(folder: Path, held: Mapping[str, bytes]) -> None:
    """Write the files of a run that is to go on in `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in held.items():
        write_bytes(folder / name, content)


def news(folder: Path, sent: dict[str, int]) -> dict[str, tuple[int, bytes]]:
    """What is new in a run folder since `sent`, which is brought up to date.

    Of files that only grow, what was added; others whole where they have another length or content
    than at the last time.
    """
    found: dict[str, tuple[int, bytes]] = {}
    for name in _KEPT:
        file = folder / name
        if not file.exists():
            continue
        content = file.read_bytes()
        if name in _GROWING:
            place = sent.get(name, 0)
            if len(content) > place:
                found[name] = (place, content[place:])
            sent[name] = len(content)
        elif sent.get(name) != hash(content):
            found[name] = (0, content)
            sent[name] = hash(content)
    return found
