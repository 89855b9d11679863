"""`fmnist-bench export`: a run in the formats of other tools."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.options import Verb
from bench.schema.errors import ExitCode
from fmnist_models.errors import UserError


@click.command(cls=Verb)
@click.argument("run")
@click.option(
    "--format",
    "form",
    required=True,
    metavar="FORMAT",
    help="bmf (Bencher), benchmark-action-smaller or benchmark-action-bigger "
    "(github-action-benchmark), prometheus (node_exporter's textfile collector), or mlperf-system "
    "(MLPerf's system description)",
)
@click.option(
    "-o", "--output", metavar="FILE", help="the file, replaced in one move [default: print it]"
)
@click.option(
    "--set",
    "fields",
    multiple=True,
    metavar="FIELD=TEXT",
    help="of mlperf-system: what the run does not say, such as submitter=NAME; may be repeated",
)
def export(run: str, form: str, output: str | None, fields: tuple[str, ...]) -> int:
    """Write a run as another tool reads it.

    RUN is the folder of a run. Intervals are those of results.csv, and a figure without one has
    none. Cases that did not end ok are left out, and a line on standard error says which and why.
    """
    from bench.reports.exports.formats import export as exported
    from bench.reports.exports.formats import write_export
    from bench.store.measured import read_run

    found = exported(read_run(Path(run)), form, _set(fields))
    for line in found.told:
        click.echo(line, err=True)
    if output is None:
        click.echo(found.text, nl=False)
    else:
        write_export(found, form, Path(output))
        click.echo(output)
    return ExitCode.PASSED


def _set(words: tuple[str, ...]) -> dict[str, str]:
    """The fields of `--set` by name.

    Raises:
        UserError: a word is not FIELD=TEXT, or a field is set twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not (name and equals):
            raise UserError(f"--set {word!r}: write FIELD=TEXT")
        if name in found:
            raise UserError(f"--set {word!r}: {name} is set twice; leave one out")
        found[name] = text
    return found
