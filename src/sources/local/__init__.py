"""What lies on this machine: the walk over folders, and the cache of what was fetched."""
