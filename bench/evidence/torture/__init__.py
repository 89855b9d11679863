"""Kills, full disks, damaged files and wrong options, tried on the suite's own commands.

`kills`, `places`, `files` with `damage`, and `inputs` each are a way to torment a command. Their
trials say what was done and what was wrong after it.
"""
