"""Shows how often the verdicts are wrong, and regenerates the tables in results/evidence."""
