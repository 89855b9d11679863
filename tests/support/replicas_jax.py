"""Trains the same work on several replicas with JAX, and writes what came of it to a folder.

`python -m support.replicas_jax FOLDER COUNT PROCESSES RANK MEETING`: one process trains on 2 of
its virtual devices and on 1 too. A program of its own, because JAX makes its devices once.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import keras
import numpy as np

from bench.schema.case import Case
from bench.schema.requests import LaunchRequest
from bench.worker import network
from bench.worker.framework import Device, framework
from bench.worker.jax import waiting
from bench.worker.jax.replicas import data_parallel
from bench.worker.waiting import waits_of
from fmnist_models import dataset
from fmnist_models.architectures import NETWORKS
from fmnist_models.arrays import Arrays
from fmnist_models.data import as_data
from fmnist_models.errors import Unsupported
from fmnist_models.loops import LOOPS, compile_model
from fmnist_models.loops.base import Loop, Work
from fmnist_models.loops.watch import standing_in
from fmnist_models.replicas import ONE, Replicas
from support.backends import Batches, few_images
from support.loops import Recorder, clock_of, images, penalized

# Four full batches and a partial one, which 4 replicas share, and a batch that they cannot.
BATCH, ROWS, UNEVEN = 64, 300, 299
RATE = 1e-3


def main() -> None:
    """Train everything."""
    folder = Path(sys.argv[1])
    count, processes, rank = map(int, sys.argv[2:5])
    mine = Replicas(count, processes, rank, sys.argv[5] if processes > 1 else "")
    device = framework().device("cpu", "float32", mine)
    device.configure()
    found: dict[str, Any] = {}
    # Each launch of the suite leaves the processes' last meeting, so there is one for all here.
    with device.replicated():
        found[str(count)] = _trained(folder, mine, device)
        found["misplaced"] = _misplaced(device)
        found["streamed"] = _streamed(mine)
        found["waiting"] = _waiting(mine, device) if processes == 1 else {}
    if processes == 1:
        with data_parallel(jax, jax.devices()[:2], Replicas(2)):
            found["2"] = _trained(folder, Replicas(2))
        found["1"] = _trained(folder, ONE, framework().device("cpu", "float32"))
    (folder / f"{processes}-{rank}.json").write_text(json.dumps(found))


def _trained(folder: Path, replicas: Replicas, device: Device | None = None) -> dict[str, Any]:
    """What each loop did, by its name; `device` is that of a whole launch."""
    found: dict[str, Any] = {}
    for name in ("fit", "compiled"):
        loop, logs = _train(name, replicas, penalized, _images())
        np.savez(folder / _file(name, replicas), *_weights(loop.work.model))
        each, _ = _train(name, replicas, _by_sample, _one_number_each(), epochs=1, shuffle=True)
        told = found[name] = {
            "logs": logs,
            "rows": loop.watch.rows(),
            "updates": int(loop.work.model.optimizer.iterations),
            "by_sample": _weights(each.work.model)[0].ravel().tolist(),
            "uneven": _uneven(name, replicas),
            "per_replica": framework().per_replica(loop.work),
        }
        if device is not None:
            messages: list[dict[str, Any]] = []
            asked = _launch(name, replicas)
            with standing_in(network, "time", clock_of(replicas.rank)):
                network._measure(asked, few_images(), device, messages.append, None)
            told["launch"] = [_plain(message) for message in messages]
    keras.utils.set_random_seed(3)
    np.savez(folder / _file("start", replicas), *_weights(penalized()))
    return found


def _weights(model: Any) -> list[Any]:
    return [np.array(weight) for weight in model.get_weights()]


def _train(
    name: str,
    replicas: Replicas,
    build: Callable[[], Any],
    data: Arrays,
    *,
    epochs: int = 2,
    shuffle: bool = False,
) -> tuple[Loop, list[dict[str, float]]]:
    keras.utils.set_random_seed(3)
    model = build()
    if not model.compiled:
        compile_model(model, keras.optimizers.Adam(), name)
    loop = LOOPS[name](Work(model, data, BATCH, seed=5, shuffle=shuffle, replicas=replicas))
    loop.warm_up()
    recorder = Recorder(epochs)
    loop.train(recorder, epochs)
    return loop, recorder.logs


def _images() -> Arrays:
    pixels, y = (part[:ROWS] for part in images())
    return Arrays(dataset.scaled(pixels), y, pixels=pixels)


def _by_sample() -> Any:
    """A weight for each sample, which a step moves by an amount that tells its batch."""
    model = keras.Sequential(
        [keras.Input((ROWS,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(RATE), "mse", jit_compile=True)
    return model


def _one_number_each() -> Arrays:
    return Arrays(np.eye(ROWS, dtype=np.float32), np.ones((ROWS, 1), np.float32))


def _uneven(name: str, replicas: Replicas) -> Any:
    """The samples' weights where the last batch does not divide, or why there are none."""
    data = _one_number_each().first(UNEVEN)
    try:
        loop, _ = _train(name, replicas, _by_sample, data, epochs=1)
    except Unsupported as error:
        return str(error)
    return _weights(loop.work.model)[0].ravel().tolist()


class _Even(Batches):
    """Whole batches."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._sizes = [batch_size] * 4


class _Uneven(Batches):
    """A whole batch, and one of 3 rows."""

    def __init__(self, batch_size: int) -> None:
        super().__init__(batch_size)
        self._sizes = [batch_size, 3]


def _streamed(replicas: Replicas) -> str:
    """Why a stream is not trained whose last batch does not divide."""
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(), "fit")
    data = as_data("own", "train", _Uneven, BATCH, None)
    try:
        LOOPS["fit"](Work(model, data, BATCH, seed=5, replicas=replicas)).warm_up()
    except Unsupported as error:
        return str(error)
    return ""


def _waiting(replicas: Replicas, device: Device) -> dict[str, Any]:
    """What is said of waits for a stream, with the rows of a batch, in all and on a device."""
    model = NETWORKS["softmax"].builder()
    compile_model(model, keras.optimizers.SGD(), "fit")
    data = as_data("own", "train", _Even, BATCH, None)
    loop = LOOPS["fit"](Work(model, data, BATCH, seed=5, replicas=replicas))
    loop.warm_up()
    rows: list[tuple[int, int]] = []

    def noted(batches: Iterator[Any], step: Any, resident: Any, device: Device) -> Any:
        """Read the waits, and note the rows."""
        leaves = [jax.tree.leaves(batch)[0] for batch in (resident, next(batches))]
        rows.extend((len(leaf), len(leaf.addressable_shards[-1].data)) for leaf in leaves)
        return waits_of(batches, step, resident, device)

    with standing_in(waiting, "waits_of", noted):
        return {**waiting.waiting_of(loop.work, device), "rows": rows}


def _misplaced(device: Device) -> list[str]:
    """What is said of an array on one device, and of one that is in parts on all."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()), ("some",))
    parts = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("some"))
    whole = (len(jax.devices()),)
    divided = jax.make_array_from_callback(whole, parts, lambda _: np.ones(1))
    return device.misplaced([jax.numpy.ones(3), divided])


def _launch(name: str, replicas: Replicas) -> LaunchRequest:
    """A launch of three seconds; its test data do not divide by 4, and its last batch does."""
    case = Case("relu_mlp", "adam", name, batch_size=BATCH, backend="jax")
    case = replace(case, replicas=replicas.count, processes=replicas.processes)
    asked = LaunchRequest(case, 0, 1, 2, 3, same_start=True, min_seconds=3.0)
    return replace(asked, rank=replicas.rank, meeting=replicas.meeting)


def _plain(message: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in message.items() if k not in ("software", "traffic")}


def _file(name: str, replicas: Replicas) -> str:
    return f"{name}-{replicas.count}-{replicas.processes}-{replicas.rank}.npz"


if __name__ == "__main__":
    main()
