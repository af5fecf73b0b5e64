"""How often an adapter that comes back finds its files: adapters on demand, played through the planner and the cache.

In virtual time, with the operator's own decisions (`Planner`, `choose_victims`) and neither engines nor network.
"""
