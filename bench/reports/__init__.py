"""Output for people: terminal, pictures, report.html and the files of a CI job.

Nothing here measures, judges or computes a figure of a run; lower packages do that.
"""
