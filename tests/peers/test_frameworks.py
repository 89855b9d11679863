"""What peers of one framework or of none need: JAX's wrong results, and TensorFlow's products."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from support import ROOT, Program


def in_jax(code: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Runs code in a process of its own: JAX would warn of every later fork of this one."""
    for package in ("jax", "optax"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} comes with the extra peers only")
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("wide", ["0", "1"])
def test_the_installed_jax_computes_what_a_release_computed_wrong(wide: str) -> None:
    code = "from bench.peers import jax_scan; jax_scan.refuse_wrong_results()"
    done = in_jax(code, JAX_ENABLE_X64=wide)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("jax.jit = lambda f: lambda x: f(x).at[-1].multiply(0.998)", "product and sum in float32"),
        (
            "jax.numpy.arctan = lambda x, right=jax.numpy.arctan: right(x) * (x.size < 50)",
            "the arctan of 50 values in float32",
        ),
    ],
)
def test_a_jax_that_computes_wrong_results_is_refused_in_one_line(
    broken: str, told: str, small_data: Path
) -> None:
    request = {
        "name": "jax_scan",
        "trainings": [{"batch_size": 96, "seed": 1}],
        "rounds": 1,
        "folder": str(small_data),
    }
    code = (
        "import io, jax, sys; from bench.peers import jax_scan, launch; "
        f"{broken}; sys.stdin = io.StringIO({json.dumps({'request': request})!r}); "
        "sys.argv = ['launch', '--channel', '1']; launch.main()"
    )
    done = in_jax(code)
    message = json.loads(done.stdout.splitlines()[-1])
    assert (message["kind"], message["status"]) == ("failure", "failed")
    assert told in message["reason"]
    assert "so its speed cannot be compared" in message["reason"]
    assert "\n" not in message["reason"]


def test_a_product_is_compared_within_each_process_and_names_the_cores() -> None:
    from bench.peers.products import _table

    readings = {
        ("forward 784x100", 32, "YNNPACK"): [
            ((2e-5, 1.0), (2e-5, 1.9)),
            ((4e-5, 1.0), (8e-5, 1.9)),
        ],
        ("forward 784x100", 32, "Eigen"): [((2e-5, 1.0), (6e-5, 1.0))],
    }
    console = Console(width=120)
    with console.capture() as captured:
        console.print(_table(readings))
    row = captured.get().splitlines()[1].split()
    assert row == [
        *("forward", "784x100", "32", "20", "on", "1.0"),
        *("1.50", "(1.00", "to", "2.00)", "on", "1.9"),
        *("3.00", "(3.00", "to", "3.00)", "on", "1.0"),
    ]


def test_each_product_of_a_step_is_measured(program: Program) -> None:
    done = program("bench.peers.products", "--worker", "--batch-sizes", "8")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert [name for name, *_ in told] == [
        "forward 784x100",
        "forward 100x10",
        "input gradient 100x10",
        "weight gradient 784x100",
        "weight gradient 100x10",
    ]
    assert all(seconds > 0 and cores > 0 for _, _, *both in told for seconds, cores in both)
