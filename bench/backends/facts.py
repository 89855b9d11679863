"""What the parent process must know of a framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.schema.case import Case


@dataclass(frozen=True, slots=True)
class Backend:
    """A framework behind Keras.

    Attributes:
        name: as Keras spells it, in KERAS_BACKEND.
        title: as its makers write it.
        packages: the packages that it needs, by their import names.
        install: what installs it, for messages.
        variables: variables of its worker, by whether the case is on a GPU.
        threads: the variables that limit the threads of one operation to a number.
        compiles_by_xla: what it compiles goes through XLA.
        profiling: the packages that a profile needs, by their import names.
        refuses: why it cannot train a case on any machine; None where it can.
    """

    name: str
    title: str
    packages: tuple[str, ...]
    install: str
    variables: Callable[[bool], Mapping[str, str]]
    threads: Callable[[int], Mapping[str, str]]
    compiles_by_xla: bool = True
    profiling: tuple[str, ...] = ("xprof", "pyinstrument")
    refuses: Callable[[Case], str | None] = lambda _: None
