"""The wheels to carry to a box that has JAX or PyTorch, and no network."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from fmnist_models.errors import UserError

# What a measurement imports besides a framework, NumPy and SciPy; nothing that draws.
CARRIED = (
    "absl-py",
    "click",
    "cloudpickle",
    "h5py",
    "joblib",
    "keras",
    "markdown-it-py",
    "mdurl",
    # PyTorch does not bring it, and Keras imports it.
    "ml-dtypes",
    "msgspec",
    "namex",
    "narwhals",
    "nvidia-ml-py",
    "optree",
    "packaging",
    "protobuf",
    "psutil",
    "py-cpuinfo",
    "pygments",
    "pyinstrument",
    "rich",
    "scikit-learn",
    "threadpoolctl",
)
# What comes with JAX or PyTorch, or must be on the box.
NEEDED = ("jax or torch, with CUDA", "numpy", "scipy", "filelock", "typing_extensions")
MOST_BYTES = 25_000_000
_CONSTRAINTS = Path(__file__).resolve().parents[3] / "constraints.txt"


def download(folder: Path, python: str, told: Callable[[str], None]) -> list[Path]:
    """Download the wheels by pip, each for Linux on x86-64 and that Python.

    Args:
        folder: where the wheels go.
        python: the box's Python, such as 3.12.
        told: called with a line for each wheel and one for all.

    Raises:
        UserError: pip failed, or the wheels are larger than `MOST_BYTES` together.
    """
    words = ["--no-deps", "--only-binary", ":all:", "--python-version", python]
    words += ["--implementation", "cp", "--dest", str(folder)]
    for platform in ("manylinux2014_x86_64", "manylinux_2_28_x86_64"):
        words += ["--platform", platform]
    if _CONSTRAINTS.exists():
        words += ["--constraint", str(_CONSTRAINTS)]
    done = subprocess.run(
        [sys.executable, "-m", "pip", "download", "--quiet", *words, *CARRIED],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it printed nothing"]
        errors = [line for line in lines if "ERROR" in line]
        raise UserError(f"pip cannot download the wheels: {(errors or lines)[-1]}")
    wheels = sorted(folder.glob("*.whl"))
    refuse_large(wheels, told)
    told(f"the box must have: {', '.join(NEEDED)}")
    return wheels


def refuse_large(wheels: list[Path], told: Callable[[str], None]) -> None:
    """Tell the size of each wheel and of all.

    Raises:
        UserError: together they are larger than `MOST_BYTES`.
    """
    sizes = {wheel.name: wheel.stat().st_size for wheel in wheels}
    for name, size in sizes.items():
        told(f"{size / 1e6:6.2f} MB  {name}")
    total = sum(sizes.values())
    told(f"{total / 1e6:6.2f} MB  {len(wheels)} wheels")
    if total > MOST_BYTES:
        raise UserError(
            f"{total / 1e6:.1f} MB of wheels are more than {MOST_BYTES / 1e6:.0f} MB: name an "
            "empty folder with --to"
        )
