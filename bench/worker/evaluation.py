"""Evaluates the model of a launch on its validation and test data."""

from __future__ import annotations

import numpy as np

from bench.worker.training import Built
from fmnist_models.arrays import Arrays
from fmnist_models.data import Data
from fmnist_models.errors import UserError
from fmnist_models.loops.base import read_logs
from fmnist_models.stream import Stream

EVALUATION_BATCH = 2000
# Large samples are evaluated in smaller batches, of about this size.
_BATCH_BYTES = 2**25


class Evaluations:
    """The evaluations of one launch.

    Args:
        built: the work.
        batch_size: samples of a training step, which fit the memory.
        scored: False where nothing is judged; then nothing is evaluated.
    """

    def __init__(self, built: Built, batch_size: int, *, scored: bool) -> None:
        self._task = built.task
        self._batch_size = batch_size
        self._validation = built.validation if scored else None
        self._test = built.test if scored else None

    def warm_up(self) -> None:
        """Trace the evaluations, so that none is traced between rounds."""
        for data in (self._validation, self._test):
            if isinstance(data, Arrays):
                size = evaluation_batch(data, self._batch_size)
                full, rest = divmod(data.rows, size)
                self._evaluate(data.first(min(full, 1) * size + rest))
            elif data is not None:
                self._evaluate(data.head)
        self._task.model.reset_metrics()

    def of_validation(self) -> dict[str, float]:
        """Loss and metrics on the validation data; empty without such data.

        Raises:
            UserError: the model does not report the score.
        """
        return self._evaluate(self._validation)

    def of_test(self) -> dict[str, float]:
        """Loss and metrics on the test data; empty without such data.

        Raises:
            UserError: the model does not report the score.
        """
        return self._evaluate(self._test)

    def _evaluate(self, data: Data | None) -> dict[str, float]:
        """The accuracy on the embedded images is computed where the model reports none."""
        if data is None:
            return {}
        model, score = self._task.model, self._task.score
        if isinstance(data, Stream):
            logs = read_logs(model.evaluate(data.open(), verbose=0, return_dict=True))
        else:
            size = evaluation_batch(data, self._batch_size)
            told = model.evaluate(
                data.x,
                data.y,
                sample_weight=data.sample_weight,
                batch_size=size,
                verbose=0,
                return_dict=True,
            )
            logs = read_logs(told)
            if self._task.images and score not in logs:
                predicted = model.predict(data.x, batch_size=size, verbose=0)
                logs[score] = float(np.mean(np.argmax(predicted, axis=-1) == data.y))
        if score not in logs:
            raise UserError(
                f"model {self._task.name!r} reports {', '.join(sorted(logs)) or 'nothing'}, and no "
                f"{score!r}, which is to judge it: name one of these as score="
            )
        return logs


def evaluation_batch(data: Arrays, batch_size: int) -> int:
    """Rows of a batch of an evaluation: many, as long as they are small.

    Args:
        data: the data.
        batch_size: samples of a training step, which fit the memory.
    """
    row_bytes = max(1, data.nbytes // data.rows)
    return max(batch_size, min(EVALUATION_BATCH, _BATCH_BYTES // row_bytes))
