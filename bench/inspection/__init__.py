"""Checks before a run: of data sets, and of the set-up."""
