"""One launch seen from outside: the process, what it is asked, and what comes back.

Nothing here knows a run or a duel, draws, or writes a run's files.
"""
