"""`python -m bench.evidence`: measure again what the documents state about the verdicts."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bench.cli.options import Verbs
from bench.evidence.gpu.command import COMMANDS as GPU_COMMANDS
from bench.evidence.history_commands import COMMANDS as HISTORY_COMMANDS
from bench.evidence.own import COMMANDS
from bench.evidence.tables import write_tables
from bench.session.ending import run_program
from fmnist_models.errors import UserError

SUITES, SEED = 5_000, 2026


@click.group(cls=Verbs, help=__doc__)
def cli() -> None:
    """Regenerate results/evidence."""


@cli.command()
@click.option(
    "--suites",
    type=click.IntRange(min=100),
    default=SUITES,
    show_default=True,
    help="simulated suites in each world",
)
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def simulate(suites: int, output: str) -> None:
    """Count false alarms, power, exit codes and coverage in simulated worlds.

    Writes false_alarms.csv, power.csv, exits.csv, accuracy_exits.csv, coverage.csv and
    simulation.png; some minutes.
    """
    from bench.evidence.picture import draw
    from bench.evidence.simulate import simulate as count
    from bench.evidence.simulate import worlds

    folder = Path(output)
    tables = count(suites, SEED, worlds())
    write_tables(folder, tables)
    draw(tables, folder / "simulation.png")
    click.echo(folder / "simulation.png")


@cli.command()
@click.option(
    "--work",
    default="results/live",
    show_default=True,
    metavar="FOLDER",
    help="folder of the duels; a finished one is not run again",
)
@click.option(
    "--pause",
    type=click.FloatRange(min=0),
    default=0.0,
    show_default=True,
    metavar="S",
    help="seconds between two sessions, to spread them in time",
)
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def live(work: str, pause: float, output: str) -> None:
    """Run duels of equals, and of sides slower by 5 and 10%, on this machine.

    Writes live.csv and recorded.csv; an hour or more.
    """
    from rich.console import Console

    from bench.evidence.live import fight_all
    from bench.evidence.recorded import RECORDED, collect
    from bench.reports.terminal.duel import DuelLines

    fight_all(Path(work), pause, DuelLines(Console()))
    launches, duels = collect(Path(work))
    ordered = [{name: row[name] for name in RECORDED} for row in launches]
    write_tables(Path(output), {"live": duels, "recorded": ordered})


@cli.command()
@click.option(
    "--work",
    default="results/live",
    show_default=True,
    metavar="FOLDER",
    help="folder of the launches; a finished one is not measured again",
)
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def turns(work: str, output: str) -> None:
    """Compare blocks of equals with and without alternating rounds, on this machine.

    Writes turns.csv; four minutes.
    """
    from bench.evidence.turns import turn_rows

    write_tables(Path(output), {"turns": turn_rows(Path(work), click.echo)})


@cli.command()
@click.option(
    "--work",
    default="results/equals",
    show_default=True,
    metavar="FOLDER",
    help="folder of the duels; a finished one is not run again",
)
@click.option(
    "--duels",
    type=click.IntRange(min=1),
    default=40,
    show_default=True,
    help="number of duels of equals, half of them in each loop",
)
@click.option("--collect", is_flag=True, help="run none, only count the finished ones")
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def equals(work: str, duels: int, collect: bool, output: str) -> None:
    """Run short duels of equals: are p-values uniform, and is the control equal for both sides?

    Writes equals.csv, equals_summary.csv, equals_places.csv and equals_fixed.csv; about an hour.
    """
    from rich.console import Console

    from bench.evidence import evenness
    from bench.evidence.equals import fight_equals, read_duels
    from bench.reports.terminal.duel import DuelLines

    if not collect:
        fight_equals(Path(work), duels, DuelLines(Console()))
    found = read_duels(Path(work), duels)
    if len(found) < 2:
        raise UserError(f"{work} holds {len(found)} finished duels: at least two are needed")
    tables = {
        "equals": map(evenness.one_duel, found),
        "equals_summary": evenness.summary_rows(found),
        "equals_places": evenness.place_rows(found),
        "equals_fixed": evenness.fixed_rows(found),
    }
    write_tables(
        Path(output), {name: rows for name, told in tables.items() if (rows := list(told))}
    )


@cli.command()
@click.option(
    "--work",
    default="results/equals",
    show_default=True,
    metavar="FOLDER",
    help="folder of the blocks; a finished one is not measured again",
)
@click.option(
    "--templates",
    "number",
    type=click.IntRange(2, 12),
    default=6,
    show_default=True,
    help="number of templates of each side",
)
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def templates(work: str, number: int, output: str) -> None:
    """Measure how much the templates of a side differ, and how many a duel needs.

    Writes templates.csv, template_variance.csv and template_number.csv; a quarter of an hour.
    """
    from bench.evidence.equals import CASES
    from bench.evidence.templates import alarm_rows, block_rows, variance_row

    blocks = [block_rows(Path(work), loop, number, click.echo) for loop in CASES]
    variances = [variance_row(rows) for rows in blocks]
    write_tables(
        Path(output),
        {
            "templates": [row for rows in blocks for row in rows],
            "template_variance": variances,
            "template_number": [row for found in variances for row in alarm_rows(found)],
        },
    )


@cli.command()
@click.option(
    "--trials",
    type=click.IntRange(min=100),
    default=20_000,
    show_default=True,
    help="duels re-randomized from the recorded blocks",
)
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def recorded(trials: int, output: str) -> None:
    """Count what `duel` and `check` decide about the launches in recorded.csv.

    Writes verdicts.csv; some seconds.
    """
    from bench.evidence.recorded import read, verdicts

    folder = Path(output)
    write_tables(folder, {"verdicts": verdicts(read(folder / "recorded.csv"), trials, SEED)})


@cli.command(name="self")
@click.option("--quick", is_flag=True, help="small runs, once, as in the tests")
@click.option(
    "--repetitions",
    type=click.IntRange(min=1),
    default=5,
    show_default=True,
    help="fresh processes of each command",
)
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def own_cost(quick: bool, repetitions: int, output: str) -> None:
    """Measure what the suite itself costs, beside an empty loop in the same run.

    Its commands on made runs, the bookkeeping of a launch, and the page in a browser. Needs
    Chromium. Writes self.csv; five minutes.
    """
    from bench.evidence.own_cost import Scale, cost_rows

    scale = Scale(20, 40, 2, 20, 5) if quick else Scale()
    with tempfile.TemporaryDirectory() as folder:
        rows = cost_rows(Path(folder), scale, 1 if quick else repetitions, click.echo)
    write_tables(Path(output), {"self": rows})


@cli.command()
@click.option("--runs", type=click.IntRange(min=2), default=100_000, show_default=True)
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=1_000,
    show_default=True,
    help="so many of them are of one machine and 30 cases, and are read",
)
@click.option("--repetitions", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--store", metavar="URL", help="an empty database [default: a SQLite file]")
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def history(runs: int, last: int, repetitions: int, store: str | None, output: str) -> None:
    """Time adding a run to a history of made runs, and reading what its changes are told from.

    Writes history.csv, or history_server.csv where --store is given; some minutes.
    """
    from bench.evidence.history import history_rows

    with tempfile.TemporaryDirectory() as folder:
        rows = history_rows(Path(folder), store, (runs, last), repetitions)
    write_tables(Path(output), {"history_server" if store else "history": rows})


@cli.command()
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def profile(output: str) -> None:
    """Profile a layer and an input pipeline of known cost, and compare it with the profile.

    Writes profile_truth.csv; about a quarter of an hour.
    """
    from bench.evidence.known import truth_rows

    with tempfile.TemporaryDirectory() as folder:
        rows = truth_rows(Path(folder), click.echo)
    write_tables(Path(output), {"profile_truth": rows})


@cli.command()
@click.option(
    "--scripted",
    type=click.IntRange(min=0),
    default=80,
    show_default=True,
    help="kills of commands that measure with a scripted worker",
)
@click.option(
    "--real",
    type=click.IntRange(min=0),
    default=21,
    show_default=True,
    help="kills of commands that measure with TensorFlow",
)
@click.option(
    "--files",
    type=click.IntRange(min=0),
    default=1_000,
    show_default=True,
    help="damaged files that the verbs read",
)
@click.option("--short", is_flag=True, help="a few places of each kind")
@click.option("--work", required=True, metavar="FOLDER", help="a new folder for the trials")
@click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")
def torture(scripted: int, real: int, files: int, short: bool, work: str, output: str) -> None:
    """Kill commands, fill disks, close streams, damage files and mistype options.

    Writes torture.csv; half an hour, with --scripted 12 --real 0 --files 100 --short some minutes.
    Ends with 2 where anything was wrong after a trial.
    """
    from bench.evidence.torture.tally import Extent, counts, tried

    rows = counts(tried(Path(work), Extent(scripted, real, files, short), SEED, click.echo))
    write_tables(Path(output), {"torture": rows})
    wrong = sum(row["wrong"] for row in rows)
    click.echo(f"{sum(row['trials'] for row in rows)} trials, {wrong} with something wrong")
    if wrong:
        raise UserError(f"something was wrong after {wrong} trials: see the lines above")


for command in (*COMMANDS, *GPU_COMMANDS, *HISTORY_COMMANDS):
    cli.add_command(command)


if __name__ == "__main__":
    run_program("bench.evidence", lambda: cli(standalone_mode=False))
