"""What the parent process must know of a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from packaging.requirements import Requirement

    from bench.schema.case import Case


@dataclass(frozen=True, slots=True)
class Backend:
    """A framework behind Keras.

    Attributes:
        name: as Keras spells it, in KERAS_BACKEND.
        title: as its makers write it.
        packages: the packages that it needs, by their import names.
        install: what installs it, for messages.
        requires: the versions that the suite supports, as its extra asks pip for them. A package
            of another version is often there already, and computes or counts otherwise.
        tested: the version of each of these packages that the suite's own tests run with.
        variables: variables of its worker, by whether the case is on a GPU.
        threads: the variables that limit the threads of one operation to a number.
        compiles_by_xla: what it compiles goes through XLA.
        spreads: how it can train on several replicas: in `one` process, or by `each` of several;
            the first is its default.
        profiling: the packages that a profile needs, by their import names.
        refuses: why it cannot train a case on any machine; None where it can.
        loops_require: the versions that a loop needs beside `requires`, by its name.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    install: str
    requires: tuple[str, ...]
    tested: Mapping[str, str]
    variables: Callable[[bool], Mapping[str, str]]
    threads: Callable[[int], Mapping[str, str]]
    compiles_by_xla: bool = True
    spreads: tuple[str, ...] = ("one",)
    profiling: tuple[str, ...] = ("xprof", "pyinstrument")
    refuses: Callable[[Case], str | None] = lambda _: None
    loops_require: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def unsupported(self, version_of: Callable[[str], str | None], loop: str = "") -> str | None:
        """The first package in a version that the suite does not support, and the remedy.

        Args:
            version_of: the version of a package; None where it is not known, which is taken as
                supported: a build from source on the path has no metadata.
            loop: what the loop needs is asked for as well; empty for none.
        """
        of_loop = self.loops_require.get(loop, ())
        for text in (*self.requires, *of_loop):
            requirement = _parsed(text)
            there = version_of(requirement.name)
            if there and not _allows(text, there):
                whose = f" in {loop}" if text in of_loop else ""
                return (
                    f"{requirement.name} {there} is not supported with {self.title}{whose}: "
                    f'pip install "{requirement}"'
                )
        return None

    def untested(self, version_of: Callable[[str], str | None]) -> list[str]:
        """The packages that have another version than the suite's tests, as pip's requirements."""
        return [
            f"{package}=={tested}"
            for package, tested in self.tested.items()
            # A build has a local part: 2.13.0+cpu.
            if (version_of(package) or tested).partition("+")[0] != tested
        ]


@cache
def _parsed(text: str) -> Requirement:
    """A requirement, parsed once: a plan asks for each of its cases."""
    from packaging.requirements import Requirement

    return Requirement(text)


@cache
def _allows(text: str, there: str) -> bool:
    return _parsed(text).specifier.contains(there, prereleases=True)
