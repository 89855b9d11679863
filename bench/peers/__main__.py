"""`python -m bench.peers`: compare the suite's loops with other frameworks, in one run."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import product
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.analysis.stats import throughput
from bench.cli.options import HELP, Verb
from bench.launch.origin import child_command
from bench.machine.devices import inventory, resolve
from bench.machine.lock import the_machine
from bench.machine.placement import child_environment
from bench.peers.launch import PeerLaunch, Training
from bench.schema.case import Case
from bench.schema.errors import Unavailable
from bench.schema.matrix import BATCH_SIZES, parse_axes, parse_axis
from bench.session.ending import run_program
from fmnist_models.errors import UserError

PEERS: Mapping[str, tuple[str, ...]] = {
    "compiled": ("tensorflow",),
    "fit": ("tensorflow",),
    "bare_fit": ("tensorflow",),
    "keras_sketch": ("tensorflow",),
    "jax_scan": ("jax", "optax"),
    "torch_eager": ("torch",),
    "compiled_loss": ("tensorflow",),
    "jax_scan_loss": ("jax", "optax"),
}
# Peers that are written by hand for one model.
NOT_KERAS = ("jax_scan", "torch_eager", "jax_scan_loss")
# The end of a peer's name for the same training without computing the accuracy.
LOSS_ONLY = "_loss"
LIMIT_S = 900


@click.command(cls=Verb, help=__doc__, context_settings=HELP)
@click.option(
    "--batch-sizes",
    default=",".join(map(str, BATCH_SIZES)),
    show_default=True,
    help="samples a step",
)
@click.option(
    "--peers",
    default=",".join(PEERS),
    show_default=True,
    help="the first is compared with the others; those that end in _loss, which report no "
    "accuracy, are compared among themselves",
)
@click.option(
    "--launches", type=click.IntRange(1), default=3, show_default=True, help="fresh processes each"
)
@click.option(
    "--rounds", type=click.IntRange(1), default=10, show_default=True, help="timed epochs a launch"
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=42,
    show_default=True,
    help="launch k trains with seed + k",
)
@click.option("--model", default="relu_mlp", show_default=True, help="for peers that are Keras")
@click.option("--optimizer", default="adam", show_default=True, help="for peers that are Keras")
@click.option("--precision", default="float32", show_default=True, help="for peers that are Keras")
@click.option("--device", default="cpu", show_default=True, help="cpu, gpu, gpu:1 ...")
@click.option("--data", help="folder of IDX files in place of the embedded ones")
@click.option("--wait", is_flag=True, help="wait while another run measures on this machine")
def peers(**values: Any) -> None:
    """Measure launches in random order, and print a row for each batch size and peer."""
    names = chosen(values["peers"])
    axes = (values[axis] for axis in ("model", "optimizer", "precision", "device"))
    trained = trained_case(names, *axes)
    batches = parse_axes({"batch_sizes": values["batch_sizes"]}).batch_sizes or ()
    console = Console()
    order = [(batch, name) for batch in batches for name in names]
    measured: dict[tuple[int, str], list[PeerLaunch]] = {pair: [] for pair in order}
    try:
        with the_machine(lambda reason: console.print(f"waiting: {reason}"), values["wait"]):
            for launch in range(values["launches"]):
                random.Random(f"{values['seed']} {launch}").shuffle(order)
                for batch, name in order:
                    training = Training(
                        batch,
                        values["seed"] + launch,
                        trained.model,
                        trained.optimizer,
                        trained.precision,
                        accuracy=not name.endswith(LOSS_ONLY),
                    )
                    measured[batch, name].append(
                        _measure(name, training, values["rounds"], trained, values["data"])
                    )
    finally:
        # The launches measured so far are shown, even after an error or Ctrl-C.
        if told := [launch for launches_of in measured.values() for launch in launches_of]:
            where = " and ".join(sorted({launch.device for launch in told}))
            title = f"{trained.model}, {trained.optimizer}, {trained.precision}, {where}"
            console.print(table(measured, batches, names, title))


def table(
    measured: Mapping[tuple[int, str], Sequence[PeerLaunch]],
    batches: Sequence[int],
    names: Sequence[str],
    title: str,
) -> Table:
    """A table with samples/s, the ratio to the first peer, and the accuracy of each peer.

    Samples/s are those of `stats.throughput`. A ratio is the samples/s of the first peer over
    those of a peer, launch by launch: the k-th launches trained on the same order and ran close in
    time. Shown are the median over k, and the range. The first peer is the first one with the same
    work: with accuracy, or without. The accuracies are the range of the last round over launches.

    Args:
        measured: the launches by (batch size, peer); a pair without launches has no row.
        batches: the batch sizes, in order.
        names: the peers, in order.
        title: the title of the table.
    """
    first = names[0].removesuffix(LOSS_ONLY)
    shown = Table(title=title, title_justify="left", box=None)
    shown.add_column("batch", justify="right")
    shown.add_column("trained by")
    for heading in ("samples/s", f"{first} over it", "training accuracy"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for batch, name in product(batches, names):
        launches = measured[batch, name]
        if not launches:
            continue
        yardstick = next(n for n in names if n.endswith(LOSS_ONLY) == name.endswith(LOSS_ONLY))
        over = _over(measured[batch, yardstick], launches)
        last = [launch.accuracies[-1] for launch in launches if launch.accuracies]
        accuracy = f"{min(last):.3f} to {max(last):.3f}" if last else ""
        shown.add_row(str(batch), name, f"{_rate(launches):,.0f}", over, accuracy)
    return shown


def _over(yardstick: Sequence[PeerLaunch], launches: Sequence[PeerLaunch]) -> str:
    """The ratios of samples/s, first peer over these launches: median and range, as text."""
    ratios = [_rate([a]) / _rate([b]) for a, b in zip(yardstick, launches, strict=False)]
    if not ratios:
        return ""
    return f"{median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def _rate(launches: Sequence[PeerLaunch]) -> float:
    rounds = [[(launch.samples, s) for s in launch.seconds] for launch in launches]
    return throughput(rounds).samples_per_s


def _measure(
    name: str, training: Training, rounds: int, case: Case, folder: str | None
) -> PeerLaunch:
    """Measure one launch in a fresh process, on the case's device.

    Raises:
        UserError: the process failed, took too long, or trained on another device.
    """
    request = {
        "name": name.removesuffix(LOSS_ONLY),
        "training": asdict(training),
        "rounds": rounds,
        "folder": folder,
    }
    environment = child_environment(case, inventory())
    what = f"{name} at batch {training.batch_size}"
    try:
        done = subprocess.run(
            [*child_command("bench.peers.launch"), json.dumps(request)],
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"{what} took longer than {LIMIT_S} s: lower --rounds") from None
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"{what} ended with code {done.returncode}: {last}")
    measured = PeerLaunch(**json.loads(done.stdout.splitlines()[-1]))
    if (measured.device == "cpu") != (case.device == "cpu"):
        raise UserError(f"{what} trained on {measured.device}, not on {case.device}")
    return measured


def chosen(text: str) -> tuple[str, ...]:
    """The peers of a comma-separated list, each once.

    Raises:
        UserError: a name is unknown or empty, or its package is not installed.
    """
    names = parse_axis("peers", text)
    for name in names:
        if name not in PEERS:
            raise UserError(f"unknown peer {name!r}: choose from {', '.join(PEERS)}")
        for package in PEERS[name]:
            if importlib.util.find_spec(package) is None:
                raise UserError(
                    f"{package} is not installed: pip install .[peers], or leave {name} out "
                    "of --peers"
                )
    return names


def trained_case(
    names: Sequence[str], model: str, optimizer: str, precision: str, device: str
) -> Case:
    """The case that all peers train: model, optimizer, precision and device.

    Raises:
        UserError: a value is unknown, a peer is written for another model, or there is no such
            device.
    """
    case = Case(model, optimizer, "compiled", device, precision=precision)
    try:
        resolve(device, inventory())
    except Unavailable as reason:
        raise UserError(f"{reason}: name another --device") from None
    fixed = [name for name in names if name in NOT_KERAS]
    if fixed and case != Case("relu_mlp", "adam", "compiled", device):
        raise UserError(
            f"{fixed[0]} trains relu_mlp with adam in float32 only: leave it out of --peers"
        )
    return case


def main() -> None:
    """`python -m bench.peers`."""
    run_program("bench.peers", lambda: peers(standalone_mode=False))


if __name__ == "__main__":
    main()
