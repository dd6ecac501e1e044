"""Results of several machines: runs of other folders and files are checked, merged and exported."""
