"""The positive control for NORMAL: what its runs scored, and whether positions found the true times."""
