"""The sides of a duel: how they are written, and what a worker of theirs sees."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.repositories import git

from bench.launch.origin import child_command
from bench.launch.placement import LaunchPlace
from bench.machine.devices import inventory
from bench.machine.loaded import CHECKOUT
from bench.machine.placement import child_environment
from bench.schema.case import Case
from bench.schema.duel import Spec
from bench.schema.requests import LaunchRequest
from bench.session import sides
from bench.session.sides import fixed_side, prepare, refuse_overruled
from fmnist_models.errors import UserError


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Two commits of a model below `models/`, in a folder with a blank in its name."""
    folder = tmp_path / "my repo"
    (folder / "models").mkdir(parents=True)
    git(folder, "init", "-q")
    for text in ("first", "second"):
        (folder / "models" / "mine.py").write_text(f"def word():\n    return {text!r}\n")
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", text)
    return folder


def test_here_is_what_runs_now() -> None:
    side = prepare(fixed_side(Spec.parse("here")), CHECKOUT, {"X": "1"})
    assert (side.python, side.suite, side.environ) == (sys.executable, CHECKOUT, {"X": "1"})


def test_all_three_together() -> None:
    spec = Spec.parse(
        "python=/opt/py checkout='/my repo@v1' TF_ENABLE_ONEDNN_OPTS=0 XLA_FLAGS='-a -b'"
    )
    assert (spec.python, spec.checkout, spec.revision) == ("/opt/py", "/my repo", "v1")
    assert dict(spec.variables) == {"TF_ENABLE_ONEDNN_OPTS": "0", "XLA_FLAGS": "-a -b"}
    assert Spec.from_json(spec.to_json()) == spec


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("", "write here"),
        ("there", "'there' is no setting"),
        ("here X=1", "'here' is no setting"),
        ("=1", "'=1' is no setting"),
        ("X='1", "No closing quotation"),
        ("python=", "'python=' names nothing: is the shell variable after it set"),
        ("checkout=", "'checkout=' names nothing"),
        ("checkout=@v1", "'checkout=@v1' names nothing"),
        ("checkout=.@", "'checkout=.@' names nothing"),
        ("python=a X=1 python=b", "python is named twice"),
        ("X=1 X=", "X is named twice"),
    ],
)
def test_what_is_no_side(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        Spec.parse(text)


def test_a_variable_may_be_empty() -> None:
    assert Spec.parse("XLA_FLAGS=").variables == (("XLA_FLAGS", ""),)


def test_the_sign_of_a_revision_may_stand_in_a_folder_and_in_a_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("me@work", "me@work/repo@v1"):
        (tmp_path / name).mkdir()
    named = {
        "me@work": ("me@work", None),
        "me@work@v1": ("me@work", "v1"),
        "me@work/repo@v1": ("me@work/repo@v1", None),
        ".@HEAD@{1}": (".", "HEAD@{1}"),
        ".@@{u}": (".", "@{u}"),
    }
    found = {text: Spec.parse(f"checkout={text}") for text in named}
    assert {text: (s.checkout, s.revision) for text, s in found.items()} == named


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("python=/no/such", "python=/no/such: no such interpreter"),
        ("checkout=/no/such", "checkout=/no/such: no such folder"),
    ],
)
def test_what_is_not_there(text: str, line: str) -> None:
    with pytest.raises(UserError, match=line):
        fixed_side(Spec.parse(text))


def test_an_unknown_revision(repository: Path) -> None:
    with pytest.raises(UserError, match=r"git rev-parse .*nosuch"):
        fixed_side(Spec.parse(f"checkout='{repository}@nosuch'"))


def test_a_folder_that_is_no_repository(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not a git repository"):
        fixed_side(Spec.parse(f"checkout={tmp_path}@main"))


def test_the_folder_of_a_virtual_environment(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "python").symlink_to(sys.executable)
    spec = fixed_side(Spec.parse(f"python={tmp_path / 'venv'}"))
    assert spec.python == str(tmp_path / "venv" / "bin" / "python")


WORD = """
import importlib, sys
from fmnist_models.own import find_function
print(find_function("model", "mine:word", "a word")())
"""


def word_of(side: sides.Side, tmp_path: Path) -> str:
    """What the model `mine` is where a worker of the side looks for it."""
    (tmp_path / "word.py").write_text(WORD)
    done = subprocess.run(
        child_command(str(tmp_path / "word.py"), side.python, side.suite),
        env=side.environ,
        cwd=side.models,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_revision_of_the_users_model(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The older text is imported, the repository stays as it is, and HEAD may move on."""
    below = repository / "models"
    spec = fixed_side(Spec.parse(f"checkout='{below}@HEAD~1'"))
    (below / "mine.py").write_text("def word():\n    return 'third'\n")
    git(repository, "commit", "-qam", "third")
    # Where the user most likely stands: beside the model as it is now.
    monkeypatch.chdir(below)
    monkeypatch.setenv("PYTHONPATH", str(below))
    assert word_of(prepare(spec, tmp_path), tmp_path) == "first"
    # Unpacked once; a second time it is found again.
    assert word_of(prepare(spec, tmp_path), tmp_path) == "first"
    assert git(repository, "status", "--short") == ""
    assert git(repository, "worktree", "list").count("\n") == 0


def test_a_folder_as_it_is(repository: Path, tmp_path: Path) -> None:
    spec = fixed_side(Spec.parse(f"checkout='{repository / 'models'}'"))
    assert word_of(prepare(spec, tmp_path), tmp_path) == "second"


@pytest.fixture
def other_suite(tmp_path: Path) -> Path:
    """A checkout of an earlier revision of the suite."""
    folder = tmp_path / "suite"
    for file in ("bench/worker.py", "fmnist_models/__init__.py", "pyproject.toml", "mine.py"):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_another_checkout_of_the_suite(other_suite: Path, tmp_path: Path) -> None:
    spec = fixed_side(Spec.parse(f"checkout={other_suite}"))
    side = prepare(spec, tmp_path, {"PYTHONPATH": "/own"}, ["yours:build"])
    assert (side.suite, side.models, side.environ) == (other_suite, None, {"PYTHONPATH": "/own"})
    # It holds that model, so that side's model is its own.
    side = prepare(spec, tmp_path, {}, ["mine:build"])
    assert (side.suite, side.models) == (other_suite, other_suite)


EARLIER = """
import json, os, sys
from bench import devices
channel = os.fdopen(int(sys.argv[sys.argv.index("--channel") + 1]), "wb", buffering=0)
for kind in ("ready", "result"):
    told = {"parameters": devices.NUMBER} if kind == "result" else {}
    channel.write(json.dumps({"kind": kind, **told}).encode() + b"\\n")
    request = sys.stdin.readline()
"""


def test_an_earlier_revision_of_the_suite_is_started_and_understood(
    other_suite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has none of the modules that start it, tells no files, and knows no pauses."""
    (other_suite / "bench" / "__init__.py").touch()
    (other_suite / "bench" / "worker.py").write_text(EARLIER)
    (other_suite / "bench" / "devices.py").write_text("NUMBER = 7\n")
    monkeypatch.chdir(CHECKOUT)
    side = prepare(fixed_side(Spec.parse(f"checkout={other_suite}")), tmp_path)
    place = LaunchPlace(dict(side.environ), False, tmp_path / "log", 60.0)
    with side.launcher(None) as launcher:
        record = launcher.run(LaunchRequest(CASE, 0, 1, 1, 42), place, lambda _: None)
    assert (record.status, record.parameters, record.code) == ("ok", 7, "")


def test_both_revisions_of_a_clone_are_where_they_are_named(
    repository: Path, other_suite: Path, tmp_path: Path
) -> None:
    """Started inside the clone, a revision beside the clone as it is."""
    git(other_suite, "init", "-q")
    git(other_suite, "add", "-A")
    git(other_suite, "commit", "-qm", "suite")
    a, b = (
        prepare(fixed_side(Spec.parse(f"checkout={other_suite}{revision}")), tmp_path / "duel")
        for revision in ("@HEAD", "")
    )
    assert b.suite == other_suite
    assert a.suite is not None
    assert a.suite.is_relative_to(tmp_path / "duel")
    assert a.not_from == other_suite


def test_an_interpreter_without_the_suites_packages(tmp_path: Path) -> None:
    wrong = tmp_path / "python"
    wrong.write_text("#!/bin/sh\necho 'ModuleNotFoundError: no psutil' >&2\nexit 1\n")
    wrong.chmod(0o755)
    side = prepare(fixed_side(Spec.parse(f"python={wrong}")), tmp_path)
    with pytest.raises(UserError, match="cannot run this suite: ModuleNotFoundError: no psutil"):
        side.describe("B", "d" * 64)


@pytest.mark.parametrize(
    ("script", "line"),
    [
        ("exit 0", "is no Python that runs this suite: asked for its facts, it printed nothing"),
        ("echo hello", "asked for its facts, it printed 'hello'"),
        ("echo '[1]'", r"asked for its facts, it printed '\[1\]'"),
        ("printf '\\377\\n'", "asked for its facts, it printed"),
        ("echo 'Unknown option: -P' >&2; exit 2", "it is no Python 3.11 or later; install"),
        ("sleep 60", "gave no answer within 2 s: name an interpreter of Python 3.11"),
        ("kill -9 $$", "cannot run this suite: it printed nothing"),
        ("cat; exit 3", "cannot run this suite: it printed nothing"),
    ],
)
def test_a_program_that_is_no_such_interpreter_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, line: str
) -> None:
    wrong = tmp_path / "python"
    wrong.write_text(f"#!/bin/sh\n{script.replace('sleep', 'exec sleep')}\n")
    wrong.chmod(0o755)
    monkeypatch.setattr(sides, "_DESCRIBE_LIMIT_S", 2.0)
    side = prepare(fixed_side(Spec.parse(f"python={wrong}")), tmp_path)
    with pytest.raises(UserError, match=line) as error:
        side.describe("B", "d" * 64)
    assert "\n" not in str(error.value)


def test_a_side_whose_bench_is_not_its_own_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "bench" / "__init__.py"
    told = {"bench": str(other), "facts": {}}
    monkeypatch.setattr(sides.Side, "_asked", lambda *_: told)
    with pytest.raises(UserError, match=r"side A: bench came from .*not from the suite in"):
        prepare(Spec(), tmp_path).describe("A", "d" * 64)


def test_what_a_side_says_of_itself(tmp_path: Path) -> None:
    side = prepare(fixed_side(Spec.parse("TF_ENABLE_ONEDNN_OPTS=0")), tmp_path)
    described = side.describe("B", "d" * 64)
    assert described["label"] == "B"
    assert described["variables"]["TF_ENABLE_ONEDNN_OPTS"] == "0"
    assert described["sources"]["models"] is None
    assert described["sources"]["suite"] == sides.python_digest(CHECKOUT, sides.SUITE_PACKAGES)


CASE = Case("relu_mlp", "adam", "compiled", batch_size=512)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("KERAS_BACKEND=jax", "KERAS_BACKEND=jax: a launch of relu_mlp-adam-compiled-cpu-b512"),
        ("CUDA_VISIBLE_DEVICES=0", "gets CUDA_VISIBLE_DEVICES=-1 whatever is set; leave it out"),
        ("OPENBLAS_NUM_THREADS=4", "gets OPENBLAS_NUM_THREADS=1"),
        ("NVIDIA_TF32_OVERRIDE=1", "gets no NVIDIA_TF32_OVERRIDE"),
        ("FMNIST_DATA=/data", "both sides train on the same images"),
    ],
)
def test_a_variable_that_its_launches_do_not_get_is_refused(text: str, line: str) -> None:
    spec = Spec.parse(text)
    with pytest.raises(UserError, match="side B: ") as error:
        refuse_overruled("B", spec, (CASE,), inventory(), {})
    assert line in str(error.value)


def test_a_variable_that_reaches_its_launches_is_a_side() -> None:
    spec = Spec.parse("TF_ENABLE_ONEDNN_OPTS=0 XLA_FLAGS= PYTHONPATH=/lib KERAS_BACKEND=tensorflow")
    user = {"OPENBLAS_NUM_THREADS": "4"}
    refuse_overruled("B", spec, (CASE,), inventory(), user)
    child = child_environment(CASE, inventory(), {**user, **dict(spec.variables)})
    assert {name: child[name] for name, _ in spec.variables} == dict(spec.variables)


def test_a_launch_trains_the_model_of_its_revision_wherever_it_was_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small_data: Path
) -> None:
    """Real workers: the working folder and PYTHONPATH hold another model, and a `bench`."""
    repository = tmp_path / "repo"
    repository.mkdir()
    git(repository, "init", "-q")
    model = "import keras, sizes\n\ndef build():\n    import late\n    return keras.Sequential("
    model += "[keras.Input((784,)), keras.layers.Dense(sizes.UNITS), late.last()])\n"
    late = "import keras\n\ndef last():\n    return keras.layers.Dense(10, 'softmax')\n"
    for name, text in {"mine": model, "sizes": "UNITS = 8\n", "late": late}.items():
        (repository / f"{name}.py").write_text(text)
    git(repository, "add", "-A")
    git(repository, "commit", "-qm", "eight units")
    for name in ("mine", "sizes", "late"):
        (repository / f"{name}.py").write_text("1 / 0\n")
    (repository / "bench").mkdir()
    (repository / "bench" / "__init__.py").write_text("1 / 0\n")
    monkeypatch.chdir(repository)
    monkeypatch.setenv("PYTHONPATH", str(repository))
    side = prepare(fixed_side(Spec.parse("checkout=.@HEAD")), tmp_path / "duel")
    case = Case("mine:build", "sgd", "compiled", batch_size=100)
    environment = sides.child_environment(case, inventory(), side.environ)
    place = LaunchPlace(environment, False, tmp_path / "log", 120.0)
    with side.launcher(str(small_data)) as launcher:
        record = launcher.run(LaunchRequest(case, 0, 1, 1, 42), place, lambda _: None)
    assert (record.status, record.reason) == ("ok", "")
    assert record.parameters == 785 * 8 + 9 * 10
    assert list(record.files["models"]) == ["late.py", "mine.py", "sizes.py"]
    assert "bench/worker/serve.py" in record.files["suite"]
    assert set(record.files) == {"models", "suite"}
