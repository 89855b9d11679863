"""`python -m bench.worker`: other revisions of the suite are started by this name too."""

from __future__ import annotations

from bench.worker.serve import main

if __name__ == "__main__":
    main()
