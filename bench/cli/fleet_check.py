"""`fmnist-bench fleet check`: which node of a fleet is the slow one."""

from __future__ import annotations

from pathlib import Path

import click

from bench.cli.declared import SIZE_OPTIONS
from bench.cli.options import Verb, options
from bench.cli.verb import console_of
from bench.session.ending import put_off
from fmnist_models.errors import UserError


@click.command(cls=Verb, name="check")
@click.argument("folders", nargs=-1, required=True, metavar="FOLDER...")
@options(lambda _: True, SIZE_OPTIONS)
@click.option(
    "--output",
    metavar="FOLDER",
    help="where fleet.csv, fleet-check.json, fleet.png and fleet.html go "
    "[default: the first FOLDER]",
)
def fleet_check(folders: tuple[str, ...], output: str | None, **sizes: float | None) -> int:
    """Find the slow nodes of a fleet: each node against the median of the others.

    FOLDER is one that fleet run wrote, or holds such folders. Each has one run of each node: name
    several, measured at different times, to find smaller slow-downs. Runs of a node that began
    within an hour count as one.

    A node is slow where a case is slower there than on the median of the other nodes by more than
    the margin beyond doubt, and worse where a score is. In a fleet of alike nodes that happens in
    fewer than 1% of checks. Nodes with other hardware, driver, kernel or versions than most are
    named first. They are tested too; a kind of hardware that three nodes have is compared within
    itself. The check says how many runs of each node find a slow-down as large as the gate.

    Exit codes: 0, no node is slow, and one slower by the gate would have been found; 1, a slow
    node; 2, wrong use, or a node did not finish; 3, too few runs or too noisy to find the gate, or
    nodes that are not comparable.
    """
    from bench.reports.page.fleet import write_fleet_page
    from bench.reports.plots.fleet import draw_fleet
    from bench.reports.terminal.fleet_check import print_fleet, write_fleet
    from bench.schema.sizes import Sizes
    from bench.store.files import PICTURE, target_of
    from bench.store.fleet_runs import fleet_folders, read_fleets
    from bench.verdicts.fleet_check import check_fleet

    allowed = Sizes.of_check(sizes["gate"], sizes["margin"], sizes["accuracy_gate"])
    chosen = fleet_folders([Path(folder) for folder in folders])
    report = check_fleet([folder.name for folder in chosen], read_fleets(chosen), allowed)
    folder = Path(output or folders[0])
    picture = folder / "fleet.png"
    # Before the table is written: beside a table, any picture looks like an older one of the suite.
    target_of(picture, PICTURE)
    files = [*write_fleet(report, folder)]
    failed: list[UserError] = []
    with put_off(failed):
        draw_fleet(report, picture)
        files.append(picture)
    with put_off(failed):
        files.append(write_fleet_page(report, folder))
    print_fleet(report, console_of())
    for file in files:
        click.echo(file)
    if failed:
        raise failed[0]
    return report.exit_code
