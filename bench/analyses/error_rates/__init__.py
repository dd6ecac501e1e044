"""How often verdicts are wrong, and how often they find a difference: simulations of the whole pipeline."""
