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

from e2e.cluster.layout import BRIDGES, CGROUPS, CLUSTER_MARK, NUMBER_MARK, PART_MARK

PROC = Path("/proc")
INTERFACES = Path("/sys/class/net")


@dataclass(frozen=True, slots=True)
class Marked:
    """One process of a cluster."""

    pid: int
    program: str
    cluster: str  # the folder of the cluster
    number: int
    part: str


def marked_processes(cluster: Path | None = None, proc: Path = PROC) -> list[Marked]:
    """All of the cluster in this folder, or of all clusters, but this process itself.

    Zombies have no environment and are left out.
    """
    found = [one for folder in proc.iterdir() if folder.name.isdigit() and (one := _marked(folder))]
    return [one for one in found if cluster is None or one.cluster == str(cluster)]


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
            int(folder.name),
            Path(words[0].decode(errors="replace")).name,
            cluster,
            int(variables.get(NUMBER_MARK, 0)),
            variables.get(PART_MARK, ""),
        )
    except (OSError, ValueError):
        return None  # it has ended


def part_of(name: str, program: str, processes: list[Marked]) -> Marked | None:
    """The process that is this part itself, and none of its children."""
    return next((one for one in processes if one.part == name and one.program == program), None)


def interfaces(folder: Path = INTERFACES) -> list[tuple[int, str]]:
    """Bridges and this machine's ends of the nodes' cables, each after the number of its cluster."""
    ours = re.compile(rf"{BRIDGES}(\d)(n\d+)?$")
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(found[1]), name) for name in names if (found := ours.match(name)))


def cgroup_roots(mountinfo: Path = PROC / "self" / "mountinfo") -> Iterator[tuple[str, Path]]:
    """Where control groups are mounted: the kind of file system (cgroup, cgroup2), and the folder."""
    for line in mountinfo.read_text().splitlines():
        before, _, after = line.partition(" - ")
        kind = after.split(" ", 1)[0]
        if kind in ("cgroup", "cgroup2"):
            yield kind, Path(_unescape(before.split(" ")[4]))


def cgroups(mountinfo: Path = PROC / "self" / "mountinfo") -> list[tuple[int, Path]]:
    """The folders in which the nodes' control groups are, each after the number of its cluster."""
    return [
        (int(path.name.removeprefix(CGROUPS)), path)
        for _, root in cgroup_roots(mountinfo)
        for path in sorted(root.glob(f"{CGROUPS}[0-9]"))
    ]


def mounts_below(directory: Path, mountinfo: Path = PROC / "self" / "mountinfo") -> list[Path]:
    """What is mounted in this folder, the innermost first."""
    points = [Path(_unescape(line.split(" ")[4])) for line in mountinfo.read_text().splitlines()]
    return sorted((one for one in points if directory in one.parents), key=lambda one: len(one.parts), reverse=True)


def _unescape(text: str) -> str:
    return re.sub(r"\\(\d{3})", lambda found: chr(int(found[1], 8)), text)
