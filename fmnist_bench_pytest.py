"""The pytest plug-in of fmnist-bench: the fixture `training_benchmark`.

pytest imports this module in every repository where the suite is installed, so it imports nothing
that pytest has not imported already. That repository may have a package `bench` of its own, so
nothing of the suite is imported here: a process of the suite's own measures
(`bench.api.in_pytest`), and pytest-benchmark gets the seconds of its rounds.
"""

from __future__ import annotations

import itertools
import math
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_BENCH = Path(__file__).resolve().parent / "bench"
_FUNCTIONS_VARIABLE = "FMNIST_FUNCTIONS"
_OPTIONS: tuple[tuple[str, Callable[[str], Any], str, str], ...] = (
    ("baseline", str, "FOLDER", "stored runs; a confirmed regression fails its test"),
    ("gate", float, "SHARE", "slow-down that must be found, as a share [default: 0.25]"),
    ("margin", float, "SHARE", "slow-down that is tolerated, as a share [default: 0.01]"),
    ("save", str, "FOLDER", "keep the folder of each run, for a baseline"),
)


class TrainingUndecided(UserWarning):
    """A case that could not be decided with the stored runs."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the options, none of which acts where no test uses the fixture."""
    group = parser.getgroup("fmnist-bench", "benchmarks of training (training_benchmark)")
    for name, kind, metavar, told in _OPTIONS:
        group.addoption(f"--training-{name}", type=kind, metavar=metavar, help=told)


def pytest_configure(config: pytest.Config) -> None:
    """Refuse a gate that would judge nothing and an empty value, and offer the fixture."""
    for name, *_ in _OPTIONS:
        if not str(config.getoption(f"training_{name}")).strip():
            raise pytest.UsageError(
                f"--training-{name} '': it is empty, maybe from an unset variable; give a value or "
                "leave it out"
            )
    with_baseline = config.getoption("training_baseline") is not None
    for name in ("gate", "margin"):
        value = config.getoption(f"training_{name}")
        if value is not None and not with_baseline:
            raise pytest.UsageError(
                f"--training-{name} {value:g}: there is nothing to gate; add --training-baseline "
                "FOLDER"
            )
    if with_baseline and config.getoption("numprocesses", default=None):
        raise pytest.UsageError(
            "--training-baseline: leave -n out, for launches at once would slow each other"
        )
    disabled = config.getoption("benchmark_disable", default=False)
    if with_baseline and disabled and not config.getoption("benchmark_enable", default=False):
        raise pytest.UsageError(
            "--training-baseline: with --benchmark-disable nothing is timed; leave one of them out"
        )
    has_benchmark = config.getoption("benchmark_only", default=None) is not None
    config.pluginmanager.register(_Timed() if has_benchmark else _Untimed())


class _Clock:
    """A timer that advances only by the seconds that were measured.

    It is reset before each round, because a running sum would change their last digits.
    """

    def __init__(self) -> None:
        self.now = 0.0
        self.seconds: Iterator[float] = iter(())

    def reset(self) -> None:
        """Set the timer to zero before a round."""
        self.now = 0.0

    def pass_round(self) -> None:
        """Advance the timer by the seconds of the next round."""
        self.now = next(self.seconds, math.nan)

    def __call__(self) -> float:
        """The present time of the timer in seconds."""
        return self.now


class _Timed:
    """The fixture where pytest-benchmark is there."""

    @pytest.fixture
    def _training_clock(self, request: pytest.FixtureRequest) -> _Clock:
        """The timer of this test's `benchmark`, which is made next."""
        before = itertools.takewhile(
            lambda name: name != "training_benchmark", request.node.fixturenames
        )
        if "benchmark" in before:
            pytest.fail(
                "training_benchmark fills the fixture benchmark: leave benchmark out of the test",
                pytrace=False,
            )
        clock = _Clock()
        marker = request.node.get_closest_marker("benchmark")
        words = {**(marker.kwargs if marker else {}), "timer": clock}
        request.node.add_marker(pytest.mark.benchmark(**words), append=False)
        return clock

    @pytest.fixture
    def training_benchmark(
        self, request: pytest.FixtureRequest, _training_clock: _Clock, benchmark: Any
    ) -> TrainingBenchmark:
        """Times the training of a model or workload, and gates it (--training-baseline)."""
        return TrainingBenchmark(request, _training_clock, benchmark)


class _Untimed:
    """The fixture where pytest-benchmark is not there: an error in place of an untold gate."""

    @pytest.fixture
    def training_benchmark(self) -> None:
        """Needs pytest-benchmark."""
        pytest.fail(
            "training_benchmark needs pytest-benchmark: install it, or leave out -p no:benchmark",
            pytrace=False,
        )


class TrainingBenchmark:
    """The fixture's value, to be called once in a test."""

    def __init__(self, request: pytest.FixtureRequest, clock: _Clock, benchmark: Any) -> None:
        self._config, self._test = request.config, request.node.nodeid
        users = (getattr(item, "fixturenames", ()) for item in request.session.items)
        # A test that asks for the fixture by its name is not known before it runs.
        self._tests = max(1, sum("training_benchmark" in names for names in users))
        self._clock, self._benchmark = clock, benchmark
        self._called = False

    def __call__(self, what: Any, **options: Any) -> dict[str, Any]:
        """Measure one case in fresh processes, hand its rounds to pytest-benchmark, and judge it.

        Args:
            what: a function that builds a model or a workload, or `module:function`.
            options: loop, optimizer, batch_size, device, precision, threads, epochs, launches and
                the other options of `fmnist-bench run`, each with one value.

        Returns:
            the row of results.csv. The test fails where the case cannot be measured, or is a
            confirmed regression.
        """
        if self._called:
            _fail("training_benchmark is called once in a test: parametrize the test")
        self._called = True
        try:
            answer = self._answer(what, options)
            if "error" in answer:
                _fail(answer["error"])
            row: dict[str, Any] = answer["row"]
            if row["status"] == "skipped":
                pytest.skip(row["reason"])
            if row["status"] != "ok":
                # pytest itself writes `Failed: ` before it.
                what = "" if row["status"] == "failed" else f"{row['status']}: "
                _fail(f"{what}{row['reason']}")
        except (pytest.fail.Exception, pytest.skip.Exception):
            # So pytest-benchmark, which would miss a round, does not warn of that too.
            self._benchmark.disabled = True
            self._benchmark.pedantic(self._clock.pass_round)
            raise
        self._benchmark.extra_info.update({k: v for k, v in row.items() if k != "reason"})
        self._clock.seconds = iter(answer["seconds"])
        self._benchmark.pedantic(
            self._clock.pass_round, setup=self._clock.reset, rounds=len(answer["seconds"])
        )
        verdict = answer["verdict"]
        if verdict == "regression":
            _fail(f"regression: {row['case']}: {answer['reason']}")
        if verdict not in (None, "passed"):
            import warnings

            line = f"{verdict}: {row['case']}: {answer['reason']}"
            warnings.warn(line, TrainingUndecided, stacklevel=2)
        return row

    def _answer(self, what: Any, options: dict[str, Any]) -> dict[str, Any]:
        import json
        import subprocess
        import tempfile

        with tempfile.TemporaryDirectory(prefix="fmnist-bench-") as temporary:
            request, answer, functions = (
                Path(temporary) / name for name in ("request.json", "answer.json", "functions.json")
            )
            parcel = _functions().Parcel()
            try:
                asked = {"what": parcel.name(what), "options": _named(options, parcel)}
                request.write_text(json.dumps(asked | self._asked()), "utf-8")
            except (ValueError, TypeError) as error:
                _fail(f"training_benchmark: {error}")
            parcel.write(functions)
            environ = {**os.environ, _FUNCTIONS_VARIABLE: str(functions)}
            start = _BENCH / "launch" / "child.py"
            words = (sys.executable, "-P", start, _BENCH.parent, "bench.api.in_pytest")
            done = subprocess.run([*map(str, (*words, request, answer))], env=environ, check=False)
            if not answer.exists():
                _fail(f"the measuring process ended with code {done.returncode}: see its output")
            found: dict[str, Any] = json.loads(answer.read_text("utf-8"))
            return found

    def _asked(self) -> dict[str, Any]:
        """What the request holds beside the case: the options of pytest."""
        found: dict[str, Any] = {
            name: self._config.getoption(f"training_{name}") for name, *_ in _OPTIONS
        }
        test = {"test": self._test, "tests": self._tests}
        return {**found, **test, "trial": bool(self._benchmark.disabled)}


def _fail(why: str) -> None:
    pytest.fail(why, pytrace=False)


def _named(options: dict[str, Any], parcel: Any) -> dict[str, Any]:
    """The options as JSON knows them: a path as text, an optimizer's function by its name."""
    found = {k: os.fspath(v) if isinstance(v, os.PathLike) else v for k, v in options.items()}
    if found.get("optimizer") is not None:
        found["optimizer"] = parcel.name(found["optimizer"])
    return found


def _functions() -> Any:
    """The suite's module `bench.api.functions`, by its path."""
    from importlib.util import module_from_spec, spec_from_file_location

    spec = spec_from_file_location("_fmnist_bench_functions", _BENCH / "api" / "functions.py")
    if spec is None or spec.loader is None:
        pytest.fail(f"{_BENCH} is not there: install fmnist-bench again", pytrace=False)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
