"""The commands of `python -m bench.evidence` for own work, many devices and fleets."""

from __future__ import annotations

import tempfile
from pathlib import Path

import click

from bench.cli.options import Verb
from bench.evidence.tables import write_tables
from fmnist_models.errors import UserError

_SEED = 2026
OUTPUT = click.option("--output", default="results/evidence", show_default=True, metavar="FOLDER")


@click.command(cls=Verb)
@click.option("--quick", is_flag=True, help="two sleeps and few steps, as in the tests")
@OUTPUT
def waiting(quick: bool, output: str) -> None:
    """Put known sleeps into a stream, and compare a row's share of waiting with them.

    Writes waiting.csv; some minutes.
    """
    from bench.evidence.waiting import SLEEPS_S, STEPS, waiting_rows

    sleeps_s, steps = ((0.0, 0.02), 20) if quick else (SLEEPS_S, STEPS)
    with tempfile.TemporaryDirectory() as work:
        rows = waiting_rows(Path(work), click.echo, sleeps_s, steps)
    write_tables(Path(output), {"waiting": rows})


@click.command(cls=Verb)
@click.option("--models", required=True, metavar="LIST", help="models of the cases")
@click.option("--optimizer", default="adam", show_default=True, metavar="NAME")
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True)
@click.option("--processes", type=click.IntRange(min=2), default=4, show_default=True)
@click.option("--seconds", type=click.FloatRange(min=0), default=60.0, show_default=True)
@OUTPUT
def overhead(
    models: str, optimizer: str, batch_size: int, processes: int, seconds: float, output: str
) -> None:
    """Compare epochs of the suite's `fit` with those of a bare `Model.fit`, in turns.

    Writes overhead.csv; some minutes a model.
    """
    from bench.evidence.overhead import overhead_rows
    from bench.schema.case import Case
    from bench.schema.matrix import parse_axis

    cases = [
        Case(model, optimizer, "fit", "cpu", batch_size) for model in parse_axis("models", models)
    ]
    with tempfile.TemporaryDirectory() as work:
        rows = overhead_rows(cases, Path(work), click.echo, processes, seconds)
    write_tables(Path(output), {"overhead": rows})


@click.command(cls=Verb)
@click.option("--gib", type=click.FloatRange(min=0.01), default=2.0, show_default=True)
@OUTPUT
def copies(gib: float, output: str) -> None:
    """Measure the memory that a launch needs beside a user's large data.

    Writes copies.csv; some minutes.
    """
    from bench.evidence.large import memory_rows

    with tempfile.TemporaryDirectory() as work:
        rows = memory_rows(int(gib * 2**30), Path(work))
    write_tables(Path(output), {"copies": rows})


@click.command(cls=Verb)
@click.option(
    "--backends",
    default="tensorflow,jax,torch",
    show_default=True,
    metavar="LIST",
    help="the first one is compared with the others",
)
@click.option("--quick", is_flag=True, help="two pairs and few steps, as in the tests")
@OUTPUT
def parity(backends: str, quick: bool, output: str) -> None:
    """Train the same cases on several frameworks, and compare weights and losses.

    Each documented pair, and each example that uses nothing of one framework; and the accuracies
    that the documented pairs end with over seeds. Writes parity.csv and accuracies.csv; half an
    hour.
    """
    from bench.evidence.parity import EXAMPLES, STEPS, accuracy_rows, parity_rows
    from bench.schema.matrix import parse_axis
    from fmnist_models.architectures import NETWORKS
    from fmnist_models.optimizers import OPTIMIZERS

    names = parse_axis("backends", backends)
    documented = [(model, optimizer) for model in NETWORKS for optimizer in OPTIMIZERS]
    pairs = documented[:2] if quick else [*documented, *EXAMPLES]
    rows = parity_rows(pairs, names, click.echo, 20 if quick else STEPS, epochs=not quick)
    # What took minutes is on disk before the rest is tried.
    write_tables(Path(output), {"parity": rows})
    few = {"seeds": 2, "epochs": 1} if quick else {}
    ends = accuracy_rows(documented[: len(pairs)], names, click.echo, **few)
    write_tables(Path(output), {"accuracies": ends})


@click.command(cls=Verb)
@click.option("--backends", default="tensorflow,jax,torch", show_default=True, metavar="LIST")
@click.option("--quick", is_flag=True, help="one pair, two replicas and few steps, as in the tests")
@OUTPUT
def replicas(backends: str, quick: bool, output: str) -> None:
    """Train on several replicas in each way there is, and compare the ends with those of one.

    On virtual devices of the CPU, and on processes. Writes replicas.csv; a quarter of an hour.
    """
    from bench.evidence.replicas import PAIRS, replica_rows
    from bench.schema.matrix import parse_axis

    names = parse_axis("backends", backends)
    if quick:
        rows = replica_rows(names, click.echo, PAIRS[:1], (2,), 20, 2_000)
    else:
        rows = replica_rows(names, click.echo)
    write_tables(Path(output), {"replicas": rows})


@click.command(cls=Verb)
@click.option(
    "--quick", is_flag=True, help="two sleeps, two replicas and a launch, as in the tests"
)
@OUTPUT
def scaling(quick: bool, output: str) -> None:
    """Put known sleeps into each collective, and compare a run's efficiency with what it must be.

    Needs PyTorch. Writes scaling.csv; ten minutes.
    """
    from bench.evidence.scaling import scaling_rows

    with tempfile.TemporaryDirectory() as work:
        if quick:
            rows = scaling_rows(Path(work), click.echo, (0.0, 0.128), (1, 2), 1)
        else:
            rows = scaling_rows(Path(work), click.echo)
    write_tables(Path(output), {"scaling": rows})


@click.command(cls=Verb)
@click.option("--backends", default="jax,torch", show_default=True, metavar="LIST")
@click.option("--times", type=click.IntRange(min=1), default=20, show_default=True)
@OUTPUT
def ranks(backends: str, times: int, output: str) -> None:
    """Kill a process of launches of several at random moments, and count what is left.

    Writes ranks.csv; ten minutes.
    """
    from bench.evidence.ranks import killed_rows
    from bench.schema.matrix import parse_axis

    with tempfile.TemporaryDirectory() as work:
        rows = killed_rows(Path(work), parse_axis("backends", backends), click.echo, times)
    write_tables(Path(output), {"ranks": rows})


@click.command(cls=Verb)
@click.option("--blocks", type=click.IntRange(min=2), default=12, show_default=True)
@OUTPUT
def daemons(blocks: int, output: str) -> None:
    """Compare launches beside an idle node of Ray with launches without one, in ABBA blocks.

    Needs Ray. Writes daemons.csv; a quarter of an hour.
    """
    from bench.evidence.daemons import daemon_rows

    # Ray's sockets lie there, and their paths must be short.
    with tempfile.TemporaryDirectory(prefix="ray-") as work:
        rows = daemon_rows(Path(work), click.echo, blocks)
    write_tables(Path(output), {"daemons": rows})


@click.command(cls=Verb)
@click.option(
    "--fleets",
    type=click.IntRange(min=20),
    default=600,
    show_default=True,
    help="simulated fleets of the most nodes and runs; of fewer up to eight times as many",
)
@click.option(
    "--parts",
    default="rates,scale",
    show_default=True,
    metavar="LIST",
    help="rates: simulated fleets; scale: a made fleet of 1,000 nodes and 50 cases",
)
@click.option("--work", metavar="FOLDER", help="where the made fleet stays [default: it goes]")
@OUTPUT
def fleet(fleets: int, parts: str, work: str | None, output: str) -> None:
    """Count false alarms and power of `fleet check` in simulated fleets, and time it on a made one.

    Writes fleet.csv and fleet.png, and fleet_scale.csv; some minutes each.
    """
    from bench.evidence.fleet import SCALE, fleet_rows, scale_row
    from bench.evidence.fleet_picture import draw
    from bench.schema.matrix import parse_axis

    chosen = parse_axis("parts", parts)
    if unknown := [part for part in chosen if part not in ("rates", "scale")]:
        raise UserError(f"--parts {unknown[0]!r}: choose from rates, scale")
    folder = Path(output)
    if "rates" in chosen:
        rows = []
        for row in fleet_rows(fleets, _SEED):
            rows.append(row)
            click.echo(f"{row['nodes']} nodes, {row['runs']} runs: {row['alarms']} alarms")
        write_tables(folder, {"fleet": rows})
        draw(rows, folder / "fleet.png")
        click.echo(folder / "fleet.png")
    if "scale" in chosen:
        with tempfile.TemporaryDirectory() as scratch:
            row = scale_row(Path(work or scratch), SCALE, click.echo)
        write_tables(folder, {"fleet_scale": [row]})


@click.command(cls=Verb)
@click.option(
    "--bisections",
    type=click.IntRange(min=10),
    default=1_000,
    show_default=True,
    help="simulated bisections of each kind of history",
)
@OUTPUT
def bisect(bisections: int, output: str) -> None:
    """Count the bisections of simulated histories that name a wrong commit.

    Writes bisect.csv; about a quarter of an hour.
    """
    from bench.evidence.bisect import rows

    found = []
    for row in rows(bisections, _SEED):
        found.append(row)
        told = f"{row['history']}, {row['machine']}, {row['commits']} commits, {row['slower']:.0%}"
        click.echo(f"{told}: {row['right']} right, {row['wrong']} wrong")
    write_tables(Path(output), {"bisect": found})


@click.command(cls=Verb)
@click.option(
    "--work",
    default="results/minutes",
    show_default=True,
    metavar="FOLDER",
    help="folder of the recorded duels; a finished one is not measured again",
)
@click.option(
    "--sessions",
    type=click.IntRange(min=0),
    default=8,
    show_default=True,
    help="recorded ones, of four duels each; 0 takes minutes_recorded.csv as it is",
)
@click.option("--draws", type=click.IntRange(min=100), default=2_000, show_default=True)
@click.option(
    "--live",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="fought duels of each change in each setting, which take hours",
)
@OUTPUT
def minutes(work: str, sessions: int, draws: int, live: int, output: str) -> None:
    """Tell how many minutes a duel takes to decide a change of a known size.

    Records blocks of equals on this machine, quiet and beside a busy process, and draws duels from
    them; and runs duels with a change put in. Writes minutes_recorded.csv, minutes.csv,
    minutes.png and, with --live, minutes_live.csv; about an hour a session.
    """
    from rich.console import Console

    from bench.evidence.minutes.live import fight_all
    from bench.evidence.minutes.picture import draw
    from bench.evidence.minutes.record import record, recorded
    from bench.evidence.minutes.sample import minute_rows, read, sessions_of
    from bench.reports.terminal.duel import DuelLines

    folder = Path(output)
    if sessions:
        record(Path(work), sessions, click.echo)
        write_tables(folder, {"minutes_recorded": recorded(Path(work))})
    if live:
        fought = fight_all(Path(work), live, DuelLines(Console()), click.echo)
        write_tables(folder, {"minutes_live": fought})
    rows = minute_rows(sessions_of(read(folder / "minutes_recorded.csv")), draws, _SEED)
    write_tables(folder, {"minutes": rows})
    draw(rows, folder / "minutes.png")
    click.echo(folder / "minutes.png")


@click.command(cls=Verb)
@click.option("--trials", type=click.IntRange(min=100), default=20_000, show_default=True)
@OUTPUT
def designs(trials: int, output: str) -> None:
    """Compare ways to look at a duel, on the launches in recorded.csv.

    Writes designs.csv; half a minute.
    """
    from bench.evidence.minutes.designs import design_rows
    from bench.evidence.recorded import read

    rows = list(design_rows(read(Path(output) / "recorded.csv"), trials, _SEED))
    write_tables(Path(output), {"designs": rows})


COMMANDS = (
    waiting,
    overhead,
    copies,
    parity,
    replicas,
    scaling,
    ranks,
    daemons,
    fleet,
    bisect,
    minutes,
    designs,
)
