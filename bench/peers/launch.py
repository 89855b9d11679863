"""Measures one peer, or one of the suite's loops, in a process, and prints JSON.

Every peer does the same work in its window. It draws the epoch's permutation, takes every sample
once, updates after each batch and after the last partial one, and reports the mean loss and
accuracy over the epoch. A peer whose name ends in `_loss` reports no accuracy, and is compared
only with others that report none.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.schema.errors import ExitCode
from fmnist_models import dataset
from fmnist_models.errors import UserError

# Trains one epoch in an order of samples, and returns mean loss and accuracy (None without
# accuracy) when everything is computed.
Epoch = Callable[[NDArray[np.int32]], tuple[float, float | None]]
SUITE_LOOPS = ("compiled", "fit")


@dataclass(frozen=True, slots=True)
class Training:
    """The training of a peer.

    Attributes:
        batch_size: samples a step; the last step takes the rest.
        seed: seed of the weights and of the order.
        model, optimizer, precision: as the matrix spells them; peers that are not Keras train
            only relu_mlp with Adam in float32.
        accuracy: compute and report the accuracy; only `compiled` and `jax_scan` can leave it out.
    """

    batch_size: int
    seed: int
    model: str = "relu_mlp"
    optimizer: str = "adam"
    precision: str = "float32"
    accuracy: bool = True


@dataclass(frozen=True, slots=True)
class PeerLaunch:
    """The rounds that one process measured.

    Attributes:
        samples: samples trained in each round.
        seconds: seconds of each round, without the first epoch, which traces and compiles.
        losses, accuracies: running means over each of these epochs; no accuracies where
            `Training.accuracy` is False.
        device: the device that the framework used: `cpu`, or the name of a GPU.
    """

    samples: int
    seconds: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    accuracies: list[float] = field(default_factory=list)
    device: str = ""

    def add(self, seconds: float, loss: float, accuracy: float | None) -> None:
        """Add a round; `accuracy` is None where it was not computed."""
        self.seconds.append(seconds)
        self.losses.append(loss)
        if accuracy is not None:
            self.accuracies.append(accuracy)


def measure(name: str, data: dataset.TrainingData, training: Training, rounds: int) -> PeerLaunch:
    """Train for `rounds` timed epochs.

    Args:
        name: a loop of the suite, or a module of `bench.peers`. The module has `build`, which
            makes an `Epoch`, or `train`, where the framework runs the loop over epochs.
        data: the images, split.
        training: what is trained on them.
        rounds: number of timed epochs, after one that is not timed.

    Raises:
        UserError: the framework computes wrong results, or the model cannot be built.
    """
    if name in SUITE_LOOPS:
        return _measure_loop(name, data, training, rounds)
    peer = importlib.import_module(f"bench.peers.{name}")
    if hasattr(peer, "train"):
        trained: PeerLaunch = peer.train(data, training, rounds)
        return trained
    epoch: Epoch = peer.build(data.flat(), training)
    generator = np.random.default_rng(training.seed)
    launch = PeerLaunch(len(data.train_x))
    for number in range(rounds + 1):
        started = time.perf_counter()
        told = epoch(generator.permutation(launch.samples).astype(np.int32))
        if number > 0:
            launch.add(time.perf_counter() - started, *told)
    return launch


def keras_model(training: Training, data: dataset.TrainingData) -> tuple[Any, dataset.TrainingData]:
    """The uncompiled Keras model in its precision, and the images in the model's input shape."""
    import keras

    from bench.worker.precision import keras_policy
    from fmnist_models import architectures

    keras.config.set_dtype_policy(keras_policy(training.precision))
    keras.utils.set_random_seed(training.seed)
    model = architectures.build(training.model)
    return model, data.flat() if architectures.input_shape(model) == (784,) else data


def _measure_loop(
    name: str, data: dataset.TrainingData, training: Training, rounds: int
) -> PeerLaunch:
    from fmnist_models import optimizers
    from fmnist_models.arrays import Arrays
    from fmnist_models.loops import LOOPS, compile_model
    from fmnist_models.loops.base import Work

    model, data = keras_model(training, data)
    optimizer = optimizers.create(training.optimizer)
    if training.accuracy:
        compile_model(model, optimizer, name)
    else:
        # As in `compile_model`, without the metric. It cannot be removed afterwards: a Keras model
        # that is compiled again keeps its first metrics.
        loss = "sparse_categorical_crossentropy"
        model.compile(optimizer, loss=loss, **LOOPS[name].compile_arguments)
    work = Work(
        model,
        Arrays(data.train_x, data.train_y, pixels=data.train_pixels),
        training.batch_size,
        training.seed,
    )
    loop = LOOPS[name](work)
    observer = _Rounds(PeerLaunch(work.arrays.rows), rounds)
    # No warm-up: the peers' first, untimed epoch trains too, so all have trained equally long.
    loop.train(observer, rounds + 1)
    return observer.launch


class _Rounds:
    """Times every epoch except the first.

    The host reads the metrics at an epoch's end, so all work of the epoch is done then.
    """

    def __init__(self, launch: PeerLaunch, rounds: int) -> None:
        self.launch = launch
        self._rounds = rounds
        self._epochs = 0

    def window_opens(self) -> None:
        """Start the clock."""
        self._opened = time.perf_counter()

    def window_closes(self) -> None:
        """Do nothing: as for the peers, the clock stops when the epoch's metrics are known."""

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        """Stop the clock; True while more rounds are wanted."""
        seconds = time.perf_counter() - self._opened
        self._epochs += 1
        if self._epochs > 1:
            self.launch.add(seconds, logs["loss"], logs.get("accuracy"))
        return self._epochs <= self._rounds


def _device_used() -> str:
    """The default device of the framework that this process imported: `cpu`, or a GPU's name."""
    if tensorflow := sys.modules.get("tensorflow"):
        gpus = tensorflow.config.get_visible_devices("GPU")
        details = tensorflow.config.experimental.get_device_details
        return str(details(gpus[0])["device_name"]) if gpus else "cpu"
    if jax := sys.modules.get("jax"):
        return str(jax.devices()[0].device_kind)
    torch = sys.modules["torch"]
    return str(torch.cuda.get_device_name()) if torch.cuda.is_available() else "cpu"


def main() -> None:
    """Read a request as JSON from the command line, measure it, print the launch.

    Where a framework computes wrong results, print one line and end with exit code 2.
    """
    request: dict[str, Any] = json.loads(sys.argv[1])
    data = dataset.split(dataset.load(dataset.data_folder(request["folder"])))
    training = Training(**request["training"])
    try:
        measured = measure(request["name"], data, training, request["rounds"])
        measured = replace(measured, device=_device_used())
    except UserError as error:
        print(error, file=sys.stderr)  # noqa: T201 - the parent shows it
        sys.exit(ExitCode.WRONG_USE_OR_FAILED_CASE)
    print(json.dumps(asdict(measured)))  # noqa: T201 - the parent reads it


if __name__ == "__main__":
    main()
