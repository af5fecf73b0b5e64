"""Adapters, versions, owners and what was done, as the database has them; every query is bound to who asks."""
