"""Prints the facts of a side's environment.json; run by its interpreter with the side's suite.

The arguments are the label, the digest of the images, and packages whose versions are told too.
The last line is JSON: the path of `bench`, and the facts. This file is run by its path, because
the side's suite may be an earlier revision, which does not have this module.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import json
import sys
from typing import Any

import bench


def _module(name: str) -> Any:
    try:
        return importlib.import_module(f"bench.machine.{name}")
    except ModuleNotFoundError:
        # An early revision, in which `bench` had no packages.
        return importlib.import_module(f"bench.{name}")


if __name__ == "__main__":
    label, digest, *packages = sys.argv[1:]
    facts = _module("environment").collect(
        label=label, dataset_digest=digest, inventory=_module("devices").inventory()
    )
    for package in packages:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            facts["versions"][package] = importlib.metadata.version(package)
    sys.stdout.write(json.dumps({"bench": bench.__file__, "facts": facts}) + "\n")
