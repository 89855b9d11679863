"""Run by a side's own interpreter, with the suite of that side: what its environment.json holds.

Prints one line of JSON, the last one: where `bench` came from, and the facts. A file rather than a
module of the suite, for a side's suite may be an earlier revision, which has none.
"""

from __future__ import annotations

import json
import sys

import bench
from bench import devices, environment

if __name__ == "__main__":
    label, digest = sys.argv[1:]
    facts = environment.collect(label=label, dataset_digest=digest, inventory=devices.inventory())
    sys.stdout.write(json.dumps({"bench": bench.__file__, "facts": facts}) + "\n")
