"""Tables as plain data: scores, cost, published numbers."""
