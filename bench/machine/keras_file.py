"""The user's keras.json: where it lies, and which of its settings would change the work."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.machine.redact import scrub_setting

# A folder with an empty keras.json, so that the defaults of the installed Keras hold.
KERAS_HOME = Path(__file__).resolve().parent / "keras_home"
# Keras's defaults by the key of keras.json; KERAS_BACKEND always decides the backend.
_KERAS_DEFAULTS: Mapping[str, Any] = {
    "floatx": "float32",
    "epsilon": 1e-7,
    "image_data_format": "channels_last",
    "nnx_enabled": False,
}


def keras_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """Settings of the user's keras.json that differ from Keras's defaults, by `keras.json: KEY`.

    Where there are any, or Keras could not read the file, workers read an empty file instead,
    because the work must be the same on every machine. `backend` is left out: a worker's
    KERAS_BACKEND overrides it.
    """
    settings = _settings(environ)
    if isinstance(settings, str):
        return {"keras.json": settings}
    return {
        f"keras.json: {key}": scrub_setting(str(settings[key]))
        for key, default in _KERAS_DEFAULTS.items()
        if key in settings
        and (settings[key] != default or type(settings[key]) is not type(default))
    }


def backend_of_file(environ: Mapping[str, str]) -> str:
    """The backend that the user's keras.json names; empty where it names none."""
    settings = _settings(environ)
    return "" if isinstance(settings, str) else str(settings.get("backend") or "")


def _settings(environ: Mapping[str, str]) -> dict[str, Any] | str:
    """The user's keras.json; empty where there is none; text that says why it cannot be read."""
    path = _keras_file(environ)
    try:
        if path.is_fifo() or path.is_char_device():
            # Reading it would wait forever, or never end.
            return "is no file"
        settings = json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, RecursionError) as error:
        return f"cannot be read: {type(error).__name__}"
    return settings if isinstance(settings, dict) else "is no JSON object"


def home_of(environ: Mapping[str, str]) -> str:
    """The home folder of a process with these variables; unlike `Path.home`, it never raises."""
    own = "" if os.name == "nt" else environ.get("HOME", "")
    return own or os.path.expanduser("~")  # noqa: PTH111


def _keras_file(environ: Mapping[str, str]) -> Path:
    """Where Keras looks for keras.json (keras/src/backend/config.py)."""
    folder = environ.get("KERAS_HOME")
    if not folder:
        home = home_of(environ)
        folder = str(Path(home if os.access(home, os.W_OK) else "/tmp") / ".keras")  # noqa: S108
    return Path(os.path.expanduser(folder)) / "keras.json"  # noqa: PTH111
