"""Records of runs: their form, and the files that they live in. No torch."""
