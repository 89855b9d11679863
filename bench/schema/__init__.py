"""The records that travel over a pipe or are stored in a file, and the bounds of their values.

Types, their checks and their constants only: nothing here measures, reads or writes.
"""
