"""Git repositories of tests, under a name of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path


def git(folder: Path, *words: str) -> str:
    who = {
        "GIT_AUTHOR_NAME": "a",
        "GIT_AUTHOR_EMAIL": "a@b",
        "GIT_COMMITTER_NAME": "a",
        "GIT_COMMITTER_EMAIL": "a@b",
        "GIT_CONFIG_GLOBAL": os.devnull,
    }
    done = subprocess.run(
        [shutil.which("git") or "git", "-c", "core.autocrlf=false", *words],
        cwd=folder,
        env={**os.environ, **who},
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout.strip()
