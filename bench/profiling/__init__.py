"""What takes how long: contestants that take turns on the same work, and the tables of what came of it."""
