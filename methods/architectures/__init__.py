"""Networks with one shared part and one head per task: how they are wired, and the parts that they are made of."""
