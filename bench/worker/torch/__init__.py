"""PyTorch inside the worker; no other package of the worker imports it."""
