"""A user's own functions, named as `module:function` or `path/to/file.py:function`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fmnist_models.errors import UserError

# `module:function`, with dots between the parts of the module's name, or
# `path/to/file.py:function`.
FUNCTION = re.compile(r"([^\W\d]\w*(\.[^\W\d]\w*)*|[^,]*\.py):[^\W\d]\w*")
# Packages of the suite, which are imported before a user's module.
_TAKEN = ("bench", "fmnist_models")


def find_function(what: str, name: str, made: str) -> Callable[[], Any]:
    """A user's own function.

    From then on, the working directory is first on Python's path, as for a script in it.

    Args:
        what: the kind of thing that the name stands for, such as `model`, for messages.
        name: `module:function`.
        made: what the function returns, such as `a keras.Model`, for messages.

    Raises:
        UserError: the module cannot be imported, or has no such function.
    """
    module_name, _, function_name = name.partition(":")
    here = str(Path.cwd())
    # Put first, even where it is already on the path. It stays there, because a builder may import
    # other modules later.
    if sys.path[:1] != [here]:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise UserError(f"{what} {name!r}: {_not_imported(module_name, error)}") from error
    except Exception as error:
        raise UserError(
            f"{what} {name!r}: importing {module_name} raised {type(error).__name__}: "
            f"{one_line(error)}"
        ) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise UserError(
            f"{what} {name!r}: {_another(module_name, module)} has no function {function_name!r}: "
            f"name one that returns {made}"
        )
    return function  # type: ignore[no-any-return]


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
