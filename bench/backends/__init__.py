"""A backend of Keras as the parent knows it; nothing here imports a framework.

Names, packages and variables of a framework belong here, what drives it into `bench.worker`.
"""

from __future__ import annotations

BACKENDS: tuple[str, ...] = ("tensorflow", "jax", "torch")
