"""The backends of Keras as the parent process needs them; nothing here imports a framework.

Names, packages, variables and reasons of a framework belong here. Code that drives it is in
`bench.worker` and `fmnist_models.loops`.
"""

from __future__ import annotations

from collections.abc import Mapping

from bench.backends.facts import Backend
from bench.backends.jax import JAX
from bench.backends.tensorflow import TENSORFLOW
from bench.backends.torch import TORCH

# In the order in which the first one that is installed is the default.
KNOWN: Mapping[str, Backend] = {backend.name: backend for backend in (TENSORFLOW, JAX, TORCH)}
# What rows of runs without the column have, and ids leave out.
DEFAULT = TENSORFLOW.name
BACKENDS: tuple[str, ...] = tuple(KNOWN)
