"""How long things take: one harness that times candidates on the same workloads, and the tables of the results."""
