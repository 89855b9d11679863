"""Starts a worker with the right files, and tests that it ran them.

A worker reports path and digest of each module that it imported (`bench.machine.loaded`). This
module compares them with the files that it should run, and makes the listing that a run stores.
The listing has no paths of this machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.launch.child import INSTALLED
from bench.machine.loaded import CHECKOUT, SUITE_PACKAGES
from bench.schema.cells import few_of
from fmnist_models.own import module_of

# A folder with one of these holds no files of its checkout.
_LEFT_OUT = ("pyvenv.cfg", "duel.json", "bisect.json")
# (path, digest) by the name of the module.
Files = Mapping[str, tuple[str, str]]
# The digest of each file, by place (`suite`, `models` or `elsewhere`) and name.
Listing = dict[str, dict[str, str]]


def child_command(
    module: str, python: str = sys.executable, suite: Path | None = CHECKOUT
) -> tuple[str, ...]:
    """The command that runs a module of the suite, in any working folder and with any PYTHONPATH.

    Args:
        module: a module of the suite; words appended to the command are its arguments.
        python: an interpreter of Python 3.11 or later.
        suite: the folder that holds the suite; None for the one installed for the interpreter.
    """
    start = CHECKOUT / "bench" / "launch" / "child.py"
    return (python, "-P", str(start), str(suite or INSTALLED), module)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where the files of a worker must be.

    Attributes:
        suite: folder of the suite's two packages; None for those installed for its interpreter.
        models: the checkout with the user's model, which is the worker's working folder. None
            where that is the user's working folder, and the model may be installed.
        not_from: the folder that a revision was taken from; its files are of another revision.
    """

    suite: Path | None = CHECKOUT
    models: Path | None = None
    not_from: Path | None = None

    def refusal(self, files: Files | None, functions: Iterable[str]) -> str:
        """Why the files that a worker reports are not the right ones; empty where they are.

        Args:
            files: the reported files; None from a revision that reports none.
            functions: the user's own functions that it called, as `module:function`.
        """
        own = set(map(module_of, functions))
        if files is None:
            if not own or self.models is None:
                return ""
            return (
                f"its suite does not tell which files it ran, so {min(own)} may be another than "
                f"that of {self.models}: give that interpreter this version of fmnist-bench"
            )
        for name in sorted(files):
            path = Path(files[name][0])
            if _package(name) in SUITE_PACKAGES:
                if self.suite is not None and not _lies_below(path, self.suite):
                    return f"{name} came from {path}, not from the suite in {self.suite}"
            elif self.models is not None and not self._may_run(name, path, own):
                return f"{name} came from {path}, not from the checkout {self.models}"
        missing = min(own - files.keys(), default="") if self.models is not None else ""
        return f"{missing} is no file of the checkout {self.models}" if missing else ""

    def _may_run(self, name: str, path: Path, own: set[str]) -> bool:
        assert self.models is not None
        if _lies_below(path, self.models):
            return True
        if name in own:
            # The user may link the model into the checkout; an unpacked revision has no such link.
            return self.not_from is None and path.is_relative_to(self.models)
        return self.not_from is None or not _lies_below(path, self.not_from)

    def listing(self, files: Files) -> Listing:
        """The digests of the files, by place and name.

        The places are `suite`, `models` (the side's checkout, else the user's working folder) and
        `elsewhere`. Names of files outside `models` are made from the names of their modules.
        """
        models = self.models or Path.cwd()
        found: Listing = {}
        for name, (file, digest) in sorted(files.items()):
            path = Path(file)
            if _package(name) in SUITE_PACKAGES:
                where, below = "suite", _named(name, path)
            elif path.is_relative_to(models):
                where, below = "models", path.relative_to(models).as_posix()
            else:
                where, below = "elsewhere", _named(name, path)
            found.setdefault(where, {})[below] = digest
        return found


def digest_of(listing: Mapping[str, Mapping[str, str]]) -> str:
    """SHA-256 of a listing; equal for equal files on any machine."""
    text = json.dumps(listing, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def changed(before: Iterable[Mapping[str, Mapping[str, str]]], now: Listing) -> str:
    """The names of files in `now` whose digest differs in an earlier listing; empty if none."""
    names = {
        file
        for listing in before
        for where, files in listing.items()
        for file, digest in files.items()
        if now.get(where, {}).get(file, digest) != digest
    }
    return few_of(sorted(names))


def holds_suite(folder: Path) -> bool:
    """Whether a folder is a checkout of this suite, of any revision."""
    worker = folder / "bench" / "worker"
    is_there = worker.with_suffix(".py").exists() or (worker / "__main__.py").exists()
    return is_there and (folder / "fmnist_models").is_dir()


def python_digest(root: Path, packages: Iterable[str] = (".",)) -> str:
    """SHA-256 over paths and contents of the Python files below the folders `packages` of `root`.

    Hidden folders, virtual environments, and duels and bisections (with their unpacked revisions)
    are left out.
    """
    whole = hashlib.sha256()
    found = (file for package in packages for file in _python_files(root / package))
    for name, file in sorted((file.relative_to(root).as_posix(), file) for file in found):
        try:
            content = file.read_bytes()
        except OSError:
            content = b""
        whole.update(f"{name}\0{hashlib.sha256(content).hexdigest()}\n".encode(errors="replace"))
    return whole.hexdigest()


def _python_files(top: Path) -> Iterator[Path]:
    for folder, inner, files in os.walk(top):
        here = Path(folder)
        inner[:] = [
            name
            for name in inner
            if not name.startswith(".")
            and not any((here / name / mark).exists() for mark in _LEFT_OUT)
        ]
        python = (here / name for name in files if name.endswith(".py"))
        yield from (file for file in python if file.is_file())


def _package(name: str) -> str:
    return name.partition(".")[0]


def _named(name: str, path: Path) -> str:
    """The last parts of a path, as many as the module's name has; no folder of the user."""
    parts = len(name.split(".")) + (path.stem == "__init__")
    return "/".join(path.parts[-parts:])


def _lies_below(path: Path, folder: Path) -> bool:
    """Whether `path` is below `folder`, with all links resolved."""
    real = os.path.normcase(os.path.realpath(path))
    return Path(real).is_relative_to(os.path.normcase(os.path.realpath(folder)))
