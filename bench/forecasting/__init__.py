"""What runs will take on a machine, before any of them starts: steps, hours, disk and memory."""
