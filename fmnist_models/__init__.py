"""What is trained: the data, the documented models, their optimizers, and the loops."""
