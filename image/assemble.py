"""Gathers the files that a virtual environment needs to run into the root of an image, and no others.

`python3 assemble.py ENVIRONMENT ROOT` runs in the Dockerfile's build stage, on Debian, with the standard library alone.
What comes along: the environment, its interpreter and standard library, the Debian packages of every shared library
that these load (found by ldd), certificates, time zones. Which Debian packages these are is written where scanners look
for it, in var/lib/dpkg/status.d, as in other images without a package manager.
"""

from __future__ import annotations

import compileall
import os
import py_compile
import re
import shutil
import stat
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from pathlib import Path

USER = 65532
# of no use without a terminal, a screen or a package manager, or without the tests of Python itself
UNUSED_STDLIB = (
    "__pycache__", "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages",
    "test", "tkinter", "turtle*",
)  # fmt: skip
# read as files, and loaded by no library: name services, certificates, time zones, the layout of folders
READ_AS_FILES = ("base-files", "ca-certificates", "netbase", "openssl", "tzdata")
# programs, and texts that no program reads; licences stay
LEFT_OUT = re.compile(
    r"/(usr/)?s?bin/|/usr/share/(man|info|locale|lintian|bash-completion|doc-base|menu|pixmaps|bug)/|"
    r"/usr/share/doc/.*/(?!copyright$)[^/]*$|/etc/(cron|init\.d|default|ca-certificates/update\.d|update-motd)|/var/"
)
PASSWD = f"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:{USER}:{USER}:nonroot:/tmp:/sbin/nologin\n"
GROUP = f"root:x:0:\nnonroot:x:{USER}:\n"


def main(environment: Path, root: Path) -> None:
    interpreter = environment / "bin" / "python3"
    standard_library = Path(sysconfig.get_path("stdlib"))
    copy_tree(environment, root, ignore=("__pycache__",))
    for program in (root / environment.relative_to("/") / "bin").iterdir():
        if not program.name.startswith("python") and program.name not in own_programs(environment):
            program.unlink()
    copy_tree(standard_library, root, ignore=UNUSED_STDLIB)
    for link in links(interpreter):
        copy(link, root)
    needed = set(libraries([interpreter.resolve(), *shared_objects(environment), *shared_objects(standard_library)]))
    packages = {package for library in needed if (package := owner(library))}
    for library in needed:
        copy(library, root)  # also one that belongs to no package, such as Python's own
    for package in sorted(packages | {name for name in READ_AS_FILES if installed(name)}):
        copy_package(package, root)
    copy_tree(Path("/etc/ssl/certs"), root)
    mend_links(root)
    for name, text in (("passwd", PASSWD), ("group", GROUP)):
        (root / "etc" / name).write_text(text)
    temporary = root / "tmp"
    temporary.mkdir(exist_ok=True)
    subprocess.run(["ldconfig", "-r", root], check=True)
    shutil.rmtree(root / "var" / "cache", ignore_errors=True)
    compile_all(root, environment, standard_library)
    settle(root)
    temporary.chmod(0o1777)


def own_programs(environment: Path) -> set[str]:
    """What lora-operator itself brings; its dependencies bring programs for people, which nothing here starts."""
    (entries,) = environment.glob("lib/python*/site-packages/lora_operator-*.dist-info/entry_points.txt")
    return set(re.findall(r"^([\w-]+) *=", entries.read_text(), re.MULTILINE))


def links(path: Path) -> Iterator[Path]:
    """The path, and what it leads to link by link."""
    yield path
    while path.is_symlink():
        path = Path(os.path.normpath(path.parent / path.readlink()))
        yield path


def shared_objects(folder: Path) -> Iterator[Path]:
    return (path for path in folder.rglob("*.so*") if path.is_file() and ".so" in path.suffixes)


def libraries(objects: Iterable[Path]) -> Iterator[Path]:
    """The paths of all that the loader brings in for these objects, as the loader names them.

    Raises:
        SystemExit: one of them is missing in the build stage, so that the image would fail when it is loaded.
    """
    environment = {**os.environ, "LD_LIBRARY_PATH": ""}
    answer = subprocess.run(["ldd", *objects], capture_output=True, text=True, env=environment)
    current = ""
    for line in answer.stdout.splitlines():
        if not line.startswith("\t"):
            current = line.rstrip(":")
        elif "not found" in line:
            sys.exit(f"{current}: {line.strip()}: add the Debian package that holds it to the build stage")
        elif found := re.search(r"(/\S+) \(0x", line):
            yield Path(found[1])


def owner(path: Path) -> str | None:
    """The installed Debian package that holds this file. dpkg may know it by its path before / and /usr were merged."""
    real = path.resolve()
    for name in {path, real, Path(str(real).removeprefix("/usr")), Path(f"/usr{path}")}:
        answer = subprocess.run(["dpkg-query", "--search", name], capture_output=True, text=True)
        if answer.returncode == 0:
            return answer.stdout.splitlines()[0].partition(": ")[0]
    return None


def installed(package: str) -> bool:
    return subprocess.run(["dpkg-query", "--status", package], capture_output=True).returncode == 0


def copy_package(package: str, root: Path) -> None:
    """Its files without programs and manuals, and its entry for scanners."""
    listed = subprocess.run(["dpkg-query", "--listfiles", package], capture_output=True, text=True, check=True).stdout
    for name in listed.splitlines():
        if not LEFT_OUT.search(name):
            copy(Path(name), root)
    status = subprocess.run(["dpkg-query", "--status", package], capture_output=True, text=True, check=True).stdout
    entry = root / "var" / "lib" / "dpkg" / "status.d" / package.partition(":")[0]
    entry.parent.mkdir(parents=True, exist_ok=True)
    entry.write_text(status)


def copy_tree(folder: Path, root: Path, ignore: tuple[str, ...] = ()) -> None:
    shutil.copytree(
        folder,
        root / folder.relative_to("/"),
        symlinks=True,
        ignore=shutil.ignore_patterns(*ignore),
        dirs_exist_ok=True,
    )


def copy(path: Path, root: Path) -> None:
    """One file, link or empty folder to its place in the root; see `mend_links` for what a link stands for."""
    target = place(path, root)
    if target.is_symlink() or target.exists():
        return
    if path.is_symlink():
        target.symlink_to(path.readlink())
    elif path.is_dir():
        target.mkdir()
    elif path.is_file():
        shutil.copy2(path, target)


def mend_links(root: Path) -> None:
    """Links that lead out of what was copied: what they stand for comes along, of folders the licence alone."""
    for link in [path for path in root.rglob("*") if path.is_symlink()]:
        *_, real = chain = list(links(Path("/") / link.relative_to(root)))
        if real.is_file() or (root / real.relative_to("/")).exists():
            for hop in chain:
                copy(hop, root)
        elif (licence := real / "copyright").exists():
            copy(licence, root)
        else:
            link.unlink()


def place(path: Path, root: Path) -> Path:
    """Where `path` is to be in the root: through the links of the build stage's own tree (/lib to usr/lib)."""
    parent = path.parent.resolve()
    for link in (Path("/lib"), Path("/lib64"), Path("/bin"), Path("/sbin")):
        if link.is_symlink() and not (root / link.name).is_symlink():
            (root / link.name).symlink_to(link.readlink())
    folder = root / parent.relative_to("/")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / path.name


def compile_all(root: Path, *folders: Path) -> None:
    """Bytecode beside the sources: nothing can write it later. Unchecked, as neither changes and times say nothing."""
    for folder in folders:
        compileall.compile_dir(
            root / folder.relative_to("/"),
            stripdir=str(root),
            quiet=2,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            workers=0,
        )


def settle(root: Path) -> None:
    """Owned by root, written by nobody else, without setuid, and of one time: the same input gives the same image."""
    now = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    for path in [*root.rglob("*"), root]:
        os.chown(path, 0, 0, follow_symlinks=False)
        if not path.is_symlink():
            path.chmod(stat.S_IMODE(path.stat().st_mode) & 0o755)
        os.utime(path, (now, now), follow_symlinks=False)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: assemble.py ENVIRONMENT ROOT")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
