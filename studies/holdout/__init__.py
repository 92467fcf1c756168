"""How well images of a generator are told that training never saw."""
