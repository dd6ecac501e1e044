"""Tables, figures and an index from records of runs. Reads records, trains nothing, imports no torch."""
