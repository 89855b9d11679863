"""What is trained: the data, the documented models, their optimizers, and the loops.

Nothing here measures time, and nothing here imports `bench`.
"""

# Not in `dataset`, which imports NumPy: `--help` shows this name and must be quick.
DATA_VARIABLE = "FMNIST_DATA"
