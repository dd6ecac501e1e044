"""Makers of small data sets in the layouts of the real ones, so that everything runs for real on a bare machine."""
