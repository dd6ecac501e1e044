"""Numbers that are estimated from scores of several seeds."""
