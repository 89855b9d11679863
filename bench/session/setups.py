"""Checkouts of commits with an environment of their own, set up by the user's command."""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import site
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

from bench.machine.lock import taken_alone
from bench.machine.redact import legible, scrub_text
from bench.schema.bisect import SetUp
from bench.schema.errors import explained
from bench.session.revision import unpacked
from bench.store.tables import write_text
from fmnist_models.errors import UserError

_LAYER = "fmnist_bench_layer.pth"
_LAST_LINE = 160


def set_up(
    repository: str, commit: str, command: str, below: Path, log: Path
) -> tuple[SetUp, Path | None]:
    """Unpack a commit, make an environment for it, and run the user's command in the checkout.

    What an earlier, interrupted call left there is removed first, once its command has ended. The
    environment is a virtual one that also sees the packages of this interpreter: what the command
    installs into it hides those of the same name, and no framework has to be installed anew.
    `python` and `pip` are its own, and `VIRTUAL_ENV` and `UV_PROJECT_ENVIRONMENT` name it.

    Args:
        repository: the folder that holds the user's model.
        commit: the commit.
        command: run by the system's shell.
        below: holds the folders `checkouts` and `environments`.
        log: what the command prints goes there.

    Returns:
        how the command ended, and the interpreter; None where the command failed.

    Raises:
        UserError: the environment cannot be made, the commit cannot be unpacked, or the command of
            an earlier call, which was killed, still runs there.
    """
    environment = environment_of(below, commit)
    with explained(below):
        log.parent.mkdir(exist_ok=True)
        with log.open("ab") as out:
            _refuse_running(out, log)
            out.truncate(0)
            shutil.rmtree(environment, ignore_errors=True)
            for half in (below / "checkouts").glob(f"{commit[:12]}-*"):
                shutil.rmtree(half, ignore_errors=True)
            checkout, _ = unpacked(repository, commit, (below / "checkouts").resolve())
            _make(environment)
            done = subprocess.run(  # noqa: S602 - it is the user's own command line
                command,
                shell=True,
                cwd=checkout,
                env=_variables(environment, os.environ),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                check=False,
            )
    if done.returncode:
        reason = f"--setup ended with code {done.returncode}: {_last_line(log)}"
        return SetUp(commit, abs(done.returncode), reason), None
    return SetUp(commit, 0), python_of(environment)


def _refuse_running(out: BinaryIO, log: Path) -> None:
    """Refuse to begin while an earlier command still prints to the log, which it holds locked.

    Raises:
        UserError: it runs, though the bisection that started it was killed.
    """
    # On Windows a lock would keep the command itself from writing.
    if sys.platform != "win32" and not taken_alone(out.fileno()):
        raise UserError(
            f"--setup: the command of a bisection that was killed still runs, and prints to {log}: "
            "wait for its end, or stop it, then --resume"
        )


def environment_of(below: Path, commit: str) -> Path:
    """The folder of the environment of a commit."""
    return (below / "environments" / commit[:12]).absolute()


def python_of(environment: Path) -> Path:
    """The interpreter of an environment."""
    return _scripts(environment) / ("python.exe" if sys.platform == "win32" else "python")


def _scripts(environment: Path) -> Path:
    return environment / ("Scripts" if sys.platform == "win32" else "bin")


def _make(environment: Path) -> None:
    """Make a virtual environment on top of the packages of this interpreter."""
    # Where pip lies in the layer, a script is enough, and takes no seconds.
    layered = sys.platform != "win32" and importlib.util.find_spec("pip") is not None
    words = ("--without-pip",) if layered else ()
    done = subprocess.run(
        [sys.executable, "-m", "venv", *words, str(environment)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace").strip().splitlines()[-1:]
        raise UserError(
            f"--setup: {sys.executable} -m venv failed: {''.join(said) or 'it printed nothing'}: "
            "install the venv module of this Python, or leave --setup out"
        )
    own = {"base": str(environment), "platbase": str(environment)}
    packages = Path(sysconfig.get_path("purelib", "venv", own))
    # A line of a .pth file that begins with `import` is run. Files like this one that lie in the
    # added folders, as of an editable install, are read too.
    lines = [f"import site; site.addsitedir({folder!r})\n" for folder in _site_folders()]
    with explained(environment):
        write_text(packages / _LAYER, "".join(lines))
        if layered:
            script = _scripts(environment) / "pip"
            python = shlex.quote(str(python_of(environment)))
            write_text(script, f'#!/bin/sh\nexec {python} -m pip "$@"\n')
            script.chmod(0o755)


def _site_folders() -> Iterator[str]:
    yield from site.getsitepackages()
    if site.ENABLE_USER_SITE:
        yield site.getusersitepackages()


def _variables(environment: Path, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables with which the user's command finds its environment, as when it is active."""
    kept = {name: value for name, value in environ.items() if name != "PYTHONHOME"}
    path = os.pathsep.join(filter(None, (str(_scripts(environment)), environ.get("PATH"))))
    named = dict.fromkeys(("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT"), str(environment))
    return {**kept, **named, "PATH": path}


def _last_line(log: Path) -> str:
    lines = log.read_text("utf-8", "replace").strip().splitlines()
    return legible(scrub_text(lines[-1][-_LAST_LINE:])) if lines else "it printed nothing"
