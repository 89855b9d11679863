"""The code blocks of the README and the manual, as a test reads, runs and rewrites them.

A comment right before a block says what is special about it:

- `<!-- not run: REASON -->`: neither parsed nor run.
- `<!-- parsed only: REASON -->`: its command lines are parsed, not run.
- `<!-- shown by: WHAT -->`: its output, in which a line `...` stands for any lines.
- `<!-- file: NAME -->`: it is written to a file of that name.

Without one, a block `sh` or `console` is run, and the output in a `console` block is compared.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support import ROOT

PAGES = tuple(
    sorted(
        [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")],
        key=str,
    )
)
_BLOCK = re.compile(
    r"^(?:<!-- (?P<directive>[^\n]+) -->\n)?```(?P<kind>[\w{}-]+)[^\n]*\n(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        kind: the word after the fence, such as `sh`.
        directive, argument: of the comment before it; empty where there is none.
        start, end: where its text is in the page.
    """

    page: Path
    kind: str
    text: str
    directive: str
    argument: str
    start: int
    end: int

    @property
    def commands(self) -> str:
        """The shell script that it shows, without its output."""
        if self.kind == "sh":
            return self.text
        lines = [line[2:] for line in self.text.splitlines() if line.startswith("$ ")]
        return "".join(f"{line}\n" for line in lines) if self.kind == "console" else ""

    @property
    def output(self) -> str:
        """What it shows of an output."""
        lines = self.text.splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("$ "))

    @property
    def is_run(self) -> bool:
        """Whether a test runs its commands."""
        return bool(self.commands) and not self.directive


def blocks(page: Path) -> Iterator[Block]:
    """The blocks of a page, in order."""
    for found in _BLOCK.finditer(page.read_text("utf-8")):
        directive, _, argument = (found["directive"] or "").partition(": ")
        yield Block(page, found["kind"], found["text"], directive, argument, *found.span("text"))


def words_after(program: str, script: str) -> list[list[str]]:
    """The arguments of each command line of a program, up to what the shell adds."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        words = shlex.split(line.strip(), comments=True)
        for number, word in enumerate(words):
            if word.rpartition("/")[2] == program:
                rest = words[number + 1 :]
                found.append(list(itertools.takewhile(lambda word: word not in ("||", ">"), rest)))
    return found


def shows(block: Block, told: str) -> bool:
    """Whether the output in a block is what was told; trailing blanks do not count."""
    shown = re.split(r"^\.\.\.$", _bare(block.output), flags=re.MULTILINE)
    pattern = r"(?:.*\n)?".join(re.escape(part.strip("\n")) for part in shown)
    return re.fullmatch(rf"{pattern}\n?", _bare(told) + "\n", re.DOTALL) is not None


def write_output(block: Block, told: str) -> None:
    """Put an output in the place of the one that the block shows, the commands kept."""
    page = block.page.read_text("utf-8")
    commands = "".join(f"$ {line}\n" for line in block.commands.splitlines())
    new = commands + _bare(told) + "\n"
    block.page.write_text(page[: block.start] + new + page[block.end :], "utf-8")


def _bare(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
