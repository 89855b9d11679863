"""Whoever watches a duel, and remembers."""

from __future__ import annotations


class Watching:
    """A progress that remembers, and can stop the duel in the middle of a block."""

    def __init__(self):
        self.blocks, self.looks, self.reasons = [], [], []

    def block_voided(self, case, reason):
        self.reasons.append(reason)

    def waits(self, reason):
        self.reasons.append(reason)

    def duel_begins(self, plan, folder):
        pass

    def block_ends(self, standing, control):
        self.blocks.append((standing.case, len(standing.speed), control))

    def looked(self, standing):
        self.looks.append((standing.case, standing.speed_look.decision))
