"""A user's own functions, named as `module:function` or `path/to/file.py:function`."""

from __future__ import annotations

import importlib
import importlib.util
import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from fmnist_models.errors import UserError

# `module:function`, with dots between the parts of the module's name, or a file of Python.
FUNCTION = re.compile(
    r"(?:[^\W\d]\w*(?:\.[^\W\d]\w*)*|[^,\x00-\x1f\x7f]*[^,:/\\\x00-\x1f\x7f]\.py):[^\W\d]\w*"
)
_FILE = ".py"
# Packages of the suite, which are imported before a user's module.
_TAKEN = ("bench", "fmnist_models")


def module_of(name: str) -> str:
    """The name of the module that holds a user's own function; of a file, its name's stem."""
    place = name.rpartition(":")[0]
    return Path(place).stem if place.endswith(_FILE) else place


def find_function(what: str, name: str, made: str) -> Callable[..., Any]:
    """A user's own function.

    From then on, the working directory is first on Python's path, as for a script in it; for a
    file, its folder is. `sys.argv` then holds no arguments, as those are the worker's.

    Args:
        what: the kind of thing that the name stands for, such as `model`, for messages.
        name: `module:function`, or `path/to/file.py:function`.
        made: what the function returns, such as `a keras.Model`, for messages.

    Raises:
        UserError: the module cannot be imported, or has no such function.
    """
    place, _, function_name = name.rpartition(":")
    file = Path(place) if place.endswith(_FILE) else None
    here = str(Path.cwd() if file is None else file.absolute().parent)
    # Put first, even where it is already on the path. It stays there, because a builder may import
    # other modules later.
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    sys.argv[1:] = []
    with stray_forks_ended():
        try:
            module = (
                importlib.import_module(place) if file is None else _from_file(what, name, file)
            )
        except ImportError as error:
            raise UserError(f"{what} {name!r}: {_not_imported(place, error)}") from error
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{what} {name!r}: importing {place} {raised(error)}{_remedy(error)}"
            ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(
            f"{what} {name!r}: {_another(place, module)} has no function {function_name!r}: "
            f"name one that returns {made}"
        )
    return function  # type: ignore[no-any-return]


def called(what: str, name: str, function: Callable[[], Any]) -> Any:
    """What a user's own function returns.

    Raises:
        UserError: it raises an error, or ends the program.
    """
    with stray_forks_ended():
        try:
            return function()
        except (Exception, SystemExit) as error:
            raise UserError(
                f"{what} {name!r}: the function, called without arguments, {raised(error)}"
            ) from error


@contextmanager
def stray_forks_ended() -> Iterator[None]:
    """End a process that a user's code forked within the context, once it leaves the context.

    It would go on as a second worker, and answer beside the first.
    """
    process = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != process:
            os._exit(0)


def raised(error: BaseException) -> str:
    """What a user's code did, in words: `raised ValueError: ...`, `called sys.exit(2)`."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    return f"raised {type(error).__name__}: {one_line(error)}"


def _remedy(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return ': keep what only a script does below `if __name__ == "__main__":`'
    return ""


def _from_file(what: str, name: str, file: Path) -> ModuleType:
    """The module of a file, imported under the name of the file.

    Raises:
        UserError: there is no such file, or another module has its name.
        Exception: as its code raises.
    """
    if not file.is_file():
        raise UserError(
            f"{what} {name!r}: there is no file {file}: give its path from {Path.cwd()}"
        )
    known = sys.modules.get(file.stem)
    if known is not None:
        found = getattr(known, "__file__", None)
        if found is not None and Path(found).resolve() == file.resolve():
            return known
        raise UserError(
            f"{what} {name!r}: a module {file.stem!r} is loaded already, of Python or of a "
            f"package: rename {file}"
        )
    spec = importlib.util.spec_from_file_location(file.stem, file.absolute())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[file.stem]
        raise
    return module


def _not_imported(module: str, error: ImportError) -> str:
    """Why a user's module was not imported, and what would help."""
    missing = error.name or ""
    package = missing.partition(".")[0]
    if package in _TAKEN:
        return (
            f"it needs a package {package!r} that is not fmnist-bench's, which has that name "
            "already: rename yours"
        )
    if not isinstance(error, ModuleNotFoundError):
        return f"importing {module} raised {type(error).__name__}: {one_line(error)}"
    if missing == module or module.startswith(f"{missing}."):
        return (
            f"no module {module!r} in the working directory or installed: start where it lies, "
            "or install it"
        )
    return f"{module} needs {missing!r}, which is not installed"


def _another(name: str, module: ModuleType) -> str:
    """The module's name for a message; says so where it is not the working directory's module."""
    found = getattr(module, "__file__", None)
    own = Path(*name.split("."))
    wanted = next((f for f in (own.with_suffix(".py"), own / "__init__.py") if f.exists()), None)
    if wanted is None or (found is not None and wanted.resolve() == Path(found).resolve()):
        return name
    return f"{name} is a module of Python or of a package, not {wanted} (rename that), and"


def one_line(error: BaseException) -> str:
    """The first line of a message that is not empty."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), "")
