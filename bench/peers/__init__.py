"""The same training as `relu_mlp` with Adam, written for other frameworks by hand.

A module a peer, as the community of its framework would write it: nothing in it is shared with the
others but the images, the order of samples and the clock. `bench.peers.launch` says what each does.
"""
