"""Adapter files on disk, content-addressed: whole or absent, never changed once they are there.

`volume` is the cache as others use it. Below it: `filling` and `partial` bring versions in, `victims` and `policies`
decide what goes (pure), `room` and `clearing` remove it, `shelf` and `records` are what is on the disk.
"""
