"""The page and the HTTP API: `python -m judge.server`."""
