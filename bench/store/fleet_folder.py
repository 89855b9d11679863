"""The folder of a fleet: an ordinary run folder for each node, fed from afar."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Self
from urllib.parse import quote, unquote

from bench.schema.errors import explained
from bench.schema.fleet import Asked
from bench.schema.plan import PLAN_VERSION, Plan
from bench.store.files import refuse_unwritable, write_bytes
from bench.store.reader import kind_of, read_json
from bench.store.run_folder import refuse_absent
from bench.store.tables import write_json
from fmnist_models.errors import UserError

NODES, _PLAN, _ASKED = "nodes", "fleet.json", "nodes.json"
# Files that only grow: of them what is new is sent and appended.
_GROWING = ("rounds.csv", "launches.jsonl")
_WHOLE = ("plan.json", "environment.json", "results.csv", "proof.json")
_KEPT = (*_GROWING, *_WHOLE)


class FleetFolder:
    """The folder of a fleet at home, which `open` makes.

    Args:
        path: the folder.
        plan: what each node is to measure.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan

    @staticmethod
    def refuse_taken(path: Path) -> None:
        """Refuse a folder in which a new fleet would replace something.

        Raises:
            UserError: it cannot be written, or holds something already.
        """
        refuse_unwritable(path, "--output")
        if is_fleet(path):
            raise UserError(
                f"{path} already holds a fleet's runs: name another --output, or finish them with "
                f"--resume {path}"
            )
        if kind_of(path) == "folder" and any(path.iterdir()):
            raise UserError(f"{path} is not empty: name another --output")

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
        return cls(path, found[0])

    def open(self) -> None:
        """Write the plan where it is new.

        Raises:
            UserError: the folder cannot be written.
        """
        with explained(self.path):
            if not is_fleet(self.path):
                write_json(self.path / _PLAN, self.plan.to_json())

    def note(self, *changed: Asked) -> None:
        """Note that nodes are to measure, or how that ended.

        Raises:
            UserError: the folder cannot be written.
        """
        every = {each.node.name: each for each in (*asked_nodes(self.path), *changed)}
        with explained(self.path):
            write_json(self.path / _ASKED, [asdict(each) for each in every.values()])

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
            for each, (place, content) in files.items():
                file = folder / each
                file.parent.mkdir(parents=True, exist_ok=True)
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


def asked_nodes(path: Path) -> tuple[Asked, ...]:
    """The nodes that were to measure, in the order in which they were found.

    Raises:
        UserError: the list cannot be read.
    """
    found = read_json(path / _ASKED, tuple[Asked, ...])
    return found[0] if found else ()


def is_run(path: Path) -> bool:
    """Whether a folder is that of one run, such as one across the nodes of a fleet."""
    return kind_of(path / "plan.json") == "file"


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

    Of files that only grow, what was added; others whole where they have another content than at
    the last time. Logs are those that a failed launch left.
    """
    found: dict[str, tuple[int, bytes]] = {}
    for name in _GROWING:
        place = sent.get(name, 0)
        with contextlib.suppress(FileNotFoundError), (folder / name).open("rb") as lines:
            lines.seek(place)
            if added := lines.read():
                found[name] = (place, added)
                sent[name] = place + len(added)
    logs = sorted(folder.glob("logs/*.log"))
    for name in (*_WHOLE, *(f"logs/{log.name}" for log in logs)):
        with contextlib.suppress(FileNotFoundError):
            content = (folder / name).read_bytes()
            if sent.get(name) != hash(content):
                found[name] = (0, content)
                sent[name] = hash(content)
    return found
