"""What users build trains here as in a bare `Model.fit`, or the reason says what to change."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.loops import Recorder, distance

from bench.schema.case import Case
from bench.schema.errors import Invalid
from bench.schema.requests import LaunchRequest
from fmnist_models import dataset
from fmnist_models.errors import UserError

if TYPE_CHECKING:
    from bench.worker.precision import Computed
    from bench.worker.training import Built
    from fmnist_models.loops.base import Loop, Work

BATCH, ROWS = 30, 100
FLOAT32_TOLERANCE = 1e-3


@cache
def images() -> dataset.TrainingData:
    data = dataset.load()
    most = ROWS * 5 // 4
    return dataset.split(
        replace(
            data,
            train_images=data.train_images[:most],
            train_labels=data.train_labels[:most],
            test_images=data.test_images[:50],
            test_labels=data.test_labels[:50],
        )
    )


def built(
    name: str, loop: str = "compiled", precision: str = "float32"
) -> tuple[Case, Built, Work]:
    import tensorflow as tf

    from bench.worker import training
    from bench.worker.tensorflow.device import TensorFlowDevice

    # As `configure` does at the start of a launch.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    case = Case(f"support.user_models:{name}", "sgd", loop, "cpu", BATCH, precision)
    request = LaunchRequest(case, 0, 1, 1, 7)
    found = training.built_work(request, images(), TensorFlowDevice(tf, "cpu", precision))
    work = found.work
    in_order = replace(work, shuffle=False)
    return case, found, in_order


# Of these a user compiles no metrics: Keras wants the result of those that no step updates.
WITHOUT_METRICS = ("other_keys", "raw")


@cache
def trained_bare(
    name: str,
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], dict[str, list[float]]]:
    """Weights before and after an epoch of a bare `Model.fit`, and what it logged."""
    import keras

    from fmnist_models import architectures
    from fmnist_models.task import task_of

    keras.utils.set_random_seed(7)
    model = task_of(f"support.user_models:{name}").model
    metrics = None if name in WITHOUT_METRICS else ["accuracy"]
    model.compile(optimizer="sgd", loss="sparse_categorical_crossentropy", metrics=metrics)
    before = [np.array(w) for w in model.get_weights()]
    x = images().train_x.reshape(-1, *architectures.input_shape(model))
    told = model.fit(x, images().train_y, batch_size=BATCH, shuffle=False, verbose=0)
    return before, [np.array(w) for w in model.get_weights()], told.history


class Counting(Recorder):
    """Counts rows as a launch does."""

    def __init__(self, loop: Loop) -> None:
        super().__init__(1)
        self.loop = loop
        self.rows: int | None = -1

    def window_opens(self) -> None:
        self.loop.watch.count_from_here()

    def epoch_ends(self, logs: Mapping[str, float]) -> bool:
        self.rows = self.loop.watch.rows()
        return super().epoch_ends(logs)


def driven(name: str, loop: str, precision: str = "float32") -> tuple[Case, Built, Loop, Counting]:
    from fmnist_models.loops import LOOPS

    case, found, work = built(name, loop, precision)
    driver = LOOPS[loop](work)
    driver.warm_up()
    counting = Counting(driver)
    driver.train(counting, 1)
    return case, found, driver, counting


# Samples as they are counted; None where there is nothing to count.
TRAINS = {
    "guide": ROWS,
    "other_keys": ROWS,
    "own_metrics": ROWS,
    "twice": 2 * ROWS,
    "own_optimizer": ROWS,
    "accumulating": ROWS,
    "halves": ROWS,
    "built": ROWS,
    "rows": ROWS,
    "wrapping": ROWS,
    "raw": None,
    "frozen_part": ROWS,
}
IN_OTHER_LOOPS = [("guide", "multistep"), ("own_metrics", "fit"), ("own_optimizer", "fit")]


@pytest.mark.filterwarnings("ignore:.*`build.*` was called on layer 'sub_classed:UserWarning")
@pytest.mark.parametrize(
    ("name", "loop"), [*((name, "compiled") for name in TRAINS), *IN_OTHER_LOOPS]
)
def test_it_trains_as_in_a_bare_fit(name: str, loop: str) -> None:
    start, expected, history = trained_bare(name)
    *_, driver, counting = driven(name, loop)
    found = driver.work.model.get_weights()
    assert distance(expected, start) > 0
    assert distance(expected, found) <= FLOAT32_TOLERANCE * distance(expected, start)
    assert counting.rows == TRAINS[name]
    (logs,) = counting.logs
    told = {key: value[-1] for key, value in history.items() if np.size(value[-1]) == 1}
    assert logs == pytest.approx(told, rel=1e-3)


def test_a_step_that_leaves_samples_out_is_seen() -> None:
    *_, counting = driven("skipping", "compiled")
    assert counting.rows == 3 * (BATCH // 2) + (ROWS % BATCH) // 2


def test_a_model_without_a_shape_is_built_for_the_one_that_it_takes() -> None:
    from fmnist_models.architectures import input_shape
    from fmnist_models.task import task_of

    assert input_shape(task_of("support.user_models:unbuilt").model) == (784,)
    assert input_shape(task_of("support.user_models:rows").model) == (28, 28)


@pytest.mark.parametrize(
    ("name", "loop", "reason"),
    [
        ("eager", "compiled", "runs eagerly, which nothing of --loops compiled does"),
        ("other_optimizer", "fit", "trains with RMSprop, not with the SGD"),
        ("strict_compile", "multistep", "let it take the arguments of keras.Model.compile"),
    ],
)
def test_what_a_loop_cannot_compile_is_said(name: str, loop: str, reason: str) -> None:
    with pytest.raises(UserError) as error:
        built(name, loop)
    assert reason in str(error.value)
    assert "\n" not in str(error.value)


def test_a_step_that_xla_cannot_compile_is_said() -> None:
    with pytest.raises(UserError, match=r"choose --loops fit: .*PyFunc"):
        driven("calling", "compiled")


def test_a_step_may_run_eagerly_in_fit() -> None:
    _, _, driver, counting = driven("eager", "fit")
    assert driver.watch.eager
    assert driver.traces == 0
    assert counting.rows == ROWS


def computed(name: str, precision: str) -> Computed:
    """What a step computes in, by its trace alone."""
    import tensorflow as tf

    from bench.worker import training
    from fmnist_models.loops import LOOPS

    case, found, work = built(name, "compiled", precision)
    loop = LOOPS["compiled"](work)
    loop.program.get_concrete_function(loop.resident, tf.range(work.samples))
    return training.check_precision(case, loop, found.left_policy)


@pytest.mark.parametrize(
    ("name", "precision", "least", "most", "warning"),
    [
        ("guide", "float32", 1, 1, ""),
        ("guide", "mixed_bfloat16", 1, 1, ""),
        ("unbuilt", "mixed_bfloat16", 1, 1, ""),
        ("recurrent", "mixed_bfloat16", 1, 1, ""),
        # 784 x 8 twice, for its input has no gradient, and 8 x 10 three times.
        ("float32_output", "mixed_bfloat16", 12544 / 12784, 12544 / 12784, ""),
        ("float32_activation", "mixed_bfloat16", 1, 1, "active computes in float32: 100%"),
        ("float32_hidden", "mixed_bfloat16", 0.89, 0.90, "hidden computes in float32: 90%"),
        ("frozen_part", "mixed_float16", 1, 1, ""),
    ],
)
def test_the_share_is_that_of_the_products(
    name: str, precision: str, least: float, most: float, warning: str
) -> None:
    found = computed(name, precision)
    assert least <= found.share <= most
    assert " ".join(found.warnings).startswith(warning)
    assert bool(found.warnings) == bool(warning)


@pytest.mark.parametrize(
    ("name", "precision", "reason"),
    [
        (
            "cleared",
            "mixed_bfloat16",
            "hidden, output compute in float32: 0% of the multiply-adds "
            "are in bfloat16, at least 50% must be for mixed_bfloat16; the builder left the dtype "
            "policy float32",
        ),
        ("policy_of_its_own", "mixed_bfloat16", "the builder left the dtype policy float32"),
        ("half_policy_of_its_own", "float32", "hidden computes in bfloat16, not float32"),
        ("nested_float32", "mixed_bfloat16", "inside computes in float32: 2% of the multiply-adds"),
        ("casting_up", "mixed_bfloat16", "cast computes in float32: 2% of the multiply-adds"),
        ("casting_down", "float32", "cast computes in bfloat16: 2% of the multiply-adds"),
        ("casting_double", "mixed_bfloat16", "cast computes in float64: 2%"),
        ("double", "float32", "output/kernel is float64, not float32"),
        ("guide", "mixed_float16", "the loss is not scaled, which mixed_float16 needs"),
        ("unscaled", "mixed_float16", "the loss is not scaled, which mixed_float16 needs"),
    ],
)
def test_another_precision_than_the_case_says_is_invalid(
    name: str, precision: str, reason: str
) -> None:
    with pytest.raises(Invalid) as error:
        computed(name, precision)
    assert reason in str(error.value)


AUTO_MIXED = (
    "auto_mixed_precision",
    "auto_mixed_precision_mkl",
    "auto_mixed_precision_onednn_bfloat16",
)


@pytest.fixture
def plain_settings() -> Iterator[Any]:
    import tensorflow as tf

    yield tf
    tf.config.experimental.enable_tensor_float_32_execution(False)
    tf.config.optimizer.set_experimental_options(dict.fromkeys(AUTO_MIXED, False))


def test_settings_that_change_the_precision_behind_the_program_are_seen(
    plain_settings: Any,
) -> None:
    from bench.worker.tensorflow.framework import FRAMEWORK

    tf = plain_settings
    tf.config.experimental.enable_tensor_float_32_execution(False)
    FRAMEWORK.refuse_settings("float32")
    tf.config.experimental.enable_tensor_float_32_execution(True)
    FRAMEWORK.refuse_settings("tf32")
    with pytest.raises(Invalid, match="turned TF32 on in a float32 case"):
        FRAMEWORK.refuse_settings("float32")
    tf.config.experimental.enable_tensor_float_32_execution(False)
    for name in AUTO_MIXED:
        tf.config.optimizer.set_experimental_options({name: True})
        with pytest.raises(Invalid, match=f"turned on {name}, "):
            FRAMEWORK.refuse_settings("float32")
        tf.config.optimizer.set_experimental_options({name: False})
    FRAMEWORK.refuse_settings("float32")


def test_the_file_of_a_model_is_read_once_the_model_is_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever saves it while the launch trains changes the next launch, not the record of this."""
    import hashlib

    import tensorflow as tf

    from bench.machine.loaded import loaded_files
    from bench.worker import training
    from bench.worker.tensorflow.device import TensorFlowDevice

    file = tmp_path / "own_saved.py"
    file.write_text(
        "import keras\n\ndef small():\n"
        "    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, 'softmax')])\n"
    )
    then = hashlib.sha256(file.read_bytes()).hexdigest()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    tf.config.experimental.enable_tensor_float_32_execution(False)
    case = Case("own_saved:small", "sgd", "fit", "cpu", BATCH)
    training.built_work(
        LaunchRequest(case, 0, 1, 1, 7), images(), TensorFlowDevice(tf, "cpu", "float32")
    )
    file.write_text("another")
    assert loaded_files([case.model])["own_saved"][1] == then


def test_outputs_that_the_loss_takes_for_probabilities_are_such_or_the_row_warns() -> None:
    warned = {
        name: [line for line in built(name)[1].warnings if "no probabilities" in line]
        for name in ("logits", "own_logits", "guide", "rows")
    }
    assert {name: len(lines) for name, lines in warned.items()} == {
        "logits": 1,
        "own_logits": 0,
        "guide": 0,
        "rows": 0,
    }
    assert "end it with softmax" in warned["logits"][0]


def test_a_file_that_is_not_there_is_said_plainly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fmnist_models.own import find_function

    monkeypatch.chdir(tmp_path)
    told = r"^model 'none\.py:f': there is no file none\.py: give its path from "
    with pytest.raises(UserError, match=told):
        find_function("model", "none.py:f", "a model")
    (tmp_path / "json.py").write_text("def f(): pass")
    with pytest.raises(UserError, match=r"^model 'json\.py:f': a module 'json' is loaded already"):
        find_function("model", "json.py:f", "a model")


@pytest.mark.usefixtures("packages")
@pytest.mark.parametrize("line", ["from own_a.own_b.near import WORD", "from .near import WORD"])
def test_a_file_in_a_package_imports_its_package(tmp_path: Path, line: str) -> None:
    from fmnist_models.own import find_function

    (tmp_path / "own_a" / "own_b" / "own_file.py").write_text(f"{line}\ndef f(): return WORD")
    name = "own_a/own_b/own_file.py:f"
    assert find_function("model", name, "a model")() == "near"
    assert sys.modules["own_file"] is sys.modules["own_a.own_b.own_file"]
    assert sys.path[:1] == [str(tmp_path)]


@pytest.mark.usefixtures("packages")
def test_a_file_imports_from_the_working_directory(tmp_path: Path) -> None:
    from fmnist_models.own import find_function

    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "own_script.py").write_text(
        "from own_a.own_b.near import WORD\ndef f(): return WORD"
    )
    assert find_function("model", "scripts/own_script.py:f", "a model")() == "near"
    assert sys.path[:2] == [str(tmp_path / "scripts"), str(tmp_path)]


@pytest.mark.usefixtures("packages")
def test_a_file_in_a_package_of_a_taken_name_is_searched_as_a_folder(tmp_path: Path) -> None:
    from fmnist_models.own import find_function

    for name in ("bench", "json"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").touch()
        (tmp_path / name / "own_late.py").write_text("def f(): return 'late'")
    assert find_function("model", "bench/own_late.py:f", "a model")() == "late"
    del sys.modules["own_late"]
    with pytest.raises(UserError, match=r"a package 'json' is loaded already, which is another"):
        find_function("model", "json/own_late.py:f", "a model")


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    inner = tmp_path / "own_a" / "own_b"
    inner.mkdir(parents=True)
    for folder in (inner, inner.parent):
        (folder / "__init__.py").touch()
    (inner / "near.py").write_text("WORD = 'near'")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]
