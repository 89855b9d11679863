"""What several test modules need: a small data set, and runs of the real programs."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from support import ROOT, Program, TypeIn, quiet

from bench import cli
from bench.backends import DEFAULT
from bench.machine import counters, lock, placement, variables
from bench.machine.variables import Fate
from fmnist_models import dataset

LOCKS = tempfile.TemporaryDirectory(prefix="fmnist-bench-tests-")
# The files that start real runs or compile much, the longest first.
LONGEST = (
    "test_manual.py",
    "test_workloads.py",
    "test_loops.py",
    "test_real_runs.py",
    "test_examples.py",
    "test_own_work.py",
    "test_bad_own_work.py",
    "test_tensorflow_replicas.py",
    "test_profile_launch.py",
    "test_profile_variants.py",
    "test_peers.py",
    "test_gpu_box.py",
    "test_wheel.py",
    "test_plugin.py",
    "test_python.py",
    "test_user_models.py",
    "test_step_flops.py",
    "test_browser.py",
    "test_earlier_revision.py",
)


def pytest_unconfigure() -> None:
    """Nothing is left."""
    LOCKS.cleanup()


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors here, and not in `pytest bench`, where they are a user's."""
    # The tests' own lock: a run on this machine refuses none of them.
    os.environ[lock.LOCK_VARIABLE] = LOCKS.name
    # What acts on a worker comes from the test, not from whoever started the tests.
    for name in [name for name in os.environ if variables.fate_of(name) is not Fate.IGNORED]:
        del os.environ[name]
    # What the tests start is no part of pytest-xdist's run.
    os.environ.pop("PYTEST_XDIST_WORKER", None)
    # Where TensorFlow is not installed, Keras trains with what is.
    if (backend := placement.default_backend()) not in (None, DEFAULT):
        os.environ["KERAS_BACKEND"] = str(backend)
    config.addinivalue_line("filterwarnings", "error")
    # Some tests compare with JAX, in this process, and others fork: their children run none of it.
    config.addinivalue_line("filterwarnings", "ignore:os.fork\\(\\) was called:RuntimeWarning")
    # TensorFlow's tensors do not know NumPy 2's copy keyword, and Keras converts them so.
    config.addinivalue_line(
        "filterwarnings",
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    )
    # PyTorch's compiler imports a module of PyTorch that uses what PyTorch deprecates.
    config.addinivalue_line(
        "filterwarnings", "ignore:`torch.jit.script_method` is deprecated:DeprecationWarning"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: begun last, one of them would go on alone beside an idle core."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(LONGEST)))


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """However busy this machine is, no test's launch is disturbed, unless it says so."""
    monkeypatch.setattr(counters, "watch", quiet.watch)


@pytest.fixture(scope="session")
def small_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first 1,000 training and 200 test images, as a folder of IDX files."""
    data = dataset.load()
    folder = tmp_path_factory.mktemp("small")
    dataset.write(
        folder,
        data.train_images[:1000],
        data.train_labels[:1000],
        data.test_images[:200],
        data.test_labels[:200],
    )
    return folder


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """Runs `python -m ...` in a folder of its own, as a user without a terminal whose machine
    is quiet."""

    def run(
        *words: object, timeout: float = 300, **changes: str
    ) -> subprocess.CompletedProcess[str]:
        temporary = tmp_path / "tmp"
        temporary.mkdir(exist_ok=True)
        environment = {
            **{k: v for k, v in os.environ.items() if k != "FMNIST_DATA"},
            "PYTHONPATH": str(ROOT),
            "TMPDIR": str(temporary),
            "COLUMNS": "80",
            **changes,
        }
        return subprocess.run(
            [*quiet.PROGRAM, *map(str, words)],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    return run


@pytest.fixture
def type_in(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> TypeIn:
    """Types a command on a screen of 80 columns; returns exit code and both streams."""

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv("COLUMNS", "80")
        monkeypatch.setattr(sys, "argv", ["fmnist-bench", *map(str, words)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        streams = capsys.readouterr()
        assert isinstance(end.value.code, int)
        return end.value.code, streams.out, streams.err

    return run


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--refresh-goldens", action="store_true", help="write tests/golden anew, to be read"
    )
