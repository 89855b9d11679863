"""Which variables and files of the user reach a worker: the table, what follows, and real Keras."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support import ROOT

from bench.backends import DEFAULT
from bench.machine import environment, variables
from bench.machine.keras_file import KERAS_HOME, keras_settings
from bench.machine.nvml import Inventory
from bench.machine.placement import child_environment
from bench.machine.variables import FILES, RULES, Fate, fate_of, for_worker, overruled
from bench.schema.case import Case
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "fit")
NOTEBOOK = "module://matplotlib_inline.backend_inline"


@pytest.mark.parametrize(
    ("fate", "names"),
    {
        Fate.PASSED: "XLA_FLAGS TF_XLA_FLAGS TF_ENABLE_ONEDNN_OPTS TF_DETERMINISTIC_OPS "
        "TF_GPU_THREAD_MODE TF_NUM_INTRAOP_THREADS TF_CPP_VMODULE CUDA_LAUNCH_BLOCKING "
        "CUDA_DEVICE_ORDER OMP_NUM_THREADS GOMP_CPU_AFFINITY KMP_BLOCKTIME MKL_NUM_THREADS "
        "OPENBLAS_CORETYPE ONEDNN_MAX_CPU_ISA DNNL_VERBOSE NPY_DISABLE_CPU_FEATURES "
        "MALLOC_ARENA_MAX LD_PRELOAD LD_LIBRARY_PATH GLIBC_TUNABLES PYTHONHASHSEED "
        "PYTHONOPTIMIZE PYTHONMALLOC PYTHONTRACEMALLOC PYTHONDEVMODE FMNIST_BURN_TURNS",
        Fate.FIXED: "KERAS_BACKEND KERAS_MAX_EPOCHS KERAS_MAX_STEPS_PER_EPOCH KERAS_NNX_ENABLED "
        "TF_USE_LEGACY_KERAS NVIDIA_TF32_OVERRIDE TF_ENABLE_AUTO_MIXED_PRECISION "
        "TF_SET_ONEDNN_FPMATH_MODE ONEDNN_DEFAULT_FPMATH_MODE DNNL_DEFAULT_FPMATH_MODE "
        "OPENBLAS_NUM_THREADS TF_FORCE_GPU_ALLOW_GROWTH",
        Fate.KEPT_OUT: "CUDA_VISIBLE_DEVICES HIP_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES MPLBACKEND "
        "PYTHONINSPECT PYTHONSTARTUP PYTHONWARNINGS PYTHONVERBOSE PYTHONIOENCODING",
        Fate.IGNORED: "TF_CONFIG TF_VAR_password TF_CPP_MIN_LOG_LEVEL CUDA_HOME NVIDIA_DRIVER "
        "MPLCONFIGDIR PYTHONPATH PYTHONHOME PYTHONDONTWRITEBYTECODE PYTHONUTF8 PATH HOME "
        "MY_TF_FLAG PYTEST_ADDOPTS TF2_BEHAVIOR",
    }.items(),
)
def test_the_fate_of_a_variable(fate: Fate, names: str) -> None:
    assert {name: fate_of(name) for name in names.split()} == dict.fromkeys(names.split(), fate)


def test_a_worker_gets_what_passes_and_the_suites_own_values(tmp_path: Path) -> None:
    user = {
        "PATH": "p",
        "KERAS_HOME": str(tmp_path),
        "XLA_FLAGS": "--xla",
        "KERAS_BACKEND": "jax",
        "KERAS_MAX_EPOCHS": "1",
        "TF_USE_LEGACY_KERAS": "1",
        "TF_SET_ONEDNN_FPMATH_MODE": "BF16",
        "MPLBACKEND": NOTEBOOK,
        "PYTHONINSPECT": "1",
        "OMP_NUM_THREADS": "8",
    }
    child = for_worker(user)
    assert child == {
        "PATH": "p",
        "KERAS_HOME": str(tmp_path),
        "XLA_FLAGS": "--xla",
        "OPENBLAS_NUM_THREADS": "1",
        "TF_FORCE_GPU_ALLOW_GROWTH": "true",
        "MPLBACKEND": "agg",
        "OMP_NUM_THREADS": "8",
        "PYTHONIOENCODING": "utf-8:backslashreplace",
        "PYTHONUNBUFFERED": "1",
        "TF_CPP_MIN_LOG_LEVEL": "2",
    }
    lost = overruled(user, [child])
    assert list(lost) == [
        "KERAS_BACKEND",
        "KERAS_MAX_EPOCHS",
        "MPLBACKEND",
        "PYTHONINSPECT",
        "TF_SET_ONEDNN_FPMATH_MODE",
        "TF_USE_LEGACY_KERAS",
    ]
    assert variables.warning({"overruled": lost}) == (
        "overruled, so that each case is what its row says: KERAS_BACKEND=jax; "
        "KERAS_MAX_EPOCHS=1; TF_SET_ONEDNN_FPMATH_MODE=BF16; TF_USE_LEGACY_KERAS=1"
    )


def test_what_agrees_with_the_suite_is_not_overruled(tmp_path: Path) -> None:
    user = {"KERAS_HOME": str(tmp_path), "MPLBACKEND": "agg"}
    assert overruled(user, [for_worker(user)]) == {}
    assert variables.warning({"overruled": {"MPLBACKEND": NOTEBOOK}}) == ""
    assert variables.warning({}) == ""


def test_an_empty_variable_is_none() -> None:
    user = {"OMP_NUM_THREADS": "", "XLA_FLAGS": "", "KERAS_BACKEND": "", "KERAS_HOME": ""}
    child = for_worker(user)
    assert child["OMP_NUM_THREADS"] == "1"
    assert variables.recorded([child]) == {"OMP_NUM_THREADS": "1"}
    assert overruled(user, [child]) == {}


def test_what_a_worker_gets_anyway_is_not_overruled() -> None:
    user = {"TF_FORCE_GPU_ALLOW_GROWTH": "true", "KERAS_BACKEND": "tensorflow"}
    child = child_environment(Case("softmax", "sgd", "fit"), Inventory(), user)
    assert overruled(user, [child]) == {}
    assert overruled({"TF_FORCE_GPU_ALLOW_GROWTH": "false"}, [child]) != {}


@pytest.mark.parametrize(
    ("backend", "lost"),
    [("jax", {}), ("tensorflow", {"JAX_PLATFORMS": "cpu", "KERAS_BACKEND": "jax"})],
)
def test_what_is_overruled_depends_on_the_frameworks_of_the_cases(
    backend: str, lost: dict[str, str]
) -> None:
    user = {"KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    case = Case("softmax", "sgd", "fit", backend=backend)
    assert environment.variables_of([case], Inventory(), user)["overruled"] == lost


DEFAULT_FILE = {
    "floatx": "float32",
    "epsilon": 1e-07,
    "backend": "jax",
    "image_data_format": "channels_last",
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_matplotlibrc_that_is_a_pipe_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "matplotlibrc")
    for named in (tmp_path, tmp_path / "matplotlibrc"):
        with pytest.raises(UserError, match="matplotlib would wait for this pipe"):
            variables.refuse_unreadable({"MATPLOTLIBRC": str(named)})


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes with names")
def test_a_keras_file_that_is_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "keras.json")
    found = keras_settings({"KERAS_HOME": str(tmp_path)})
    assert found == {"keras.json": "is no file"}


@pytest.mark.parametrize("content", [None, {}, DEFAULT_FILE, {"nnx_enabled": False, "mine": 1}])
def test_a_keras_file_that_changes_nothing_stays(tmp_path: Path, content: object) -> None:
    if content is not None:
        (tmp_path / "keras.json").write_text(json.dumps(content))
    user = {"KERAS_HOME": str(tmp_path)}
    assert for_worker(user)["KERAS_HOME"] == str(tmp_path)
    assert keras_settings(user) == {}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"floatx": "float16"}', {"keras.json: floatx": "float16"}),
        ('{"epsilon": 0.001, "floatx": "float32"}', {"keras.json: epsilon": "0.001"}),
        (
            '{"image_data_format": "channels_first"}',
            {"keras.json: image_data_format": "channels_first"},
        ),
        ('{"nnx_enabled": true}', {"keras.json: nnx_enabled": "True"}),
        ('{"floatx": ["float99"]}', {"keras.json: floatx": "['float99']"}),
        ("{", {"keras.json": "cannot be read: JSONDecodeError"}),
        ("\xff", {"keras.json": "cannot be read: UnicodeDecodeError"}),
        ("[1]", {"keras.json": "is no JSON object"}),
        ("[" * 100_000, {"keras.json": "cannot be read: RecursionError"}),
        (None, {"keras.json": "cannot be read: IsADirectoryError"}),
    ],
)
def test_a_keras_file_that_would_change_the_work_is_set_aside(
    tmp_path: Path, content: str | None, told: dict[str, str]
) -> None:
    file = tmp_path / "keras.json"
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content.encode("latin-1"))
    user = {"KERAS_HOME": str(tmp_path)}
    assert for_worker(user)["KERAS_HOME"] == str(KERAS_HOME)
    assert overruled(user, [for_worker(user)]) == told
    assert variables.warning({"overruled": told}).endswith(" ".join(next(iter(told.items()))))


def test_another_backend_in_the_keras_file_is_told(tmp_path: Path) -> None:
    """Keras writes its default there by itself, which is no choice of the user's."""
    user = {"KERAS_HOME": str(tmp_path)}
    worker = for_worker(user) | {"KERAS_BACKEND": "jax"}
    for backend, told in (("torch", {"keras.json: backend": "torch"}), ("jax", {}), (DEFAULT, {})):
        (tmp_path / "keras.json").write_text(json.dumps({"backend": backend}))
        assert worker["KERAS_HOME"] == str(tmp_path)
        assert overruled(user, [worker]) == told
    assert variables.warning({"overruled": {"keras.json: backend": "torch"}})


def test_the_home_of_keras_is_found_as_keras_finds_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".keras").mkdir()
    (tmp_path / ".keras" / "keras.json").write_text('{"floatx": "float64"}')
    monkeypatch.setenv("HOME", str(tmp_path))
    assert for_worker({})["KERAS_HOME"] == str(KERAS_HOME)
    assert keras_settings({"HOME": str(tmp_path / "another")}) == {}
    (tmp_path / ".keras" / "keras.json").unlink()
    assert "KERAS_HOME" not in for_worker({})
    # Keras would read and write keras.json in the working folder.
    assert "KERAS_HOME" not in for_worker({"KERAS_HOME": ""})


def test_the_file_that_stands_in_says_nothing() -> None:
    assert json.loads((KERAS_HOME / "keras.json").read_text()) == {}
    assert [path.name for path in KERAS_HOME.iterdir()] == ["keras.json"]


def test_real_keras_starts_with_its_own_defaults_whatever_the_user_has_set(tmp_path: Path) -> None:
    """One import of Keras with every file and variable that would change it or make it fail."""
    hostile = {"floatx": "float16", "epsilon": 0.1, "nnx_enabled": True, "backend": "torch"}
    (tmp_path / "keras.json").write_text(json.dumps(hostile))
    user = {
        **os.environ,
        "KERAS_HOME": str(tmp_path),
        "KERAS_MAX_EPOCHS": "1",
        "KERAS_MAX_STEPS_PER_EPOCH": "2",
        "KERAS_NNX_ENABLED": "1",
        "TF_USE_LEGACY_KERAS": "1",
        "TF2_BEHAVIOR": "0",
        "MPLBACKEND": NOTEBOOK,
        "PYTHONWARNINGS": "error",
    }
    code = """
import json, keras, tensorflow as tf
from bench.worker.tensorflow.device import TensorFlowDevice
c = keras.config
print(json.dumps([c.floatx(), c.epsilon(), c.image_data_format(), c.backend(), c.max_epochs(),
                  c.max_steps_per_epoch(), tf.executing_eagerly(),
                  TensorFlowDevice(tf, "cpu", "float32").software()["keras"] == keras.__version__]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**child_environment(CASE, Inventory(), user), "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found == ["float32", 1e-7, "channels_last", "tensorflow", None, None, True, True]


def test_a_notebooks_backend_stops_no_picture(tmp_path: Path) -> None:
    runs = [
        str(ROOT / f"results/examples/set-ups/{name}") for name in ("one-thread", "two-threads")
    ]
    done = subprocess.run(
        [sys.executable, "-m", "bench", "compare", *runs, "--output", str(tmp_path)],
        env={**os.environ, "MPLBACKEND": NOTEBOOK, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000


def test_a_matplotlibrc_that_no_launch_could_start_with_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"MPLCONFIGDIR": str(tmp_path / "configured")}
    variables.refuse_unreadable(environ)
    (tmp_path / "configured").mkdir()
    (tmp_path / "configured" / "matplotlibrc").write_bytes(b"backend: \xff\n")
    with pytest.raises(UserError, match=r"matplotlibrc: .*byte 0xff.*save it as UTF-8"):
        variables.refuse_unreadable(environ)
    # The first that matplotlib finds is the only one that it reads.
    (tmp_path / "matplotlibrc").write_text("no colon: here is only warned of\nx\n")
    variables.refuse_unreadable(environ)


def test_a_broken_matplotlibrc_is_one_line_where_a_picture_is_drawn(tmp_path: Path) -> None:
    (tmp_path / "matplotlibrc").write_bytes(b"\xff")
    code = "from bench.reports.plots.style import style\nwith style(()): pass"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert "errors.UserError: matplotlibrc: " in done.stderr.splitlines()[-1]


def test_an_older_record_counts_by_what_passed() -> None:
    """Revisions without `overruled` recorded what their parent had, by fewer names."""
    older = {"variables": {"KERAS_BACKEND": "jax", "CUDA_VISIBLE_DEVICES": "", "XLA_FLAGS": "-x"}}
    newer = {
        "variables": {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1", "XLA_FLAGS": "-x"},
        "overruled": {"KERAS_BACKEND": "jax"},
    }
    alike = {"OMP_NUM_THREADS": "1", "XLA_FLAGS": "-x"}
    assert variables.acted([older, newer]) == [alike, alike]
    assert variables.acted([newer]) == [newer["variables"]]
    newer["variables"] |= {"TF_XLA_FLAGS": ""}
    assert variables.acted([older, newer]) == [alike, alike]
    assert variables.acted([{}, newer])[0] is None


def test_the_manual_has_the_table() -> None:
    manual = (ROOT / "docs/reference/environment.md").read_text("utf-8")
    for rule in RULES:
        names = rule.names.replace("|", "\\|")
        value = f"`{rule.value}`" if rule.value else ""
        assert f"| `{names}` | {rule.readers} | {rule.fate} | {value} | {rule.why} |" in manual
    for file, readers, fate, why in FILES:
        assert f"| {file} | {readers} | {fate} | {why} |" in manual
