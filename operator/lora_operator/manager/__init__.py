"""Composition and life cycle of the operator and of a router: what is built from what, in which order it ends."""
