"""The cases, one module for each part of the contract. `all_cases` has them in the order in which one server can take
them all.
"""

from ..case import Case, Place, Server
from ..frontend import Frontend
from .access import cases as access
from .adapters import cases as adapters
from .capacity import cases as capacity
from .death import cases as death
from .listing import cases as listing
from .loading import cases as loading
from .metrics import cases as metrics
from .prefix_cache import cases as prefix_cache
from .rust_frontend import cases as rust_frontend
from .starting import cases as starting
from .unloading import cases as unloading

_PARTS = (
    metrics,
    loading,
    unloading,
    listing,
    adapters,
    capacity,
    prefix_cache,
    access,
    starting,
    rust_frontend,
    death,
)


def all_cases(frontend: Frontend = Frontend.PYTHON) -> list[Case]:
    """Every case that holds for a frontend, by server, and within a server by place."""
    servers, places = list(Server), list(Place)
    cases = [case for part in _PARTS for case in part.all if case.frontend in (None, frontend)]
    return sorted(cases, key=lambda case: (servers.index(case.server), places.index(case.place)))


__all__ = ["all_cases"]
