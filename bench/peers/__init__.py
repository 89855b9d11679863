"""The same training as `relu_mlp` with Adam, written for other frameworks by hand.

`python -m bench.peers` runs the suite's own loops beside them and prints the ratios. Each
module here is one peer, as the community of its framework would write it: nothing in it is
shared with the others but the images, the order of samples and the clock.

Every peer does the same work in its window: draws the epoch's permutation, takes every
sample once, updates after each batch and after the last partial one, and reports the mean
loss and accuracy over the epoch. A peer whose name ends in `_loss` reports no accuracy, and is
compared with one that reports none either.
"""
