"""TensorFlow as the parent knows it."""

from __future__ import annotations

# The newest CUDA that the driver knows, told by the parent: no TensorFlow API says it.
CUDA_DRIVER_VARIABLE = "FMNIST_CUDA_DRIVER"
