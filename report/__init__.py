"""The last run as one HTML page that needs no other file: see `make report`."""
