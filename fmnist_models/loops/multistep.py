"""`multistep`: `Model.fit` with the settings for speed that users can switch on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from fmnist_models.loops.fit import FitLoop


class MultistepLoop(FitLoop):
    """`Model.fit` with 100 XLA-compiled steps an execution."""

    name = "multistep"
    compile_arguments: ClassVar[Mapping[str, Any]] = {
        "steps_per_execution": 100,
        "jit_compile": True,
    }
    needs_compiler: ClassVar[bool] = True
