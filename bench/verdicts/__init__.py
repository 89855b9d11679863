"""Numbers in, judgements out: whether a set-up is slower, and whether two may be compared.

Pure functions; nothing here reads a file, measures or words a report.
"""
