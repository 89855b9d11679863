"""Kills, full disks, damaged files and wrong options, tried on the suite's own commands.

`kills` ends processes at random moments, `places` takes away what a command stands on, `files`
damages what it reads, in the ways of `damage`, and `inputs` mistypes what is typed. Each trial says
what was done and what was wrong after it. The scripted worker answers within milliseconds, so that
a moment drawn at random hits every step.
"""
