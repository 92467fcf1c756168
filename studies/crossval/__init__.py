"""How much a figure hangs on which images happened to be the test set."""
