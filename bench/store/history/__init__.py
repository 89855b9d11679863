"""The history of runs: one SQLite file, or a PostgreSQL server that a team shares.

The only package that imports SQLAlchemy and Alembic.
"""
