"""What runs will cost on this machine, before any of them starts: steps, hours, disk and memory."""
