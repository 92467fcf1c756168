"""One file per data set, found by its name; `shared/` holds what they have in common."""
