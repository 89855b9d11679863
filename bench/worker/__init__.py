"""The measured process: the one package that imports a framework.

`python -m bench.worker` serves launches over a pipe; that name and the protocol stay, for other
revisions are started by it. Nobody else in the suite imports from here.
"""
