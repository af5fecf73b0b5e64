"""Measures the cache's policies against simple ones, bounds and another implementation: `python -m bench.cache`.

Traces are generated from fixed seeds, the same for every policy; libcachesim is in the `bench` extra.
"""
