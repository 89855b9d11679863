"""The launch of the logistic baseline."""

from __future__ import annotations

import time

from bench.schema.launch import Round
from bench.schema.requests import LaunchRequest
from bench.worker.memory import PeakMemory
from bench.worker.protocol import Emit
from fmnist_models import logistic
from fmnist_models.dataset import FashionMnist


def measure_logistic(request: LaunchRequest, raw: FashionMnist, emit: Emit) -> None:
    """Cross-validate and test the baseline; emits the messages of `bench.worker.launch.measure`."""
    memory = PeakMemory()
    fits = _Fits(emit)
    parameters, warnings = logistic.cross_validate_and_test(raw, fits)
    emit(
        {
            "kind": "result",
            "parameters": parameters,
            "test_score": fits.test_score,
            "peak_host_memory_bytes": memory.rise_bytes(),
            "warnings": warnings,
        }
    )


class _Fits:
    """The observer of the logistic baseline: each fit is a round."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._round = 0
        self._idle_since = time.perf_counter()
        self.test_score: float | None = None

    def fit_begins(self) -> None:
        """Start the clock."""
        self._opened = time.perf_counter()

    def fit_ends(self, samples: int, passes: int, updates: int) -> None:
        """Stop the clock."""
        self._seconds = time.perf_counter() - self._opened
        self._work = (samples * passes, updates)

    def fold_scored(self, accuracy: float) -> None:
        """Report the fold as a round."""
        self._report(accuracy)

    def scored_on_test(self, accuracy: float) -> None:
        """Report the fit on all training images as the last round."""
        self.test_score = accuracy
        self._report(None)

    def _report(self, val_score: float | None) -> None:
        self._round += 1
        samples, updates = self._work
        record = Round(
            round=self._round,
            samples=samples,
            updates=updates,
            seconds=self._seconds,
            between_epochs_s=self._opened - self._idle_since,
            val_score=val_score,
        )
        self._emit({"kind": "round", **record.to_json()})
        self._idle_since = time.perf_counter()
