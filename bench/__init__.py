"""Measurements of the whole system on this machine: `python -m bench` prints a table and appends JSON lines to
`bench/results/`."""
