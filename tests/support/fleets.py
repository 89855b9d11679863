"""Made folders of fleets, of nodes that do not exist."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.schema.plan import Plan, RunSettings
from bench.store.fleet_folder import FleetFolder
from support.stored import CASES, stored

NODES = ("ant", "bee", "cat", "dog", "eel", "fox")
QUICK = RunSettings(epochs=2, launches=2)


def fleet(
    path: Path,
    day: int,
    *,
    nodes: Sequence[str] = NODES,
    of: Mapping[str, Mapping[str, Any]] | None = None,
    settings: RunSettings = QUICK,
    noise: float = 0.002,
) -> Path:
    """A fleet's folder whose nodes were all measured on one day.

    Args:
        path: the folder, made here.
        day: of the month; and the seed of the times.
        nodes: their names.
        of: by node, arguments of `stored` that differ there.
        settings: of the plan.
        noise: scatter of the launches.
    """
    folder = FleetFolder(path, Plan(CASES, settings))
    path.mkdir(parents=True, exist_ok=True)
    folder.open()
    for number, name in enumerate(nodes):
        own = {"settings": settings, "noise": noise, **(of or {}).get(name, {})}
        began = {"time_utc": f"2026-03-{day:02d}T12:00:00+00:00"}
        stored(folder.of_node(name), 100 * day + number, **{**began, **own})
    return path


def fleets(path: Path, days: int = 3, **words: Any) -> Path:
    """A folder that holds one fleet for each of so many days."""
    for day in range(1, days + 1):
        fleet(path / f"day{day}", day, **words)
    return path
