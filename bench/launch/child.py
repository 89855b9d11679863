"""Starts a module of the suite: `python -P child.py SUITE MODULE ARGUMENT...`, as `-m` would;
or a file that is to run beside it, where MODULE ends with `.py`.

Python's own `-m` takes the first package `bench` that the working folder or PYTHONPATH holds,
whoever wrote it. Here the suite's two packages are imported from the folder SUITE before anything
else is looked up, and from then on Python finds their modules there. The path itself is left as the
user's interpreter made it. `bench.launch.origin` writes this command; any interpreter and any
revision of the suite can be started with it.
"""

from __future__ import annotations

import os
import runpy
import sys

# In place of SUITE: the suite that this interpreter has installed.
INSTALLED = "installed"


def main() -> None:
    """Import the packages from where they are wanted, then run the module."""
    _, suite, module, *arguments = sys.argv
    path = list(sys.path)
    sys.path[:] = _without_pythonpath(path) if suite == INSTALLED else [suite, *path]
    try:
        _import_packages()
    except ModuleNotFoundError:
        # Installed into a folder that only PYTHONPATH names.
        sys.path[:] = path
        _import_packages()
    finally:
        sys.path[:] = path
    sys.argv[1:] = arguments
    if module.endswith(".py"):
        runpy.run_path(module, run_name="__main__")
    else:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


def _import_packages() -> None:
    import bench  # noqa: F401
    import fmnist_models  # noqa: F401 - what counts is that Python knows them


def _without_pythonpath(path: list[str]) -> list[str]:
    named = os.environ.get("PYTHONPATH")
    taken_out = {os.path.realpath(entry) for entry in named.split(os.pathsep)} if named else set()
    return [entry for entry in path if os.path.realpath(entry) not in taken_out]


if __name__ == "__main__":
    main()
