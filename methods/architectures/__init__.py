"""Networks with one shared part and one head per task: their structure, and the modules they are built from."""
