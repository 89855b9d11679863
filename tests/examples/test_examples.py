"""Each file in `examples/` learns, and trains to the same weights in each loop that takes it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from support import ROOT
from support.loops import Recorder, distance

from fmnist_models import dataset, optimizers
from fmnist_models.arrays import Arrays
from fmnist_models.errors import Unsupported
from fmnist_models.stream import Stream
from fmnist_models.task import task_of

if TYPE_CHECKING:
    from fmnist_models.loops.base import Loop, Work
    from fmnist_models.task import Task

MOST_LINES = 59
TOLERANCE = 1e-3
EXAMPLES = {
    "convnet": "convnet",
    "tokens": "tokens",
    "recurrent": "waves",
    "tabular": "prices",
    "augmented": "digits",
    "own_step": "denoiser",
    "mobilenet": "mobilenet",
}
# Whole batches, and the rows of a partial one; the slow to compile have none, and compile once.
SLICES = {"convnet": (12, 0), "tokens": (12, 0), "mobilenet": (3, 0)}
SLICE = (11, 7)
ENOUGH = 8192
DRAWS = ("convnet", "tokens", "own_step")


class Trained(NamedTuple):
    """Weights before and after, and the logs of each epoch."""

    before: list[NDArray[Any]]
    after: list[NDArray[Any]]
    logs: list[dict[str, float]]


def made(example: str, loop: str, seed: int = 3) -> tuple[Task, int]:
    """The task of an example, compiled for a loop, and its batch size."""
    import keras

    from fmnist_models.loops import compile_model, keep_compiled

    keras.utils.set_random_seed(seed)
    task = task_of(f"{ROOT}/examples/{example}.py:{EXAMPLES[example]}")
    if task.compiled:
        keep_compiled(task.model, loop)
    else:
        compile_model(task.model, optimizers.create("adam"), loop, task.loss, task.metrics)
    return task, task.batch_size or 32


def still(task: Task) -> None:
    """Turn off what draws random numbers, which TensorFlow and XLA draw differently on a CPU.

    MobileNet's steps become smaller: at its own rate, each one makes ten times as much of what
    rounding left, so no two programs would agree after four.
    """
    from fmnist_models.loops.watch import layers_of

    for layer in layers_of(task.model):
        for share in ("rate", "stddev"):
            if hasattr(layer, share):
                setattr(layer, share, 0.0)
    if task.model.name.startswith("mobilenet"):
        task.model.optimizer.learning_rate = 1e-5


@cache
def images() -> dataset.TrainingData:
    return dataset.split(dataset.load())


@cache
def trained(example: str, loop: str, *, draws: bool = False) -> Trained:
    """Two epochs on the first rows of an example, in their order; a stream is read once."""
    from fmnist_models.loops import LOOPS
    from fmnist_models.loops.base import Work

    task, batch = made(example, loop)
    if not draws:
        still(task)
    data, _, _ = task.data(images(), batch)
    whole, rest = SLICES.get(example, SLICE)
    rows = data.cached(lambda: None) if isinstance(data, Stream) else data
    work = Work(task.model, rows.first(whole * batch + rest), batch, seed=5, shuffle=False)
    return run(LOOPS[loop](work))


def run(driver: Loop) -> Trained:
    model = driver.work.model
    before = [np.array(w, dtype=np.float64) for w in model.get_weights()]
    driver.warm_up()
    recorder = Recorder()
    driver.train(recorder, recorder.epochs)
    after = [np.array(w, dtype=np.float64) for w in model.get_weights()]
    return Trained(before, after, recorder.logs)


def assert_same(found: Trained, expected: Trained) -> None:
    assert distance(expected.before, found.before) == 0
    travelled = distance(expected.before, expected.after)
    assert travelled > 0
    assert distance(expected.after, found.after) <= TOLERANCE * travelled
    for some, others in zip(found.logs, expected.logs, strict=True):
        assert some == pytest.approx(others, rel=1e-3)


def test_each_example_is_tested() -> None:
    assert {file.stem for file in (ROOT / "examples").glob("*.py")} == set(EXAMPLES)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_is_short_and_says_how_it_is_measured(example: str) -> None:
    text = (ROOT / "examples" / f"{example}.py").read_text("utf-8")
    assert len(text.splitlines()) <= MOST_LINES
    assert f"fmnist-bench run --models examples/{example}.py:{EXAMPLES[example]} " in text


@pytest.mark.parametrize("loop", ["multistep", "compiled"])
@pytest.mark.parametrize("example", EXAMPLES)
def test_the_loops_end_with_the_same_weights(example: str, loop: str) -> None:
    assert_same(trained(example, loop), trained(example, "fit"))


@pytest.mark.parametrize("example", DRAWS)
def test_dropout_and_noise_are_the_same_in_all_that_xla_compiles(example: str) -> None:
    drawn = trained(example, "compiled", draws=True)
    assert_same(drawn, trained(example, "multistep", draws=True))
    assert distance(drawn.after, trained(example, "compiled").after) > 0


def test_a_stream_trains_the_same_in_fit_and_multistep() -> None:
    from fmnist_models.loops import LOOPS

    found = {loop: run(LOOPS[loop](stream_work(loop))) for loop in ("fit", "multistep")}
    assert_same(found["multistep"], found["fit"])


def stream_work(loop: str) -> Work:
    from fmnist_models.loops.base import Work

    task, batch = made("augmented", loop)
    return Work(task.model, task.data(images(), batch)[0], batch, seed=5)


def test_compiled_refuses_the_stream_and_says_what_to_do() -> None:
    from fmnist_models.loops import LOOPS

    with pytest.raises(Unsupported, match=r"is a stream.*--cache-stream"):
        LOOPS["compiled"](stream_work("compiled"))


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_beats_a_constant_on_data_held_out(example: str) -> None:
    from fmnist_models.loops import LOOPS
    from fmnist_models.loops.base import Work

    task, batch = made(example, "fit")
    data, held_out, _ = task.data(images(), batch)
    assert isinstance(held_out, Arrays)
    if isinstance(data, Arrays):
        # Few of the images are enough.
        data = data.first(min(data.rows, ENOUGH))
    driver = LOOPS["fit"](Work(task.model, data, batch, seed=5, callbacks=task.callbacks))
    driver.warm_up()
    recorder = Recorder(task.epochs or 5)
    driver.train(recorder, recorder.epochs)
    told = task.model.evaluate(held_out.x, held_out.y, verbose=0, return_dict=True)
    found, constant = told[task.score], best_constant(task.score, held_out.y)
    assert found > constant if task.better == "max" else found < constant


def best_constant(score: str, y: NDArray[Any]) -> float:
    """The best score of a model that gives the same output for each row."""
    if score == "accuracy":
        return float(np.bincount(y.reshape(-1)).max() / len(y))
    assert score == "mae"
    return float(np.abs(y - np.median(y, axis=0)).mean())
