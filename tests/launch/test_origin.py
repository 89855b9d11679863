"""Which files a child runs: it is started with the right ones, tells which, and is held to them."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any

import pytest

from bench.launch.child import INSTALLED
from bench.launch.origin import (
    Origin,
    changed,
    child_command,
    digest_of,
    holds_suite,
    python_digest,
)
from bench.machine.loaded import CHECKOUT, loaded_files

WHERE = "import sys, bench; sys.stdout.write(bench.__file__)"


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user stands in a folder, also named by PYTHONPATH, that holds packages of the suite's
    names, which must never be imported."""
    for name in ("bench", "fmnist_models"):
        (tmp_path / "mine" / name).mkdir(parents=True)
        (tmp_path / "mine" / name / "__init__.py").write_text("raise SystemExit('the wrong one')")
    monkeypatch.chdir(tmp_path / "mine")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'mine'}{os.pathsep}{tmp_path / 'library'}")
    return tmp_path / "mine"


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """The suite as a wheel leaves it: its packages in a folder that is no checkout."""
    for name in ("bench", "fmnist_models"):
        leave_out = shutil.ignore_patterns("data", "__pycache__")
        shutil.copytree(CHECKOUT / name, tmp_path / "site" / name, ignore=leave_out)
    return tmp_path / "site"


def output_of(*command: str, **environment: str) -> str:
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def bench_of(suite: Path | None, tmp_path: Path) -> Path:
    (tmp_path / "where.py").write_text(WHERE)
    return Path(output_of(*child_command(str(tmp_path / "where.py"), suite=suite)))


@pytest.mark.usefixtures("hostile")
def test_the_clones_packages_run_whatever_the_user_has(tmp_path: Path) -> None:
    assert bench_of(CHECKOUT, tmp_path) == CHECKOUT / "bench" / "__init__.py"
    assert "--channel" in output_of(*child_command("bench.worker"), "--help")


@pytest.mark.usefixtures("hostile")
def test_a_wheels_packages_run_whatever_the_user_has(wheel: Path, tmp_path: Path) -> None:
    assert bench_of(wheel, tmp_path) == wheel / "bench" / "__init__.py"
    # The parent is of the wheel as well, and starts its worker without being told where it is.
    code = f"""
import subprocess, sys
sys.path.insert(0, {str(wheel)!r})
from bench.launch.launcher import WORKER
from bench.session.sides import Spec, prepare
told = prepare(Spec(), None)._asked("A", "0" * 64)["bench"]
assert told.startswith({str(wheel)!r}), told
subprocess.run([*WORKER, "--help"], check=True)
"""
    (tmp_path / "parent.py").write_text(code)
    assert "--channel" in output_of(sys.executable, "-P", str(tmp_path / "parent.py"))


def test_a_suite_is_not_completed_by_the_installed_one(tmp_path: Path) -> None:
    """As the finder of an editable install would: an earlier revision lacks modules of this one."""
    for package in ("bench", "fmnist_models"):
        (tmp_path / "earlier" / package).mkdir(parents=True)
        (tmp_path / "earlier" / package / "__init__.py").touch()
    (tmp_path / "asks.py").write_text(
        "import sys\n"
        f"sys.path.append({str(CHECKOUT)!r})\n"
        "for name in ('bench.schema', 'fmnist_models.loops'):\n"
        "    try:\n        __import__(name)\n"
        "    except ModuleNotFoundError as error:\n        print(error.name)\n"
    )
    told = output_of(*child_command(str(tmp_path / "asks.py"), suite=tmp_path / "earlier"))
    assert told.split() == ["bench.schema", "fmnist_models.loops"]


@pytest.mark.usefixtures("hostile")
def test_another_interpreters_own_suite_runs_whatever_the_user_has(tmp_path: Path) -> None:
    assert "mine" not in bench_of(None, tmp_path).parts
    assert child_command("bench.worker", suite=None)[-2] == INSTALLED


def test_a_suite_that_only_pythonpath_names_is_found(
    wheel: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "where.py").write_text(WHERE)
    monkeypatch.setenv("PYTHONPATH", str(wheel))
    command = child_command(str(tmp_path / "where.py"), suite=None)
    # -S: without the installed packages.
    found = output_of(command[0], "-S", *command[1:])
    assert Path(found) == wheel / "bench" / "__init__.py"


def test_the_users_path_is_left_as_it_was(hostile: Path, tmp_path: Path) -> None:
    (tmp_path / "path.py").write_text("import json, sys; print(json.dumps(sys.path))")
    seen = json.loads(output_of(*child_command(str(tmp_path / "path.py"))))
    plain = json.loads(output_of(sys.executable, "-P", str(tmp_path / "path.py")))
    assert seen == plain
    assert seen[:2] == [str(hostile), str(tmp_path / "library")]


def module(monkeypatch: pytest.MonkeyPatch, name: str, path: Path, **attributes: Any) -> str:
    """A module that was imported from a file, under its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"# {name}")
    made = types.ModuleType(name)
    made.__file__ = str(path)
    made.__spec__ = ModuleSpec(name, None)
    vars(made).update(attributes)
    monkeypatch.setitem(sys.modules, name, made)
    return hashlib.sha256(f"# {name}".encode()).hexdigest()


def test_what_is_no_part_of_python_is_told_with_its_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = module(monkeypatch, "own_helper", tmp_path / "own_helper.py")
    module(monkeypatch, "some.library", tmp_path / "site-packages" / "some" / "library.py")
    found = loaded_files()
    assert found["own_helper"] == (str(tmp_path / "own_helper.py"), own)
    assert "bench.machine.loaded" in found
    assert not {"json", "pathlib", "numpy", "pytest", "some.library"} & found.keys()


def test_an_installed_model_is_told_with_its_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    site = tmp_path / "site-packages"
    module(monkeypatch, "zoo", site / "zoo" / "__init__.py")
    module(monkeypatch, "zoo.parts", site / "zoo" / "parts.py")
    module(monkeypatch, "hidden.place", site / "hidden" / "place.py")
    builder = types.SimpleNamespace(__module__="hidden.place")
    module(monkeypatch, "zoo.small", site / "zoo" / "small.py", build=builder)
    found = loaded_files(["zoo.small:build", "absent:build"])
    assert {"zoo", "zoo.small", "zoo.parts", "hidden.place"} <= found.keys()


def test_the_digest_is_of_the_file_as_it_was_when_it_was_first_asked_for(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Asked once the model is built: whoever saves the file during the launch changes the next."""
    digest = module(monkeypatch, "own_edited", tmp_path / "own_edited.py")
    assert loaded_files()["own_edited"][1] == digest
    (tmp_path / "own_edited.py").write_text("another")
    assert loaded_files()["own_edited"][1] == digest


def test_a_file_that_is_gone_or_in_an_archive_has_no_digest(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    module(monkeypatch, "own_gone", tmp_path / "gone.py")
    (tmp_path / "gone.py").unlink()
    assert loaded_files()["own_gone"][1] == ""


def files(**paths: Path) -> dict[str, tuple[str, str]]:
    return {name.replace("_DOT_", "."): (str(path), "d" * 64) for name, path in paths.items()}


def test_a_module_of_another_suite_is_refused(tmp_path: Path) -> None:
    right = tmp_path / "a" / "bench" / "worker" / "network.py"
    wrong = tmp_path / "b" / "bench" / "worker" / "network.py"
    origin = Origin(tmp_path / "a")
    assert origin.refusal(files(bench_DOT_worker_DOT_network=right), ()) == ""
    reason = origin.refusal(files(bench_DOT_worker_DOT_network=wrong), ())
    assert (
        reason == f"bench.worker.network came from {wrong}, not from the suite in {tmp_path / 'a'}"
    )
    assert Origin(None).refusal(files(bench_DOT_worker_DOT_network=wrong), ()) == ""


def test_a_model_from_elsewhere_than_its_checkout_is_refused(tmp_path: Path) -> None:
    origin = Origin(CHECKOUT, tmp_path / "side")
    inside, outside = tmp_path / "side" / "mine.py", tmp_path / "mine.py"
    assert origin.refusal(files(mine=inside, helper=outside), ["mine:build"]) == ""
    reason = origin.refusal(files(mine=outside), ["mine:build"])
    assert reason == f"mine came from {outside}, not from the checkout {tmp_path / 'side'}"
    assert "mine is no file of the checkout" in origin.refusal(files(other=inside), ["mine:build"])
    assert origin.refusal({}, []) == ""


def test_a_revision_runs_nothing_of_the_working_tree(tmp_path: Path) -> None:
    """A neighbour that is installed for development comes from the working tree on both sides."""
    origin = Origin(CHECKOUT, tmp_path / "repo" / "duel" / "abc", tmp_path / "repo")
    inside = tmp_path / "repo" / "duel" / "abc" / "mine.py"
    neighbour = tmp_path / "repo" / "src" / "helper.py"
    assert origin.refusal(files(mine=inside), ["mine:build"]) == ""
    assert "helper came from" in origin.refusal(files(mine=inside, helper=neighbour), ["mine:b"])


def test_a_link_out_of_a_revision_is_refused_and_one_in_the_users_folder_is_theirs(
    tmp_path: Path,
) -> None:
    (tmp_path / "side").mkdir()
    (tmp_path / "other.py").touch()
    link = tmp_path / "side" / "mine.py"
    link.symlink_to(tmp_path / "other.py")
    assert Origin(CHECKOUT, tmp_path / "side").refusal(files(mine=link), ["mine:build"]) == ""
    revision = Origin(CHECKOUT, tmp_path / "side", tmp_path / "repo")
    assert "mine came from" in revision.refusal(files(mine=link), ["mine:build"])


def test_a_worker_that_tells_nothing_is_refused_only_where_it_could_be_wrong(
    tmp_path: Path,
) -> None:
    assert Origin().refusal(None, ["mine:build"]) == ""
    side = Origin(CHECKOUT, tmp_path)
    assert side.refusal(None, []) == ""
    assert "does not tell which files it ran" in side.refusal(None, ["mine:build"])


def test_a_listing_says_where_without_the_users_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = files(
        bench_DOT_worker_DOT_network=CHECKOUT / "bench" / "worker" / "network.py",
        nets_DOT_mine=tmp_path / "nets" / "mine.py",
        shared=Path("/home/zoe/secret/shared/__init__.py"),
    )
    listing = Origin().listing(told)
    assert {where: list(found) for where, found in listing.items()} == {
        "suite": ["bench/worker/network.py"],
        "models": ["nets/mine.py"],
        "elsewhere": ["shared/__init__.py"],
    }
    # The same files of a side's checkout have the same digest.
    moved = {name: (path.replace(str(tmp_path), "/side"), d) for name, (path, d) in told.items()}
    assert digest_of(Origin(CHECKOUT, Path("/side")).listing(moved)) == digest_of(listing)


def test_a_file_that_changed_is_named_and_more_or_fewer_files_are_no_change() -> None:
    before = {"suite": {"bench/a.py": "1", "bench/b.py": "2"}, "models": {"mine.py": "3"}}
    assert changed([before], {"suite": {"bench/a.py": "1", "bench/c.py": "9"}}) == ""
    assert changed([before], {"models": {"mine.py": "4"}}) == "mine.py"
    many = {"suite": {f"bench/{n}.py": "1" for n in range(5)}}
    other = {"suite": dict.fromkeys(many["suite"], "2")}
    assert changed([many], other).endswith("bench/0.py, bench/1.py, bench/2.py and 2 more")


def test_a_checkout_of_the_suite_is_known_by_its_worker(tmp_path: Path) -> None:
    assert holds_suite(CHECKOUT)
    (tmp_path / "bench").mkdir()
    (tmp_path / "bench" / "worker.py").touch()
    # A project of somebody's that has a package of the name.
    assert not holds_suite(tmp_path)
    (tmp_path / "fmnist_models").mkdir()
    assert holds_suite(tmp_path)
    (tmp_path / "bench" / "worker.py").unlink()
    (tmp_path / "bench" / "worker").mkdir()
    (tmp_path / "bench" / "worker" / "__main__.py").touch()
    assert holds_suite(tmp_path)


def test_the_digest_of_a_folder_is_of_its_python_files(tmp_path: Path) -> None:
    (tmp_path / "nets").mkdir()
    (tmp_path / "nets" / "mine.py").write_text("one")
    first = python_digest(tmp_path)
    for folder in (".hidden", "venv"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "other.py").touch()
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    # A duel unpacks revisions below its folder, which may lie here.
    (tmp_path / "results" / "now" / "checkouts").mkdir(parents=True)
    (tmp_path / "results" / "now" / "checkouts" / "mine.py").write_text("of another revision")
    (tmp_path / "results" / "now" / "duel.json").touch()
    (tmp_path / "notes.txt").touch()
    assert python_digest(tmp_path) == first
    (tmp_path / "nets" / "mine.py").write_text("two")
    assert python_digest(tmp_path) != first
