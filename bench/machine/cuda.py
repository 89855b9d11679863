"""What CUDA needs on this machine, and what its versions support."""

from __future__ import annotations

import ctypes
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.schema.errors import Unavailable

SEE_DOCTOR = "run fmnist-bench doctor --device gpu"
TF32_SINCE = "8.0 and later"
_TF32_MAJOR = 8
# The libraries that TensorFlow opens before it registers a GPU (tsl, dso_loader.cc and
# dlopen_checker.cc), by CUDA's major version. Versions: CUDA toolkit release notes, components.
_LIBRARIES: Mapping[int, tuple[str, ...]] = {
    12: (
        "libcudart.so.12",
        "libcublas.so.12",
        "libcublasLt.so.12",
        "libcufft.so.11",
        "libcusolver.so.11",
        "libcusparse.so.12",
    ),
    13: (
        "libcudart.so.13",
        "libcublas.so.13",
        "libcublasLt.so.13",
        "libcufft.so.12",
        "libcusolver.so.12",
        "libcusparse.so.12",
    ),
}


def refuse_tf32(name: str, compute_capability: tuple[int, int] | None) -> None:
    """Accept a GPU that has TF32 or whose compute capability is not known.

    Raises:
        Unavailable: the compute capability is below 8.0, so the GPU has no TF32.
    """
    if compute_capability is not None and compute_capability[0] < _TF32_MAJOR:
        has = "{}.{}".format(*compute_capability)
        raise Unavailable(f"tf32 needs compute capability {TF32_SINCE}; {name} has {has}")


def driver_is_too_old(driver: str | None, built: str | None) -> bool:
    """Whether a driver that supports CUDA `driver` cannot run code built for CUDA `built`.

    Within one major version an older driver is enough: CUDA compatibility guide, "minor
    version compatibility". False where a version is not known.
    """
    numbers = [re.match(r"\d+", version or "") for version in (driver, built)]
    majors = [int(number[0]) for number in numbers if number]
    return len(majors) == 2 and majors[0] < majors[1]


def missing_cuda_libraries(
    cuda: str | None, cudnn: str | None, load: Callable[[str], Any] = ctypes.CDLL
) -> list[str]:
    """The libraries that TensorFlow needs and that do not load; empty where not known.

    They are searched for as TensorFlow does: on the linker's path, and in the wheels that
    `tensorflow[and-cuda]` installs. On Linux only: other systems have no CUDA wheels of
    TensorFlow.

    Args:
        cuda: the CUDA version that TensorFlow was built for.
        cudnn: the cuDNN version that TensorFlow was built for.
        load: opens a library by name or path; raises OSError where it cannot.
    """
    major = re.match(r"\d+", cuda or "")
    if major is None or int(major[0]) not in _LIBRARIES or sys.platform != "linux":
        return []
    wanted = list(_LIBRARIES[int(major[0])])
    if version := re.match(r"\d+", cudnn or ""):
        wanted.append(f"libcudnn.so.{version[0]}")
    return [name for name in wanted if not _loads(name, load)]


def _loads(name: str, load: Callable[[str], Any]) -> bool:
    wheels = (found for folder in sys.path for found in Path(folder).glob(f"nvidia/*/lib/{name}"))
    for candidate in (name, *map(str, wheels)):
        try:
            load(candidate)
        except OSError:
            continue
        return True
    return False
