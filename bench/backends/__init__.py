"""The backends of Keras as the parent process needs them; nothing here imports a framework.

Names, packages and variables of a framework belong here. Code that drives it is in `bench.worker`.
"""

from __future__ import annotations

BACKENDS: tuple[str, ...] = ("tensorflow", "jax", "torch")
