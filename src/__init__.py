"""The stages of the pipeline and the modules they share; see the README for the map."""
