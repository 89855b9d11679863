"""The output of `describe`: the data and the models, as the course documents print them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.text import Text

from bench.backends import DEFAULT
from bench.launch.origin import child_command
from bench.machine.devices import inventory
from bench.machine.placement import child_environment, default_backend
from bench.reports.plots.run import sample_row
from bench.schema.case import Case
from bench.schema.errors import ELSEWHERE, ExitCode, explained
from bench.schema.matrix import parse_axis
from bench.session.preflight import require_keras
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS


def describe_data(folder: str | None, picture: Path, console: Console) -> None:
    """Print shapes, types and class counts, and draw the first ten training images.

    Raises:
        UserError: the data cannot be read, or the picture cannot be written.
    """
    data = dataset.load(dataset.data_folder(folder))
    with explained(picture.parent, ELSEWHERE):
        picture.parent.mkdir(parents=True, exist_ok=True)
    sample_row(
        data.train_images[:10], data.train_labels[:10].tolist(), dataset.CLASS_NAMES, picture
    )
    for line in dataset.summary(data).lines():
        console.print(Text(line), soft_wrap=True)
    console.print(Text(f"the first ten training images: {picture}"), soft_wrap=True)


def summarize_models(models: str | None) -> int:
    """Print `model.summary()` of each model, from a child process that imports Keras.

    Args:
        models: a comma-separated list; None for all networks.

    Returns:
        the exit code.

    Raises:
        UserError: a name is empty, or no framework is installed.
    """
    names = parse_axis("models", models) if models else tuple(NETWORKS)
    require_keras()
    backend = default_backend() or DEFAULT
    case = Case("softmax", "adam", "fit", backend=backend)
    environment = child_environment(case, inventory())
    command = [*child_command("fmnist_models"), *names]
    environment |= {"PYTHONIOENCODING": "utf-8"}
    sys.stdout.flush()
    # The framework's log is shown only where the summaries failed.
    child = subprocess.run(command, env=environment, capture_output=True, check=False)
    click.echo(child.stdout.decode(errors="replace"), nl=False)
    if child.returncode:
        click.echo(child.stderr.decode(errors="replace"), nl=False, err=True)
    return ExitCode.WRONG_USE_OR_FAILED_CASE if child.returncode else ExitCode.PASSED
