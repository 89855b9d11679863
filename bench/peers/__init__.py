"""The training of `relu_mlp` with Adam, written by hand for other frameworks.

Each peer is a module in its framework's usual style. Peers share only the images, the order of
samples and the clock. `bench.peers.launch` describes their common work.
"""
