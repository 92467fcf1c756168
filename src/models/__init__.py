"""One file per detector, found by its name; `shared/` holds what they have in common."""
