"""Side-by-side measurements: `python -m bench` runs the jobs, which are modules with a `run`."""
