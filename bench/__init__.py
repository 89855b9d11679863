"""How training is measured: cases, launches, results and reports.

Models, data and loops are not here, but in `fmnist_models`. The names for use from Python are
imported where they are first used, from `bench.api`: `run`, `compare`, `load`, `UserError`.
"""

from __future__ import annotations

# Not from `typing`, whose import takes longer than the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from bench.api.comparing import Compared as Compared
    from bench.api.comparing import compare as compare
    from bench.api.measuring import run as run
    from bench.api.runs import Run as Run
    from bench.api.runs import load as load
    from fmnist_models.errors import UserError as UserError

_MODULES = {
    "Compared": "bench.api.comparing",
    "compare": "bench.api.comparing",
    "run": "bench.api.measuring",
    "Run": "bench.api.runs",
    "load": "bench.api.runs",
    "UserError": "fmnist_models.errors",
}


def __getattr__(name: str) -> object:
    """A name of the Python API."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """With the names that are imported where they are used."""
    return sorted({*globals(), *_MODULES})
