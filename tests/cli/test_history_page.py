"""`fmnist-bench history page`, as typed."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from support import TypeIn
from support.histories import CASES, eventful

from bench.store.history.history import History
from bench.store.history.tables import VERSION_TABLE


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A history whose notes are kept, and whose runs are made."""
    file = tmp_path / "history.sqlite"
    with History(file) as history:
        history.make_ready()
    monkeypatch.setattr(History, "series", lambda *_, **__: eventful())
    monkeypatch.chdir(tmp_path)
    return file


def test_page_and_picture_show_what_changes_tells(
    type_in: TypeIn, store: Path, tmp_path: Path
) -> None:
    code, lines, _ = type_in("history", "changes", "--store", store)
    (found,) = [line.split()[0] for line in lines.splitlines() if f" {CASES[3]} on lab" in line]
    assert code == 1
    note = ("history", "ack", found, "--note", "agreed", "--store", store)
    assert type_in(*note)[0] == 0
    (tmp_path / "shown").mkdir()
    words = ("history", "page", "--store", store, "-o", "shown", "--picture", "trend.png")
    code, lines, _ = type_in(*words)
    assert (code, lines) == (0, "shown/trend.html\ntrend.png\n")
    page = (tmp_path / "shown" / "trend.html").read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert f"<code>{found}</code>" in page
    assert "acknowledged: agreed" in page
    assert (tmp_path / "trend.png").read_bytes().startswith(b"\x89PNG")
    # Both may be replaced, and by default the page is here.
    assert type_in(*words)[0] == 0
    code, lines, _ = type_in("history", "page", "--store", store, "--cases", CASES[3])
    assert (code, lines) == (0, "trend.html\n")
    assert (tmp_path / "trend.html").read_text("utf-8").count("<figure") == 1


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--cases", "nothing*"), "--cases 'nothing*': no case"),
        (("--since", "2031-01-01"), "holds no run since 2031-01-01: "),
        (("--since", "soon"), "--since 'soon': name a day"),
        (("--control", "x*"), "--control 'x*': no case"),
        (("--output", "mine"), "mine is there already and is not a page"),
        (("-o", "mine/below"), "cannot write mine/below"),
        (
            ("--picture", "mine"),
            "mine is there already and is not a picture of this suite: name another --picture",
        ),
        (("--picture", "mine/below"), "cannot write mine/below"),
        (("--gate", "0"), "--gate 0"),
    ],
    ids=lambda words: "-".join(words) if isinstance(words, tuple) else "",
)
def test_typed_mistakes_of_a_page(
    type_in: TypeIn, store: Path, tmp_path: Path, words: tuple[str, ...], told: str
) -> None:
    (tmp_path / "mine").write_text("my own\n")
    code, _, error = type_in("history", "page", "--store", store, *words)
    assert (code, told in error, error.count("\n")) == (2, True, 1)
    assert (tmp_path / "mine").read_text() == "my own\n"


def test_a_history_without_a_run_and_one_of_a_later_version(
    type_in: TypeIn, tmp_path: Path
) -> None:
    file = tmp_path / "history.sqlite"
    page = ("history", "page", "--store", file, "-o", tmp_path / "trend.html")
    assert "history add makes one" in type_in(*page)[2]
    with History(file) as history:
        history.make_ready()
    code, _, error = type_in(*page)
    assert (code, "holds no run: " in error, error.count("\n")) == (2, True, 1)
    with sqlite3.connect(file) as connection:
        connection.execute(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    connection.close()
    code, _, error = type_in(*page)
    assert (code, "update fmnist-bench" in error, error.count("\n")) == (2, True, 1)
    assert not (tmp_path / "trend.html").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("list", "--last", "9" * 40),
        ("prune", "--keep", "9" * 40),
        ("show", "\udcff"),
        ("remove", "\udcff\udcff\udcff\udcff"),
    ],
    ids=lambda words: words[0],
)
def test_what_no_database_takes_is_no_defect(
    type_in: TypeIn, tmp_path: Path, words: tuple[str, ...]
) -> None:
    file = tmp_path / "history.sqlite"
    with History(file) as history:
        history.make_ready()
    code, _, error = type_in("history", *words, "--store", file)
    assert (code, "Traceback" in error) == (2, False)
