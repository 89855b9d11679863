"""Judges numbers: whether a set-up is slower, and whether two runs may be compared.

Pure functions, apart from digests of files. Nothing here measures or writes a report.
"""
