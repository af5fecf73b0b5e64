"""Generators of what is checked in: CRDs, reference pages, the metrics page."""
