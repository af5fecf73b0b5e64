"""Measures the routing library: generated requests, played through simulated engines: `python -m bench.routing`.

Requests and draws come from fixed seeds, and are the same for every policy.
"""
