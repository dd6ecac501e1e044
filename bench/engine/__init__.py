"""How one run is trained: batches, gradients, steps, evaluation, checkpoints."""
