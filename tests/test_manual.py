"""What the README and the manual tell people to type works, and prints what they show.

`pytest tests/test_manual.py --refresh-goldens` writes the outputs in the pages anew.
"""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import click
import pytest
from rich.console import Console
from support import ROOT, quiet
from support.manual import PAGES, Block, blocks, shows, words_after, write_output

from bench import cli
from bench.analysis import phases
from bench.analysis.profile_rows import Profile
from bench.cli.declared import GATE_OPTIONS, OPTIONS
from bench.cli.options import HELP
from bench.reports.terminal.profile import print_profiles
from bench.reports.terminal.run import print_results
from bench.schema.errors import ExitCode
from bench.schema.profile import ProfileRecord
from bench.session.profile import ProfileOutcome
from bench.store.measured import read_run

ALL = [block for page in PAGES for block in blocks(page)]
WORKFLOW = next(block.text for block in ALL if block.kind == "yaml")
GUARD = ROOT / "results/examples/guard"
# What makes the examples that measure short. A duel cut short cannot tell, and ends with 3; the
# stored examples of a check and of a history end with 1.
SHORT = {
    "run": "--launches 1 --epochs 1",
    "duel": "--rows 500 --budget 1",
    "profile": "--seconds 1",
}
# What a command with a word gets besides: `test_examples.py` trains each example in every loop.
FEWER = {"examples/mobilenet.py": "--loops fit"}
# What makes the call in a script short.
SHORT_CALL = ("epochs=1)", 'epochs=1, launches=1, precisions="float32")')
# Runs that a page says were made on other days, by where the page has them.
EARLIER: Mapping[str, Mapping[str, Path]] = {
    "ci-gate.md": {
        "results/monday": GUARD / "stored/first",
        "results/tuesday": GUARD / "stored/second",
        "results/wednesday": GUARD / "stored/third",
        "results/today": GUARD / "today",
    },
}


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def steps() -> dict[str, str]:
    """The shell scripts of the workflow by the name of their step."""
    found = re.findall(
        r"^      - name: (.+)\n        run: (?:\|\n((?: {10}.*\n)+)|(.+)\n)", WORKFLOW, re.MULTILINE
    )
    return {name: textwrap.dedent(block) or line + "\n" for name, block, line in found}


def scripts() -> list[str]:
    shown = [block.commands for block in ALL if block.directive != "not run"]
    return [*shown, *steps().values()]


def test_the_workflow_has_its_steps() -> None:
    assert list(steps()) == ["Install", "Measure", "Check against the committed baseline"]
    assert "path: results/now/check.xml" in WORKFLOW
    assert "\t" not in WORKFLOW


@pytest.mark.parametrize(
    "words",
    [words for script in scripts() for words in words_after("fmnist-bench", script)],
    ids=" ".join,
)
def test_a_command_line_is_understood(words: list[str]) -> None:
    command: click.Command = cli.cli
    while isinstance(command, click.Group):
        command, words = command.commands[words[0]], words[1:]
    # Parses, and raises what the program would; runs nothing.
    context = command.make_context(command.name, list(words), **HELP)
    assert context.args == []
    assert set(context.params) == {parameter.name for parameter in command.params}


def test_the_options_of_pytest_are_there() -> None:
    known = {option.name for option in (*OPTIONS, *GATE_OPTIONS)} | {"benchmark-only"}
    known |= {"refresh-goldens", "benchmark-json", "training-save", "training-baseline"}
    found = [words for script in scripts() for words in words_after("pytest", script)]
    assert found
    for words in found:
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


def test_every_exit_code_is_explained() -> None:
    page = (ROOT / "docs/reference/exit-codes.md").read_text("utf-8")
    of_every_verb = page.split("\n## ")[0]
    explained = {int(code) for code in re.findall(r"^\| (\d+) \|", of_every_verb, re.MULTILINE)}
    assert explained == {int(code) for code in ExitCode}


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.fixture
def place(tmp_path: Path, small_data: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to run a page's commands in: small images, and what measures is cut short.

    `test_wheel.py` types the installed command itself.
    """
    real = shlex.join([*quiet.PROGRAM, "--without-ceilings", "bench"])
    program = tmp_path / "path" / "fmnist-bench"
    program.parent.mkdir()
    cases = "".join(f'{verb}) set -- "$@" {options} ;;\n' for verb, options in SHORT.items())
    fewer = "".join(f'*{word}*) set -- "$@" {options} ;;\n' for word, options in FEWER.items())
    program.write_text(
        f'#!/bin/bash\ncase "$1$2$3" in *--resume*) ;; *) case "$1" in\n{cases}esac ;; esac\n'
        f'case "$*" in\n{fewer}esac\n{real} "$@"; code=$?\n'
        'case "$1 $code" in "duel 3" | "check 1" | "history 1") exit 0 ;; esac\nexit $code\n'
    )
    program.chmod(0o755)
    script = shlex.join([*quiet.PROGRAM, "--without-ceilings"])
    (program.parent / "python").write_text(
        f'#!/bin/bash\ncase "$1" in *.py) exec {script} "$@" ;; esac\n'
        f'exec {shlex.quote(sys.executable)} "$@"\n'
    )
    (program.parent / "python").chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("FMNIST_DATA", str(small_data))
    monkeypatch.setenv("FMNIST_LOCK", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "80")
    work = tmp_path / "work"
    shutil.copytree(ROOT / "results/examples", work / "results/examples")
    shutil.copytree(ROOT / "results/reference", work / "results/reference")
    # The two environments of the how-to for two versions, both of them this one.
    for name in ("tf-a", "tf-b"):
        bin_ = work / name / "bin"
        bin_.mkdir(parents=True)
        (bin_ / "fmnist-bench").symlink_to(program)
        (bin_ / "python").write_text(f'#!/bin/bash\nexec {shlex.quote(sys.executable)} "$@"\n')
        (bin_ / "python").chmod(0o755)
    return work


def typed(script: str, place: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-e", "-c", script],
        cwd=place,
        env={**os.environ, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.skipif(os.name == "nt", reason="a POSIX shell")
@pytest.mark.parametrize(
    "page", [page for page in PAGES if any(b.is_run for b in blocks(page))], ids=name_of
)
def test_the_examples_of_a_page_run_in_order(
    page: Path, place: Path, request: pytest.FixtureRequest
) -> None:
    for name, source in EARLIER.get(page.name, {}).items():
        shutil.copytree(source, place / name)
    for number, block in enumerate(list(blocks(page))):
        if block.directive == "file":
            (place / block.argument).write_text(block.text.replace(*SHORT_CALL), "utf-8")
        elif block.is_run:
            # What a page shows to the letter is of the embedded images, or measures nothing.
            data = {"FMNIST_DATA": ""} if block.kind == "console" else {}
            done = typed(block.commands, place, **data)
            assert done.returncode == 0, f"{block.commands}\n{done.stdout}{done.stderr}"
            if block.kind == "console":
                shown = block_now(page, number, done.stdout, request)
                assert shows(shown, done.stdout), f"{shown.output}\nis not\n{done.stdout}"


def the_run(folder: str, console: Console) -> None:
    print_results(list(read_run(ROOT / folder).rows.values()), console)


def the_profile(folder: str, console: Console) -> None:
    lines = (ROOT / folder / "profiles.jsonl").read_text("utf-8").splitlines()
    found = []
    for record in (ProfileRecord.from_json(json.loads(line)) for line in lines):
        assert record.readings is not None
        read = record.readings
        found.append(Profile(record, phases.split(record.case.loop, read.wall_s, read.cpu_s)))
    print_profiles(ProfileOutcome(ROOT / folder, tuple(found), {}, interrupted=False), console)


SHOWN: Mapping[str, Callable[[str, Console], None]] = {
    "the run in": the_run,
    "the profile in": the_profile,
}


@pytest.mark.parametrize(
    ("page", "number"),
    [
        pytest.param(page, number, id=f"{name_of(page)}: {block.argument}")
        for page in PAGES
        for number, block in enumerate(blocks(page))
        if block.directive == "shown by"
    ],
)
def test_what_a_page_shows_is_what_is_printed(
    page: Path, number: int, place: Path, request: pytest.FixtureRequest
) -> None:
    block = list(blocks(page))[number]
    what, _, folder = block.argument.rpartition(" ")
    if what in SHOWN:
        out = io.StringIO()
        SHOWN[what](folder, Console(file=out, width=80))
        told = out.getvalue()
    else:
        done = typed(block.argument, place)
        assert done.returncode == 0, done.stderr
        told = done.stdout
    block = block_now(page, number, told, request)
    assert shows(block, told), f"{block.output}\nis not\n{told}"


def block_now(page: Path, number: int, told: str, request: pytest.FixtureRequest) -> Block:
    """A block as it is in the page now, after `--refresh-goldens` wrote what was told into it.

    What leaves lines out is for a person to rewrite.
    """
    block = list(blocks(page))[number]
    is_whole = not re.search(r"^\.\.\.$", block.text, re.MULTILINE)
    if request.config.getoption("--refresh-goldens") and is_whole:
        write_output(block, told)
        block = list(blocks(page))[number]
    return block


def test_the_manual_links_to_what_is_there() -> None:
    """Sphinx holds the links of docs/; these pages are read in the repository alone."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md"):
        text = page.read_text("utf-8")
        for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
