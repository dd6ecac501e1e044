"""The tables and the figure of Ye et al. (IJCAI 2023) from our records, beside the published numbers."""
