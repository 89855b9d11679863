"""`python -m bench.peers`: compare Keras with its frameworks by hand, in one run.

The suite's loops with each framework, and the same training written by hand in TensorFlow, JAX,
PyTorch and scikit-learn, take turns.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from bench.cli.options import HELP, Verb
from bench.machine.devices import inventory, resolve
from bench.machine.hardware import cpu_affinity
from bench.machine.lock import the_machine
from bench.peers.known import LOSS_ONLY, NAMES, chosen
from bench.peers.ratios import launch_rows
from bench.peers.tables import files_of, tables, write
from bench.peers.turns import Measured, Plan, measure
from bench.schema.case import Case
from bench.schema.errors import Unavailable
from bench.schema.matrix import BATCH_SIZES, parse_axes
from bench.session.ending import run_program
from bench.store.files import refuse_unwritable
from fmnist_models.errors import UserError


@click.command(cls=Verb, help=__doc__, context_settings=HELP)
@click.option(
    "--batch-sizes",
    default=",".join(map(str, BATCH_SIZES)),
    show_default=True,
    help="samples a step",
)
@click.option(
    "--peers",
    help=f"{', '.join(name for name in NAMES if not name.endswith(LOSS_ONLY))}, and each, or "
    f"sklearn{LOSS_ONLY}, with {LOSS_ONLY} at its end: without the accuracy. The first is "
    "compared with all that do the same work  [default: all that can train here, but bare_fit "
    "and keras_sketch]",
)
@click.option(
    "--launches", type=click.IntRange(1), default=5, show_default=True, help="fresh processes each"
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=10,
    show_default=True,
    help="timed epochs of a batch size in a launch; peers of one framework take turns",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=42,
    show_default=True,
    help="launch k trains with seed + k",
)
@click.option("--threads", help="CPU threads inside an operation  [default: one for each CPU]")
@click.option("--model", default="relu_mlp", show_default=True, help="for peers that are Keras")
@click.option("--optimizer", default="adam", show_default=True, help="for peers that are Keras")
@click.option("--precision", default="float32", show_default=True, help="for peers that are Keras")
@click.option("--device", default="cpu", show_default=True, help="cpu, gpu, gpu:1 ...")
@click.option("--data", help="folder of IDX files in place of the embedded ones")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="write the ratios to this CSV file, and the launches beside it, to FILE_launches.csv",
)
@click.option("--wait", is_flag=True, help="wait while another run measures on this machine")
def peers(**values: Any) -> None:
    """Measure launches in turns; print rates, ratios and what they say of the promise."""
    plan, left_out = planned(values)
    output = values["output"]
    if output is not None:
        refuse_unwritable(output.parent, "--output", create=False)
        files_of(output)
    console = Console()
    for line in left_out:
        console.print(f"left out: {line}", markup=False, highlight=False)
    measured: list[Measured] = []

    def keep(found: Measured) -> None:
        """Keep a reading, and tell that it is there."""
        measured.append(found)
        (row,) = launch_rows([found], plan)
        click.echo(
            f"launch {found.launch + 1} of {plan.launches}, {found.name}, batch "
            f"{row['batch_size']}: {row['samples_per_s']:,.0f} samples/s",
            err=True,
        )

    try:
        with the_machine(lambda reason: console.print(f"waiting: {reason}"), values["wait"]):
            measure(plan, inventory(), keep)
    finally:
        # The launches measured so far are shown, even after an error or Ctrl-C.
        if measured:
            for shown in tables(measured, plan):
                console.print(shown, markup=False, highlight=False)
            if output is not None:
                write(output, measured, plan)


def planned(values: dict[str, Any]) -> tuple[Plan, list[str]]:
    """(what is measured, the lines on what is left out) of the options.

    Raises:
        UserError: a value is unknown, or a peer cannot train here.
    """
    texts = {"batch_sizes": values["batch_sizes"], "threads": values["threads"]}
    axes = parse_axes(texts)
    given = axes.threads or (len(cpu_affinity() or ()) or os.cpu_count(),)
    if len(given) > 1:
        raise UserError(f"--threads {values['threads']!r}: name one number, the same for all peers")
    case = Case(
        values["model"],
        values["optimizer"],
        "compiled",
        values["device"],
        precision=values["precision"],
        threads=given[0],
    )
    machine = inventory()
    try:
        resolve(case.device, machine)
    except Unavailable as reason:
        raise UserError(f"{reason}: name another --device") from None
    names, left_out = chosen(values["peers"], case, machine)
    plan = Plan(
        names,
        axes.batch_sizes or (),
        values["launches"],
        values["seed"],
        values["rounds"],
        case,
        values["data"],
    )
    return plan, list(left_out)


def main() -> None:
    """`python -m bench.peers`."""
    run_program("bench.peers", lambda: peers(standalone_mode=False))


if __name__ == "__main__":
    main()
