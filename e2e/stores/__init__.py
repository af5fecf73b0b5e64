"""Stores that adapters come from, as local servers: what the tests, the demo and the benchmarks fetch from.

Each folder is one kind of store; all listen on loopback only.
"""
