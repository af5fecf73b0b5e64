"""Watches, caches and pollers of what is declared: pods, nodes, Secrets, resources, sources."""
