"""The measured process: the only package that imports a framework.

`python -m bench.worker` serves launches over a pipe. Its name and protocol must not change,
because other revisions are started by them. No other package imports from here.
"""
