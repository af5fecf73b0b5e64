"""Brings the files of one adapter version from links to a folder, and proves on the way that they are what was asked.

Needs no cloud SDK and no credentials: the operator turns a source into a FetchManifest, and whoever has the disk runs
it.
"""
