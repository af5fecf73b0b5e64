"""The bridge that nodes are plugged into, and this machine's routes to pods and Services. Nodes route among themselves.

No rule of this machine's firewall is touched: each node has a network namespace with rules of its own. So pods reach
each other, Services, and this machine at the bridge's address; they do not reach the internet.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from e2e.cluster.errors import StartError
from e2e.cluster.layout import NodeLayout, Place


def make_bridge(place: Place) -> None:
    """Make the bridge with its address.

    Raises:
        StartError: the kernel refuses.
    """
    ip("link", "add", place.bridge, "type", "bridge")
    ip("address", "add", f"{place.host}/{place.nodes.prefixlen}", "dev", place.bridge)
    ip("link", "set", place.bridge, "up")


def plug_in(node: NodeLayout, pid: int, others: list[NodeLayout]) -> None:
    """Connect the network namespace of this process to the bridge, with routes to the other nodes' pods and back.

    Raises:
        StartError: the kernel refuses.
    """
    place = node.place
    ip("link", "add", node.interface, "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    ip("link", "set", node.interface, "master", place.bridge, "up")
    inside = ("nsenter", f"--target={pid}", "--net", "ip")
    run(*inside, "link", "set", "lo", "up")
    run(*inside, "address", "add", f"{node.address}/{place.nodes.prefixlen}", "dev", "eth0")
    run(*inside, "link", "set", "eth0", "up")
    run(*inside, "route", "add", "default", "via", str(place.host))
    for other in others:
        run(*inside, "route", "add", str(other.pods), "via", str(other.address))
    ip("route", "replace", str(node.pods), "via", str(node.address))
    if node.number == 1:  # its kube-proxy leads this machine to Services
        ip("route", "replace", str(place.services), "via", str(node.address))


def overlapping_route(place: Place) -> str:
    """A route of this machine into the cluster's networks, or an empty string."""
    return overlapping(place, json.loads(run("ip", "-json", "-4", "route", "show", "table", "all")))


def overlapping(place: Place, routes: Sequence[Mapping[str, Any]]) -> str:
    """The first of these routes (as `ip -json` shows them) that leads into the cluster's networks, in words."""
    ours = (place.nodes, place.pods, place.services)
    for route in routes:
        if route.get("dst", "default") == "default" or route.get("dev") == place.bridge:
            continue
        network = IPv4Network(route["dst"], strict=False)
        if any(network.overlaps(one) for one in ours):
            return f"{network} on {route.get('dev', '?')}"
    return ""


def ip(*arguments: str) -> str:
    return run("ip", *arguments)


def run(*command: str) -> str:
    """What the command prints.

    Raises:
        StartError: it failed.
    """
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise StartError(f"{' '.join(command)}: {done.stderr.strip() or f'exit code {done.returncode}'}")
    return done.stdout
