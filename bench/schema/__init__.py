"""The plain data that crosses a pipe or lies in a file, and the bounds that it must keep.

Nothing here measures, reads or writes: types, their checks, and the constants that define them.
"""
