"""The health of the DVC remote, in plain words."""
