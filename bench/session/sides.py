"""The two sides of a duel: each has an interpreter, a checkout and environment variables."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from bench.launch.launcher import Launcher, Templates
from bench.launch.origin import Origin, child_command, holds_suite, python_digest
from bench.machine.loaded import CHECKOUT, SUITE_PACKAGES
from bench.machine.nvml import Inventory
from bench.machine.placement import child_environment
from bench.machine.redact import scrub_text
from bench.schema.case import Case
from bench.schema.duel import Spec
from bench.session.revision import commit_of, top_of, unpacked
from fmnist_models import DATA_VARIABLE
from fmnist_models.errors import UserError

_FACTS = CHECKOUT / "bench" / "session" / "side_facts.py"
_DESCRIBE_LIMIT_S = 120.0
_OLD_PYTHON = "nknown option: -P"


class BadSide(UserError):
    """The interpreter of a side does not run this suite; the message has the reason.

    Attributes:
        label: `A` or `B`.
    """

    def __init__(self, label: str, reason: str) -> None:
        super().__init__(f"side {label}: {reason}")
        self.label = label


def fixed_side(spec: Spec) -> Spec:
    """The side with absolute paths, and a commit for the revision.

    So it is the same side when the duel is resumed later.

    Raises:
        UserError: there is no such interpreter, folder or revision.
    """
    python, checkout = spec.python, spec.checkout
    if python is not None:
        folder = Path(python)
        inside = "Scripts/python.exe" if sys.platform == "win32" else "bin/python"
        found = shutil.which(str(folder / inside) if folder.is_dir() else python)
        if found is None:
            raise UserError(
                f"python={python}: no such interpreter; name a Python, or the folder of its "
                "environment"
            )
        # The link is not resolved: a virtual environment's interpreter is a link.
        python = str(Path.cwd() / found)
    revision = spec.revision
    if checkout is not None:
        if not Path(checkout).is_dir():
            raise UserError(f"checkout={checkout}: no such folder; name a repository")
        checkout = str(Path(checkout).resolve())
        if revision is not None:
            revision = commit_of(checkout, revision)
    return replace(spec, python=python, checkout=checkout, revision=revision)


@dataclass(frozen=True, slots=True)
class Side:
    """A side, ready to be measured.

    Attributes:
        python: its interpreter.
        suite: the folder of its workers' suite; None for the one installed for the interpreter.
        environ: the environment that its launches inherit.
        models: the checkout with the user's model; None where the user's working folder is used.
        not_from: the folder that a revision was unpacked from.
        backend: the backend of its cases, in place of theirs; None for theirs.
        notes: warnings about it.
    """

    python: str
    suite: Path | None
    environ: Mapping[str, str]
    models: Path | None = None
    not_from: Path | None = None
    backend: str | None = None
    notes: tuple[str, ...] = ()

    def launcher(self, data: str | None, templates: Templates | None = None) -> Launcher:
        """A launcher of the side's workers.

        Args:
            data: the folder of IDX files.
            templates: those that it may share with other sides that have the interpreter and the
                suite of this process; a side that has not starts its own.
        """
        command = child_command("bench.worker", self.python, self.suite)
        own = (self.python, self.suite) != (sys.executable, CHECKOUT)
        origin = Origin(self.suite, self.models, self.not_from)
        return Launcher(command, data, origin, templates=None if own else templates)

    def describe(
        self, label: str, dataset_digest: str, packages: Sequence[str] = ()
    ) -> dict[str, Any]:
        """The facts of its environment.json, read by its own interpreter.

        The versions of `packages` are among them. `sources` has digests of the Python files that
        it may run.

        Raises:
            BadSide: the interpreter does not run this suite, or runs another one.
        """
        told = self._asked(label, dataset_digest, *packages)
        bench = str(told["bench"])
        reason = Origin(self.suite).refusal({"bench": (bench, "")}, ())
        if reason:
            raise BadSide(label, scrub_text(reason))
        suite = Path(bench).parent.parent
        sources = {
            "suite": python_digest(suite, SUITE_PACKAGES),
            "models": self.models and python_digest(self.models),
            "notes": list(self.notes),
        }
        return {**told["facts"], "sources": sources}

    def _asked(self, label: str, *told: str) -> dict[str, Any]:
        """The path of `bench` and the facts that the side's interpreter reports."""
        try:
            done = subprocess.run(
                [*child_command(str(_FACTS), self.python, self.suite), label, *told],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_DESCRIBE_LIMIT_S,
                check=False,
                env=dict(self.environ),
                cwd=self.models,
            )
        except subprocess.TimeoutExpired as error:
            raise BadSide(
                label,
                f"{self.python} gave no answer within {_DESCRIBE_LIMIT_S:g} s: name "
                "an interpreter of Python 3.11 or later",
            ) from error
        except OSError as error:
            raise BadSide(
                label, f"{self.python} does not run: {error.strerror or error}"
            ) from error
        complaint = done.stderr.decode(errors="replace").strip()
        if done.returncode != 0:
            last = (complaint.splitlines() or ["it printed nothing"])[-1]
            if _OLD_PYTHON in complaint:
                last = "it is no Python 3.11 or later"
            raise BadSide(
                label,
                f"{self.python} cannot run this suite: {scrub_text(last)}; install fmnist-bench "
                "and a framework there",
            )
        try:
            answer = json.loads(done.stdout.splitlines()[-1])
            return {"bench": answer["bench"], "facts": dict(answer["facts"])}
        except (IndexError, ValueError, TypeError, KeyError):
            raise BadSide(
                label,
                f"{self.python} is no Python that runs this suite: asked for its facts, it "
                f"printed {_shortened(done.stdout)}",
            ) from None


def prepare(
    spec: Spec,
    folder: Path,
    environ: Mapping[str, str] = os.environ,
    own: Iterable[str] = (),
) -> Side:
    """The side of a spec from `fixed_side`; a revision is unpacked below `folder`.

    Args:
        spec: the side, with absolute paths and a commit.
        folder: the folder for unpacked revisions.
        environ: the user's environment.
        own: the user's own functions, as `module:function`. A checkout of the suite that has the
            module of one of them is also the checkout of the models.

    Raises:
        UserError: the revision is missing, or cannot be unpacked.
    """
    side = Side(
        spec.python or sys.executable,
        # Another interpreter uses its own installed suite, unless this suite is a checkout.
        CHECKOUT if spec.python is None or (CHECKOUT / "pyproject.toml").exists() else None,
        {**environ, **dict(spec.variables)},
        backend=spec.backend,
    )
    if spec.checkout is None:
        return side
    checkout = Path(spec.checkout)
    if spec.revision is not None:
        checkout, notes = unpacked(spec.checkout, spec.revision, folder.resolve())
        side = replace(side, not_from=top_of(spec.checkout), notes=notes)
    if not holds_suite(checkout):
        return replace(side, models=checkout)
    holds_model = any(_holds_function(checkout, name) for name in own)
    return replace(side, suite=checkout, models=checkout if holds_model else None)


def _holds_function(checkout: Path, name: str) -> bool:
    """Whether a checkout has the file or the package of a user's own function."""
    place = name.rpartition(":")[0]
    if place.endswith(".py"):
        return (checkout / place).is_file()
    package = place.partition(".")[0]
    return package not in SUITE_PACKAGES and _holds_module(checkout, package)


def refuse_overruled(
    label: str,
    spec: Spec,
    cases: Sequence[Case],
    machine: Inventory,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Refuse a side with a variable that does not reach its workers.

    Such a side would be measured without that variable.

    Raises:
        UserError: a launch of a case gets another value or none; the message names the variable.
    """
    for case in cases:
        child = child_environment(spec.case_of(case), machine, {**environ, **dict(spec.variables)})
        for name, value in spec.variables:
            if name == DATA_VARIABLE:
                raise UserError(
                    f"side {label}: {name}={value}: both sides train on the same images; leave it "
                    "out, and name them by --data"
                )
            if child.get(name) != value:
                gets = f"{name}={child[name]}" if name in child else f"no {name}"
                raise UserError(
                    f"side {label}: {name}={value}: a launch of {case.id} gets {gets} whatever "
                    "is set; leave it out"
                )


def refuse_other_files(
    path: Path, label: str, then: Mapping[str, Any], now: Mapping[str, Any]
) -> None:
    """Refuse to resume a duel with other files on a side.

    Args:
        path: the side's folder.
        label: the side's label.
        then: contents of its environment.json; earlier versions stored no digests of files.
        now: the contents that it would have now.

    Raises:
        UserError: Python files of the suite, or of the checkout with the model, have changed.
    """
    before, after = then.get("sources") or {}, now.get("sources") or {}
    words = {"suite": "the suite", "models": "the checkout that holds the model"}
    for what, whose in words.items():
        if before and before.get(what) != after.get(what):
            raise UserError(
                f"{path}: Python files of {whose} have changed since side {label} began: put them "
                "back, or start a new duel, for one duel must not mix them"
            )


def _holds_module(folder: Path, name: str) -> bool:
    return (folder / f"{name}.py").exists() or (folder / name).is_dir()


def _shortened(output: bytes) -> str:
    text = " ".join(output.decode(errors="replace").split())
    return repr(scrub_text(text[:60])) if text else "nothing"
