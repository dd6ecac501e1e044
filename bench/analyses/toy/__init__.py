"""Every weighting on the published two-task problem in the plane."""
