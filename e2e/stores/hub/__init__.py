"""A small Hugging Face hub: what its official client asks for, and a second host that gives out large files.

Private, gated and missing repositories answer as the real hub does, as far as its client tells them apart.
"""

from e2e.stores.hub.repository import Repository
from e2e.stores.hub.server import LocalHub, Seen

__all__ = ["LocalHub", "Repository", "Seen"]
