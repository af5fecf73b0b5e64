"""The operator against a real API server at the sizes that are promised: `python -m bench.scale`."""
