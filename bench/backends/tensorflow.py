"""What the parent process knows of TensorFlow."""

from __future__ import annotations

# Passes the newest CUDA version that the driver supports to the worker: TensorFlow has no API
# for it.
CUDA_DRIVER_VARIABLE = "FMNIST_CUDA_DRIVER"
