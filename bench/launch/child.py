"""Starts a module of the suite as `-m` would: `python -P child.py SUITE MODULE ARGUMENT...`.

Where MODULE ends with `.py`, it starts that file, with the suite importable.

Python's own `-m` takes the first package `bench` in the working folder or in PYTHONPATH, which
may be another one. This module imports the suite's two packages from the folder SUITE first, so
Python finds all their modules there. Afterwards `sys.path` is as the user's interpreter made it.
`bench.launch.origin` writes this command, for any interpreter and any revision of the suite.
"""

from __future__ import annotations

import os
import runpy
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# In place of SUITE: take the suite that is installed for this interpreter.
INSTALLED = "installed"


def main() -> None:
    """Import the suite's packages from SUITE, then run the module."""
    _, suite, module, *arguments = sys.argv
    path = list(sys.path)
    sys.path[:] = _without_pythonpath(path) if suite == INSTALLED else [suite, *path]
    try:
        _import_packages()
    except ModuleNotFoundError:
        # The suite is installed in a folder that only PYTHONPATH names.
        sys.path[:] = path
        _import_packages()
    finally:
        sys.path[:] = path
    sys.meta_path.insert(0, _Suite)
    sys.argv[1:] = arguments
    if module.endswith(".py"):
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


class _Suite:
    """Finds modules of the suite's packages in these packages alone.

    An editable install of the suite has a finder of its own, which would complete a package of an
    earlier revision with modules that only the installed revision has.
    """

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The module's file in its package; None for packages that are not the suite's.

        Raises:
            ModuleNotFoundError: a package of the suite has no such module.
        """
        if path is None or name.partition(".")[0] not in ("bench", "fmnist_models"):
            return None
        found = PathFinder.find_spec(name, path, target)
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return found


def _import_packages() -> None:
    import bench  # noqa: F401
    import fmnist_models  # noqa: F401 - only to have both in sys.modules


def _without_pythonpath(path: list[str]) -> list[str]:
    named = os.environ.get("PYTHONPATH")
    taken_out = {os.path.realpath(entry) for entry in named.split(os.pathsep)} if named else set()
    return [entry for entry in path if os.path.realpath(entry) not in taken_out]


if __name__ == "__main__":
    main()
