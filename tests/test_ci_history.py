"""The examples of CI: YAML that parses, scripts of a shell, command lines that the suite takes, and
what each script makes of an exit code."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from support import ROOT
from support.manual import PAGES, blocks, words_after

from bench import cli
from bench.cli.options import HELP
from bench.reports.exports.formats import FORMATS

PAGE = ROOT / "docs/how-to/ci-history.md"
GITHUB, GITLAB = (yaml.safe_load(block.text) for block in blocks(PAGE) if block.kind == "yaml")
STEPS = {
    step["name"]: step for job in GITHUB["jobs"].values() for step in job["steps"] if "run" in step
}
PULL_REQUEST = "Measure the base and the pull request in turns"


def scripts() -> Iterator[str]:
    yield from (step["run"] for step in STEPS.values())
    for job in GITLAB.values():
        yield from job.get("before_script", ())
        yield from job.get("script", ())


def in_shell(script: str, place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs a script as GitHub and GitLab do, with programs of `fake` before all others."""
    path = f"{place / 'bin'}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-e", "-o", "pipefail", "-c", script],
        cwd=place,
        env={
            **os.environ,
            "PATH": path,
            "GITHUB_STEP_SUMMARY": str(place / "summary"),
            **variables,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder in which the suite says its words and ends with $ENDS, and no program sends."""
    suite = 'echo "$@"; echo "| a `line`"; exit "${ENDS:-0}"'
    fakes = {
        ".venv/bin/fmnist-bench": suite,
        "bin/gh": 'echo gh "$@" >> sent; case "$*" in *--edit-last*) exit 1 ;; esac',
        "bin/curl": 'echo curl "$@" >> sent; exit "${REFUSED:-0}"',
    }
    for name, body in fakes.items():
        program = tmp_path / name
        program.parent.mkdir(parents=True, exist_ok=True)
        program.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
        program.chmod(0o755)
    return tmp_path


def test_every_example_in_yaml_parses() -> None:
    found = [block for page in PAGES for block in blocks(page) if block.kind == "yaml"]
    assert len(found) >= 4
    for block in found:
        assert isinstance(yaml.safe_load(block.text), dict | list)


def test_the_jobs_ask_for_what_they_need() -> None:
    # PyYAML reads the key `on` as a boolean, by YAML 1.1.
    assert GITHUB[True] == {"push": {"branches": ["main"]}, "pull_request": None}
    jobs = GITHUB["jobs"]
    assert jobs["pull-request"]["permissions"] == {"contents": "read", "pull-requests": "write"}
    assert jobs["history"]["permissions"] == {"contents": "read"}
    (restore,), (save,) = (
        [step["with"] for step in jobs["history"]["steps"] if step.get("uses") == f"{action}@v4"]
        for action in ("actions/cache/restore", "actions/cache/save")
    )
    assert restore["path"] == save["path"] == "history.sqlite"
    assert restore["key"] == save["key"]
    assert restore["key"].startswith(restore["restore-keys"])
    assert GITLAB["speed-history"]["cache"]["paths"] == ["history.sqlite"]


def test_what_is_added_to_a_history_knows_its_commit() -> None:
    adding = {
        "GitHub": GITHUB["jobs"]["history"]["steps"],
        "GitLab": [{"run": text} for text in GITLAB[".speed"]["before_script"]],
    }
    for steps in adding.values():
        (install,) = [step["run"] for step in steps if "pip install" in step.get("run", "")]
        # Installed otherwise, the suite has no repository: `bench.machine.environment`.
        assert "pip install --editable" in install
    assert adding["GitHub"][0]["with"] == {"fetch-depth": 2}


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("script", [*scripts()])
def test_a_script_is_one_of_a_shell(script: str) -> None:
    done = subprocess.run(["bash", "-n", "-c", script], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    # What GitHub would put into the text of a script could be anybody's title of a pull request.
    assert "${{" not in script


@pytest.mark.parametrize(
    "words", [words for s in scripts() for words in words_after("fmnist-bench", s)], ids=" ".join
)
def test_the_suite_takes_each_command_line(words: list[str]) -> None:
    command: click.Command = cli.cli
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    assert command.make_context(command.name, list(words), **HELP).args == []


def test_the_formats_of_the_manual_are_there() -> None:
    page = ROOT / "docs/how-to/export.md"
    lines = [
        words for block in blocks(page) for words in words_after("fmnist-bench", block.commands)
    ]
    assert {words[words.index("--format") + 1] for words in lines} == set(FORMATS)


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (2, 2), (3, 0)])
def test_what_the_jobs_of_github_make_of_an_exit_code(place: Path, code: int, ends: int) -> None:
    looked = in_shell(STEPS["Look for changes"]["run"], place, ENDS=str(code))
    assert looked.returncode == ends, looked.stderr
    assert ("::warning::" in looked.stdout) == (code == 3)
    assert "    history changes" in (place / "summary").read_text("utf-8")
    output = place / "output"
    facts = {"BASE": "main", "GITHUB_OUTPUT": str(output), "ENDS": str(code)}
    # The verdict comes after the comment.
    assert in_shell(STEPS[PULL_REQUEST]["run"], place, **facts).returncode == 0
    assert output.read_text("utf-8") == f"code={code}\n"
    lines = (place / "comment.md").read_text("utf-8").splitlines()
    assert lines[:2] == ["### Training speed against main", ""]
    # Indented, so that Markdown leaves the table as it is.
    assert all(line.startswith("    ") for line in lines[2:])
    judged = in_shell(STEPS["Judge"]["run"], place, CODE=str(code))
    assert judged.returncode == ends
    assert ("::warning::" in judged.stdout) == (code == 3)


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
def test_the_first_comment_is_written_where_none_is_to_be_replaced(place: Path) -> None:
    done = in_shell(STEPS["Comment"]["run"], place, NUMBER="7")
    assert done.returncode == 0
    assert (place / "sent").read_text("utf-8").splitlines() == [
        "gh pr comment 7 --edit-last --body-file comment.md",
        "gh pr comment 7 --body-file comment.md",
    ]


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize("refused", ["0", "22"])
@pytest.mark.parametrize("code", [0, 1, 3])
def test_the_job_of_gitlab_comments_and_ends_with_the_verdict(
    place: Path, code: int, refused: str
) -> None:
    (script,) = GITLAB["speed-merge-request"]["script"]
    facts: dict[str, Any] = {
        "CI_MERGE_REQUEST_DIFF_BASE_SHA": "abc",
        "CI_MERGE_REQUEST_TARGET_BRANCH_NAME": "main",
        "CI_API_V4_URL": "https://gitlab.example/api/v4",
        "CI_PROJECT_ID": "5",
        "CI_MERGE_REQUEST_IID": "7",
        "SPEED_TOKEN": "secret",
    }
    done = in_shell(script, place, ENDS=str(code), REFUSED=refused, **facts)
    assert done.returncode == code
    assert ("no comment" in done.stdout) == (refused != "0")
    sent = (place / "sent").read_text("utf-8")
    assert sent.endswith("https://gitlab.example/api/v4/projects/5/merge_requests/7/notes\n")
    assert "duel --a checkout=.@abc" in (place / "comment.md").read_text("utf-8")
    assert GITLAB[".speed"]["allow_failure"] == {"exit_codes": 3}
