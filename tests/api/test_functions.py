"""Functions keep their names where a worker can import them, and are pickled where it cannot."""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from support import ROOT

from bench.api import functions
from bench.api.functions import Parcel
from bench.machine.loaded import loaded_files
from fmnist_models.errors import UserError
from fmnist_models.own import FUNCTIONS_VARIABLE, find_function, sent

# Asks for a function as a worker does, and prints what it returns.
ASKS = """
import sys
from fmnist_models.own import find_function
print(find_function("model", sys.argv[1], "a word")())
"""
MODULE = """
WORD = "by name"


def word():
    return WORD


def maker(word):
    def made():
        return word + "!"

    return made
"""


def called_elsewhere(parcel: Parcel, name: str, folder: Path) -> str:
    """What a function returns in a process that stands in another folder."""
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir(exist_ok=True)
    parcel.write(folder / "f.json")
    done = subprocess.run(
        [sys.executable, "-c", ASKS, name],
        cwd=elsewhere,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            FUNCTIONS_VARIABLE: str(folder / "f.json"),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's, on a path that only this process has."""
    (tmp_path / "words_of_mine.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "words_of_mine", raising=False)
    return importlib.import_module("words_of_mine")


def loaded_by_path(file: Path, name: str) -> ModuleType:
    """A module that lies on no path, as pytest's `--import-mode=importlib` imports it."""
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_a_function_of_a_module_is_imported_by_its_name(mine: ModuleType, tmp_path: Path) -> None:
    parcel = Parcel()
    assert parcel.name(mine.word) == "words_of_mine:word"
    assert parcel.name("other:thing") == "other:thing"
    assert called_elsewhere(parcel, "words_of_mine:word", tmp_path) == "by name"
    assert json.loads((tmp_path / "f.json").read_text())["functions"] == {}


def test_letters_of_any_alphabet_stay_in_a_name(mine: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "letters_of_mine.py").write_text("def modèle():\n    return 'accent'\n", "utf-8")
    module = importlib.import_module("letters_of_mine")
    parcel = Parcel()
    assert parcel.name(getattr(module, "modèle")) == "letters_of_mine:modèle"  # noqa: B009
    assert called_elsewhere(parcel, "letters_of_mine:modèle", tmp_path) == "accent"
    assert parcel.name(lambda: None) == f"{__name__}:lambda"


def test_a_name_is_found_on_the_path_of_this_process(mine: ModuleType, tmp_path: Path) -> None:
    parcel = Parcel()
    assert parcel.name("words_of_mine:word") == "words_of_mine:word"
    assert called_elsewhere(parcel, "words_of_mine:word", tmp_path) == "by name"


def test_closures_of_one_factory_are_told_apart(mine: ModuleType, tmp_path: Path) -> None:
    parcel = Parcel()
    first, second = mine.maker("one"), mine.maker("two")
    assert parcel.name(first) == "words_of_mine:made"
    assert parcel.name(second) == "words_of_mine:made_2"
    assert parcel.name(first) == "words_of_mine:made"
    assert called_elsewhere(parcel, "words_of_mine:made", tmp_path) == "one!"
    assert called_elsewhere(parcel, "words_of_mine:made_2", tmp_path) == "two!"


def test_what_has_no_name_is_sent(mine: ModuleType, tmp_path: Path) -> None:
    parcel = Parcel()
    word = "lambda's"
    assert called_elsewhere(parcel, parcel.name(lambda: word), tmp_path) == word
    partial = functools.partial(mine.maker("and "), *())
    assert called_elsewhere(parcel, parcel.name(partial), tmp_path) == "and !"


def test_a_module_on_no_path_goes_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "odd.py").write_text(MODULE)
    module = loaded_by_path(tmp_path / "odd.py", "tests_of_mine.odd")
    try:
        parcel = Parcel()
        name = parcel.name(module.word)
        assert called_elsewhere(parcel, name, tmp_path) == "by name"
    finally:
        del sys.modules["tests_of_mine.odd"]


def test_a_module_that_the_path_names_otherwise_goes_as_a_whole(
    mine: ModuleType, tmp_path: Path
) -> None:
    """Of two modules of one name, a worker would import the first on the path."""
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "words_of_mine.py").write_text(MODULE.replace("by name", "the second"))
    module = loaded_by_path(tmp_path / "sub" / "words_of_mine.py", "words_of_mine")
    parcel = Parcel()
    assert called_elsewhere(parcel, parcel.name(module.word), tmp_path) == "the second"
    assert mine.word() == "by name"


def test_a_package_of_the_suites_name_goes_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "speed.py").write_text(MODULE)
    module = loaded_by_path(tmp_path / "speed.py", "bench.speed_of_mine")
    try:
        parcel = Parcel()
        assert called_elsewhere(parcel, parcel.name(module.word), tmp_path) == "by name"
    finally:
        del sys.modules["bench.speed_of_mine"]


class Workload:
    """As `fmnist_models.Workload`, by its name."""


class FromKeras:
    """As an instance of a class of Keras's."""

    def __call__(self) -> None: ...


FromKeras.__module__ = "keras.src.models.sequential"


@pytest.mark.parametrize(
    ("what", "line"),
    [
        (Workload(), "a Workload that is built already: pass the function that builds it, because"),
        (FromKeras(), "a FromKeras that is built already: pass the function"),
        (3, "3: name it as module:function, or pass the function"),
        ({"model": 1}, "{'model': 1}: name it as module:function, or pass the function"),
    ],
)
def test_what_is_built_already_is_refused(what: Any, line: str) -> None:
    with pytest.raises(ValueError, match="function") as refused:
        Parcel().name(what)
    assert str(refused.value).startswith(line)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_pickled_is_refused() -> None:
    held = (number for number in range(3))
    with pytest.raises(ValueError, match="cannot be sent to another process: TypeError: cannot"):
        Parcel().name(lambda: held)


@pytest.fixture
def packed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Any], str]:
    """Sends a function to this process, and returns its name."""

    def pack(function: Any) -> str:
        parcel = Parcel()
        name = parcel.name(function)
        parcel.write(tmp_path / "f.json")
        monkeypatch.setenv(FUNCTIONS_VARIABLE, str(tmp_path / "f.json"))
        monkeypatch.setattr(sys, "path", list(sys.path))
        return name

    return pack


def test_which_function_ran_is_proved_by_its_pickle(packed: Callable[[Any], str]) -> None:
    one = packed(lambda: 1)
    digest = loaded_files([one])[one][1]
    assert digest == sent().digest(one)
    assert len(digest) == 64
    assert one not in loaded_files()


def test_a_model_that_is_built_already_is_named_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It can be called, so that it looks like a function."""
    source = "class Layer:\n    def __call__(self, x): ...\nLayer.__module__ = 'keras.src.x'\n"
    (tmp_path / "built_one.py").write_text(
        f"{source}class Functional(Layer): ...\nm = Functional()"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "argv", [*sys.argv])
    with pytest.raises(UserError, match="'built_one:m': it is a Functional that is built already"):
        find_function("model", "built_one:m", "a keras.Model")


def test_one_that_cannot_be_loaded_is_told(packed: Callable[[Any], str]) -> None:
    class Broken:
        def __reduce__(self) -> tuple[Any, ...]:
            return int, ("x",)

    broken = Broken()
    name = packed(lambda: broken)
    with pytest.raises(UserError, match="could not load it: ValueError: invalid literal") as told:
        find_function("model", name, "a keras.Model")
    assert str(told.value).startswith(f"model {name!r}: it was sent to the measuring process")


def test_the_plug_in_can_load_it_beside_a_foreign_package(tmp_path: Path) -> None:
    """It needs nothing of the suite, and cloudpickle only where it pickles."""
    code = (
        "import sys, importlib.util as u; before = set(sys.modules)\n"
        f"spec = u.spec_from_file_location('f', {functions.__file__!r})\n"
        "module = u.module_from_spec(spec); spec.loader.exec_module(module)\n"
        "print([n for n in sys.modules if n.partition('.')[0] in "
        "('bench', 'fmnist_models', 'cloudpickle')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
