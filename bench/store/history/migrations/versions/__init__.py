"""The steps, each a module with the version that it leads to."""
