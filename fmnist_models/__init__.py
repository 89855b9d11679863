"""What is trained: the data, the documented models, their optimizers, and the loops."""

# Here and not in `dataset`, which needs NumPy: `--help` names it and must be quick.
DATA_VARIABLE = "FMNIST_DATA"
