"""The parent's side of one launch: the worker process, the request and the answer.

Nothing here depends on a run or a duel, makes pictures, or writes a run's files.
"""
