"""The folder of a fleet: an ordinary run folder for each node, fed from afar."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.schema.errors import explained
from bench.store.files import write_bytes

NODES = "nodes"
# Files that only grow: of them what is new is sent and appended.
_GROWING = ("rounds.csv", "launches.jsonl")
_KEPT = (*_GROWING, "plan.json", "environment.json", "results.csv")


class FleetFolder:
    """The folder of a fleet at home.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def of_node(self, name: str) -> Path:
        """The run folder of a node."""
        return self.path / NODES / name

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
