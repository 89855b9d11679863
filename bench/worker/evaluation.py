"""Evaluates the model of a launch on its validation and test data."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from bench.worker.training import Built
from fmnist_models.arrays import Arrays
from fmnist_models.data import Data
from fmnist_models.errors import UserError
from fmnist_models.loops.base import read_logs
from fmnist_models.loops.framework import framework
from fmnist_models.own import raised
from fmnist_models.stream import Stream

# Rows of a batch of the embedded images, which are small.
_IMAGES_A_BATCH = 2000


class Evaluations:
    """The evaluations of one launch.

    Args:
        built: the work.
        batch_size: samples of a training step. A user's own work is evaluated with as many, because
            they are known to fit the memory, and a model may be built for them alone.
        read_peaks: reads the peaks of memory so far.
        scored: False where nothing is judged; then nothing is evaluated.
    """

    def __init__(
        self,
        built: Built,
        batch_size: int,
        read_peaks: Callable[[], dict[str, int | None]],
        *,
        scored: bool,
    ) -> None:
        self._task = built.task
        self._replicas = built.work.replicas
        self._batch_size = max(batch_size, _IMAGES_A_BATCH) if built.task.images else batch_size
        self._read_peaks = read_peaks
        self._peaks: dict[str, int | None] | None = None
        self._unevaluated = scored and built.validation is None and built.test is None
        self._validation = built.validation if scored else None
        self._test = built.test if scored else None

    def warm_up(self) -> None:
        """Trace the evaluations, so that none is traced between rounds.

        Raises:
            UserError: the model does not report the score, or refuses a smaller last batch.
        """
        for what, data in (("validation", self._validation), ("test", self._test)):
            if isinstance(data, Arrays):
                self._warm_up(what, data)
            elif data is not None:
                # As the whole stream, whose sizes are not known.
                self._evaluate(data.head, of_a_stream=True)
        self._task.model.reset_metrics()

    def _warm_up(self, what: str, data: Arrays) -> None:
        size = self._batch_size
        full, rest = divmod(data.rows, size)
        try:
            self._evaluate(data.first(min(full, 1) * size + rest))
        except UserError:
            raise
        except Exception as error:
            if not full or not rest:
                raise
            # Where whole batches are refused too, their error is told.
            self._evaluate(data.first(size))
            raise UserError(
                f"{self._task.name}: {what}: its last batch has {rest} rows, not {size}, which the "
                f"model does not take: give a multiple of {size} rows ({raised(error)})"
            ) from error

    @property
    def peaks(self) -> dict[str, int | None]:
        """The peaks of memory before the first evaluation after the warm-up, or so far."""
        if self._peaks is None:
            self._peaks = self._read_peaks()
        return self._peaks

    @property
    def score(self) -> str:
        """The name of the score."""
        return self._task.score

    def check_training(self, logs: Mapping[str, float]) -> None:
        """Test the logs of a round, which alone have the score where nothing is evaluated.

        Raises:
            UserError: there are no data to evaluate, and the logs have no score.
        """
        if self._unevaluated:
            self._refuse_without_score(logs)

    def of_validation(self) -> dict[str, float]:
        """Loss and metrics on the validation data; empty without such data.

        Raises:
            UserError: the model does not report the score.
        """
        return self._after_peaks(self._validation)

    def of_test(self) -> dict[str, float]:
        """Loss and metrics on the test data; empty without such data.

        Raises:
            UserError: the model does not report the score.
        """
        return self._after_peaks(self._test)

    def _after_peaks(self, data: Data | None) -> dict[str, float]:
        """An evaluation; the peaks of memory are read before the first one."""
        if data is None:
            return {}
        self._peaks = self.peaks
        return self._evaluate(data)

    def _evaluate(self, data: Data, *, of_a_stream: bool = False) -> dict[str, float]:
        sizes = set() if of_a_stream else self._sizes(data)
        with framework().evaluating(self._replicas, sizes):
            logs = self._logs(data)
        self._refuse_without_score(logs)
        return logs

    def _sizes(self, data: Data) -> set[int]:
        """The sizes of the batches; none where they are not known."""
        if isinstance(data, Stream):
            return set()
        full, rest = divmod(data.rows, self._batch_size)
        return {size for size in (full and self._batch_size, rest) if size}

    def _logs(self, data: Data) -> dict[str, float]:
        """The accuracy on the embedded images is computed where the model reports none."""
        model, score = self._task.model, self._task.score
        if isinstance(data, Stream):
            logs = read_logs(model.evaluate(data.open(), verbose=0, return_dict=True))
        else:
            told = model.evaluate(
                data.x,
                data.y,
                sample_weight=data.sample_weight,
                batch_size=self._batch_size,
                verbose=0,
                return_dict=True,
            )
            logs = read_logs(told)
            if self._task.images and score not in logs:
                predicted = model.predict(data.x, batch_size=self._batch_size, verbose=0)
                logs[score] = float(np.mean(np.argmax(predicted, axis=-1) == data.y))
        return logs

    def _refuse_without_score(self, logs: Mapping[str, float]) -> None:
        if self._task.score not in logs:
            raise UserError(
                f"model {self._task.name!r} reports {', '.join(sorted(logs)) or 'nothing'}, and no "
                f"{self._task.score!r}, which is to judge it: name one of these as score="
            )
