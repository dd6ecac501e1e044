"""What lies under a folder of results: the state of each run, and what to do with it."""
