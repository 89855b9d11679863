"""Which files a process runs: the modules that it imported, with their digests.

Only workers use this module. The standard library and what is installed are left out, for
environment.json holds their versions; the suite's own packages and the user's model are named
wherever they lie.
"""

from __future__ import annotations

import hashlib
import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

CHECKOUT = Path(__file__).resolve().parents[2]

SUITE_PACKAGES = ("bench", "fmnist_models")
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_STANDARD = tuple(
    f"{way(sysconfig.get_path(name))}{os.sep}"
    for name in ("stdlib", "platstdlib")
    for way in (os.path.normpath, os.path.realpath)
)


# What TensorFlow makes of a `tf.function` of the user's, under another name each time; the file
# that it was made of is listed.
_GENERATED = "__autograph_generated_file"


def loaded_files(models: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """The path and the SHA-256 digest of each module that this process imported, by its name.

    Args:
        models: as cases name them; of a `module:function` the module's package is named too where
            it is installed, and the module that defines the function.
    """
    named = {*SUITE_PACKAGES, *_holders(models)}
    below = tuple(f"{package}." for package in named)
    found = {}
    for known_as, module in list(sys.modules.items()):
        name = _name(known_as, module)
        path = _path(module)
        if name.startswith(_GENERATED):
            continue
        if path and (name in named or name.startswith(below) or not _is_installed(path)):
            found[name] = (path, _digest(path))
    return found


def _holders(models: Iterable[str]) -> Iterator[str]:
    for model in models:
        name, colon, function = model.partition(":")
        module = sys.modules.get(name)
        if not colon or module is None:
            continue
        yield name
        yield getattr(module.__spec__, "parent", "") or name
        yield getattr(getattr(module, function, None), "__module__", None) or name


def _name(known_as: str, module: ModuleType) -> str:
    """What the module is called: the one that runs as `__main__` (`__mp_main__` to Python's
    multiprocessing) has a name as well."""
    spec = getattr(module, "__spec__", None)
    runs = known_as in ("__main__", "__mp_main__")
    return spec.name if runs and spec is not None else known_as


def _path(module: ModuleType) -> str | None:
    # Not an attribute's look-up, at which a module that is loaded late would load.
    file = getattr(module, "__dict__", {}).get("__file__")
    if not isinstance(file, str):
        return None
    is_whole = os.path.isabs(file)  # noqa: PTH117 - a Path for each of 4,000 takes 10 ms
    return file if is_whole else str(Path(file).absolute())


@cache
def _is_installed(path: str) -> bool:
    if any(part in path for part in _INSTALLED) or path.startswith(_STANDARD):
        return True
    return os.path.realpath(path).startswith(_STANDARD)


@cache
def _digest(path: str) -> str:
    """Of a file, read once in a template for all its launches."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as Python's own loader does
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        # Inside an archive, or gone since.
        return ""
