"""A run in the formats of other tools: a module for each format, and `formats` that lists them.

The intervals are those of results.csv. What a run does not know is said, and never made up.
"""
