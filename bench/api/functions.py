"""Names the user's functions for a worker, and packs those that a worker could not import.

Of the suite nothing is imported here, and of others only cloudpickle where it is needed: the pytest
plug-in loads this file by its path, in repositories with a package `bench` of their own.
"""

from __future__ import annotations

import base64
import functools
import importlib.machinery
import json
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

# In a worker these are the suite's, whatever lies in the user's folder.
_TAKEN = ("bench", "fmnist_models")
_PLAIN = (str, bytes, int, float, bool, list, tuple, dict, set, type(None))


class Parcel:
    """The functions of one measurement.

    A function at the top level of a module that a worker can import keeps its name. Any other, as
    of a notebook, or a closure or a lambda, is pickled with what it refers to.
    """

    def __init__(self) -> None:
        self._named: dict[str, Callable[..., Any]] = {}
        self._pickles: dict[str, bytes] = {}

    def name(self, what: object) -> str:
        """The `module:function` under which a worker finds `what`; a name is returned as it is.

        Raises:
            ValueError: it is no function, or cannot be pickled; the message is one line.
        """
        if isinstance(what, str):
            return what
        function = _builder(what)
        module, qualified = _place(function)
        name = f"{module}:" + re.sub(r"\W", "", qualified.rpartition(".")[2])
        at_top = getattr(sys.modules.get(module), qualified, None) is function
        is_found = at_top and _is_importable(module)
        same = self._named.get(name)
        number = 1
        while same is not None and same is not function:
            # Another function of that name, such as a second closure of one factory.
            is_found, number = False, number + 1
            same = self._named.get(f"{name}_{number}")
        name = name if number == 1 else f"{name}_{number}"
        if not is_found and name not in self._pickles:
            self._pickles[name] = _pickled(function, module)
        self._named[name] = function
        return name

    def write(self, file: Path) -> None:
        """Write what a worker needs beside the names, for `fmnist_models.own.sent`.

        That is the path on which it finds modules, and the functions that it cannot import.
        """
        # An editable install puts a name on the path that is no folder.
        path = [str(Path(entry).absolute()) for entry in sys.path if Path(entry).exists()]
        packed = {name: base64.b64encode(data).decode() for name, data in self._pickles.items()}
        file.write_text(json.dumps({"path": path, "functions": packed}), "utf-8")


def _builder(what: object) -> Callable[..., Any]:
    """`what`, where it is a function or a class that builds a model."""
    kind = type(what)
    roots = {base.__module__.partition(".")[0] for base in kind.__mro__}
    if kind.__name__ == "Workload" or (not isinstance(what, type) and "keras" in roots):
        raise ValueError(
            f"a {kind.__name__} that is built already: pass the function that builds it, because "
            "each launch builds its own in a fresh process"
        )
    if not callable(what) or isinstance(what, _PLAIN):
        raise ValueError(f"{what!r}: name it as module:function, or pass the function")
    return what


def _place(function: Callable[..., Any]) -> tuple[str, str]:
    """Module and qualified name of a function; for a partial, those of what it calls."""
    while isinstance(function, functools.partial):
        function = function.func
    module = re.sub(r"[^\w.]", "_", getattr(function, "__module__", None) or "__main__")
    return module, getattr(function, "__qualname__", type(function).__name__)


def _is_importable(module: str) -> bool:
    """Whether a worker that imports the module by its name gets this process's.

    A worker has the same `sys.path`, after the working folder. pytest and notebooks also import
    modules that lie on no path.
    """
    if module == "__main__" or module.partition(".")[0] in _TAKEN:
        return False
    found = _spec(module, [str(Path.cwd()), *sys.path])
    here = getattr(sys.modules.get(module), "__file__", None)
    if found is None or found.origin is None or here is None:
        return False
    return Path(found.origin).resolve() == Path(here).resolve()


def _spec(module: str, path: Sequence[str]) -> importlib.machinery.ModuleSpec | None:
    """What a fresh process would import by that name; nothing is imported here."""
    spec, search, name = None, path, ""
    for part in module.split("."):
        name = f"{name}.{part}".lstrip(".")
        finders = (getattr(finder, "find_spec", None) for finder in sys.meta_path)
        found = (find(name, search) for find in finders if find is not None)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None:
            return None
        search = spec.submodule_search_locations or []
    return spec


def _pickled(function: Callable[..., Any], module: str) -> bytes:
    import cloudpickle

    held = sys.modules.get(module)
    # What a worker could not import, as pytest's `--import-mode=importlib` has it, goes as a whole.
    # cloudpickle does that by itself for what runs as a script or in a notebook.
    by_value = held is not None and module != "__main__" and not _is_importable(module)
    try:
        if by_value:
            cloudpickle.register_pickle_by_value(held)
        try:
            return cloudpickle.dumps(function)  # type: ignore[no-any-return]
        finally:
            if by_value:
                cloudpickle.unregister_pickle_by_value(held)
    except Exception as error:
        said = " ".join(str(error).split())
        raise ValueError(
            f"{module}:{_place(function)[1]} cannot be sent to another process: "
            f"{type(error).__name__}: {said}; make in the function what it needs, or put it into a "
            "module"
        ) from error
