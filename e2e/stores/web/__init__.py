"""A web server with plain files: with and without ranges, ETags, HEAD and a token, and with faults by path.

`python -m e2e.stores.web FOLDER` serves a folder until it is interrupted.
"""

from e2e.stores.web.server import WebStore

__all__ = ["WebStore"]
