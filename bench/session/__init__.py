"""A measuring session from its plan to its folder: runs, duels, profiles, and the doctor.

Nothing here draws or words a report; whoever watches is told through `bench.session.events`.
"""
