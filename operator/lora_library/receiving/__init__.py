"""How an upload comes in: its parts onto a disk, an archive's files out of it, and what they are looked at for.

Nothing of what a client calls its files becomes a path.
"""
