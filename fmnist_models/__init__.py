"""What is trained: the data, the documented models, their optimizers, and the loops.

Nothing here measures time, and nothing here imports `bench`.
"""

from fmnist_models.workload import Synthetic as Synthetic
from fmnist_models.workload import Workload as Workload

# Not in `dataset`, which imports NumPy: `--help` shows this name and must be quick.
DATA_VARIABLE = "FMNIST_DATA"
