"""What a person wants to look at before a run: data sets and the set-up."""
