"""`python -m bench.worker`: the name by which all revisions of the suite are started."""

from __future__ import annotations

from bench.worker.serve import main

if __name__ == "__main__":
    main()
