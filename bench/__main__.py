"""`fmnist-bench`, and `python -m bench`: until the program runs, Ctrl-C ends it without a word."""

from __future__ import annotations

import signal

# Imports take a moment, in which nothing has begun that would have to be ended in good order.
# `bench.ending` takes the signal over from here.
if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def main() -> None:
    """The console script."""
    from bench import cli

    cli.main()


if __name__ == "__main__":
    main()
