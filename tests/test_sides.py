"""The sides of a duel: how they are written, and what a worker of theirs sees."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

import pytest

from bench.errors import UserError
from bench.sides import Spec, prepare
from bench.worker_process import CHECKOUT, import_path


def git(folder, *words):
    who = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a",
           "GIT_COMMITTER_EMAIL": "a@b", "GIT_CONFIG_GLOBAL": os.devnull}  # fmt: skip
    done = subprocess.run(
        [shutil.which("git"), *words], cwd=folder, env={**os.environ, **who},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """Two commits of a model below `models/`, in a folder with a blank in its name."""
    folder = tmp_path / "my repo"
    (folder / "models").mkdir(parents=True)
    git(folder, "init", "-q")
    for text in ("first", "second"):
        (folder / "models" / "mine.py").write_text(f"WORD = {text!r}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", text)
    return folder


def test_here_is_what_runs_now():
    side = prepare(Spec.parse("here").fixed(), CHECKOUT, {"X": "1"})
    assert (side.python, side.suite, side.environ) == (sys.executable, CHECKOUT, {"X": "1"})


def test_all_three_together():
    spec = Spec.parse(
        "python=/opt/py checkout='/my repo@v1' TF_ENABLE_ONEDNN_OPTS=0 XLA_FLAGS='-a -b'"
    )
    assert (spec.python, spec.checkout, spec.revision) == ("/opt/py", "/my repo", "v1")
    assert dict(spec.variables) == {"TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "-a -b"}
    assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "write here"),
        ("there", "'there' says nothing"),
        ("here X=1", "'here' says nothing"),
        ("=1", "'=1' says nothing"),
        ("X='1", "No closing quotation"),
    ],
)
def test_what_is_no_side(text, line):
    with pytest.raises(UserError, match=line):
        Spec.parse(text)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("python=/no/such", "python=/no/such: no such interpreter"),
        ("checkout=/no/such", "checkout=/no/such: no such folder"),
    ],
)
def test_what_is_not_there(text, line):
    with pytest.raises(UserError, match=line):
        Spec.parse(text).fixed()


def test_an_unknown_revision(repository):
    with pytest.raises(UserError, match=r"git rev-parse .*nosuch"):
        Spec.parse(f"checkout='{repository}@nosuch'").fixed()


def test_a_folder_that_is_no_repository(tmp_path):
    with pytest.raises(UserError, match="not a git repository"):
        Spec.parse(f"checkout={tmp_path}@main").fixed()


def test_the_folder_of_a_virtual_environment(tmp_path):
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    spec = Spec.parse(f"python={tmp_path / 'venv'}").fixed()
    assert spec.python == str(tmp_path / "venv" / "bin" / "python")


def word_of(side):
    """What `mine` says where a worker of the side imports it."""
    done = subprocess.run(
        [side.python, "-c", "import mine; print(mine.WORD)"],
        env={**side.environ, **import_path(side.environ, side.suite)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.strip()


def test_a_revision_of_the_users_model(repository, tmp_path):
    """The older text is imported, the repository stays as it is, and HEAD may move on."""
    below = repository / "models"
    spec = Spec.parse(f"checkout='{below}@HEAD~1'").fixed()
    (below / "mine.py").write_text("WORD = 'third'\n")
    git(repository, "commit", "-qam", "third")
    assert word_of(prepare(spec, tmp_path)) == "first"
    # Unpacked once; a second time it is found again.
    assert word_of(prepare(spec, tmp_path)) == "first"
    assert git(repository, "status", "--short") == ""
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_folder_as_it_is(repository, tmp_path):
    spec = Spec.parse(f"checkout='{repository / 'models'}'").fixed()
    assert word_of(prepare(spec, tmp_path)) == "second"


def test_another_checkout_of_the_suite(tmp_path):
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "worker.py").touch()
    (tmp_path / "pyproject.toml").touch()
    side = prepare(Spec.parse(f"checkout={tmp_path}").fixed(), tmp_path, {"PYTHONPATH": "/own"})
    assert side.suite == tmp_path
    assert import_path(side.environ, side.suite)["PYTHONPATH"] == f"{tmp_path}{os.pathsep}/own"


def test_an_interpreter_without_the_suites_packages(tmp_path):
    wrong = tmp_path / "python"
    wrong.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no psutil' >&2\nexit 1\n")
    wrong.chmod(0o755)
    side = prepare(Spec.parse(f"python={wrong}").fixed(), tmp_path)
    with pytest.raises(UserError, match="cannot run this suite: ModuleNotFoundError: no psutil"):
        side.describe("B", "d" * 64)


def test_what_a_side_says_of_itself(tmp_path):
    side = prepare(Spec.parse("TF_ENABLE_ONEDNN_OPTS=0").fixed(), tmp_path)
    described = side.describe("B", "d" * 64)
    assert described["label"] == "B"
    assert described["variables"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
