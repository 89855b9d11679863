"""A wheel, installed in an environment of its own far from any clone, is the whole suite."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import ROOT
from support.repositories import git
from support.run_folders import write_run

from bench.schema.case import Case

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
Typed = Callable[..., tuple[str, str]]
WRONG = "raise SystemExit('the wrong one')"
MODELS = """
import {neighbour}
import keras


def build():
    return keras.Sequential([keras.Input((784,)), keras.layers.Dense(10, "softmax")])
"""
TESTS = (
    MODELS.format(neighbour="tests")
    + """

def test_speed(training_benchmark):
    training_benchmark(build, loop="fit", batch_size=2000, epochs=1, launches=1, device="cpu")


def test_wrong(training_benchmark):
    training_benchmark(build, epochs=0)
"""
)
REFUSED = (
    "model 'hidden:build': it needs a package 'bench' that is not fmnist-bench's, which has that "
    "name already: rename yours"
)


def output_of(*command: object, code: int = 0, **where: Any) -> tuple[str, str]:
    """Both streams of a program that ends with `code`."""
    done = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, check=False, **where
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree as a repository of one revision, without a tag: nothing is built into the
    clone, and nothing that was built there before comes into the wheel."""
    folder = tmp_path_factory.mktemp("tree")
    for name in ("bench", "fmnist_models", "tests"):
        leave_out = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, folder / name, ignore=leave_out)
    for file in ROOT.iterdir():
        if file.is_file():
            shutil.copyfile(file, folder / file.name)
    # In a linked worktree it is a file.
    (folder / ".git").unlink(missing_ok=True)
    git(folder, "init", "--quiet")
    git(folder, "add", "--all")
    git(folder, "commit", "--quiet", "--message", "the working tree")
    return folder


@pytest.fixture(scope="module")
def wheels(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """One made of the tree, and one of the sdist that was made of the tree."""
    found: list[Path] = []
    for name, what in (("direct", ["--wheel"]), ("by-sdist", [])):
        folder = tmp_path_factory.mktemp(name)
        output_of(sys.executable, "-m", "build", "--no-isolation", *what, "--outdir", folder, tree)
        found += folder.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def environment(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of a fresh environment that holds the wheel, and takes what the wheel needs,
    but not the suite, from the one that runs the tests."""
    folder = tmp_path_factory.mktemp("environment")
    output_of(sys.executable, "-m", "venv", folder)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    output_of(
        programs / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheels[0]
    )
    where = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = Path(output_of(programs / "python", "-c", where)[0].strip())
    installed = [path for path in sys.path if path.endswith(("site-packages", "dist-packages"))]
    (site / "needed.pth").write_text("\n".join(installed))
    return programs


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the user stands: there, too, are packages of the suite's names."""
    folder = tmp_path_factory.mktemp("elsewhere")
    for name in ("bench", "fmnist_models"):
        (folder / name).mkdir()
        (folder / name / "__init__.py").write_text(WRONG)
    (folder / "tests").mkdir()
    (folder / "tests" / "__init__.py").touch()
    (folder / "mine.py").write_text(MODELS.format(neighbour="tests"))
    (folder / "hidden.py").write_text(MODELS.format(neighbour="bench.layers"))
    return folder


@pytest.fixture
def typed(environment: Path, elsewhere: Path) -> Typed:
    """Types a command where the user stands."""
    environ = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "FMNIST_DATA")}

    def run(program: str, *words: str, code: int = 0) -> tuple[str, str]:
        return output_of(environment / program, *words, code=code, cwd=elsewhere, env=environ)

    return run


def test_both_ways_lead_to_the_same_wheel(wheels: list[Path]) -> None:
    direct, by_sdist = (
        {each.filename: each.CRC for each in zipfile.ZipFile(file).infolist()} for file in wheels
    )
    assert direct == by_sdist
    assert {name.partition("/")[0] for name in direct if ".dist-info/" not in name} == {
        "bench",
        "fmnist_bench.py",
        "fmnist_bench_pytest.py",
        "fmnist_models",
    }


def test_what_runs_is_the_wheel(typed: Typed, environment: Path) -> None:
    for module in ("bench", "fmnist_models"):
        where, _ = typed("python", "-P", "-c", f"import {module}; print({module}.__file__)")
        assert Path(where).is_relative_to(environment.parent)


def test_it_tells_its_version_and_revision(typed: Typed, tree: Path) -> None:
    told, _ = typed("fmnist-bench", "--version")
    assert told.startswith("fmnist-bench 0.")
    assert told.strip().endswith(f"+g{git(tree, 'rev-parse', 'HEAD')[:9]}")


def test_it_lists_and_compares(typed: Typed, elsewhere: Path) -> None:
    assert "relu_mlp-adam-compiled-cpu-b32-float32" in typed("fmnist-bench", "list")[0]
    case = Case("relu_mlp", "adam", "fit")
    for label, seconds in (("before", 2.0), ("after", 1.0)):
        write_run(elsewhere / label, {case: (seconds, 0.85)}, label=label)
    told, _ = typed("fmnist-bench", "compare", "before", "after", "--output", "compared")
    assert "after" in told
    assert (elsewhere / "compared" / "comparison.png").exists()


def test_the_users_packages_on_pythonpath_do_not_replace_its_own(
    environment: Path, elsewhere: Path
) -> None:
    environ = {**os.environ, "PYTHONPATH": str(elsewhere)}
    told, _ = output_of(environment / "fmnist-bench", "list", cwd=elsewhere, env=environ)
    assert "relu_mlp-adam-compiled-cpu-b32-float32" in told


def test_a_broken_installation_is_a_line_that_says_so(tmp_path: Path) -> None:
    shutil.copy(ROOT / "fmnist_bench.py", tmp_path)
    start = "import fmnist_bench; fmnist_bench.main()"
    _, error = output_of(sys.executable, "-c", start, code=2, cwd=tmp_path)
    assert error == (
        f"fmnist-bench: error: install fmnist-bench again: {tmp_path.resolve()} lacks files\n"
    )


def test_it_makes_a_page_of_a_copied_run(typed: Typed, elsewhere: Path) -> None:
    shutil.copytree(ROOT / "results" / "reference", elsewhere / "copied")
    (elsewhere / "copied" / "report.html").unlink()
    typed("fmnist-bench", "report", "copied")
    assert (elsewhere / "copied" / "report.html").read_text("utf-8").endswith("</html>")


def test_it_describes_the_data_that_it_holds_and_refuses_a_package_of_its_own_name(
    typed: Typed, elsewhere: Path
) -> None:
    words = ("--models", "hidden:build", "--output", "samples.png")
    told, error = typed("fmnist-bench", "describe", *words, code=2)
    assert "train_images: (60000, 28, 28) uint8" in told
    assert (elsewhere / "samples.png").exists()
    assert error == f"fmnist-bench: error: {REFUSED}\n"


def test_its_plug_in_refuses_and_measures_in_a_repository_with_a_bench(
    typed: Typed, elsewhere: Path
) -> None:
    assert "--training-baseline=FOLDER" in typed("python", "-m", "pytest", "--help")[0]
    (elsewhere / "test_speed.py").write_text(TESTS)
    told, _ = typed(
        *("python", "-m", "pytest", "test_speed.py", "--benchmark-json=speed.json"), code=1
    )
    assert "epochs 0: must be between 1 and 100000" in told
    (timed,) = json.loads((elsewhere / "speed.json").read_text("utf-8"))["benchmarks"]
    assert timed["extra_info"]["case"] == "test_speed:build-adam-fit-cpu-b2000-float32"
    assert len(timed["stats"]["data"]) == 1


def test_it_trains_what_the_user_has(typed: Typed, elsewhere: Path) -> None:
    typed(
        "fmnist-bench",
        *("run", "--models", "mine:build,hidden:build", "--optimizers", "sgd", "--loops", "fit"),
        *("--devices", "cpu", "--precisions", "float32", "--batch-sizes", "2000"),
        *("--epochs", "1", "--no-report", "--output", "run"),
        code=2,
    )
    with (elsewhere / "run" / "results.csv").open(newline="") as lines:
        rows = {row["model"]: row for row in csv.DictReader(lines)}
    assert rows["mine:build"]["status"] == "ok"
    assert rows["hidden:build"]["status"] == "failed"
    assert rows["hidden:build"]["reason"] == REFUSED
    environment = json.loads((elsewhere / "run" / "environment.json").read_text("utf-8"))
    assert environment["git"] is None
