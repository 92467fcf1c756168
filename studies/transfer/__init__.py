"""How well the trained detector does on image sets that it was not trained on."""
