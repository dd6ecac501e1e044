"""The page of a report that opens in a browser: one file with all tables, figures and runs."""
