"""What the README tells people to type is what the programs take."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import textwrap
from pathlib import Path

import click
import pytest
from support import ROOT

from bench import cli
from bench.cli.options import GATE_OPTIONS, OPTIONS

README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.M | re.S)
WORKFLOW = next(text for kind, text in BLOCKS if kind == "yaml")


def steps() -> dict[str, str]:
    """The shell scripts of the workflow by the name of their step."""
    found = re.findall(
        r"^      - name: (.+)\n        run: (?:\|\n((?: {10}.*\n)+)|(.+)\n)", WORKFLOW, re.M
    )
    return {name: textwrap.dedent(block) or line + "\n" for name, block, line in found}


def lines() -> list[str]:
    texts = [text for kind, text in BLOCKS if kind == "sh"] + list(steps().values())
    return [line.strip() for text in texts for line in text.splitlines()]


def words_after(program: str) -> list[list[str]]:
    """The arguments of each command line of a program, up to what the shell adds."""
    found = []
    for line in lines():
        words = shlex.split(line)
        for number, word in enumerate(words):
            if word.rpartition("/")[2] == program:
                rest = words[number + 1 :]
                found.append(rest[: rest.index("||")] if "||" in rest else rest)
    return found


def test_the_workflow_has_its_steps() -> None:
    assert list(steps()) == ["Install", "Measure", "Check against the committed baseline"]
    assert "path: results/now/check.xml" in WORKFLOW
    assert "\t" not in WORKFLOW


@pytest.mark.parametrize("words", words_after("fmnist-bench"), ids=" ".join)
def test_a_command_line_is_understood(words: list[str]) -> None:
    command: click.Command = cli.cli
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    # Parses, and raises what the program would; runs nothing.
    context = command.make_context(command.name, list(words))
    assert context.args == []
    assert set(context.params) == {parameter.name for parameter in command.params}


def test_the_options_of_pytest_are_there() -> None:
    known = {option.name for option in (*OPTIONS, *GATE_OPTIONS)} | {"benchmark-only"}
    for words in words_after("pytest"):
        assert {word[2:] for word in words if word.startswith("--")} <= known


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(("code", "ends"), [(0, 0), (1, 1), (2, 2), (3, 0)])
@pytest.mark.parametrize("wrote", [True, False])
def test_the_check_step_fails_on_all_but_inconclusive(
    tmp_path: Path, code: int, ends: int, wrote: bool
) -> None:
    program = tmp_path / ".venv/bin/fmnist-bench"
    program.parent.mkdir(parents=True)
    (tmp_path / "results/now").mkdir(parents=True)
    write = "echo told > results/now/check.md" if wrote else ":"
    program.write_text(f"#!/bin/sh\n{write}\nexit {code}\n")
    program.chmod(0o755)
    summary = tmp_path / "summary"
    summary.touch()
    # As GitHub runs a step.
    done = subprocess.run(
        ["bash", "-e", "-c", steps()["Check against the committed baseline"]],
        cwd=tmp_path,
        env={**os.environ, "GITHUB_STEP_SUMMARY": str(summary)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ends, done.stderr
    assert ("::warning::" in done.stdout) == (code == 3)
    assert summary.read_text() == ("told\n" if wrote else "")
