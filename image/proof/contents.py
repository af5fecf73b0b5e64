"""Looks through the files of the image for what does not belong there, and adds up how large its parts are."""

from __future__ import annotations

import re
import stat
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

ENVIRONMENT = Path("opt/lora-operator")
PROGRAMS = re.compile(r"(python[\d.]*|lora-operator|kubectl-lora|kubectl_complete-lora)$")
UNWANTED_MODULES = {"ensurepip", "pip", "pkg_resources", "setuptools", "wheel", "hatchling"}
UNWANTED_FILES = re.compile(r"\.(a|o|whl|deb)$")


def faults(root: Path) -> list[str]:
    """What should not be so, one sentence each; none for an image as it should be."""
    return sorted(f"/{path.relative_to(root)}: {fault}" for path in root.rglob("*") for fault in _faults(root, path))


def _faults(root: Path, path: Path) -> Iterator[str]:
    status = path.lstat()
    if status.st_uid or status.st_gid:
        yield f"belongs to {status.st_uid}:{status.st_gid} and not to root"
    if stat.S_ISLNK(status.st_mode):
        if not _leads_somewhere(root, path):
            yield f"is a link to {path.readlink()}, which is not there"
        return
    if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
        yield "is setuid or setgid"
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        yield "can be written by everybody"
    if path.is_file():
        if path.parent.name in {"bin", "sbin"} and not PROGRAMS.match(path.name):
            yield "is a program that nothing here needs"
        if UNWANTED_FILES.search(path.name):
            yield "is of use to a linker or a package manager alone"
    elif path.name in UNWANTED_MODULES:
        yield "is for installing"


def _leads_somewhere(root: Path, link: Path) -> bool:
    """As seen from inside the image, where an absolute link starts at its root."""
    for _ in range(8):
        target = link.readlink()
        link = root / target.relative_to("/") if target.is_absolute() else link.parent / target
        if not link.is_symlink():
            return link.exists()
    return False


def sizes(root: Path, most: int = 10) -> list[tuple[str, int]]:
    """The parts of the image and their bytes, the largest packages one by one, then the sum."""
    parts: Counter[str] = Counter()
    packages: Counter[str] = Counter()
    for path in root.rglob("*"):
        if path.is_symlink() or not path.is_file():
            continue
        inside, size = path.relative_to(root), path.lstat().st_size
        if inside.is_relative_to(ENVIRONMENT):
            packages[_package(inside)] += size
        else:
            parts[_part(inside)] += size
    largest = packages.most_common(most)
    rest = packages.total() - sum(size for _, size in largest)
    rows = [*parts.most_common(), *((f"package {name}", size) for name, size in largest), ("other packages", rest)]
    return [*rows, ("together", parts.total() + packages.total())]


def _package(inside: Path) -> str:
    names = inside.relative_to(ENVIRONMENT).parts
    return names[3].removesuffix(".py") if names[0] == "lib" and len(names) > 4 else "(scripts)"


def _part(inside: Path) -> str:
    if re.search(r"/python3\.\d+(/|$)|/libpython", f"/{inside}"):
        return "Python and its standard library"
    if inside.is_relative_to("usr/share/zoneinfo"):
        return "time zones"
    return "shared libraries" if ".so" in inside.name else "certificates, licences and other files"
