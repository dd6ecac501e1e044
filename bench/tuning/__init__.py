"""Tuning: which settings to try, how the trials ended, and the study of the best ones."""
