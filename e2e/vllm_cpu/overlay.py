"""Releases that have no CPU wheel: their own Python code and Rust frontend over compiled parts of another release.

vLLM's wheel for GPUs holds all Python code and `vllm-rs`, which run on any machine; only its shared libraries do not.
Those of the CPU wheel of a release nearby take their place. What this cannot show is what compiled code does.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from .places import compiled_release, overlay, packages, python

Run = Callable[[list[str]], None]

# beyond what the environment of the other release has
_FURTHER: Mapping[str, tuple[str, ...]] = MappingProxyType({"0.33.0": ("orjson>=3.11.6",)})


def make_overlay(release: str, install: list[str], run: Run) -> None:
    """Put the code of `release` into its folder, beside the compiled parts. `install` begins pip's command line."""
    folder = overlay(release)
    scratch = folder.with_name(folder.name + ".new")
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    download = ["download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(scratch), f"vllm=={release}"]
    run([sys.executable, "-m", "pip", "--disable-pip-version-check", *download])
    (wheel,) = scratch.glob("*.whl")
    _unpack(wheel, scratch)
    wheel.unlink()
    for library in (packages(compiled_release(release)) / "vllm").rglob("*.so"):
        place = scratch / "vllm" / library.relative_to(packages(compiled_release(release)) / "vllm")
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(library, place)
    name_distribution(scratch, release)
    if release in _FURTHER:
        run([*install, "install", *_FURTHER[release]])
    # as pip does; compiling three thousand files at each start would take longer than the start
    run([str(python(release)), "-m", "compileall", "-q", str(scratch)])
    scratch.replace(folder)


def name_distribution(folder: Path, release: str) -> None:
    """`vllm serve` asks for the version of a distribution called vllm, and takes the CPU's code where it ends so."""
    info = folder / f"vllm-{release}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {release}+cpu\n")


def search_path(release: str) -> dict[str, str]:
    """What a server of `release` needs in its environment to find its code."""
    return {"PYTHONPATH": str(overlay(release))} if compiled_release(release) != release else {}


def is_made(release: str) -> bool:
    """Whether the code of `release` is there."""
    return compiled_release(release) == release or overlay(release).is_dir()


def _unpack(wheel: Path, folder: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            if not member.filename.endswith(".so") and not member.filename.startswith("vllm-"):
                archive.extract(member, folder)
    frontend = folder / "vllm" / "vllm-rs"
    if frontend.is_file():
        frontend.chmod(0o755)
