"""One plan on all nodes of a cluster. The only package that imports Ray."""
