"""Measures one peer, or one of the suite's loops, in a process that takes turns with others.

Every peer does the same work in its window. It draws the epoch's permutation, takes every sample
once, updates after each batch and after the last partial one, and reports the mean loss and
accuracy over the epoch; or no accuracy, where it is compared with others that report none. All
begin with the same weights. Peers by hand see the samples in the order of the suite's `compiled`.

The process speaks the protocol of `bench.worker.serve`: it asks for a pause before each round, in
which others train.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, replace
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from bench.peers.known import PEERS, Peer
from bench.peers.training import ByHand, PeerLaunch, Stopwatch, Training, order_of
from bench.schema.launch import Status
from bench.worker.protocol import Pause
from bench.worker.serve import end_with_parent, open_channel
from fmnist_models import dataset
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from fmnist_models.loops.base import Loop

# The observer ends the training.
ENDLESS = 10**9


def measure(
    peer: Peer, data: dataset.TrainingData, training: Training, rounds: int, pause: Pause
) -> PeerLaunch:
    """Train for one epoch that is not timed, and then for so many timed ones.

    Args:
        peer: who trains.
        data: the images, split.
        training: what is trained on them.
        rounds: how many are timed.
        pause: called before each of them.

    Raises:
        UserError: the framework computes wrong results, or the model cannot be built.
    """
    if peer.loop:
        loop = suite_loop(peer.loop, data, training)
        launch = PeerLaunch(training.batch_size, loop.work.arrays.rows)
        observer = _Rounds(launch, rounds, pause)
        # No warm-up: the peers' first, untimed epoch trains too, so all have trained equally long.
        loop.train(observer, ENDLESS)
        return launch
    module = importlib.import_module(f"bench.peers.{peer.module}")
    if hasattr(module, "train"):
        trained: PeerLaunch = module.train(data, training, rounds, pause)
        return trained
    by_hand: ByHand = module.build(data.flat(), training)
    launch = PeerLaunch(training.batch_size, len(data.train_x))
    by_hand.epoch(order_of(training.seed, 0, launch.samples))
    for number in range(1, rounds + 1):
        pause()
        watch = Stopwatch()
        launch.add(watch, *by_hand.epoch(order_of(training.seed, number, launch.samples)))
    return launch


def keras_model(training: Training, data: dataset.TrainingData) -> tuple[Any, dataset.TrainingData]:
    """The uncompiled Keras model in its precision, and the images in the model's input shape."""
    import keras

    from bench.worker.precision import keras_policy
    from fmnist_models import architectures
    from fmnist_models.loops.framework import set_random_seed
    from fmnist_models.loops.start import the_same_weights

    keras.config.set_dtype_policy(keras_policy(training.precision))
    set_random_seed(training.seed)
    with the_same_weights(training.seed):
        model = architectures.build(training.model)
    return model, data.flat() if architectures.input_shape(model) == (784,) else data


def suite_loop(name: str, data: dataset.TrainingData, training: Training) -> Loop:
    """A loop of the suite with the framework of this process, ready to train."""
    from bench.worker.framework import framework
    from fmnist_models import optimizers
    from fmnist_models.arrays import Arrays
    from fmnist_models.loops import LOOPS, compile_model
    from fmnist_models.loops.base import Work

    device = framework().device(training.device, training.precision)
    device.configure()
    model, data = keras_model(training, data)
    metrics = ("accuracy",) if training.accuracy else ()
    compile_model(model, optimizers.create(training.optimizer), name, metrics=metrics)
    arrays = Arrays(data.train_x, data.train_y, pixels=data.train_pixels)
    return LOOPS[name](Work(model, arrays, training.batch_size, training.seed, device=device.name))


class _Rounds:
    """Times every epoch except the first.

    The host reads the metrics at an epoch's end, so all work of the epoch is done then.
    """

    def __init__(self, launch: PeerLaunch, rounds: int, pause: Pause) -> None:
        self._launch = launch
        self._rounds = rounds
        self._pause = pause
        self._first = True

    def window_opens(self) -> None:
        """Start the clock."""
        self._watch = Stopwatch()

    def window_closes(self) -> None:
        """Do nothing: as for the peers, the clock stops when the epoch's metrics are known."""

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        """Stop the clock; True while more rounds are wanted."""
        if not self._first:
            self._launch.add(self._watch, logs["loss"], logs.get("accuracy"))
        self._first = False
        more = len(self._launch.seconds) < self._rounds
        if more:
            self._pause()
        return more


def _device_used(framework: str) -> str:
    """The default device of a framework: `cpu`, or a GPU's name."""
    if framework == "tensorflow":
        tensorflow = importlib.import_module("tensorflow")
        gpus = tensorflow.config.get_visible_devices("GPU")
        details = tensorflow.config.experimental.get_device_details
        return str(details(gpus[0])["device_name"]) if gpus else "cpu"
    if framework == "jax":
        return str(importlib.import_module("jax").devices()[0].device_kind)
    if framework == "torch":
        cuda = importlib.import_module("torch").cuda
        return str(cuda.get_device_name()) if cuda.is_available() else "cpu"
    return "cpu"


def _software(peer: Peer) -> str:
    """The versions of a peer's packages."""
    return ", ".join(f"{package} {version(package)}" for package in peer.distributions)


def main() -> None:
    """Serve one request: measure each training, and send the launches.

    Where a framework computes wrong results, the answer is a failure with one line.
    """
    parser = argparse.ArgumentParser(prog="python -m bench.peers.launch", description=__doc__)
    parser.add_argument("--channel", type=int, required=True, help="the pipe to write to")
    emit = open_channel(parser.parse_args().channel)
    end_with_parent()
    emit({"kind": "ready"})
    request: dict[str, Any] = json.loads(sys.stdin.readline())["request"]

    def pause() -> None:
        """Wait for this process's turn."""
        emit({"kind": "pause"})
        if not sys.stdin.readline():
            sys.exit(1)

    data = dataset.split(dataset.load(dataset.data_folder(request["folder"])))
    peer = PEERS[request["name"]]
    told = []
    try:
        for training in request["trainings"]:
            found = measure(peer, data, Training(**training), request["rounds"], pause)
            used = _device_used(peer.framework)
            told.append(asdict(replace(found, device=used, software=_software(peer))))
    except UserError as error:
        emit({"kind": "failure", "status": Status.FAILED, "reason": str(error)})
        return
    emit({"kind": "result", "launches": told})


if __name__ == "__main__":
    main()
