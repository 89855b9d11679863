"""Folders and files: the one package that writes, and the one that reads what was written.

What a file says is typed and bounded here, or refused with its remedy. Nothing here measures.
"""
