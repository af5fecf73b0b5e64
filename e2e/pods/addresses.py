"""Gives every pod an address of its own, the same one for as long as the pod exists, and not soon again to another."""

from __future__ import annotations

import fcntl
import ipaddress
import json
import os
import random
import tempfile
from collections.abc import Collection
from pathlib import Path
from typing import IO

# 127.0.0.0/16 has the addresses that everything else on a machine uses
SECOND_BYTES = range(16, 250)
FIRST_POD = 2
# nobody's; unlike loopback addresses the API server takes them in EndpointSlices.
# They work where `ip route add local 198.18.0.0/16 dev lo` was said
ROUTED = ipaddress.IPv4Network("198.18.0.0/15")
NODE_BLOCK = 254  # 127.x.254.n are the nodes'


class AddressError(Exception):
    """No address can be given; the message says why."""


class AddressBook:
    """The addresses of one /16 of 127.0.0.0/8, kept in a file so that a runner that comes back gives out the same."""

    def __init__(self, file: Path, subnet: str | None = None) -> None:
        """Use `subnet` (such as `127.20.0.0/16`), else that of the file, else one that no other runner holds."""
        self._file = file
        self._held: IO[str] | None = None
        saved = json.loads(file.read_text()) if file.is_file() else {}
        chosen = subnet or saved.get("subnet")
        if chosen is None:
            chosen, self._held = _free_subnet()
        else:
            self._held = _lock(_checked(chosen))  # chosen by somebody who knows: others are kept off it if possible
        self.network = _checked(chosen)
        same = saved.get("subnet") == str(self.network)
        self._next: int = saved["next"] if same else FIRST_POD
        self._given: dict[str, str] = saved["given"] if same else {}

    def give(self, uid: str) -> str:
        """The address of the pod with this uid."""
        if uid in self._given:
            return self._given[uid]
        taken = set(self._given.values())
        limit = NODE_BLOCK * 256
        for _ in range(limit):
            address = str(self.network.network_address + self._next)
            self._next = FIRST_POD if self._next + 1 >= limit else self._next + 1
            if address not in taken and address.rpartition(".")[2] not in ("0", "255"):
                self._given[uid] = address
                self._save()
                return address
        raise AddressError(
            f"all addresses of {self.network} are given away; choose another subnet for some of the pods"
        )

    def take_back(self, uid: str) -> None:
        """The pod is gone; its address comes round again after all others."""
        if self._given.pop(uid, None):
            self._save()

    def keep_only(self, uids: Collection[str]) -> None:
        """Forget pods that went while nobody looked."""
        if gone := self._given.keys() - set(uids):
            for uid in gone:
                del self._given[uid]
            self._save()

    def node(self, index: int) -> str:
        return str(self.network.network_address + NODE_BLOCK * 256 + 1 + index)

    def close(self) -> None:
        if self._held:
            self._held.close()

    def _save(self) -> None:
        part = self._file.with_suffix(".part")
        part.write_text(json.dumps({"subnet": str(self.network), "next": self._next, "given": self._given}))
        part.replace(self._file)


def _checked(subnet: str) -> ipaddress.IPv4Network:
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise AddressError(f"subnet {subnet!r}: {error}; give one like 127.20.0.0/16") from error
    if network.prefixlen != 16 or not (network.is_loopback or network.subnet_of(ROUTED)):
        raise AddressError(f"subnet {subnet!r} is not a /16 of 127.0.0.0/8 or {ROUTED}; give one like 127.20.0.0/16")
    return network


def _free_subnet() -> tuple[str, IO[str]]:
    """A subnet together with the lock that keeps other runners of this user off it until it is closed."""
    for number in random.sample(SECOND_BYTES, len(SECOND_BYTES)):
        subnet = f"127.{number}.0.0/16"
        if lock := _lock(_checked(subnet)):
            return subnet, lock
    raise AddressError("every /16 of 127.0.0.0/8 is held by a running pod runner; stop some of them")


def _lock(network: ipaddress.IPv4Network) -> IO[str] | None:
    name = f"lora-operator-subnet-{os.getuid()}-{network.network_address}.lock"
    lock = Path(tempfile.gettempdir(), name).open("w")  # noqa: SIM115 - held for as long as the runner lives
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return lock
    except BlockingIOError:
        lock.close()
        return None
