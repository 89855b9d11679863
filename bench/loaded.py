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
from pathlib import Path
from types import ModuleType

SUITE_PACKAGES = ("bench", "fmnist_models")
_INSTALLED = frozenset(("site-packages", "dist-packages"))
_STANDARD = tuple(
    os.path.realpath(sysconfig.get_path(name)) + os.sep for name in ("stdlib", "platstdlib")
)
# By path: read once in a template, for all its launches.
_digests: dict[str, str] = {}


def loaded_files(models: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """The path and the SHA-256 digest of each module that this process imported, by its name.

    Args:
        models: as cases name them; of a `module:function` the module's package is named too where
            it is installed, and the module that defines the function.
    """
    own = set(_holders(models))
    found = {}
    for known_as, module in list(sys.modules.items()):
        name = _name(known_as, module)
        path = _path(module)
        if path and (_is_below(name, (*SUITE_PACKAGES, *own)) or not _is_installed(path)):
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


def _is_below(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def _name(known_as: str, module: ModuleType) -> str:
    """What the module is called: the one that runs as `__main__` (`__mp_main__` to Python's
    multiprocessing) has a name as well."""
    spec = getattr(module, "__spec__", None)
    runs = known_as in ("__main__", "__mp_main__")
    return spec.name if runs and spec is not None else known_as


def _path(module: ModuleType) -> str | None:
    file = getattr(module, "__file__", None)
    return str(Path(file).absolute()) if isinstance(file, str) else None


def _is_installed(path: str) -> bool:
    if not _INSTALLED.isdisjoint(Path(path).parts):
        return True
    return os.path.realpath(path).startswith(_STANDARD)


def _digest(path: str) -> str:
    if path not in _digests:
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - as Python's own loader does
                _digests[path] = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            # Inside an archive, or gone since.
            _digests[path] = ""
    return _digests[path]
