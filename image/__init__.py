"""The container image: what its Dockerfile runs and installs, its list of contents, and the proof that it works.

`requirements/` holds the locked packages, `assemble.py` picks the files, `proof/` builds and runs it without Docker.
"""
