"""Measures the placement library against simple baselines and against bounds: `python -m bench.placement`.

Inputs are generated from fixed seeds, the same for every method; scipy and matplotlib are in the `bench` extra.
"""
