"""Which files a process runs: the modules that it imported, with their digests.

Only workers ask for them. The standard library and installed packages are left out, because
environment.json holds their versions. The suite's own packages and the user's model are always
listed, even where they are installed.
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

from fmnist_models.own import module_of, sent

CHECKOUT = Path(__file__).resolve().parents[2]

SUITE_PACKAGES = ("bench", "fmnist_models")
_INSTALLED = tuple(f"{os.sep}{name}{os.sep}" for name in ("site-packages", "dist-packages"))
_STANDARD = tuple(
    f"{way(sysconfig.get_path(name))}{os.sep}"
    for name in ("stdlib", "platstdlib")
    for way in (os.path.normpath, os.path.realpath)
)


# TensorFlow generates a module from a user's `tf.function`, with a new name each time. The file
# that it was generated from is listed.
_GENERATED = "__autograph_generated_file"


def loaded_files(own: Iterable[str] = ()) -> dict[str, tuple[str, str]]:
    """(path, SHA-256 digest) of each module that this process imported, by the module's name.

    Args:
        own: the user's own functions, as `module:function`. Of each, the module's package and the
            module that defines the function are listed even where they are installed. One that
            was sent as a pickle is listed by its own name, with the digest of the pickle.
    """
    own = tuple(own)
    named = {*SUITE_PACKAGES, *_holders(own)}
    below = tuple(f"{package}." for package in named)
    found = {name: (name, sent().digest(name)) for name in own if name in sent().pickles}
    for known_as, module in list(sys.modules.items()):
        name = _name(known_as, module)
        path = _path(module)
        if name.startswith(_GENERATED):
            continue
        if path and (name in named or name.startswith(below) or not _is_installed(path)):
            found[name] = (path, _digest(path))
    return found


def suite_digest() -> str:
    """SHA-256 of all files of the suite's two packages, by name; equal for equal revisions."""
    whole = hashlib.sha256()
    for package in SUITE_PACKAGES:
        for file in sorted((CHECKOUT / package).rglob("*.py")):
            whole.update(f"{file.relative_to(CHECKOUT).as_posix()} {_digest(str(file))}\n".encode())
    return whole.hexdigest()


def _holders(own: Iterable[str]) -> Iterator[str]:
    for known_as in own:
        name, function = module_of(known_as), known_as.rpartition(":")[2]
        module = sys.modules.get(name)
        if module is None:
            continue
        yield name
        yield getattr(module.__spec__, "parent", "") or name
        yield getattr(getattr(module, function, None), "__module__", None) or name


def _name(known_as: str, module: ModuleType) -> str:
    """The module's own name, also where it runs as `__main__`.

    Python's multiprocessing calls that module `__mp_main__`.
    """
    spec = getattr(module, "__spec__", None)
    runs = known_as in ("__main__", "__mp_main__")
    return spec.name if runs and spec is not None else known_as


def _path(module: ModuleType) -> str | None:
    # Not getattr, which would import a module that is loaded lazily.
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
    """SHA-256 of a file, read once in a template for all its launches; empty if unreadable."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 - as Python's own loader does
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        # The file is inside an archive, or was removed since.
        return ""
