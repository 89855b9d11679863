"""The yardstick: minutes until a change of a given size is decided, at the same error rate."""
