"""`fmnist-bench history`: runs over time, in one file or on a server."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from bench.cli.options import Verbs, refuse_empty, to_stderr
from bench.cli.verb import console_of
from bench.schema.cells import counted
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.schema.history import Revision
    from bench.schema.runs import MeasuredRun
    from bench.store.history.history import History
    from bench.store.history.reading import KnownRun

_F = TypeVar("_F", bound=Callable[..., Any])
STORE_VARIABLE = "FMNIST_HISTORY"
_NEEDED = ("sqlalchemy", "alembic")
# Of runs, as tables show them.
_SHOWN = 20
# The largest number of them that may be typed: no database takes any.
MOST_RUNS = 1_000_000


def store_option(function: _F) -> _F:
    """A decorator that adds `--store` to a verb."""
    return click.option(
        "--store",
        metavar="STORE",
        help="a SQLite file, or postgresql+psycopg://USER@HOST/DATABASE "
        f"[default: {STORE_VARIABLE}, or results/history.sqlite]",
    )(function)


def machine_option(function: _F) -> _F:
    """A decorator that adds `--machine`, which chooses one, to a verb."""
    told = "only this machine: its name or id, or how one of them begins"
    return click.option("--machine", metavar="NAME", help=told)(function)


def history_at(store: str | None) -> History:
    """The history that `--store` names.

    Raises:
        UserError: it cannot be read, or what it needs is not installed.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise UserError(
            f"a history needs {' and '.join(missing)}: pip install 'fmnist-bench[history]'"
        )
    from bench.session.preflight import RESULTS
    from bench.store.history.history import History

    named = os.environ.get(STORE_VARIABLE)
    if store is None and named is not None:
        refuse_empty(STORE_VARIABLE, named)
    return History(store or named or RESULTS / "history.sqlite")


@contextlib.contextmanager
def adding_to(store: str | None) -> Iterator[Callable[[Path], None]]:
    """How a run that is to be measured now is added to a history; to none, nothing is done.

    Raises:
        UserError: the history cannot be written, which is found before the run begins.
    """
    if store is None:
        yield lambda _: None
        return
    from bench.reports.terminal.history import added_line
    from bench.store.history.record import kept
    from bench.store.measured import read_run

    with history_at(store) as there:
        there.make_ready()

        def add(path: Path) -> None:
            """Add the run in this folder, and print that."""
            try:
                new = kept(read_run(path))
                outcome = there.add(new)
            except UserError as error:
                words = ("fmnist-bench", "history", "add", str(path), "--store", there.shown)
                told = f"the run in {path} is whole; add it by {shlex.join(words)}"
                raise UserError(f"{error}; {told}") from error
            click.echo(added_line(path, new, outcome))

        yield add


@click.group(cls=Verbs)
def history() -> None:
    """Keep runs over time, and see what became of their speed.

    Exit codes: 0, success; 2, wrong use, or the history cannot be read or written; of changes also
    1, a new loss, and 3, not known.
    """


@history.command(name="add")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@store_option
@click.option("--machine", metavar="NAME", help="your name for the machine [default: its hardware]")
@click.option("--revision", metavar="REV", help="the commit that was measured, in --checkout")
@click.option("--checkout", metavar="FOLDER", help="the repository of what was measured")
def history_add(
    runs: tuple[str, ...],
    store: str | None,
    machine: str | None,
    revision: str | None,
    checkout: str | None,
) -> int:
    """Add runs, folders of runs, or fleets.

    A run that is there already is not added twice. A fleet's nodes are machines by their names.
    Runs that cannot be read are told, and the others are added.
    """
    from bench.reports.terminal.history import added_line
    from bench.schema.plan import validate_label
    from bench.session.revision import told_of
    from bench.store.history.record import kept
    from bench.store.measured import read_run

    validate_label(machine, "--machine")
    told = None if revision is None else told_of(checkout or ".", revision)
    refused: list[UserError] = []
    with history_at(store) as there:
        there.make_ready()
        for path, node in _folders(runs, refused):
            try:
                run = read_run(path)
                new = kept(run, machine or node, told or revision_in(run, checkout))
            except UserError as error:
                _tell(error, refused)
                continue
            click.echo(added_line(path, new, there.add(new)))
    return ExitCode.WRONG_USE_OR_FAILED_CASE if refused else ExitCode.PASSED


def _folders(runs: Sequence[str], refused: list[UserError]) -> Iterator[tuple[Path, str | None]]:
    """The folders of the runs, as `named_runs`; what names none is told, and added to `refused`."""
    from bench.store.history.folders import named_runs

    for run in runs:
        try:
            yield from named_runs(Path(run))
        except UserError as error:
            _tell(error, refused)


def _tell(error: UserError, refused: list[UserError]) -> None:
    to_stderr(f"fmnist-bench: error: {error}")
    refused.append(error)


def revision_in(run: MeasuredRun, checkout: str | None) -> Revision | None:
    """The commit that a run recorded, as the repository `checkout` knows it; None without one.

    Raises:
        UserError: the run recorded none, or the repository has no such commit.
    """
    from dataclasses import replace

    from bench.session.revision import told_of
    from bench.store.history.record import revision_of

    recorded = revision_of(run.environment)
    if checkout is None or recorded is None:
        if checkout is not None:
            raise UserError(f"{run.path} records no commit: name it with --revision")
        return None
    return replace(told_of(checkout, recorded.id), dirty=recorded.dirty)


@history.command(name="list")
@store_option
@machine_option
@click.option("--since", metavar="DATE", help="only runs from then on, in UTC")
@click.option("--last", type=click.IntRange(1, MOST_RUNS), help="only so many of each machine")
def history_list(
    store: str | None, machine: str | None, since: str | None, last: int | None
) -> int:
    """Show the runs of each machine.

    Of each its id, when it began, its commit (with a + where files differed from it), how many of
    its cases ended ok, and its label.
    """
    from bench.reports.terminal.history import print_runs

    with history_at(store) as there:
        print_runs(there.runs(machine, since, last), console_of())
    return ExitCode.PASSED


@history.command(name="show")
@click.argument("case")
@store_option
@machine_option
@click.option("--since", metavar="DATE", help="only runs from then on, in UTC")
@click.option(
    "--last",
    type=click.IntRange(1, MOST_RUNS),
    default=_SHOWN,
    show_default=True,
    help="so many runs",
)
def history_show(
    case: str, store: str | None, machine: str | None, since: str | None, last: int
) -> int:
    """Show a CASE over time.

    Of each run its speed with half of the 95% interval over its launches, its score, and what of
    the environment changed. Runs that did other work, such as another model, are another table; so
    are those of a version of the suite that tells models apart in another way.
    """
    from bench.reports.terminal.history import print_series

    with history_at(store) as there:
        print_series(there.series(machine, [case], since, last), console_of())
    return ExitCode.PASSED


@history.command(name="restore")
@click.argument("run")
@click.option("--output", required=True, metavar="FOLDER", help="a new or empty folder")
@store_option
def history_restore(run: str, output: str, store: str | None) -> int:
    """Write the files of a RUN again.

    For report, compare and check: each figure is as it was. RUN is an id, or how one begins.
    """
    from bench.schema.errors import ELSEWHERE, explained
    from bench.store.taken import refuse_taken

    folder = Path(output)
    refuse_taken(folder)
    with history_at(store) as there, explained(folder, ELSEWHERE):
        there.restore(run, folder)
    click.echo(folder)
    return ExitCode.PASSED


@history.command(name="remove")
@click.argument("runs", nargs=-1, required=True, metavar="RUN...")
@store_option
def history_remove(runs: tuple[str, ...], store: str | None) -> int:
    """Take runs out by their ids.

    All of them or none; what the history held of them is lost. An id may be cut short.
    """
    with history_at(store) as there:
        removed = there.chosen(runs)
        there.remove(removed)
    for run in removed:
        click.echo(f"removed {run.id} of {run.time_utc}")
    return ExitCode.PASSED


@history.command(name="prune")
@store_option
@machine_option
@click.option(
    "--keep", type=click.IntRange(0, MOST_RUNS), metavar="N", help="keep each machine's last N"
)
@click.option("--before", metavar="DATE", help="only runs that began before then, in UTC")
@click.option("--yes", is_flag=True, help="take them out; without it they are only shown")
def history_prune(
    store: str | None, machine: str | None, keep: int | None, before: str | None, yes: bool
) -> int:
    """Take out old runs, or without --yes only show which.

    With both --keep and --before, a run goes that neither keeps.
    """
    from bench.reports.terminal.history import print_runs

    if keep is None and before is None:
        raise UserError("name --keep N, --before DATE or both: which runs shall go?")
    with history_at(store) as there:
        old = _old(there, machine, keep, before)
        print_runs(old, console_of())
        if yes:
            there.remove(old)
    told = "removed" if yes else "would go: add --yes to take them out"
    click.echo(f"{counted(len(old), 'run')} {told}")
    return ExitCode.PASSED


def _old(
    there: History, machine: str | None, keep: int | None, before: str | None
) -> list[KnownRun]:
    from bench.store.history.reading import day_of

    limit = None if before is None else day_of(before, "--before")
    # Read once: a run that is added meanwhile is none of them.
    runs = there.runs(machine)
    machines = [list(own) for _, own in groupby(runs, lambda run: run.machine)]
    kept = {run.id for own in machines for run in (own[-keep:] if keep else ())}
    return [run for run in runs if run.id not in kept and (limit is None or run.time_utc < limit)]
