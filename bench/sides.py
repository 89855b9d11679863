"""The two sides of a duel: an interpreter, a checkout and environment variables each."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from bench.bounds import Text, checked
from bench.environment import scrub_text
from bench.errors import UserError
from bench.launch import Launcher
from bench.worker_process import CHECKOUT, import_path

HERE = "here"
FORM = (
    "write here, or any of python=INTERPRETER, checkout=FOLDER@REVISION and NAME=VALUE, "
    "with spaces between them"
)
_VARIABLE = re.compile(r"[A-Za-z_]\w*")
_DESCRIBE = """
import json, sys
from bench import devices, environment
print(json.dumps(environment.collect(
    label=sys.argv[1], dataset_digest=sys.argv[2], inventory=devices.inventory())))
"""
_DESCRIBE_LIMIT_S = 120


@dataclass(frozen=True, slots=True)
class Spec:
    """One side, as the user names it; what is not named is as it is here.

    Attributes:
        python: an interpreter, or the folder of a virtual environment.
        checkout: a folder that holds the user's model, or another checkout of this suite.
        revision: of the Git repository that holds the checkout.
        variables: of the environment, name and value.
    """

    python: Text | None = None
    checkout: Text | None = None
    revision: Text | None = None
    variables: tuple[tuple[Text, Text], ...] = ()

    @classmethod
    def parse(cls, text: str) -> Self:
        """The side that `text` names: `FORM` says how.

        Raises:
            UserError: it is written in another form.
        """
        try:
            words = shlex.split(text)
        except ValueError as error:
            raise UserError(f"side {text!r}: {error}; {FORM}") from error
        if not words:
            raise UserError(f"side {text!r}: {FORM}")
        spec = cls()
        for word in words if words != [HERE] else ():
            name, equals, value = word.partition("=")
            if not equals or not _VARIABLE.fullmatch(name):
                raise UserError(f"side {text!r}: {word!r} says nothing; {FORM}")
            if name == "python":
                spec = replace(spec, python=value)
            elif name == "checkout":
                folder, _, revision = value.rpartition("@") if "@" in value else (value, "", "")
                spec = replace(spec, checkout=folder or ".", revision=revision or None)
            else:
                spec = replace(spec, variables=(*spec.variables, (name, value)))
        return spec

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """The spec that `to_json` wrote; fields of a later version are ignored.

        Raises:
            ValueError: a field is out of bounds; it is named.
        """
        return checked(values, cls)

    def to_json(self) -> dict[str, Any]:
        """The fields as plain JSON values."""
        return asdict(self)

    def fixed(self) -> Spec:
        """The same side whatever happens until the duel is resumed: paths are absolute, and a
        revision is a commit.

        Raises:
            UserError: there is no such interpreter, folder or revision.
        """
        python, checkout = self.python, self.checkout
        if python is not None:
            folder = Path(python)
            inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
            found = shutil.which(str(folder / inside) if folder.is_dir() else python)
            if found is None:
                raise UserError(f"python={python}: no such interpreter")
            # A link must not be followed: it is what makes a virtual environment.
            python = str(Path.cwd() / found)
        revision = self.revision
        if checkout is not None:
            if not Path(checkout).is_dir():
                raise UserError(f"checkout={checkout}: no such folder")
            checkout = str(Path(checkout).resolve())
            if revision is not None:
                wanted = f"{revision}^{{commit}}"
                revision = _git(checkout, "rev-parse", "--verify", "--end-of-options", wanted)
        return replace(self, python=python, checkout=checkout, revision=revision)


@dataclass(frozen=True, slots=True)
class Side:
    """A side, ready to be measured.

    Attributes:
        python: its interpreter.
        suite: the checkout of this suite that its workers import.
        environ: what its launches inherit.
    """

    python: str
    suite: Path
    environ: Mapping[str, str]

    def launcher(self, data: str | None) -> Launcher:
        """Starts the side's workers."""
        return Launcher((self.python, "-m", "bench.worker"), data, self.suite)

    def describe(self, label: str, dataset_digest: str) -> dict[str, Any]:
        """What its environment.json holds, as its own interpreter sees it.

        Raises:
            UserError: the interpreter does not run this suite; the message says why.
        """
        try:
            done = subprocess.run(
                [self.python, "-c", _DESCRIBE, label, dataset_digest],
                capture_output=True,
                text=True,
                timeout=_DESCRIBE_LIMIT_S,
                check=False,
                env={**self.environ, **import_path(self.environ, self.suite)},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise UserError(f"side {label}: {self.python} does not run: {error}") from error
        if done.returncode != 0:
            last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
            raise UserError(
                f"side {label}: {self.python} cannot run this suite: {scrub_text(last)}; install "
                "fmnist-bench and tensorflow there"
            )
        return dict(json.loads(done.stdout.splitlines()[-1]))


def prepare(spec: Spec, folder: Path, environ: Mapping[str, str] = os.environ) -> Side:
    """A side from a spec that is `fixed`; a revision is unpacked below `folder`.

    Raises:
        UserError: the revision is gone.
    """
    environment = {**environ, **dict(spec.variables)}
    suite = CHECKOUT
    if spec.checkout is not None:
        checkout = Path(spec.checkout)
        if spec.revision is not None:
            checkout = _unpacked(checkout, spec.revision, folder)
        if (checkout / "bench" / "worker.py").exists():
            suite = checkout
        else:
            paths = [str(checkout), environment.get("PYTHONPATH", "")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return Side(spec.python or sys.executable, suite, environment)


def _unpacked(repository: Path, commit: str, folder: Path) -> Path:
    """The files of a commit, below `folder`; the repository itself stays untouched."""
    target = folder / commit[:12]
    if target.exists():
        return target
    below = _git(str(repository), "rev-parse", "--show-prefix")
    # A folder that the commit does not hold is no place to ask from.
    top = _git(str(repository), "rev-parse", "--show-toplevel")
    archive = _git(top, "archive", "--format=tar", f"{commit}:{below}", text=False)
    partial = target.with_suffix(".partial")
    shutil.rmtree(partial, ignore_errors=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        # Set so because a Python before 3.11.4 knows no argument for it.
        files.extraction_filter = getattr(tarfile, "data_filter", lambda member, _: member)
        files.extractall(partial)  # noqa: S202 - filtered above, and git wrote it
    return partial.rename(target)


def _git(folder: str, *words: str, text: bool = True) -> Any:
    """What `git` prints, as text or bytes."""
    git = shutil.which("git")
    if git is None:
        raise UserError(f"checkout={folder}: git is not installed")
    done = subprocess.run([git, "-C", folder, *words], capture_output=True, check=False)
    if done.returncode != 0:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(f"checkout={folder}: git {words[0]} {words[-1]}: {''.join(last)}")
    return done.stdout.decode().strip() if text else done.stdout
