"""Git repositories of tests, under a name of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
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


def history(folder: Path, texts: Sequence[str], name: str = "fake.json") -> list[str]:
    """A repository with a commit for each text of a file; returns the commits, the oldest first."""
    folder.mkdir(parents=True)
    git(folder, "init", "-q", "-b", "main")
    who = "committer a <a@b> 0 +0000"
    told = [
        f"commit refs/heads/main\n{who}\ndata {len(f'change {number}')}\nchange {number}\n"
        f"M 100644 inline {name}\ndata {len(text.encode())}\n{text}\n"
        for number, text in enumerate(texts)
    ]
    stream = folder.with_suffix(".stream")
    stream.write_text("".join(told), "utf-8")
    with stream.open("rb") as lines:
        subprocess.run(["git", "fast-import", "--quiet"], cwd=folder, stdin=lines, check=True)
    return git(folder, "rev-list", "--reverse", "main").split()
