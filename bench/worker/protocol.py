"""What a launch is given to tell and to ask of its parent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Sends a message.
Emit = Callable[[dict[str, Any]], None]
# Called before each round, for as long as something else has its turn.
Pause = Callable[[], None]
