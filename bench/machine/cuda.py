"""What CUDA needs on this machine, and what its versions have."""

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
# What TensorFlow opens before it registers a GPU (tsl, dso_loader.cc and dlopen_checker.cc),
# in the versions that each CUDA ships: CUDA toolkit release notes, component versions.
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
    """Nothing, where a GPU has TF32 or may have it.

    Raises:
        Unavailable: it has none: only compute capability 8.0 and later do.
    """
    if compute_capability is not None and compute_capability[0] < _TF32_MAJOR:
        has = "{}.{}".format(*compute_capability)
        raise Unavailable(f"tf32 needs compute capability {TF32_SINCE}; {name} has {has}")


def driver_is_too_old(driver: str | None, built: str | None) -> bool:
    """Whether a driver that knows CUDA `driver` cannot run what is built for CUDA `built`.

    Within one major version an older driver will do: CUDA compatibility guide, "minor
    version compatibility". Unknown versions are no reason.
    """
    numbers = [re.match(r"\d+", version or "") for version in (driver, built)]
    majors = [int(number[0]) for number in numbers if number]
    return len(majors) == 2 and majors[0] < majors[1]


def missing_cuda_libraries(
    cuda: str | None, cudnn: str | None, load: Callable[[str], Any] = ctypes.CDLL
) -> list[str]:
    """Those libraries that TensorFlow needs and that do not load; empty where not known.

    They are looked for as TensorFlow does: where the linker looks, and in the wheels that
    `tensorflow[and-cuda]` installs. Linux only; CUDA wheels of TensorFlow exist nowhere else.

    Args:
        cuda: the version that TensorFlow was built for.
        cudnn: likewise.
        load: opens a library by name or path, or raises OSError.
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
