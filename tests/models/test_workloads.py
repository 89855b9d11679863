"""A user's own work trains alike in each loop, or one line says what to change."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from numpy.typing import NDArray
from support.fake_torch import torch_modules
from support.loops import Recorder, distance, launch_images
from support.workloads import ROWS, SEEN

from bench.machine import hardware
from bench.schema.case import Case
from bench.schema.requests import LaunchRequest
from fmnist_models import Synthetic
from fmnist_models.arrays import Arrays
from fmnist_models.errors import Unsupported, UserError
from fmnist_models.stream import Stream

if TYPE_CHECKING:
    from bench.worker.training import Built
    from fmnist_models.loops.base import Loop

BATCH, EPOCHS = 16, 2
TOLERANCE = 1e-4


@pytest.fixture(autouse=True)
def eager_again() -> Iterator[None]:
    yield
    import tensorflow as tf

    tf.config.run_functions_eagerly(False)


def built(name: str, loop: str, optimizer: str = "sgd", **more: Any) -> Built:
    import tensorflow as tf

    from bench.worker import training
    from bench.worker.tensorflow.device import TensorFlowDevice

    tf.config.experimental.enable_tensor_float_32_execution(False)
    case = Case(f"support.workloads:{name}", optimizer, loop, "cpu", BATCH)
    request = LaunchRequest(case, 0, 1, EPOCHS, 7, **more)
    return training.built_work(request, launch_images(), TensorFlowDevice(tf, "cpu", "float32"))


def trained(
    name: str, loop: str, optimizer: str = "sgd", **more: Any
) -> tuple[list[NDArray[Any]], list[NDArray[Any]], Recorder, Loop]:
    """Weights before and after, what the loop told, and the loop; in the given order of rows."""
    from fmnist_models.loops import LOOPS

    work = replace(built(name, loop, optimizer, **more).work, shuffle=False)
    driver = LOOPS[loop](work)
    before = [np.array(w) for w in work.model.get_weights()]
    driver.warm_up()
    recorder = Recorder(EPOCHS)
    driver.train(recorder, EPOCHS)
    return before, [np.array(w) for w in work.model.get_weights()], recorder, driver


ALIKE = [
    "plain",
    "weighted",
    "class_weighted",
    "ignoring",
    "own_loss",
    "one_hot",
    "branches",
    "bytes_in",
    "scheduled",
    "own_step",
]


@pytest.mark.parametrize("name", ALIKE)
def test_each_loop_trains_the_same(name: str) -> None:
    start, expected, told, _ = trained(name, "fit")
    assert distance(start, expected) > 0
    for loop in ("multistep", "compiled"):
        before, found, also, _ = trained(name, loop)
        assert distance(start, before) == 0
        assert distance(expected, found) <= TOLERANCE * distance(start, expected), loop
        for one, other in zip(told.logs, also.logs, strict=True):
            assert numbers(other) == pytest.approx(numbers(one), rel=1e-3)


def numbers(logs: dict[str, float]) -> dict[str, float]:
    """The logs without the losses of single outputs.

    Keras weighs these by the rows of a batch only where its trace knows them, so in `fit` a last
    partial batch counts as a full one there.
    """
    return {name: value for name, value in logs.items() if not name.endswith("_loss")}


@pytest.mark.parametrize("name", ["compiled", "compiled_workload", "added_loss", "fitted"])
def test_a_compiled_model_keeps_its_own_optimizer_in_each_loop(name: str) -> None:
    start, expected, _, fit = trained(name, "fit", "own")
    assert distance(start, expected) > 0
    assert fit.work.model.steps_per_execution == (3 if name == "compiled" else 1)
    for loop in ("multistep", "compiled"):
        before, found, _, driver = trained(name, loop, "own")
        assert distance(start, before) == 0
        assert distance(expected, found) <= TOLERANCE * distance(start, expected)
        assert type(driver.work.model.optimizer) is type(fit.work.model.optimizer)
        assert driver.traces > 0 < fit.traces


@pytest.mark.parametrize("name", ["inner_negative", "inner_large"])
def test_a_step_of_inner_models_takes_any_numbers_to_predict(name: str) -> None:
    start, end, _, _ = trained(name, "fit")
    assert distance(start, end) > 0


def test_a_step_of_inner_models_has_the_metrics_of_all_its_classes() -> None:
    _, _, told, _ = trained("inner_sorted", "fit")
    _, _, called, _ = trained("inner_sorted_called", "fit")
    assert told.logs == called.logs


# So Keras says of a stream whose length it does not know.
@pytest.mark.filterwarnings("ignore:Your input ran out of data:UserWarning")
@pytest.mark.parametrize("name", ["dataset_stream", "py_dataset", "grain_dataset", "grain_loader"])
def test_a_stream_trains_like_its_rows_in_memory(name: str) -> None:
    assert apart_from_its_rows(name) <= TOLERANCE


def test_a_torch_loader_trains_like_its_rows_in_memory() -> None:
    pytest.importorskip("torch")
    assert apart_from_its_rows("torch_loader") <= TOLERANCE


def test_what_keras_takes_for_a_torch_loader_trains_like_its_rows_in_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without PyTorch: Keras's own adapter reads it. Nothing of PyTorch's own is tested."""
    for name, module in torch_modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    assert apart_from_its_rows("torch_loader") <= TOLERANCE


def apart_from_its_rows(name: str) -> float:
    """How far a stream with the rows of `plain` trains from them, as a share of the way trained.

    It is the largest share of the loops. What the loops tell, and evaluations, must be alike.
    """
    from bench.worker.evaluation import Evaluations

    start, expected, told, _ = trained("plain", "fit")
    before, found, also, loop = trained(name, "fit")
    assert distance(start, before) == 0
    shares = [distance(expected, found) / distance(start, expected)]
    assert also.events == told.events
    assert loop.work.samples is None
    for other in ("multistep", "compiled"):
        _, found, _, _ = trained(name, other, cache_stream=other == "compiled")
        shares.append(distance(expected, found) / distance(start, expected))
    streamed, plain = (
        Evaluations(built(which, "fit"), BATCH, dict, scored=True).of_validation()
        for which in (name, "plain")
    )
    assert streamed == pytest.approx(plain, rel=1e-5)
    # Not `max`, which passes over NaN.
    return float(np.max(shares))


@pytest.mark.parametrize(
    ("name", "more"),
    [("dataset_by_xla", {}), ("dataset_by_xla", {"steps": 5}), ("py_dataset_by_xla", {})],
)
def test_xla_compiles_the_smaller_last_batch_of_a_stream_in_the_warm_up(
    name: str, more: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    import keras
    import tensorflow as tf

    from fmnist_models.loops import LOOPS

    loop = LOOPS["fit"](built(name, "fit", "own", **more).work)
    fit, told = keras.Model.fit, []

    def noted(model: Any, x: Any, **words: Any) -> Any:
        """`fit`, after a note of the traces so far, and of the rows of its batches."""
        if isinstance(x, tf.data.Dataset):
            told.append((loop.traces, [len(batch[0]) for batch in x.take(20)]))
        return fit(model, x, **words)

    monkeypatch.setattr(keras.Model, "fit", noted)
    loop.warm_up()
    traces, rows = told[-1]
    assert rows == [ROWS % BATCH]
    loop.train(Recorder(EPOCHS), EPOCHS)
    assert loop.traces == traces


@pytest.mark.parametrize("name", ["plain", "endless", "dataset_stream"])
def test_a_round_of_steps_has_these_steps(name: str) -> None:
    _, _, _, loop = trained(name, "fit", steps=4)
    assert int(loop.work.model.optimizer.iterations) == 4 * EPOCHS
    if name == "plain":
        assert trained(name, "compiled", steps=4)[3].work.samples == 4 * BATCH


def test_callbacks_see_validation_and_do_not_end_the_training() -> None:
    class Validates(Recorder):
        def epoch_ends(self, logs: Any) -> bool:
            logs["val_accuracy"] = 0.5
            return super().epoch_ends(logs)

    from fmnist_models.loops import LOOPS

    for name in ("fit", "compiled"):
        loop = LOOPS[name](built("scheduled", name).work)
        loop.warm_up()
        recorder = Validates(EPOCHS)
        loop.train(recorder, EPOCHS)
        assert len(recorder.logs) == EPOCHS
        assert list(loop.notes) == [
            "a callback asked to end the training early, and the case went on"
        ]
        assert SEEN[-1] == ["accuracy", "learning_rate", "loss", "val_accuracy"]
        assert float(loop.work.model.optimizer.learning_rate) == pytest.approx(0.05)
        assert len(SEEN) >= EPOCHS


SKIPPED = {
    ("each_batch", "compiled"): "Counts must see each batch",
    ("each_batch_by_lambda", "compiled"): "LambdaCallback must see each batch",
    ("dataset_stream", "compiled"): "add --cache-stream",
    ("runs_eagerly", "compiled"): "runs eagerly",
    ("runs_eagerly", "multistep"): "runs eagerly",
}


@pytest.mark.parametrize(("name", "loop"), SKIPPED)
def test_what_a_loop_cannot_do_is_skipped_with_a_remedy(name: str, loop: str) -> None:
    with pytest.raises(Unsupported, match=SKIPPED[name, loop]) as error:
        trained(name, loop)
    assert "choose --loops fit" in str(error.value)


def test_streams_to_evaluate_have_batches_of_any_size() -> None:
    from bench.worker.evaluation import Evaluations
    from bench.worker.inspection import facts_of

    work = built("streamed_validation", "fit")
    evaluations = Evaluations(work, BATCH, dict, scored=True)
    assert 0 <= evaluations.of_validation()["accuracy"] <= 1
    assert 0 <= evaluations.of_test()["accuracy"] <= 1
    facts = facts_of("support.workloads:streamed_validation", launch_images())
    assert (facts.reason, facts.samples, facts.stream) == ("", 150, False)


@pytest.mark.parametrize(
    ("name", "steps", "fits"),
    [("endless", 4, 100), ("py_dataset", 5, 10), ("dataset_stream", 5, 10)],
)
def test_a_round_that_ends_within_a_call_is_skipped(name: str, steps: int, fits: int) -> None:
    told = f"--steps {steps}: .* takes 100 batches .* name --steps {fits}, or choose --loops fit"
    with pytest.raises(Unsupported, match=told):
        trained(name, "multistep", steps=steps)


@pytest.mark.parametrize("name", ["py_dataset", "dataset_stream"])
def test_as_many_steps_as_the_stream_has_batches_are_an_epoch(name: str) -> None:
    loop = trained(name, "multistep", steps=10)[3]
    assert int(loop.work.model.optimizer.iterations) == 10 * EPOCHS


TRIES = [
    (name, loop, size)
    for name in ("plain", "py_dataset", "dataset_stream")
    for loop in ("fit", "multistep", "compiled")
    for size in (32, 150)
    if loop != "compiled" or name == "plain"
]


@pytest.mark.parametrize(("name", "loop", "size"), TRIES)
def test_a_try_has_all_data_and_trains_for_one_call(
    name: str, loop: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 32 are five, of which the last is smaller; of 150 there is one."""
    import tensorflow as tf

    from bench.worker import trying
    from bench.worker.tensorflow.device import TensorFlowDevice

    # The tests' process has its devices already.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    monkeypatch.setattr(TensorFlowDevice, "configure", lambda _: None)
    seen: list[Built] = []
    make = trying.built_work

    def noted(*words: Any) -> Built:
        seen.append(make(*words))
        return seen[0]

    monkeypatch.setattr(trying, "built_work", noted)
    case = Case(f"support.workloads:{name}", "sgd", loop, "cpu", size)
    told: list[dict[str, Any]] = []
    trying.try_batch(LaunchRequest(case, 0, 1, 1, 7, one_call=True), launch_images(), told.append)
    assert [message["kind"] for message in told] == ["result"]
    work = seen[0].work
    assert work.samples == (150 if name == "plain" else None)
    steps = {"fit": 1, "multistep": 5, "compiled": 3}[loop] if size == 32 else 1
    assert int(work.model.optimizer.iterations) == steps


def test_callbacks_are_told_the_same_in_each_loop() -> None:
    import keras

    from fmnist_models.loops import LOOPS

    told = {}
    for name in ("fit", "compiled"):

        class Told(keras.callbacks.Callback):
            ends: tuple[str, ...] = ()

            def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
                self.share = epoch / self.params["epochs"]

            def on_train_end(self, logs: Any = None) -> None:
                self.ends = tuple(sorted(logs))

        callback = Told()
        loop = LOOPS[name](replace(built("plain", name).work, callbacks=[callback]))
        loop.warm_up()
        loop.train(Recorder(EPOCHS), EPOCHS)
        epochs = loop.work.model.history.epoch
        told[name] = (callback.params, callback.share, callback.ends, epochs)
    assert told["compiled"] == told["fit"]
    assert told["fit"][0] == {"verbose": 0, "epochs": EPOCHS, "steps": 10}
    assert told["fit"][2:] == (("accuracy", "loss"), [0, 1])


def test_compiled_takes_keras_callbacks_that_wait_for_epochs(tmp_path: Path) -> None:
    import keras

    from fmnist_models.loops import LOOPS
    from fmnist_models.loops.callbacks import sees_batches

    known = keras.callbacks
    saved = tmp_path / "saved.keras"
    callbacks = [
        known.ModelCheckpoint(saved, monitor="loss"),
        known.BackupAndRestore(tmp_path / "backup"),
    ]
    work = built("plain", "compiled").work
    loop = LOOPS["compiled"](replace(work, callbacks=callbacks))
    loop.warm_up()
    loop.train(Recorder(EPOCHS), EPOCHS)
    assert saved.exists()
    assert not sees_batches(known.TensorBoard(tmp_path))

    class Counts(keras.callbacks.ModelCheckpoint):
        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self.seen = batch

    for callback in (
        known.ModelCheckpoint(saved, save_freq=10),
        known.TensorBoard(tmp_path, update_freq=5),
        known.TerminateOnNaN(),
        Counts(saved),
    ):
        with pytest.raises(Unsupported, match=f"{type(callback).__name__} must see each batch"):
            LOOPS["compiled"](replace(work, callbacks=[callback]))


REFUSED = {
    "nothing": "returned None",
    "a_class": "returned the class Model",
    "a_dictionary": "returned dict",
    "raises": r"raised KeyError: 'weights.npz' \(workloads.py, line \d+\)",
    "leaves": r"called sys.exit\(3\): end it with `return`",
    "no_loss": "has no loss",
    "compiled_twice": "is compiled already",
    "sideways": "better='up'",
    "unequal": "arrays of 149 and 150 rows",
    "empty": "train is empty",
    "not_a_number": "holds NaN",
    "objects": "of type object",
    "texts": "is text",
    "ragged": "the same shape|which is no array",
    "wrong_labels": "train: its labels go from 5 to 7, and the model has 3 outputs",
    "wrong_inputs": r"train does not fit the model.* raised ValueError: Input 0 .* have value 5",
    "wrong_outputs": "its first training step raised .*see that outputs, labels",
    "empty_stream": "the stream is empty",
    "other_batches": "batches of 10, and the case has 16: give the function a parameter batch_size",
    "short_stream": "batches of 10, and the case has 16: let the function make batches of its ",
    "no_stream": "returned an object of type int",
    "opened_stream": "give the function that returns it",
    "failing_stream": "called without arguments, raised OSError: no such file: pictures.tar",
    "failing_stream_of_size": "called with batch_size=16, raised ValueError: batch_size must be",
    "endless": "never ends",
    "too_large": "do not fit into the memory",
    "unlabelled": r"train has no labels: write \(inputs, labels\)",
    "weighted_inputs": "train has weights without labels, which Model.fit leaves out: ",
    "wrong_validation": "validation: its labels go from 5 to 7",
    "narrow_validation": "validation does not fit the model",
    "endless_validation": "validation: the stream never ends, .* let it end",
    "worded_score": "score=None: must be the name of a metric",
    "worded_target": "target='high': must be a finite number",
    "worded_weights": r"write \{class: weight\}",
    "other_callbacks": "write a list of keras.callbacks.Callback",
    "interrupts": r"raised KeyboardInterrupt \(workloads.py, line \d+\)",
    "needs_memory": "raised ResourceExhaustedError: OOM .* make the model, .* smaller",
}


@pytest.mark.parametrize("name", REFUSED)
def test_work_that_cannot_be_trained_is_one_line_that_names_it(name: str) -> None:
    from bench.worker.training import warm_up
    from fmnist_models.loops import LOOPS

    def begin() -> None:
        """The start of a launch."""
        made = built(name, "fit")
        warm_up(made, LOOPS["fit"](made.work))

    with pytest.raises(UserError, match=REFUSED[name]) as error:
        begin()
    assert f"support.workloads:{name}" in str(error.value)
    assert "\n" not in str(error.value)


FAILING = {
    "failing_callback": r"OSError: not logged in \(workloads.py, line \d+\)$",
    "breaking_stream": r"UnknownError: OSError: the disk is gone \(workloads.py, line \d+\)$",
}


@pytest.mark.parametrize("name", FAILING)
def test_an_error_while_it_trains_names_the_model_and_the_line(name: str) -> None:
    from bench.worker.training import named_errors

    case = Case(f"support.workloads:{name}", "sgd", "fit", "cpu", BATCH)
    told = rf"^model 'support.workloads:{name}': its training raised {FAILING[name]}"
    with pytest.raises(UserError, match=told), named_errors(case):
        trained(name, "fit")


def test_an_error_of_a_documented_case_is_the_suites() -> None:
    from bench.worker.training import named_errors

    with pytest.raises(ZeroDivisionError), named_errors(Case("softmax", "sgd", "fit")):
        raise ZeroDivisionError


def test_training_without_evaluations_must_tell_the_score_itself() -> None:
    from bench.worker.evaluation import Evaluations

    logs = {"accuracy": 0.5, "loss": 1.0}

    def evaluations(name: str, *, scored: bool) -> Evaluations:
        return Evaluations(built(name, "fit"), BATCH, dict, scored=scored)

    told = "unscored' reports accuracy, loss, and no 'f1', .* name one of these as score="
    with pytest.raises(UserError, match=told):
        evaluations("unscored", scored=True).check_training(logs)
    evaluations("unscored", scored=True).check_training({**logs, "f1": 0.5})
    evaluations("other_score", scored=True).check_training(logs)
    evaluations("unscored", scored=False).check_training(logs)


def test_a_stream_too_large_to_cache_says_what_to_leave_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "memory_available_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"memory.*leave --cache-stream out, or name fewer --steps"):
        built("dataset_stream", "fit", cache_stream=True)


def test_made_data_that_the_control_group_has_no_memory_for_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(hardware, "memory_available_bytes", lambda: 1000)
    with pytest.raises(UserError, match=r"Synthetic data do not fit into the memory.* fewer rows"):
        built("synthetic", "fit")


@pytest.mark.parametrize("name", ["prints", "threads", "reads_arguments", "clears", "synthetic"])
def test_harmless_habits_of_a_function_are_allowed(name: str) -> None:
    before, after, _, _ = trained(name, "fit")
    assert distance(before, after) > 0


def test_an_optimizer_of_its_own_is_of_compiled_models_alone() -> None:
    with pytest.raises(UserError, match="is not compiled, so it has no optimizer of its own"):
        built("plain", "fit", "own")
    with pytest.raises(UserError, match="leave --optimizers out"):
        built("compiled", "fit", "sgd")


def test_more_steps_than_an_epoch_has_are_refused() -> None:
    from fmnist_models.data import of_rounds

    with pytest.raises(UserError, match=r"--steps 50: an epoch of .* has 9 whole batches of 16"):
        built("plain", "fit", steps=50)
    with pytest.raises(UserError, match=r"does not divide the 10 batches .* --steps 2$"):
        built("py_dataset", "fit", steps=4)
    data = built("py_dataset", "fit").work.data
    assert isinstance(data, Stream)
    prime = replace(data, batches=7)
    with pytest.raises(UserError, match=r"does not divide the 7 batches .* --steps 7$"):
        of_rounds("mine", prime, 4, BATCH)


def test_equal_work_has_equal_digests_and_other_work_has_others() -> None:
    from bench.worker.digests import UNKNOWN, digest_of_model

    one, again = built("plain", "fit"), built("plain", "compiled", "adam")
    other, branched = built("weighted", "fit"), built("branches", "fit")
    assert one.data_digest == again.data_digest != other.data_digest
    assert digest_of_model(one.task) == digest_of_model(again.task)
    assert digest_of_model(one.task) != digest_of_model(branched.task)
    assert built("dataset_stream", "fit").data_digest == UNKNOWN


class TestSynthetic:
    def made(self, place: int = 0, **words: Any) -> tuple[Any, NDArray[Any]]:
        from fmnist_models.synthetic import made

        wanted = Synthetic(**words)
        return made("mine: train", wanted, place, wanted, None)

    def test_it_is_the_same_again(self) -> None:
        one, other = self.made(shapes=(4, 4), rows=64), self.made(shapes=(4, 4), rows=64)
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1], other[1])
        assert not np.array_equal(one[0], self.made(shapes=(4, 4), rows=64, seed=1)[0])

    def test_validation_has_other_rows_of_the_same_rule(self) -> None:
        """A linear rule that is fitted on training data predicts the test data."""
        words: dict[str, Any] = {"shapes": (6,), "classes": None, "rows": 400}
        (x, y), (test_x, test_y) = self.made(**words), self.made(2, **words)
        assert len(test_x) == 100
        weights = np.linalg.lstsq(x, y, rcond=None)[0]
        assert np.abs(test_x @ weights - test_y).mean() < 0.2 < np.abs(test_y).mean()

    @pytest.mark.parametrize("name", ["equal_validation", "other_validation"])
    def test_validation_of_its_own_has_other_rows_of_the_same_rule(self, name: str) -> None:
        work = built(name, "fit")
        train, validation, test = work.work.arrays, work.validation, work.test
        assert isinstance(validation, Arrays)
        assert isinstance(test, Arrays)
        assert (train.rows, validation.rows, test.rows) == (256, 256, 64)
        assert not np.isin(train.x[:, 0], validation.x[:, 0]).any()
        means = np.stack([train.x[train.y == label].mean(axis=0) for label in range(3)])
        found = ((validation.x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        assert (found == validation.y).mean() > 0.8

    @pytest.mark.parametrize("classes", [4, None])
    @pytest.mark.parametrize("dtype", ["uint8", "int32", "float32"])
    def test_its_memory_is_that_of_the_result_and_a_block(
        self, dtype: str, classes: int | None
    ) -> None:
        import tracemalloc

        tracemalloc.start()
        x, y = self.made(shapes=(2**10,), dtypes=dtype, vocabulary=200, classes=classes, rows=2**12)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < x.nbytes + y.nbytes + 2**24

    def test_classes_can_be_told_apart(self) -> None:
        x, y = self.made(shapes=(50,), classes=4, rows=800)
        test_x, test_y = self.made(1, shapes=(50,), classes=4, rows=800)
        means = np.stack([x[y == label].mean(axis=0) for label in range(4)])
        found = ((test_x[:, None] - means) ** 2).sum(axis=2).argmin(axis=1)
        assert (found == test_y).mean() > 0.8

    def test_words_tell_of_their_class(self) -> None:
        x, y = self.made(shapes=(20,), dtypes="int32", classes=2, vocabulary=100, rows=600)
        counts = np.stack([np.bincount(x[y == k].ravel(), minlength=100) for k in (0, 1)])
        found = np.log(counts + 1)[:, x].sum(axis=2).argmax(axis=0)
        assert x.dtype == np.int32
        assert (found == y).mean() > 0.95

    def test_several_inputs_keep_their_form(self) -> None:
        shapes = {"a": (3,), "b": (2, 2)}
        x, _ = self.made(shapes=shapes, dtypes={"a": "float32", "b": "int64"}, rows=8)
        assert {name: (value.shape, value.dtype.name) for name, value in x.items()} == {
            "a": ((8, 3), "float32"),
            "b": ((8, 2, 2), "int64"),
        }
        assert isinstance(self.made(shapes=((3,), (4,)), rows=8)[0], tuple)

    @pytest.mark.parametrize(
        ("words", "line"),
        [
            ({"shapes": (4,), "dtypes": "complex64"}, "must be floats or integers"),
            ({"shapes": (4,), "dtypes": "nonsense"}, "name a type of NumPy"),
            ({"shapes": {"a": "x"}}, "a shape is a tuple of sizes"),
            ({"shapes": (4,), "dtypes": "int8", "vocabulary": 1000}, "does not fit into int8"),
        ],
    )
    def test_a_wrong_description_is_one_line(self, words: dict[str, Any], line: str) -> None:
        with pytest.raises(UserError, match=line):
            self.made(**words)

    def test_bounds_of_its_numbers(self) -> None:
        for words in ({"classes": 1}, {"rows": 3}, {"vocabulary": 1}):
            with pytest.raises(UserError, match=next(iter(words))):
                Synthetic(shapes=(1,), **words)
