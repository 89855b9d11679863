"""What a person sees: terminal, pictures, report.html and the files of a CI job.

Nothing here measures, judges or reads a run; what is shown was worked out below.
"""
