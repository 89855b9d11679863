"""environment.json: complete, plain, and without a word of who and where."""

from __future__ import annotations

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support import ROOT

from bench.machine import environment
from bench.machine.environment import collect
from bench.machine.variables import Fate, fate_of
from bench.schema.case import Case
from bench.schema.plan import validate_label
from fmnist_models.errors import UserError

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
PROJECT = '[project]\nname = "fmnist-bench"\n'
DIGEST = "0123456789abcdef"
Collect = Callable[..., dict[str, Any]]


@pytest.fixture
def collected(monkeypatch: pytest.MonkeyPatch) -> Collect:
    """`collect` beside one made-up GPU and no git."""
    monkeypatch.setattr(environment, "gpu_state", lambda gpu: {"name": gpu.name, "uuid": "GPU-1f"})
    inventory: Any = SimpleNamespace(
        gpus=(SimpleNamespace(name="NVIDIA H100"),),
        driver_version="570.86.10",
        cuda_driver_version="12.8",
    )

    def call(label: str | None = None, **more: Any) -> dict[str, Any]:
        return collect(label=label, dataset_digest=DIGEST, inventory=inventory, **more)

    return call


def test_whole(collected: Collect) -> None:
    found = collected("lab 실험실", software={"is_cuda_build": False})
    assert list(found) == [
        "schema_version",
        "label",
        "time_utc",
        "dataset_digest",
        "os",
        "cpu",
        "memory_bytes",
        "cgroup_memory_limit_bytes",
        "gpus",
        "driver_version",
        "cuda_driver_version",
        "python",
        "versions",
        "software",
        "variables",
        "overruled",
        "git",
    ]
    assert json.loads(json.dumps(found)) == found
    assert found["label"] == "lab 실험실"
    assert found["dataset_digest"] == DIGEST
    assert found["gpus"] == [{"name": "NVIDIA H100", "uuid": "GPU-1f"}]
    assert found["driver_version"] == "570.86.10"
    assert found["cuda_driver_version"] == "12.8"
    assert found["python"]["version"] == platform.python_version()
    assert found["software"] == {"is_cuda_build": False}
    assert found["os"]["machine"] == platform.machine()


def test_time_is_utc(collected: Collect) -> None:
    time = datetime.fromisoformat(collected()["time_utc"])
    assert time.utcoffset() == timedelta(0)
    assert abs(datetime.now(UTC) - time) < timedelta(hours=1)


def test_nothing_tells_who_and_where(collected: Collect, monkeypatch: pytest.MonkeyPatch) -> None:
    host, user = "torrent", "zoe"
    home = f"{os.sep}home{os.sep}{user}"
    monkeypatch.setattr(socket, "gethostname", lambda: f"{host}.lab.example.org")
    monkeypatch.setattr(platform, "node", lambda: host)
    monkeypatch.setattr(platform, "release", lambda: f"6.1.0-{host}")
    for name in ("USER", "LOGNAME", "USERNAME"):
        monkeypatch.setenv(name, user)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, home)
    monkeypatch.setenv("XLA_FLAGS", f"--xla_dump_to={home}/dump --xla_flag={host}:1")
    monkeypatch.setenv("TF_XLA_FLAGS", f"of {user}, in /srv/faraway/x")
    monkeypatch.setenv("KERAS_HOME", f"{home}")
    monkeypatch.setenv("OMP_TOOL_LIBRARIES", f"/data/{user}/tool.so:/opt/{host}/other.so")
    monkeypatch.setenv("TF_CONFIG", f'{{"cluster": {{"worker": ["{host}:2222"]}}}}')
    software = {"compiler": f"{home}/bin/clang", "log": [f"hostname: {host}.lab.example.org"]}

    label = f"{user} at {host}"
    found = collected(label, software=software)

    assert found.pop("label") == label
    text = json.dumps(found).lower()
    for secret in (host, user, "example.org", "/home", "faraway", "/opt", "/data"):
        assert secret not in text, secret
    assert found["variables"]["XLA_FLAGS"] == "--xla_dump_to=dump --xla_flag=<host>:1"
    assert found["variables"]["OMP_TOOL_LIBRARIES"] == "tool.so:other.so"
    assert found["software"] == {"compiler": "clang", "log": ["hostname: <host>"]}


def test_only_relevant_variables_and_no_secrets(
    collected: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_variables(monkeypatch)
    wanted = {
        "TF_ENABLE_ONEDNN_OPTS": "1",
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "OMP_NUM_THREADS": "2",
        "MKL_NUM_THREADS": "2",
        "MALLOC_ARENA_MAX": "1",
        "PYTHONHASHSEED": "7",
        "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
    }
    others = {
        "TF_VAR_db_password": "hunter2",
        "TF_TOKEN_app_terraform_io": "hunter2",
        "TF_CLI_ARGS": "hunter2",
        "KERAS_API_KEY": "hunter2",
        "CUDA_PATH": "x",
        "MY_TF_FLAG": "x",
    }
    for name, value in (wanted | others).items():
        monkeypatch.setenv(name, value)
    found = collected()
    assert found["variables"] == dict(sorted(wanted.items()))
    assert found["overruled"] == {}


def test_the_record_holds_what_the_worker_got_and_beside_it_what_was_overruled(
    collected: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_variables(monkeypatch)
    user = {
        "KERAS_BACKEND": "jax",
        "OPENBLAS_NUM_THREADS": "8",
        "CUDA_VISIBLE_DEVICES": "0",
        "KERAS_MAX_EPOCHS": "1",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
    }
    for name, value in (user | {"TF_NUM_INTRAOP_THREADS": "3"}).items():
        monkeypatch.setenv(name, value)
    default, two = (Case("relu_mlp", "adam", "fit", threads=number) for number in (None, 2))
    acted = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "3"}
    scrubbed = user | {"MPLBACKEND": "matplotlib_inline.backend_inline"}
    for cases in ((), (default,), (default, two)):
        found = collected(cases=cases)
        assert found["variables"] == acted
        assert found["overruled"].keys() == scrubbed.keys()
        assert found["overruled"]["KERAS_BACKEND"] == "jax"
    found = collected(cases=(two,))
    assert found["variables"] == {"OMP_NUM_THREADS": "1"}
    assert found["overruled"]["TF_NUM_INTRAOP_THREADS"] == "3"


def without_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment of which nothing is recorded."""
    for name in list(os.environ):
        if fate_of(name) is not Fate.IGNORED:
            monkeypatch.delenv(name)


def test_versions_of_a_framework_are_those_of_its_cases(collected: Collect) -> None:
    assert "jax" not in collected()["versions"]
    case = Case("softmax", "sgd", "fit", backend="jax")
    told = collected(cases=(case,))["versions"]
    assert set(told) - set(collected()["versions"]) == {"jax", "jaxlib"}


def test_versions_of_what_is_installed_and_none_of_what_is_not(
    collected: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    import importlib.metadata

    installed = {"tensorflow-cpu": "2.21.0", "numpy": "2.4.6", "fmnist-bench": "0.1.0"}

    def version(name: str) -> str:
        if name not in installed:
            raise importlib.metadata.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    versions = collected()["versions"]
    assert {"keras", "scikit-learn", "pandas", "scipy", "matplotlib"} < versions.keys()
    assert {name: version for name, version in versions.items() if version is not None} == {
        "tensorflow": "2.21.0",
        "numpy": "2.4.6",
        "fmnist-bench": "0.1.0",
    }


def test_a_system_without_an_os_release_file(
    collected: Collect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent() -> dict[str, str]:
        raise OSError("no os-release")

    monkeypatch.setattr(platform, "freedesktop_os_release", absent)
    monkeypatch.setattr(platform, "platform", lambda: "macOS-15.1-arm64-arm-64bit")
    assert collected()["os"]["name"] == "macOS-15.1-arm64-arm-64bit"


def test_collecting_imports_no_tensorflow_and_nothing_slow() -> None:
    code = (
        "import sys, types\n"
        "from bench.machine.environment import collect\n"
        "none = types.SimpleNamespace(gpus=(), driver_version=None, cuda_driver_version=None)\n"
        "collect(label=None, dataset_digest='x', inventory=none)\n"
        "slow = {'tensorflow', 'keras', 'numpy', 'pandas', 'scipy', 'matplotlib'}\n"
        "print(sorted(slow & set(sys.modules)))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert ended.stdout.strip() == "[]"


class TestLabel:
    @pytest.mark.parametrize(
        "label", [None, "", "lab", "x" * 80, "Zürich №2 실험실 👩\u200d🔬", "a\u00a0b"]
    )
    def test_a_label_that_prints_on_one_line_is_recorded_as_it_is(
        self, collected: Collect, label: str | None
    ) -> None:
        assert collected(label)["label"] == label

    @pytest.mark.parametrize(
        "label", ["a\nb", "a\tb", "\x00", "\x1b[31mred", "\x85", "a\u2028b", "\udcff"]
    )
    def test_control_characters(self, label: str) -> None:
        with pytest.raises(UserError, match="leave out control characters") as caught:
            validate_label(label)
        assert len(str(caught.value).splitlines()) == 1
        assert str(caught.value).isascii()

    def test_too_long(self) -> None:
        with pytest.raises(UserError, match="has 81 characters, shorten it to 80"):
            validate_label("x" * 81)

    def test_collect_refuses_a_bad_one(self, collected: Collect) -> None:
        with pytest.raises(UserError, match="label"):
            collected("a\nb")


class TestGit:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        """A folder that holds this project, in no repository yet."""
        root = tmp_path / "outer" / "project"
        (root / "bench").mkdir(parents=True)
        (root / "bench" / "case.py").write_text("")
        (root / "pyproject.toml").write_text(PROJECT)
        return root

    @needs_git
    def test_revision_and_dirty_flag(self, root: Path) -> None:
        revision = self.commit(root)
        assert environment._git(root) == self.told(revision, dirty=False)
        # A run's own folder makes the suite no other one.
        (root / "myrun").mkdir()
        (root / "myrun" / "results.csv").write_text("")
        assert environment._git(root) == self.told(revision, dirty=False)
        (root / "bench" / "new.py").write_text("")
        assert environment._git(root) == self.told(revision, dirty=True)

    @needs_git
    def test_a_repository_named_by_the_environment_is_not_asked(
        self, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        revision = self.commit(root)
        other = tmp_path / "other"
        other.mkdir()
        (other / "x").write_text("")
        self.commit(other)
        monkeypatch.setenv("GIT_DIR", str(other / ".git"))
        assert environment._git(root) == self.told(revision, dirty=False)

    @needs_git
    def test_inside_the_repository_of_another_project(self, root: Path) -> None:
        self.commit(root.parent)
        assert environment._git(root) is None
        # Git itself would climb from a broken repository into the one around it.
        (root / ".git").mkdir()
        assert environment._git(root) is None

    @needs_git
    @pytest.mark.parametrize("project", ['[project]\nname = "theirs"\n', "[tool.x]\n", "broken ["])
    def test_the_top_of_another_project(self, root: Path, project: str) -> None:
        (root / "pyproject.toml").write_text(project)
        self.commit(root)
        assert environment._git(root) is None

    @needs_git
    def test_no_pyproject(self, root: Path) -> None:
        (root / "pyproject.toml").unlink()
        self.commit(root)
        assert environment._git(root) is None

    @needs_git
    def test_no_commit_yet(self, root: Path) -> None:
        self.git(root, "init", "-q")
        assert environment._git(root) is None

    def test_git_is_not_installed(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        (root / ".git").mkdir()
        monkeypatch.setenv("PATH", str(root))
        assert environment._git(root) is None

    @needs_git
    def test_the_commit_of_ones_own_models(self, root: Path) -> None:
        """With its parent; what Git does not track, such as results, changes nothing."""
        models = root.parent / "models"
        models.mkdir()
        (models / "model.py").write_text("1")
        assert environment.revision_of(models) is None
        first = self.commit(models)
        (models / "model.py").write_text("2")
        second = self.commit(models)
        (models / "results").mkdir()
        (models / "results" / "rounds.csv").write_text("")
        told = self.told(second, first, dirty=False)
        assert environment.revision_of(models / "results") == told
        (models / "model.py").write_text("3")
        assert environment.revision_of(models) == {**told, "dirty": True}

    @staticmethod
    def told(revision: str, *parents: str, dirty: bool) -> dict[str, Any]:
        when = "2026-03-01T12:00:00+00:00"
        return {"revision": revision, "time_utc": when, "parents": [*parents], "dirty": dirty}

    def commit(self, root: Path) -> str:
        self.git(root, "init", "-q")
        self.git(root, "add", ".")
        author = ("-c", "user.name=A", "-c", "user.email=a@example.org")
        self.git(root, *author, "-c", "commit.gpgsign=false", "commit", "-q", "-m", "First")
        return self.git(root, "rev-parse", "HEAD")

    @staticmethod
    def git(root: Path, *arguments: str) -> str:
        environ = {name: value for name, value in os.environ.items() if name[:4] != "GIT_"}
        environ |= {"GIT_COMMITTER_DATE": "2026-03-01T13:00:00+01:00"}
        command = ("git", "-C", str(root), *arguments)
        ended = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
        return ended.stdout.strip()
