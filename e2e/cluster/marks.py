"""Finds what belongs to clusters of this machine by looking, and not by what some file says: a run may be killed.

Processes carry marks in their environment, which their children inherit. Interfaces and control groups have names of
their own. Mounts are seen by where they are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from e2e.cluster.layout import BRIDGE, CGROUP, CLUSTER_MARK, PART_MARK

PROC = Path("/proc")
INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Marked:
    """One process of a cluster."""

    pid: int
    program: str
    cluster: str  # the folder of the cluster
    part: str


def marked_processes(proc: Path = PROC) -> list[Marked]:
    """All of all clusters but this process itself; zombies have no environment and are left out."""
    return [one for folder in proc.iterdir() if folder.name.isdigit() and (one := _marked(folder))]


def _marked(folder: Path) -> Marked | None:
    try:
        variables = dict(
            entry.split("=", 1)
            for entry in (folder / "environ").read_text(errors="replace").split("\0")
            if "=" in entry
        )
        if (cluster := variables.get(CLUSTER_MARK)) is None or int(folder.name) == os.getpid():
            return None
        words = (folder / "cmdline").read_bytes().split(b"\0")
        return Marked(
            int(folder.name), Path(words[0].decode(errors="replace")).name, cluster, variables.get(PART_MARK, "")
        )
    except (OSError, ValueError):
        return None  # it has ended


def part_of(name: str, program: str, processes: list[Marked]) -> Marked | None:
    """The process that is this part itself, and none of its children."""
    return next((one for one in processes if one.part == name and one.program == program), None)


def interfaces(folder: Path = INTERFACES) -> list[str]:
    """The bridge and this machine's ends of the nodes' cables."""
    ours = re.compile(rf"{BRIDGE}(n\d+)?$")
    return sorted(path.name for path in folder.iterdir() if ours.match(path.name)) if folder.is_dir() else []


def cgroup_roots(mountinfo: Path = PROC / "self" / "mountinfo") -> Iterator[tuple[str, Path]]:
    """Where control groups are mounted: the kind of file system (cgroup, cgroup2), and the folder."""
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in ("cgroup", "cgroup2"):
            yield kind, Path(_unescape(before.split(" ")[4]))


def cgroups(mountinfo: Path = PROC / "self" / "mountinfo") -> list[Path]:
    """The folders in which the nodes' control groups are."""
    return [path for _, root in cgroup_roots(mountinfo) if (path := root / CGROUP).is_dir()]


def mounts_below(directory: Path, mountinfo: Path = PROC / "self" / "mountinfo") -> list[Path]:
    """What is mounted in this folder, the innermost first."""
    points = [Path(_unescape(line.split(" ")[4])) for line in mountinfo.read_text().splitlines()]
    return sorted((one for one in points if directory in one.parents), key=lambda one: len(one.parts), reverse=True)


def _unescape(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), text)
