"""The command `fmnist-bench`: starts the suite that lies beside this file.

The suite's packages have names that a user's folder may have too, such as `bench`, and PYTHONPATH
comes before what is installed. This module's name is its own, and it knows where its suite is.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path


def main() -> None:
    """The console script."""
    folder = Path(__file__).resolve().parent
    start = folder / "bench" / "launch" / "child.py"
    if not (start.is_file() and (folder / "fmnist_models" / "__init__.py").is_file()):
        sys.stderr.write(f"fmnist-bench: error: install fmnist-bench again: {folder} lacks files\n")
        sys.exit(2)
    sys.argv[:1] = [str(start), str(folder), "bench"]
    runpy.run_path(str(start), run_name="__main__")
