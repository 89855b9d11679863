"""Measures how often the verdicts are wrong, and regenerates the tables in results/evidence.

No other package of the suite imports from here.
"""
