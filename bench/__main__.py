"""`fmnist-bench` and `python -m bench`: starts the command line."""

from __future__ import annotations

import signal
import sys
import traceback

# During the imports, Ctrl-C ends the process at once and without a message, because there is
# nothing to end properly. `bench.session.ending` handles the signal afterwards.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


_WRONG_USE, _DEFECT = 2, 4  # as in bench.schema.errors.ExitCode, whose import may fail


def main() -> None:
    """The command line, with what can go wrong while it is imported."""
    try:
        from bench import cli
    except ImportError as error:
        sys.exit(_told(f"{error}: install fmnist-bench again in {sys.prefix}", _WRONG_USE))
    except MemoryError:
        sys.exit(_told("there is not enough memory: free some", _WRONG_USE))
    except Exception as error:  # noqa: BLE001 - Python would end with 1, which means a regression
        traceback.print_exc()
        sys.exit(_told(f"it cannot be imported: {type(error).__name__}: {error}", _DEFECT))
    cli.main()


def _told(why: str, code: int) -> int:
    """Print the reason, and return the exit code."""
    sys.stderr.write(f"fmnist-bench: error: {' '.join(why.split())}\n")
    return code


if __name__ == "__main__":
    main()
