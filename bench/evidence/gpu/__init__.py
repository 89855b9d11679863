"""Shows on a box with a GPU that what the suite says of it is true: `python -m bench.evidence gpu`.

It uses the suite's own commands and device classes. Every check is shown once to fail. Without a
GPU it rehearses on CPUs, and says so in each record.
"""
