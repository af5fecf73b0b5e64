"""Adapter files on disk, content-addressed: whole or absent, never changed once they are there.

`volume` is the store on a volume that the pods mount too.
"""
