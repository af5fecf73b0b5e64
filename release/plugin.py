"""`python -m release.plugin` makes `kubectl lora` for each platform, as an archive in dist that krew unpacks.

An archive holds the plugin, what it needs and a launcher: a Python of the machine runs it, and nothing is installed
there. The packages are the locked ones (image/requirements/plugin.txt), as wheels for platform and each Python.
"""

from __future__ import annotations

import argparse
import filecmp
import gzip
import io
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from release.versions import ROOT, versions

RESULT = ROOT / "dist"
LOCK = ROOT / "image" / "requirements" / "plugin.txt"
LAUNCHER = Path(__file__).with_name("launcher.py")
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
COMMANDS = ("kubectl-lora", "kubectl_complete-lora")
# the wheels that run there, by the name that krew knows the platform by
PLATFORMS: Mapping[str, Sequence[str]] = {
    "linux-amd64": ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64", "manylinux_2_5_x86_64"),
    "linux-arm64": ("manylinux_2_28_aarch64", "manylinux_2_17_aarch64", "manylinux2014_aarch64"),
    "darwin-amd64": tuple(f"macosx_10_{minor}_x86_64" for minor in (15, 13, 12, 10, 9)),
    "darwin-arm64": ("macosx_11_0_arm64",),
}


def build(platform: str, to: Path) -> Path:
    """The archive for one platform.

    Raises:
        subprocess.CalledProcessError: pip could not install something; it has said what.
    """
    to.mkdir(parents=True, exist_ok=True)
    archive = to / f"kubectl-lora-{versions()['pyproject.toml']}-{platform}.tar.gz"
    with tempfile.TemporaryDirectory() as scratch:
        top, wheels = Path(scratch, "top"), Path(scratch, "wheels")
        _pip("wheel", "--no-deps", f"--wheel-dir={wheels}", str(ROOT))
        folders = [_installed(top / "lib" / f"py{python}", python, platform, wheels) for python in PYTHONS]
        share(folders, top / "lib" / "any")
        for command in COMMANDS:
            shutil.copy(LAUNCHER, top / command)
            (top / command).chmod(0o755)
        shutil.copy(ROOT / "LICENSE", top)
        write_archive(top, archive)
    return archive


def _installed(folder: Path, python: str, platform: str, wheels: Path) -> Path:
    """The locked packages and ours, as that Python on that platform needs them."""
    target = [f"--target={folder}", "--no-compile", "--no-deps", "--only-binary=:all:", "--implementation=cp"]
    target += [f"--python-version={python}", *(f"--platform={tag}" for tag in PLATFORMS[platform])]
    for what in (["--require-hashes", f"--requirement={LOCK}"], ["--no-index", *map(str, wheels.glob("*.whl"))]):
        _pip("install", *target, *what)
        shutil.rmtree(folder / "bin", ignore_errors=True)  # programs for the Python that packs, not for that which runs
    return folder


def _pip(command: str, *arguments: str) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", command, *arguments]
    subprocess.run(pip, check=True)


def share(folders: Sequence[Path], to: Path) -> None:
    """Move what is the same in all folders to `to`: whole packages, since Python looks for one in one place."""
    to.mkdir()
    for entry in sorted(folders[0].iterdir()):
        others = [folder / entry.name for folder in folders[1:]]
        if all(same(entry, other) for other in others):
            shutil.move(entry, to / entry.name)
            for other in others:
                shutil.rmtree(other) if other.is_dir() else other.unlink()


def same(one: Path, other: Path) -> bool:
    """Whether two files, or everything in two folders, are byte for byte the same."""
    if one.is_dir() != other.is_dir() or not other.exists():
        return False
    if not one.is_dir():
        return filecmp.cmp(one, other, shallow=False)
    names = {path.name for path in one.iterdir()}
    return names == {path.name for path in other.iterdir()} and all(same(one / name, other / name) for name in names)


def write_archive(top: Path, archive: Path) -> None:
    """The same files give the same bytes, whenever and whoever makes it."""
    when = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for path in sorted(top.rglob("*")):
            if path.is_dir() or path.name == "RECORD" or "__pycache__" in path.parts:
                continue
            member = tar.gettarinfo(path, str(path.relative_to(top)))
            member.uid = member.gid = 0
            member.uname = member.gname = ""
            member.mtime, member.mode = when, 0o755 if path.parent == top and path.name in COMMANDS else 0o644
            with path.open("rb") as file:
                tar.addfile(member, file)
    archive.write_bytes(gzip.compress(raw.getvalue(), compresslevel=9, mtime=0))


def main() -> int:
    parser = argparse.ArgumentParser(prog="release.plugin", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="only this one (repeat; default: all)")
    parser.add_argument("--output", type=Path, default=RESULT, help="folder (default: dist)")
    arguments = parser.parse_args()
    try:
        for platform in arguments.platform or PLATFORMS:
            made = build(platform, arguments.output)
            print(f"{made} {made.stat().st_size / 2**20:.1f} MiB")
    except subprocess.CalledProcessError as error:
        sys.stderr.write(f"the plugin for {platform} was not made: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
