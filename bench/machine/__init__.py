"""Facts of this computer, readings of the load on it, and the environment of a worker.

Nothing here starts a launch, judges a number or imports a framework.
"""
