"""A measuring session from its plan to its folder: runs, duels, profiles, and the doctor.

Nothing here makes pictures or reports; progress is reported through `bench.session.events`.
"""
