"""Folders and files: the only package that writes files, and that reads the suite's own files.

Values that are read get their types and bounds here, or are refused with a remedy. Nothing here
measures.
"""
