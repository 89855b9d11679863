"""Tests the suite's commands with kills, full disks, damaged files and wrong options.

`kills`, `places`, `files` (with `damage`) and `inputs` are the kinds of trials. A trial records
what was done, and what was wrong after it.
"""
