"""A user's own functions, named as `module:function` or `path/to/file.py:function`."""

from __future__ import annotations

import base64
import hashlib
import importlib
import importlib.util
import json
import os
import pickle
import re
import sys
import sysconfig
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
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
# The variable that names a file of functions, which `bench.api.functions` writes.
FUNCTIONS_VARIABLE = "FMNIST_FUNCTIONS"

# Errors of memory: those with a class of their own (Python, TensorFlow, PyTorch on a GPU), the
# first word of JAX's, and what PyTorch's allocator for CPUs says.
_OF_MEMORY = {"MemoryError", "ResourceExhaustedError", "OutOfMemoryError"}
_SAYS_MEMORY = "RESOURCE_EXHAUSTED: "
_ASKED_MEMORY = "can't allocate memory: you tried to allocate"
# A line of a traceback in a message, and what Keras and TensorFlow put around their messages.
_FRAME = re.compile(r'File "([^"]+)", line (\d+)')
_PAINT = re.compile(r"\x1b\[[\d;]*m")
_FRAMING = re.compile(
    r"Exception encountered when calling |Graph execution error:|Detected at node |<stack traces |"
    r'File "|\d+ root error|\[\['
)
_GRAPH = re.compile(r"\{\{function_node [^}]*\}\} ?| \[Op:.*")


@dataclass(frozen=True, slots=True)
class Sent:
    """What the process that asked for the measurement sent along.

    Attributes:
        path: its `sys.path`, on which the modules of its functions lie.
        pickles: functions that cannot be imported, by `module:function`, as cloudpickle wrote them.
    """

    path: Sequence[str] = ()
    pickles: Mapping[str, bytes] = field(default_factory=dict)

    def digest(self, name: str) -> str:
        """SHA-256 of a function's pickle, which stands for the file that it would lie in."""
        return hashlib.sha256(self.pickles[name]).hexdigest()


def sent() -> Sent:
    """What was sent to this process; nothing where its functions can all be imported."""
    file = os.environ.get(FUNCTIONS_VARIABLE)
    return _read(file) if file else Sent()


@cache
def _read(file: str) -> Sent:
    told = json.loads(Path(file).read_text("utf-8"))
    pickles = {name: base64.b64decode(text) for name, text in told["functions"].items()}
    return Sent(tuple(told["path"]), pickles)


def module_of(name: str) -> str:
    """The name of the module that holds a user's own function; of a file, its name's stem."""
    place = name.rpartition(":")[0]
    return Path(place).stem if place.endswith(_FILE) else place


def find_function(what: str, name: str, made: str) -> Callable[..., Any]:
    """A user's own function: the one that was sent, or that of a module or a file.

    From then on, the working directory is first on Python's path, as for a script in it. Before
    it comes the folder of a file; of a file in a package, the folder that holds the package. The
    path of the process that sent functions follows. `sys.argv` then holds no arguments, as those
    are the worker's.

    Args:
        what: the kind of thing that the name stands for, such as `model`, for messages.
        name: `module:function`, or `path/to/file.py:function`.
        made: what the function returns, such as `a keras.Model`, for messages.

    Raises:
        UserError: the module cannot be imported, or has no such function.
    """
    place, _, function_name = name.rpartition(":")
    file = Path(place) if place.endswith(_FILE) else None
    own = [] if file is None else [str(_root(file))]
    first = [*dict.fromkeys([*own, str(Path.cwd())]), *sent().path]
    # Put first, even where it is already on the path. It stays there, because a builder may import
    # other modules later.
    if sys.path[: len(first)] != first:
        sys.path[:0] = first
    sys.argv[1:] = []
    if name in sent().pickles:
        return _unpickled(what, name)
    if file is not None:
        _refuse_file(what, name, file)
    with stray_forks_ended():
        try:
            module = importlib.import_module(place) if file is None else _from_file(file)
        except ImportError as error:
            raise UserError(f"{what} {name!r}: {_not_imported(place, error)}") from error
        except BaseException as error:
            raise UserError(
                f"{what} {name!r}: importing {place} {raised(error)}{_for_import(error)}"
            ) from error
    function = getattr(module, function_name, None)
    if _is_built(function):
        raise UserError(
            f"{what} {name!r}: it is a {type(function).__name__} that is built already: name the "
            "function that builds it, which each launch calls anew"
        )
    if not callable(function):
        raise UserError(
            f"{what} {name!r}: {_another(place, module)} has no function {function_name!r}: "
            f"name one that returns {made}"
        )
    return function  # type: ignore[no-any-return]


def _is_built(found: Any) -> bool:
    """Whether it is a model or a layer, which can be called too; Keras is not imported for it."""
    bases = type(found).__mro__
    return any(b.__module__.startswith("keras.") and b.__name__ == "Layer" for b in bases)


def called(what: str, name: str, function: Callable[..., Any], **given: Any) -> Any:
    """What a user's own function returns, called with `given`.

    Raises:
        UserError: it raises an error, or ends the program.
    """
    with stray_forks_ended():
        try:
            return function(**given)
        except BaseException as error:
            told = ", ".join(f"{key}={value!r}" for key, value in given.items())
            how = f"with {told}" if told else "without arguments"
            raise UserError(
                f"{what} {name!r}: the function, called {how}, {raised(error)}{remedy(error)}"
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
    """What a user's code did, in words, and where: `raised ValueError: ... (mine.py, line 3)`."""
    if isinstance(error, SystemExit):
        return f"called sys.exit({error.code!r})"
    told = f"raised {type(error).__name__}: {one_line(error)}".removesuffix(": ")
    return f"{told}{_where(error)}"


def _where(error: BaseException) -> str:
    """The last line of the user's own files that an error passed; empty where there is none."""
    passed = [(f.filename, f.lineno) for f in traceback.extract_tb(error.__traceback__)]
    # TensorFlow tells of what it called only in its message.
    passed += _FRAME.findall(str(error))
    for file, line in reversed(passed):
        if _is_users(Path(file)):
            return f" ({Path(file).name}, line {line})"
    return ""


def _is_users(file: Path) -> bool:
    suite = Path(__file__).parents[1]
    others = [*(suite / package for package in _TAKEN), Path(sysconfig.get_path("stdlib"))]
    packages = {"site-packages", "dist-packages"} & set(file.parts)
    made = file.name.startswith(("<", "__autograph_generated"))
    return not (packages or made or any(file.is_relative_to(folder) for folder in others))


def remedy(error: BaseException) -> str:
    """What helps against what a user's code did, for the end of a line; empty where unknown."""
    if isinstance(error, SystemExit):
        return ": end it with `return`"
    # The frameworks, which have errors of their own, are not imported here.
    of_memory = {base.__name__ for base in type(error).__mro__} & _OF_MEMORY
    if of_memory or str(error).startswith(_SAYS_MEMORY) or _ASKED_MEMORY in str(error):
        return ": too little memory: make the model, its batches or its data smaller"
    if "yielded an element of shape" in str(error):
        return ": give all batches of the stream one shape"
    if "Mixing different tf.distribute.Strategy objects" in str(error):
        return ": leave the strategy to --replicas"
    return ""


def _for_import(error: BaseException) -> str:
    if isinstance(error, SystemExit):
        return ': keep what only a script does below `if __name__ == "__main__":`'
    return remedy(error)


def _refuse_file(what: str, name: str, file: Path) -> None:
    """Refuse a file that is not there, or whose module's name is taken.

    Raises:
        UserError: the message says which.
    """
    if not file.is_file():
        raise UserError(
            f"{what} {name!r}: there is no file {file}: give its path from {Path.cwd()}"
        )
    known = sys.modules.get(file.stem)
    found = getattr(known, "__file__", None)
    if known is not None and (found is None or Path(found).resolve() != file.resolve()):
        raise UserError(
            f"{what} {name!r}: a module {file.stem!r} is loaded already, of Python or of a "
            f"package: rename {file}"
        )
    inside = file.absolute().parent.relative_to(_root(file)).parts
    holder = sys.modules.get(inside[0]) if inside else None
    if holder is not None and str(_root(file) / inside[0]) not in getattr(holder, "__path__", ()):
        raise UserError(
            f"{what} {name!r}: a package {inside[0]!r} is loaded already, which is another than "
            f"that of {file}: rename yours"
        )


def _from_file(file: Path) -> ModuleType:
    """The module of a file, imported under the name of the file; raises what its code raises.

    A file in a package is imported as the package's module, so that it can import its neighbours
    as `from package import ...` and `from . import ...`. It is known by the file's name too.
    """
    if file.stem in sys.modules:
        return sys.modules[file.stem]
    inside = file.absolute().parent.relative_to(_root(file)).parts
    if inside:
        module = importlib.import_module(".".join((*inside, file.stem)))
        sys.modules[file.stem] = module
        return module
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


def _root(file: Path) -> Path:
    """The folder that the imports of a file start from: that of the package which holds it.

    A package that has the name of one of the suite's can only be searched as a plain folder.
    """
    folder = own = file.absolute().parent
    while (folder / "__init__.py").is_file() and folder.name.isidentifier():
        folder, top = folder.parent, folder.name
        if top in _TAKEN:
            return own
    return folder


def _unpickled(what: str, name: str) -> Callable[[], Any]:
    try:
        return pickle.loads(sent().pickles[name])  # type: ignore[no-any-return]  # noqa: S301 - the user's own
    except Exception as error:
        why = f"{type(error).__name__}: {one_line(error)}"
        if isinstance(error, ImportError):
            why = _not_imported(name.partition(":")[0], error)
        raise UserError(
            f"{what} {name!r}: it was sent to the measuring process, which could not load it: {why}"
        ) from error


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
    """The first line of a message that tells what happened, without the paint of a terminal."""
    lines = [line.strip() for line in _PAINT.sub("", str(error)).splitlines()]
    telling = [line for line in lines if line and not _FRAMING.match(line)]
    return _GRAPH.sub("", next(iter(telling or lines), "")).strip()
