"""How well images of a generator that training never saw are detected."""
