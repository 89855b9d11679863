"""`baseline add`, `list` and `remove`: whole runs or none, and a way out of every broken one."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import filelock
import pytest
from support import TypeIn
from support.run_folders import write_run

from bench.schema.case import Case
from bench.store import baselines
from bench.store.measured import read_baseline, run_folders
from fmnist_models.errors import UserError

CASE = Case("relu_mlp", "adam", "compiled")
FILES = ["environment.json", "launches.jsonl", "plan.json", "results.csv", "rounds.csv"]
KILLED = """
import os, sys
from pathlib import Path
from bench.store import baselines
sync = baselines._sync
def killed(path):
    sync(path)
    if path.name == sys.argv[3]:
        os._exit(9)
baselines._sync = killed
baselines.add(Path(sys.argv[1]), [Path(sys.argv[2])])
"""


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A baseline of two runs."""
    runs = [measured(tmp_path / f"run{k}", 4.0 + k) for k in range(2)]
    baselines.add(tmp_path / "base", runs)
    return tmp_path / "base"


def measured(path: Path, seconds: float) -> Path:
    return write_run(path, {CASE: (seconds, 0.87)})


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def spoil(run: Path) -> None:
    (run / "rounds.csv").write_text("case\n", "utf-8")


def test_a_run_is_no_baseline(tmp_path: Path) -> None:
    run = measured(tmp_path / "run", 4.0)
    with pytest.raises(UserError, match="run is a run, and a baseline is a folder of runs: name"):
        read_baseline(run)


def test_only_what_a_baseline_needs_is_copied(tmp_path: Path, base: Path) -> None:
    run = measured(tmp_path / "more", 9.0)
    for name in ("report.html", "comparison.png", "check.json"):
        (run / name).touch()
    measured(run / "duel" / "a", 3.0)
    (run / "duel" / "duel.json").touch()
    assert baselines.add(base, [run]) == [base / "more"]
    assert names(base / "more") == FILES
    assert names(base) == ["more", "run0", "run1"]


@pytest.mark.parametrize("at", ["rounds.csv", "new"])
def test_a_killed_add_leaves_no_part_of_a_run(tmp_path: Path, base: Path, at: str) -> None:
    run = measured(tmp_path / "new", 9.0)
    done = subprocess.run([sys.executable, "-c", KILLED, base, run, at], check=False)
    assert done.returncode == 9
    assert [path.name for path in base.iterdir() if path.name.startswith(".adding-")]
    assert baselines.describe(base)[-1] == "2 runs"
    assert len(read_baseline(base)) == 2
    baselines.add(base, [run])
    assert names(base) == ["new", "run0", "run1"]
    assert names(base / "new") == FILES


def test_a_full_disk_leaves_no_part_of_a_run(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = measured(tmp_path / "new", 9.0)

    def full(path: Path) -> None:
        if path.name == "rounds.csv":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(baselines, "_sync", full)
    with pytest.raises(UserError, match=f"cannot write to {base}: No space left on device"):
        baselines.add(base, [run])
    assert names(base) == ["run0", "run1"]


def test_a_broken_run_is_listed_named_and_removed_unread(
    tmp_path: Path, base: Path, type_in: TypeIn
) -> None:
    spoil(base / "run1")
    code, out, _ = type_in("baseline", "list", base)
    assert code == 0
    assert out.startswith("run0  2026-03-01")
    assert "run1  cannot be read: " in out
    assert out.endswith("1 run, 1 more cannot be read\n")
    way_out = f"or take the run out: fmnist-bench baseline remove {base} run1"
    run = measured(tmp_path / "new", 9.0)
    for words in (("baseline", "add", base, run), ("check", "--baseline", base, run)):
        code, _, err = type_in(*words)
        assert (code, err.count("\n")) == (2, 1)
        assert way_out in err
    assert type_in("baseline", "remove", base, "run1")[0] == 0
    assert type_in("baseline", "add", base, run)[0] == 0


def test_of_a_link_the_link_goes_and_its_target_stays(tmp_path: Path, base: Path) -> None:
    run = measured(tmp_path / "linked", 9.0)
    for link, target in (("run", run), ("gone", "nowhere"), ("self", base / "self")):
        (base / link).symlink_to(target)
        assert baselines.remove(base, [link]) == [base / link]
        assert not os.path.lexists(base / link)
    assert names(run)[:1] == ["environment.json"]
    (tmp_path / "link").symlink_to(base)
    assert baselines.remove(tmp_path / "link", ["run0"]) == [tmp_path / "link" / "run0"]
    assert names(base) == ["run1"]


@pytest.mark.parametrize(
    "name", ["..", ".", "", "/", "run0/..", "run0/", "./run0", "nope", ".lock"]
)
def test_what_is_no_name_of_a_run_removes_nothing(base: Path, name: str) -> None:
    for asked in ([name], ["run1", name], [str(base / "run0")]):
        with pytest.raises(UserError, match=r"holds no run .*: choose from run0, run1"):
            baselines.remove(base, asked)
    assert names(base) == ["run0", "run1"]


def test_a_name_that_is_taken_is_refused(tmp_path: Path, base: Path) -> None:
    (base / "new").symlink_to("nowhere")
    with pytest.raises(UserError, match="new is there already: rename the run's folder"):
        baselines.add(base, [measured(tmp_path / "new", 9.0)])
    with pytest.raises(UserError, match="twice is there already"):
        baselines.add(base, [measured(tmp_path / n / "twice", 7.0 + int(n)) for n in "12"])
    with pytest.raises(UserError, match="its name is hidden"):
        baselines.add(base, [measured(tmp_path / ".hidden", 9.0)])
    assert names(base) == ["new", "run0", "run1"]


def test_two_changes_at_once_are_one_after_the_other(tmp_path: Path, base: Path) -> None:
    run = measured(tmp_path / "new", 9.0)
    with filelock.FileLock(base / ".lock"):
        for change in (
            lambda: baselines.add(base, [run]),
            lambda: baselines.remove(base, ["run0"]),
        ):
            with pytest.raises(UserError, match="is being changed by another process"):
                change()
    baselines.add(base, [run])
    assert names(base) == ["new", "run0", "run1"]


def test_a_refused_run_makes_no_folder(tmp_path: Path) -> None:
    run = measured(tmp_path / "run", 4.0)
    (run / "results.csv").write_text("", "utf-8")
    with pytest.raises(UserError, match=r"results\.csv"):
        baselines.add(tmp_path / "base", [run])
    assert not (tmp_path / "base").exists()
    with pytest.raises(UserError, match="is not a folder"):
        baselines.remove(tmp_path / "base", ["run"])
    with pytest.raises(UserError, match="is not a folder"):
        baselines.add(Path(__file__), [measured(tmp_path / "other", 5.0)])


def test_what_another_user_left_blocks_nobody(
    tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lock can be taken, and what was half added stays hidden where it cannot be removed."""
    left = base / f"{baselines._UNDER_WAY}theirs"
    (left / "run9").mkdir(parents=True)

    def refuse(path: Path, *, ignore_errors: bool = False, **_: Any) -> None:
        if not ignore_errors:
            raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(baselines.shutil, "rmtree", refuse)
        baselines.add(base, [measured(tmp_path / "new", 9.0)])
    assert left.exists()
    assert [path.name for path in run_folders(base)] == ["new", "run0", "run1"]
    with baselines._changing(base):
        assert (base / ".lock").stat().st_mode & 0o777 == 0o666
    assert not left.exists()
