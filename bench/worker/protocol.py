"""The types of the functions by which a launch talks to its parent."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

# Sends a message.
Emit = Callable[[dict[str, Any]], None]
# Called before each round; returns when the launch may go on.
Pause = Callable[[], None]
