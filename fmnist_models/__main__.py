"""`python -m fmnist_models [MODEL ...]` prints the summary of each model."""

from __future__ import annotations

import sys

from fmnist_models.architectures import NETWORKS
from fmnist_models.errors import UserError
from fmnist_models.task import task_of


def main() -> int:
    """Print the summaries; returns 0, or 2 after one line for a model that cannot be built."""
    for name in sys.argv[1:] or NETWORKS:
        try:
            model = task_of(name).model
        except UserError as error:
            print(f"fmnist-bench: error: {error}", file=sys.stderr)
            return 2
        if name in NETWORKS:
            print(f"{name}: {NETWORKS[name].title}, {NETWORKS[name].documented_as}")
        model.summary(line_length=78)
    return 0


if __name__ == "__main__":
    sys.exit(main())
