"""`python -m bench.peers.products`: time each matrix product of relu_mlp in TensorFlow and XLA.

A process measures plain TensorFlow and XLA in turns; processes with and without XLA's YNNPACK
alternate. A figure is the best of many short windows, then the median over processes.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from statistics import median
from typing import Any

import click
from rich.console import Console
from rich.table import Table

from bench.machine.lock import the_machine
from bench.schema.errors import ExitCode
from bench.schema.matrix import BATCH_SIZES, parse_axes
from fmnist_models.errors import UserError

# Shapes of the left and right operand, and whether each is transposed; b is the batch size.
PRODUCTS: dict[str, tuple[tuple[str, str], tuple[str, str], bool, bool]] = {
    "forward 784x100": (("b", "784"), ("784", "100"), False, False),
    "forward 100x10": (("b", "100"), ("100", "10"), False, False),
    "input gradient 100x10": (("b", "10"), ("100", "10"), False, True),
    "weight gradient 784x100": (("b", "784"), ("b", "100"), True, False),
    "weight gradient 100x10": (("b", "100"), ("b", "10"), True, False),
}
FLAGS = {"YNNPACK": "", "Eigen": "--xla_cpu_experimental_ynn_fusion_type="}
PLAIN_TURNS = 32  # a power of two, like the number of products in a window
# A reading is the best of many short windows: on shared cores some of them are undisturbed.
WINDOWS = 60
WINDOW_S = 0.002
# (seconds of a product, cores in use during it).
Reading = tuple[float, float]


@click.command(help=__doc__)
@click.option("--batch-sizes", default=",".join(map(str, BATCH_SIZES)), show_default=True)
@click.option("--launches", type=click.IntRange(1), default=3, show_default=True)
@click.option("--wait", is_flag=True, help="wait while another run measures on this machine")
@click.option("--worker", is_flag=True, hidden=True)
def products(batch_sizes: str, launches: int, wait: bool, worker: bool) -> None:
    """Measure the products, and print a row for each product and batch size."""
    batches = parse_axes({"batch_sizes": batch_sizes}).batch_sizes or ()
    if worker:
        print(json.dumps(list(_measured(batches))))  # noqa: T201 - the parent reads it
        return
    console = Console()
    readings: dict[tuple[str, int, str], list[tuple[Reading, Reading]]] = {}
    try:
        with the_machine(lambda reason: console.print(f"waiting: {reason}"), wait):
            for number in range(launches):
                for kernels in list(FLAGS)[:: 1 if number % 2 else -1]:
                    for name, batch, plain, xla in _in_a_process(kernels, batch_sizes):
                        readings.setdefault((name, batch, kernels), []).append((plain, xla))
    finally:
        # The readings so far are shown, even after an error or Ctrl-C.
        console.print(_table(readings))


def _in_a_process(kernels: str, batch_sizes: str) -> Any:
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    environment["XLA_FLAGS"] = FLAGS[kernels]
    words = ["-m", "bench.peers.products", "--worker", "--batch-sizes", batch_sizes]
    done = subprocess.run(
        [sys.executable, *words], env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["it printed nothing"])[-1]
        raise UserError(f"the products with XLA_FLAGS={FLAGS[kernels]} were not measured: {last}")
    return json.loads(done.stdout.splitlines()[-1])


def _table(readings: dict[tuple[str, int, str], list[tuple[Reading, Reading]]]) -> Table:
    """A table with the microseconds of plain TensorFlow, and the ratio of XLA's time to it.

    A ratio is followed by its range over processes; the number after `on` is the cores in use.
    """
    shown = Table(box=None)
    for heading in ("product", "batch", "TensorFlow, us", *FLAGS):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, batch in dict.fromkeys(key[:2] for key in readings):
        cells = []
        plain = [pair[0] for kernels in FLAGS for pair in readings.get((name, batch, kernels), [])]
        for kernels in FLAGS:
            pairs = readings.get((name, batch, kernels), [])
            if not pairs:
                cells.append("")
                continue
            ratios = [xla[0] / plain[0] for plain, xla in pairs]
            cores = median(xla[1] for _, xla in pairs)
            spread = f"({min(ratios):.2f} to {max(ratios):.2f})"
            cells.append(f"{median(ratios):.2f} {spread} on {cores:.1f}")
        seconds, cores = (median(reading[place] for reading in plain) for place in (0, 1))
        shown.add_row(name, str(batch), f"{seconds * 1e6:.0f} on {cores:.1f}", *cells)
    return shown


def _measured(batches: tuple[int, ...]) -> Iterator[tuple[str, int, Reading, Reading]]:
    """(name, batch size, reading of plain TensorFlow, reading of XLA) of each product."""
    import numpy as np
    import tensorflow as tf

    # Otherwise TensorFlow would compute the equal products of a row only once.
    tf.config.optimizer.set_experimental_options({"disable_meta_optimizer": True})
    random = np.random.default_rng(0)
    for name, (left, right, transpose_a, transpose_b) in PRODUCTS.items():
        for batch in batches:
            shapes = [[batch if side == "b" else int(side) for side in s] for s in (left, right)]
            a, b = (tf.constant(random.normal(size=s) / 100, tf.float32) for s in shapes)

            def product(a: Any, b: Any, ta: bool = transpose_a, tb: bool = transpose_b) -> Any:
                """The product."""
                return tf.matmul(a, b, transpose_a=ta, transpose_b=tb)

            xla = _looped(tf, product)
            np.testing.assert_allclose(
                xla(a, b, tf.constant(1))[1], product(a, b), rtol=1e-3, atol=1e-5
            )
            turns, seconds = 1, 0.0
            while seconds < WINDOW_S:
                turns *= 2
                looped = partial(xla, a, b, tf.constant(turns))
                seconds = min(_window(looped, 1)[0] for _ in range(5))
            row = min(turns, PLAIN_TURNS)
            calls = turns // row
            plain = _in_a_row(tf, product, row)
            plain(a, b)
            told: tuple[list[Reading], list[Reading]] = ([], [])
            for _ in range(WINDOWS):
                seconds, cores = _window(partial(plain, a, b), calls)
                told[0].append((seconds / turns, cores))
                seconds, cores = _window(looped, 1)
                told[1].append((seconds / turns, cores))
            yield name, batch, min(told[0]), min(told[1])


def _looped(tf: Any, product: Callable[[Any, Any], Any]) -> Any:
    """A function in which XLA computes the product `turns` times, one after another.

    Each product writes one number of its result into the left operand of the next, in place. So
    no product can be moved out of the loop or run in parallel to another.
    """
    from tensorflow.compiler.tf2xla.ops.gen_xla_ops import xla_dynamic_update_slice

    def loop(a: Any, b: Any, turns: Any) -> Any:
        """Run the loop; returns the left operand and the last product."""

        def turn(number: Any, a: Any, _: Any) -> Any:
            """One product."""
            done = product(a, b)
            changed = xla_dynamic_update_slice(a, done[:1, :1], tf.constant([0, 0]))
            return number + 1, changed, done

        start = (tf.constant(0), a, tf.zeros_like(product(a, b)))
        return tf.while_loop(lambda number, *_: number < turns, turn, start)[1:]

    return tf.function(loop, jit_compile=True, autograph=False)


def _in_a_row(tf: Any, product: Callable[[Any, Any], Any], turns: int) -> Any:
    """A function in which plain TensorFlow computes the product `turns` times in a row.

    It has no loop, because TensorFlow's loop costs more than a small product.
    """

    def row(a: Any, b: Any) -> Any:
        """Compute the products one after another; returns the last one."""
        done = product(a, b)
        for _ in range(turns - 1):
            with tf.control_dependencies([done]):
                done = product(a, b)
        return done

    return tf.function(row, autograph=False)


def _window(call: Callable[[], Any], calls: int) -> Reading:
    """(seconds of `calls` calls, cores in use during them)."""
    worked, started = time.process_time(), time.perf_counter()
    for _ in range(calls):
        result = call()
    # The call returns before its kernels end; reading the result waits for them.
    _ = result[-1].numpy()
    seconds = time.perf_counter() - started
    return seconds, (time.process_time() - worked) / seconds


def main() -> None:
    """Run the command; a user's error is one line and exit code 2."""
    try:
        products()
    except UserError as error:
        click.echo(f"bench.peers.products: error: {error}", err=True)
        sys.exit(ExitCode.WRONG_USE_OR_FAILED_CASE)


if __name__ == "__main__":
    main()
