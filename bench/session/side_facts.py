"""Run by a side's own interpreter, with the suite of that side: what its environment.json holds.

Prints one line of JSON, the last one: where `bench` came from, and the facts. A file rather than a
module of the suite, for a side's suite may be an earlier revision, which has none.
"""

from __future__ import annotations

import importlib
import json
import sys
from typing import Any

import bench


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"bench.machine.{name}")
    except ModuleNotFoundError:
        # A revision from before there were packages.
        return importlib.import_module(f"bench.{name}")


if __name__ == "__main__":
    label, digest = sys.argv[1:]
    facts = _module("environment").collect(
        label=label, dataset_digest=digest, inventory=_module("devices").inventory()
    )
    sys.stdout.write(json.dumps({"bench": bench.__file__, "facts": facts}) + "\n")
