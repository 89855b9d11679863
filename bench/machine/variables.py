"""Which environment variables and files of the user reach the measured process: one table.

A case does the work that its row names, whatever the user's environment holds. A variable that
changes only the speed of the work passes and is recorded. One that would change the work or break
a launch does not pass, and the record says so.

The names come from the sources of Keras 3.15, TensorFlow 2.21 (`strings` of its libraries),
PyTorch 2.13, matplotlib 3.11, NumPy 2.4 and scikit-learn 1.9, and from the manuals of Python,
CUDA, oneDNN, OpenBLAS, OpenMP and glibc.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from bench.backends import DEFAULT
from bench.machine.keras_file import KERAS_HOME, backend_of_file, home_of, keras_settings
from bench.machine.redact import scrub_setting
from fmnist_models.errors import UserError

Variables = Mapping[str, str]


class Fate(StrEnum):
    """What the suite does with a variable that the user set."""

    PASSED = "passed"  # reaches the worker, is recorded, and must match where a run is resumed
    FIXED = "fixed"  # the suite's value is used; the record and a line of the run say so
    KEPT_OUT = "kept out"  # as FIXED, but it changes no figure, so only the record says so
    IGNORED = "ignored"  # reaches the worker, but changes nothing that is measured


@dataclass(frozen=True, slots=True)
class Rule:
    """Variables that are treated in the same way.

    Attributes:
        names: a regular expression that matches whole names.
        readers: the programs that read them.
        fate: what the suite does with them.
        why: the reason, for the manual.
        value: the value in every worker; None where they are unset, or the case decides.
    """

    names: str
    readers: str
    fate: Fate
    why: str
    value: str | None = None

    def holds_for(self, name: str) -> bool:
        """Whether the rule is about the variable `name`."""
        return re.fullmatch(self.names, name) is not None


# The first rule that matches a name decides. Not formatted, so that each rule takes few lines.
RULES: tuple[Rule, ...] = (
    # What would make the case another one.
    Rule("KERAS_BACKEND", "Keras", Fate.FIXED, "the backend is an axis of the matrix"),
    Rule("KERAS_MAX_EPOCHS|KERAS_MAX_STEPS_PER_EPOCH", "Keras", Fate.FIXED,
         "cut every `fit` and `evaluate` short"),
    Rule("KERAS_NNX_ENABLED", "Keras", Fate.FIXED, "of JAX; without `flax` Keras does not start"),
    Rule("KERAS_HOME", "Keras", Fate.IGNORED,
         "where `keras.json` and downloads lie; a file that would change the work is set aside "
         "(below)"),
    Rule("TF_USE_LEGACY_KERAS", "TensorFlow", Fate.FIXED,
         "`tf.keras` would be Keras 2; the suite trains Keras 3"),
    Rule("NVIDIA_TF32_OVERRIDE", "cuBLAS, cuDNN", Fate.FIXED, "a float32 row might hold TF32"),
    Rule("TF_ENABLE_AUTO_MIXED_PRECISION(_.+)?", "TensorFlow in NVIDIA's containers", Fate.FIXED,
         "a float32 row would compute in float16"),
    Rule("TF_SET_ONEDNN_FPMATH_MODE|(ONEDNN|DNNL)_DEFAULT_FPMATH_MODE", "TensorFlow, oneDNN",
         Fate.FIXED, "a float32 row would compute in bfloat16"),
    Rule("OPENBLAS_NUM_THREADS", "OpenBLAS", Fate.FIXED,
         "a template must have no thread when it forks; nothing timed uses them", "1"),
    Rule("TF_FORCE_GPU_ALLOW_GROWTH", "TensorFlow", Fate.FIXED,
         "without it no memory peak of a GPU can be told", "true"),
    Rule("JAX_(PLATFORMS|PLATFORM_NAME|CUDA_VISIBLE_DEVICES|ENABLE_X64|DEFAULT_.+|DISABLE_JIT)",
         "JAX", Fate.FIXED, "the device and the precision are the case's"),
    Rule("XLA_PYTHON_CLIENT_PREALLOCATE|NPROC", "JAX, XLA", Fate.FIXED,
         "without preallocation a peak can be told; threads are an axis of the matrix"),
    Rule("KERAS_TORCH_DEVICE|TORCH_ALLOW_TF32_.+", "Keras, PyTorch", Fate.FIXED,
         "the device and the precision are the case's"),
    Rule("TORCHINDUCTOR_(COMPILE_THREADS|FORCE_DISABLE_CACHES)|TORCH(DYNAMO|_COMPILE)_DISABLE",
         "PyTorch", Fate.FIXED, "each launch compiles its step itself"),
    # By these the suite chooses the GPUs; environment.json lists those chosen.
    Rule("CUDA_VISIBLE_DEVICES", "CUDA", Fate.KEPT_OUT,
         "the suite reads it to choose the GPUs; a GPU case sees its own, a CPU case none"),
    Rule("HIP_VISIBLE_DEVICES|ROCR_VISIBLE_DEVICES", "ROCm", Fate.KEPT_OUT,
         "a CPU case sees no GPU"),
    Rule("FMNIST_CUDA_DRIVER", "this suite", Fate.KEPT_OUT, "what the parent tells a GPU worker"),
    # What would break a launch or fill its log, and changes no figure.
    Rule("MPLBACKEND", "matplotlib", Fate.KEPT_OUT,
         "the suite draws into files; a notebook's backend is often not installed", "agg"),
    Rule("PYTHONINSPECT|PYTHONSTARTUP", "Python", Fate.KEPT_OUT, "wait for a person at the end"),
    Rule("PYTHONWARNINGS", "Python", Fate.KEPT_OUT, "`error` makes failures of mere warnings"),
    Rule("PYTHONVERBOSE|PYTHONDEBUG|PYTHONPROFILEIMPORTTIME|PYTHONDUMPREFS(FILE)?", "Python",
         Fate.KEPT_OUT, "fill the log"),
    Rule("PYTHONIOENCODING", "Python", Fate.KEPT_OUT,
         "a launch must not fail by what it prints", "utf-8:backslashreplace"),
    Rule("PYTHONUNBUFFERED", "Python", Fate.KEPT_OUT, "the log holds what a killed launch said",
         "1"),
    # What changes nothing that is measured.
    Rule("TF_CONFIG|TF_(VAR|TOKEN|CLI)_.+", "clusters, Terraform", Fate.IGNORED,
         "no variable of a training on one machine; names hosts and secrets"),
    Rule("TF_CPP_MIN_LOG_LEVEL", "TensorFlow", Fate.IGNORED, "2 where you set none"),
    Rule("(KERAS_DISTRIBUTION|TORCH_DISTRIBUTED)_.+|TORCH_(HOME|LOGS|TRACE)", "Keras, PyTorch",
         Fate.IGNORED, "of clusters, folders and logs"),
    Rule("CUDA_(HOME|PATH.*|ROOT|VERSION|.*_VERSION|TOOLKIT.*)|NVIDIA_.+|NV_.+",
         "CUDA, containers", Fate.IGNORED, "folders and versions; what is in use is recorded"),
    Rule("MPLCONFIGDIR|MATPLOTLIBRC", "matplotlib", Fate.IGNORED,
         "pictures have the suite's own style"),
    Rule("JOBLIB_.+|LOKY_.+|PYTEST_.+", "joblib, pytest", Fate.IGNORED,
         "one process measures; pytest only starts the run"),
    # What changes the speed or the program, and is the user's to choose.
    Rule("TF_.+", "TensorFlow", Fate.PASSED,
         "`TF_XLA_FLAGS`, `TF_ENABLE_ONEDNN_OPTS`, `TF_DETERMINISTIC_OPS`, `TF_GPU_*`, "
         "`TF_NUM_*` (where the case names threads, its number holds), ..."),
    Rule("JAX_.+|XLA_.+|TENSORFLOW_USE_CUSTOM_CONTRACTION_KERNEL|KERAS_.+",
         "JAX, XLA, Eigen, Keras", Fate.PASSED, "`XLA_FLAGS` and the like"),
    Rule("(PY)?TORCH.*_.+|CXX", "PyTorch", Fate.PASSED, "`PYTORCH_ALLOC_CONF`, a C++ compiler"),
    Rule("CUDA_.+|CUBLAS.*|CUDNN_.+", "CUDA", Fate.PASSED,
         "`CUDA_LAUNCH_BLOCKING`, `CUDA_MODULE_LOADING`, `CUDA_DEVICE_ORDER`, ..."),
    Rule("(NCCL|GLOO)_.+", "NCCL, gloo", Fate.PASSED, "how several replicas add up gradients"),
    Rule("OMP_NUM_THREADS", "OpenMP", Fate.PASSED, "1 where you set none"),
    Rule("(OMP|GOMP|KMP|OPENBLAS|MKL|BLIS|DNNL|ONEDNN)_.+|VECLIB_MAXIMUM_THREADS",
         "OpenMP, OpenBLAS, MKL, oneDNN", Fate.PASSED, "threads and instruction sets"),
    Rule("(NPY|NUMPY|SKLEARN)_.+|SCIPY_ARRAY_API", "NumPy, scikit-learn", Fate.PASSED,
         "instruction sets; checks that `logistic` makes"),
    Rule("MALLOC_.+|GLIBC_TUNABLES|LD_PRELOAD|LD_LIBRARY_PATH", "glibc and its linker",
         Fate.PASSED, "another allocator or library (file names are recorded, not folders)"),
    Rule("PYTHON(HASHSEED|OPTIMIZE|MALLOC|TRACEMALLOC|DEVMODE|ASYNCIODEBUG"
         "|PERFSUPPORT|_GIL|_JIT|_CPU_COUNT)", "Python", Fate.PASSED,
         "the speed of the interpreter, the order of sets"),
    Rule("PYTHON.*", "Python", Fate.IGNORED, "what is imported is recorded itself"),
    Rule("FMNIST_(DATA|LOCK|HISTORY|FUNCTIONS|RENDEZVOUS_PORT)", "this suite", Fate.IGNORED,
         "read by the parent alone; digests of the images and of the functions are recorded"),
    Rule("FMNIST_.+", "models of this suite", Fate.PASSED, "evidence duels read them"),
)  # fmt: skip
# (files, readers, fate, why) of the user's files.
FILES: tuple[tuple[str, str, Fate, str], ...] = (
    ("`~/.keras/keras.json` (`KERAS_HOME`)", "Keras", Fate.FIXED,
     "where `floatx`, `epsilon`, `image_data_format` or `nnx_enabled` is not Keras's default, or "
     "it cannot be read, workers get an empty one; what a model downloads lies beside it then. A "
     "`backend` there chooses nothing, and is named"),
    ("`matplotlibrc`", "matplotlib", Fate.IGNORED,
     "pictures have the suite's own style; one that is not UTF-8 is refused, for Keras imports "
     "matplotlib"),
    ("`sitecustomize.py`, `usercustomize.py`", "Python", Fate.IGNORED,
     "run in every process, as in your own"),
    ("`pytest.ini`, `pyproject.toml`, `conftest.py` of your folder", "pytest", Fate.IGNORED,
     "pytest only starts the run; the workers know nothing of it"),
)  # fmt: skip
# The values in a worker where the user sets none.
DEFAULTS: Variables = {"TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1"}
_SECRET = re.compile(r"TOKEN|SECRET|PASSWORD|CREDENTIAL|_KEY(_|$)")
# The variables that earlier revisions recorded, whose environment.json has no `overruled`.
_RECORDED_BEFORE = re.compile(
    r"TF_(?!CONFIG$|VAR_|TOKEN_|CLI_).+|(OMP|KMP|OPENBLAS|MKL|KERAS|DNNL|ONEDNN)_.+"
    r"|XLA_FLAGS|CUDA_VISIBLE_DEVICES|CUDA_DEVICE_ORDER|NVIDIA_TF32_OVERRIDE"
)


def rule_of(name: str) -> Rule | None:
    """The first rule for the variable `name`; None where no rule names it."""
    return next((rule for rule in RULES if rule.holds_for(name)), None)


def fate_of(name: str) -> Fate:
    """What the suite does with the variable `name`; one that no rule names is ignored."""
    rule = rule_of(name)
    return Fate.IGNORED if rule is None else rule.fate


def for_worker(environ: Variables) -> dict[str, str]:
    """The environment of every worker, from the user's variables and the suite's own values.

    The variables that a case decides are not yet in it. OpenBLAS starts its threads when NumPy is
    imported, and a template must have no threads when it forks. So OpenBLAS gets one thread,
    whatever the user set; no timed work uses it. OpenMP starts its threads at first use, so there
    the user's number holds.
    """
    passed = {
        name: value
        for name, value in environ.items()
        if fate_of(name) not in (Fate.FIXED, Fate.KEPT_OUT) and (value or name not in DEFAULTS)
    }
    held = {rule.names: rule.value for rule in RULES if rule.value is not None}
    child = {**DEFAULTS, **passed, **held}
    if environ.get("KERAS_HOME") == "":
        # Keras would read and write keras.json in the working folder.
        del child["KERAS_HOME"]
    if keras_settings(environ):
        child["KERAS_HOME"] = str(KERAS_HOME)
    return child


def recorded(children: Iterable[Variables]) -> dict[str, str]:
    """`variables` of environment.json: those that passed with the same value in all `children`.

    No folder, user name or secret is kept (`scrub_setting`). An empty variable is left out,
    because its readers treat it as unset.
    """
    first, *others = children
    return {
        name: scrub_setting(value)
        for name, value in sorted(first.items())
        if value and is_recorded(name) and all(child.get(name) == value for child in others)
    }


def is_recorded(name: str) -> bool:
    """Whether a worker's value of this variable is recorded; the value of a secret is not."""
    return fate_of(name) is Fate.PASSED and not _SECRET.search(name)


def overruled(environ: Variables, children: Iterable[Variables]) -> dict[str, str]:
    """`overruled` of environment.json: variables of the user that no worker of `children` got.

    Settings of keras.json that are replaced are in it too, and a backend there that is not the
    default and with which no worker trained.
    """
    children = tuple(children)
    found = {
        name: scrub_setting(value)
        for name, value in sorted(environ.items())
        if value
        and fate_of(name) is not Fate.IGNORED
        and not _SECRET.search(name)
        and all(child.get(name) != value for child in children)
    }
    backend = backend_of_file(environ)
    if backend not in ("", DEFAULT) and all(c.get("KERAS_BACKEND") != backend for c in children):
        found["keras.json: backend"] = scrub_setting(backend)
    return found | keras_settings(environ)


def refuse_unreadable(environ: Variables) -> None:
    """Refuse, before anything is measured, a matplotlibrc with which a worker cannot start.

    Keras imports matplotlib, which reads the first matplotlibrc that it finds
    (`matplotlib.matplotlib_fname`). It raises where the file is not UTF-8, and only warns of
    other errors.

    Raises:
        UserError: that file cannot be read as text, or is a pipe, on which matplotlib would wait.
    """
    named = Path(environ.get("MATPLOTLIBRC") or "matplotlibrc")
    home = Path(home_of(environ))
    configured = Path(environ.get("XDG_CONFIG_HOME") or home / ".config") / "matplotlib"
    folders = [environ.get("MPLCONFIGDIR") or configured, home / ".matplotlib"]
    places = [Path("matplotlibrc"), named, named / "matplotlibrc"]
    for path in [*places, *(Path(folder) / "matplotlibrc" for folder in folders)]:
        if path.is_fifo():
            raise UserError(
                f"{path}: matplotlib would wait for this pipe: make it a file, or move it away"
            )
        if path.is_file():
            try:
                path.read_text("utf-8")
            except (OSError, ValueError) as error:
                raise UserError(
                    f"{path}: matplotlib, which Keras imports, cannot read it: {error}; save it "
                    "as UTF-8, or move it away"
                ) from error
            return


def warning(environment: Mapping[str, Any]) -> str:
    """A line that names the overruled variables that could have changed a figure; else empty."""
    told = [
        f"{name}={value}" if not name.startswith("keras.json") else f"{name} {value}"
        for name, value in dict(environment.get("overruled") or {}).items()
        if fate_of(name) is not Fate.KEPT_OUT
    ]
    if not told:
        return ""
    return f"overruled, so that each case is what its row says: {'; '.join(told)}"


def acted(environments: Iterable[Mapping[str, Any]]) -> list[dict[str, str] | None]:
    """The variables that had an effect in each environment, in a form that can be compared.

    None where a record holds no variables. A record without `overruled` was written by an earlier
    revision, which recorded fewer names, with the parent's values. If there is one, only these
    names are compared in all records, and of its own variables only those that pass.
    """
    environments = list(environments)
    before = [environment.get("overruled") is None for environment in environments]
    counts: Callable[[str], object] = _RECORDED_BEFORE.fullmatch if any(before) else bool
    found: list[dict[str, str] | None] = []
    for environment, is_before in zip(environments, before, strict=True):
        variables = environment.get("variables")
        if not isinstance(variables, Mapping):
            found.append(None)
            continue
        whole = {**DEFAULTS, **variables} if is_before else dict(variables)
        passed = {
            name: str(whole[name]) for name in sorted(whole) if is_recorded(name) and whole[name]
        }
        found.append({name: value for name, value in passed.items() if counts(name)})
    return found
