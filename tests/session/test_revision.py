"""The files of a commit, as they are, beside an untouched repository."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
from support.repositories import git

from bench.session import revision
from bench.session.revision import commit_of, unpacked
from fmnist_models.errors import UserError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:1234\nsize 99\n"


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "my repo"
    folder.mkdir()
    git(folder, "init", "-q")
    return folder


def commit(folder: Path, **texts: str) -> str:
    for name, text in texts.items():
        (folder / name.replace("__", "/").replace("_py", ".py")).write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "more")
    return git(folder, "rev-parse", "HEAD")


def files_of(folder: Path) -> list[str]:
    return sorted(
        file.relative_to(folder).as_posix() for file in folder.rglob("*") if not file.is_dir()
    )


def test_attributes_leave_nothing_out_and_change_nothing(repository: Path, tmp_path: Path) -> None:
    (repository / "bench").mkdir()
    (repository / ".gitattributes").write_text(
        "bench export-ignore\nmine.py export-subst\n*.txt text eol=crlf\n*.bin filter=broken\n"
    )
    git(repository, "config", "filter.broken.smudge", "false")
    git(repository, "config", "filter.broken.clean", "cat")
    (repository / "data.bin").write_bytes(bytes(range(256)))
    texts = {"bench__mine_py": "x = 1\n", "mine_py": "# $Format:%H$\n", "lines.txt": "a\nb\n"}
    name = commit(repository, **texts)
    before = git(repository, "status", "--short"), sorted((repository / ".git").iterdir())
    folder, notes = unpacked(str(repository), name, tmp_path)
    assert files_of(folder) == [
        ".gitattributes",
        "bench/mine.py",
        "data.bin",
        "lines.txt",
        "mine.py",
    ]
    assert (folder / "mine.py").read_bytes() == b"# $Format:%H$\n"
    assert (folder / "lines.txt").read_bytes() == b"a\nb\n"
    assert (folder / "data.bin").read_bytes() == bytes(range(256))
    assert notes == ()
    now = git(repository, "status", "--short"), sorted((repository / ".git").iterdir())
    assert now == before
    assert git(repository, "worktree", "list").count("\n") == 0


def test_links_executables_and_names_of_any_script(repository: Path, tmp_path: Path) -> None:
    (repository / "모델.py").write_text("x = 1\n")
    (repository / "run").write_text("#!/bin/sh\n")
    (repository / "run").chmod(0o755)
    (repository / "link.py").symlink_to("모델.py")
    (repository / "gone").symlink_to("/no/such")
    folder, _ = unpacked(str(repository), commit(repository), tmp_path)
    assert files_of(folder) == ["gone", "link.py", "run", "모델.py"]
    assert str((folder / "link.py").readlink()) == "모델.py"
    assert str((folder / "gone").readlink()) == "/no/such"
    assert os.access(folder / "run", os.X_OK)
    assert not os.access(folder / "모델.py", os.X_OK)


def test_a_folder_in_the_repository_and_another_of_the_same_commit(
    repository: Path, tmp_path: Path
) -> None:
    for name in ("one", "two"):
        (repository / name).mkdir()
    name = commit(repository, one__mine_py="1", two__mine_py="2")
    texts = [
        (unpacked(str(repository / below), name, tmp_path)[0] / "mine.py").read_text()
        for below in ("one", "two", "one")
    ]
    assert texts == ["1", "2", "1"]


def test_what_was_unpacked_once_needs_no_content_again(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = commit(repository, mine_py="1")
    first = unpacked(str(repository), name, tmp_path)
    monkeypatch.setattr(revision, "_write", lambda *_: pytest.fail("unpacked again"))
    assert unpacked(str(repository), name, tmp_path) == first


def test_half_of_it_is_never_taken_for_the_whole(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = commit(repository, a_py="1", b_py="2")
    put = revision._put

    def second_is_cut(file: Path, *rest: Any) -> None:
        if file.name == "b.py":
            os._exit(9)
        put(file, *rest)

    monkeypatch.setattr(revision, "_put", second_is_cut)
    pid = os.fork() if sys.platform != "win32" else pytest.skip("no fork here")
    if pid == 0:
        unpacked(str(repository), name, tmp_path / "below")
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    (left,) = (tmp_path / "below").iterdir()
    assert files_of(left) == ["a.py"]
    monkeypatch.setattr(revision, "_put", put)
    folder, _ = unpacked(str(repository), name, tmp_path / "below")
    assert files_of(folder) == ["a.py", "b.py"]
    assert list((tmp_path / "below").iterdir()) == [folder]


def test_submodules_and_lfs_pointers_are_named_with_what_to_do(
    repository: Path, tmp_path: Path
) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    git(inner, "init", "-q")
    commit(inner, helper_py="1")
    git(
        repository,
        "-c",
        "protocol.file.allow=always",
        "submodule",
        "--quiet",
        "add",
        str(inner),
        "lib/inner",
    )
    names = {f"weights{number}.bin": POINTER for number in range(5)}
    folder, (submodules, pointers) = unpacked(
        str(repository), commit(repository, **names), tmp_path
    )
    assert not (folder / "lib" / "inner" / "helper.py").exists()
    assert submodules.startswith("without the files of the submodule lib/inner: if the model needs")
    assert "files weights0.bin, weights1.bin, weights2.bin and 2 more: if" in pointers
    assert pointers.endswith("checkout=FOLDER")


def test_the_repository_of_a_hook_is_not_the_one_that_is_asked(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    git(other, "init", "-q")
    commit(other, x_py="1")
    name = commit(repository, mine_py="1")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other / ".git" / "index"))
    assert commit_of(str(repository), "HEAD") == name
    assert files_of(unpacked(str(repository), name, tmp_path)[0]) == ["mine.py"]


def test_what_cannot_be_unpacked_is_one_line(repository: Path, tmp_path: Path) -> None:
    name = commit(repository, mine_py="1")
    (repository / "late").mkdir()
    with pytest.raises(UserError, match=r"git rev-parse .*late"):
        unpacked(str(repository / "late"), name, tmp_path)
    with pytest.raises(UserError, match="git rev-parse nosuch"):
        commit_of(str(repository), "nosuch")
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot be unpacked: .*Not a directory"):
        unpacked(str(repository), name, tmp_path / "file")
    tree = git(repository, "rev-parse", "HEAD^{tree}")
    blob = git(repository, "rev-parse", "HEAD:mine.py")
    (repository / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    assert tree
    with pytest.raises(UserError, match=r"Git has no content for mine\.py"):
        unpacked(str(repository), name, tmp_path)
    assert not list(tmp_path.glob("*.partial"))


def test_a_path_that_leads_out_is_not_written(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = commit(repository, mine_py="1")
    line = b"100644 blob 1234\t../evil.py\0"
    real = revision.git
    monkeypatch.setattr(
        revision,
        "git",
        lambda folder, *words: line if words[0] == "ls-tree" else real(folder, *words),
    )
    with pytest.raises(UserError, match=r"holds the path '\.\./evil\.py': not unpacked"):
        unpacked(str(repository), name, tmp_path)
