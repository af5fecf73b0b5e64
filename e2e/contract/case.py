"""What a case is: an async function that takes a Target, with the server it wants and its place in the order."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum

from .frontend import Frontend
from .target import Target

Body = Callable[[Target], Awaitable[None]]


class Server(StrEnum):
    """How the server is started, see `flavours`."""

    USUAL = "usual"
    KEYED = "keyed"
    NOT_UPDATABLE = "not-updatable"
    WITHOUT_LORA = "without-lora"
    NONE = "none"  # the case starts one itself, and expects it to fail


class Place(StrEnum):
    """When a case may run among the others on one server."""

    FIRST = "first"  # before any adapter has been asked for
    ANY = "any"
    LAST = "last"  # leaves the server worse than before
    FINAL = "final"  # ends the server


@dataclass(frozen=True, slots=True)
class Case:
    """One row of the contract. `row` is its sentence, `changes` tells whether releases may differ in it."""

    row: str
    body: Body
    server: Server = Server.USUAL
    place: Place = Place.ANY
    real_only: bool = False
    changes: bool = True
    frontend: Frontend | None = None  # whose contract it is; None: everybody's

    def __str__(self) -> str:
        return self.body.__name__


class Cases:
    """Collects the cases of a module."""

    def __init__(self, server: Server = Server.USUAL, frontend: Frontend | None = None) -> None:
        self._server = server
        self._frontend = frontend
        self.all: list[Case] = []

    def __call__(
        self,
        row: str,
        *,
        server: Server | None = None,
        place: Place = Place.ANY,
        real_only: bool = False,
        changes: bool = True,
        python_only: bool = False,
    ) -> Callable[[Body], Body]:
        """Decorate a case with the row of the contract that it checks."""

        def add(body: Body) -> Body:
            frontend = Frontend.PYTHON if python_only else self._frontend
            self.all.append(Case(row, body, server or self._server, place, real_only, changes, frontend))
            return body

        return add
