"""PyTorch behind the loops; nothing else of `fmnist_models` imports it."""
