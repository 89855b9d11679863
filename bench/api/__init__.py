"""The suite from Python: in a script, a notebook, or a test of the user's own.

The same code as the verbs measures, reads and judges. Nothing here prints tables or decides what a
figure means.
"""
