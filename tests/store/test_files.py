"""Outputs replace what the suite wrote as that kind of file, and nothing else."""

from __future__ import annotations

import os
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import ROOT, TypeIn
from support.run_folders import write_run

from bench.schema.case import Case
from bench.session.profile import _refuse_taken
from bench.store.files import PAGE, PICTURE, Kind, clear_leftovers, target_of, write_bytes
from bench.store.taken import refuse_taken
from fmnist_models.errors import UserError

CASES = {
    Case("relu_mlp", "adam", "fit"): (0.5, 0.8),
    Case("relu_mlp", "adam", "compiled"): (0.1, 0.8),
}
TABLE = Kind.table(("case", "run", "baseline", "ratio"))
LINKS = pytest.mark.skipif(sys.platform == "win32", reason="links need rights there")


def test_what_the_suite_wrote_is_replaced_and_so_is_nothing(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<!doctype html>\n<title>fmnist-bench: run</title>")
    (tmp_path / "empty").touch()
    (tmp_path / "table").write_text("case,run,baseline,other\n")
    assert target_of(tmp_path / "page", PAGE) == tmp_path / "page"
    assert target_of(tmp_path / "empty", PAGE) == tmp_path / "empty"
    assert target_of(tmp_path / "new", PAGE) == tmp_path / "new"
    assert target_of(tmp_path / "table", TABLE) == tmp_path / "table"


@pytest.mark.parametrize("kind", [PAGE, PICTURE, TABLE])
@pytest.mark.parametrize("content", ["x", "case,status,reason\n", "\x89PNG\r\n\x1a\n IHDR"])
def test_what_is_of_another_kind_stays(tmp_path: Path, kind: Kind, content: str) -> None:
    (tmp_path / "there").write_text(content)
    with pytest.raises(UserError, match=r"there is there already and is not a .* --output"):
        target_of(tmp_path / "there", kind)


def test_pictures_of_revisions_without_a_mark_are_known_by_their_folder(tmp_path: Path) -> None:
    """Matplotlib's mark alone may be the user's own picture."""
    old = (ROOT / "results/reference/comparison.png").read_bytes()
    assert b"fmnist-bench" not in old[:4096]
    (tmp_path / "comparison.png").write_bytes(old)
    with pytest.raises(UserError, match="is not a picture of this suite"):
        target_of(tmp_path / "comparison.png", PICTURE)
    (tmp_path / "plan.json").touch()
    target_of(tmp_path / "comparison.png", PICTURE)


@pytest.mark.parametrize("name", ["plan.json", "environment.json", "report.html"])
def test_what_only_names_the_suite_is_no_picture_of_it(tmp_path: Path, name: str) -> None:
    there = tmp_path / name
    there.write_bytes((ROOT / "results/reference" / name).read_bytes()[:60_000])
    assert b"fmnist-bench" in there.read_bytes()
    with pytest.raises(UserError, match="is not a picture of this suite"):
        target_of(there, PICTURE)


def test_compare_replaces_no_picture_that_lay_there_before_its_table(
    type_in: TypeIn, tmp_path: Path
) -> None:
    runs = [
        write_run(
            tmp_path / name,
            {case: (seconds * n, score) for case, (seconds, score) in CASES.items()},
        )
        for n, name in enumerate("ab", 1)
    ]
    out = tmp_path / "out"
    out.mkdir()
    old = (ROOT / "results/reference/comparison.png").read_bytes()
    (out / "comparison.png").write_bytes(old)
    for _ in range(2):
        code, _, err = type_in("compare", *runs, "--output", out)
        assert (code, "is not a picture of this suite" in err) == (2, True)
    assert (out / "comparison.png").read_bytes() == old
    (out / "comparison.png").unlink()
    for _ in range(2):
        assert type_in("compare", *runs, "--output", out)[0] == 0


def test_a_run_and_a_profile_take_no_folder_of_another(tmp_path: Path) -> None:
    profile, run = tmp_path / "profile", write_run(tmp_path / "run", CASES)
    shutil.copytree(ROOT / "results/examples/profile", profile)
    with pytest.raises(UserError, match=r"profile holds profile\.csv but no plan\.json"):
        refuse_taken(profile)
    (run / "plan.json").unlink(missing_ok=True)
    with pytest.raises(UserError, match=r"run already holds [a-z]+\.(csv|jsonl)"):
        _refuse_taken(run)


@LINKS
def test_a_link_leads_to_its_target_and_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "page").write_text("<!doctype html>\n<title>fmnist-bench: run</title>")
    (tmp_path / "mine").write_text("mine")
    for name in ("page", "mine", "nothing"):
        (tmp_path / f"to_{name}").symlink_to(name)
    (tmp_path / "loop").symlink_to("loop")
    assert target_of(tmp_path / "to_page", PAGE) == tmp_path / "page"
    assert target_of(tmp_path / "to_nothing", PAGE) == tmp_path / "nothing"
    with pytest.raises(UserError, match="to_mine is there already"):
        target_of(tmp_path / "to_mine", PAGE)
    with pytest.raises(UserError, match="it is a link to itself"):
        target_of(tmp_path / "loop", PAGE)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_devices_pipes_and_folders_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (Path(os.devnull), tmp_path / "pipe"):
        with pytest.raises(UserError, match="it is a device or a pipe"):
            target_of(path, PAGE)
    with pytest.raises(UserError, match="it is a folder"):
        target_of(tmp_path, PAGE)


def verbs(run: Path, output: Path) -> Iterator[tuple[tuple[object, ...], Path]]:
    """Each verb that writes where the user says, as `output` would be replaced by it."""
    yield ("report", run, "--output", output), output
    yield ("describe", "--models", "softmax", "--output", output), output
    yield ("export", run, "--format", "bmf", "--output", output), output


@LINKS
@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("name", ["results.csv", "mine", "device"])
def test_no_verb_replaces_the_users_file(
    type_in: TypeIn, tmp_path: Path, number: int, name: str
) -> None:
    run = write_run(tmp_path / "run", CASES)
    (run / "mine").write_text("mine")
    (run / "device").symlink_to(os.devnull)
    before = {} if name == "device" else {name: (run / name).read_bytes()}
    words, output = list(verbs(run, run / name))[number]
    code, _, err = type_in(*words)
    assert code == 2
    assert str(output) in err
    assert err.count("\n") == 1
    assert stat.S_ISCHR(Path(os.devnull).stat().st_mode)
    assert all((run / name).read_bytes() == there for name, there in before.items())


def test_compare_and_check_replace_no_file_of_the_user(type_in: TypeIn, tmp_path: Path) -> None:
    base, runs = tmp_path / "base", []
    for k in range(4):
        cases = {case: (seconds + k / 1000, score) for case, (seconds, score) in CASES.items()}
        time = f"2026-03-0{k + 1}T12:00:00+00:00"
        runs.append(write_run((base if k else tmp_path) / f"run{k}", cases, time_utc=time))
    out = tmp_path / "out"
    out.mkdir()
    for name in ("comparison.csv", "check.json"):
        (out / name).write_text("mine")
    for words in (("compare", *runs), ("check", "--baseline", base, runs[0])):
        code, _, err = type_in(*words, "--output", out)
        assert (code, "is there already and is not a" in err) == (2, True), err
    assert [(out / name).read_text() for name in ("comparison.csv", "check.json")] == ["mine"] * 2


def test_a_name_that_is_too_long_is_one_line(type_in: TypeIn, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", CASES)
    for words in (
        ("report", run, "--output", tmp_path / ("x" * 300)),
        ("export", run, "--format", "bmf", "--output", tmp_path / ("x" * 300)),
        ("report", tmp_path / ("x" * 300)),
        ("compare", run, run, "--output", tmp_path / ("x" * 300)),
        ("check", run, "--baseline", tmp_path / ("x" * 300)),
        ("baseline", "list", tmp_path / ("x" * 300)),
        ("run", "--resume", tmp_path / ("x" * 300)),
        ("run", "--models", "softmax", "--devices", "cpu", "--output", tmp_path / ("x" * 300)),
        ("run", "--data", tmp_path / ("x" * 300)),
    ):
        code, _, err = type_in(*words)
        assert code == 2, words
        assert err.count("\n") == 1, words
        assert "Traceback" not in err


@pytest.mark.skipif(sys.platform != "linux", reason="names are bytes on Linux")
def test_a_folder_whose_name_is_not_utf_8_can_be_read_and_written(
    type_in: TypeIn, tmp_path: Path
) -> None:
    run = write_run(tmp_path / os.fsdecode(b"caf\xe9"), CASES, command=os.fsdecode(b"run \xe9"))
    code, _, err = type_in("report", run)
    assert (code, err) == (0, "")
    assert (run / "report.html").exists()


def test_what_a_killed_writer_left_goes_at_the_next_write(tmp_path: Path) -> None:
    (tmp_path / ".page.html.999999999.partial").write_text("half")
    (tmp_path / f".page.html.{os.getppid()}.partial").write_text("another is writing this")
    (tmp_path / ".other.999999999.partial").write_text("half")
    write_bytes(tmp_path / "page.html", b"whole")
    left = sorted(file.name for file in tmp_path.iterdir())
    assert left == [".other.999999999.partial", f".page.html.{os.getppid()}.partial", "page.html"]
    clear_leftovers(tmp_path)
    assert not (tmp_path / ".other.999999999.partial").exists()
