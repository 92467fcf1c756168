"""How much a metric depends on which images happened to be the test set."""
