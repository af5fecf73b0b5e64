"""What must not be in an image is found, and what is in it is added up."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from image.assemble import LEFT_OUT, own_programs
from image.proof.contents import faults, sizes

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="files of root can only be made by root")
SITE = "opt/lora-operator/lib/python3.11/site-packages"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A small image as it should be."""
    for name in ("usr/local/bin/python3.11", "opt/lora-operator/bin/lora-operator", f"{SITE}/rich/__init__.py"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x" * 1000)
    (tmp_path / "opt/lora-operator/bin/python3").symlink_to("/usr/local/bin/python3.11")
    (tmp_path / "tmp").mkdir()
    (tmp_path / "tmp").chmod(0o1777)
    return tmp_path


def test_an_image_as_it_should_be_has_no_faults(root: Path) -> None:
    assert faults(root) == []


@pytest.mark.parametrize(
    ("name", "mode", "fault"),
    [
        ("usr/local/bin/python3.12", 0o4755, "is setuid or setgid"),
        ("etc/passwd", 0o666, "can be written by everybody"),
        ("bin/sh", 0o755, "is a program that nothing here needs"),
        ("usr/bin/gcc", 0o755, "is a program that nothing here needs"),
        ("usr/lib/libc.a", 0o644, "is of use to a linker or a package manager alone"),
    ],
)
def test_a_file_that_does_not_belong_there_is_found(root: Path, name: str, mode: int, fault: str) -> None:
    file = root / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.touch()
    file.chmod(mode)
    assert faults(root) == [f"/{name}: {fault}"]


def test_pip_is_found(root: Path) -> None:
    (root / SITE / "pip").mkdir()
    assert faults(root) == [f"/{SITE}/pip: is for installing"]


def test_a_file_of_somebody_else_is_found(root: Path) -> None:
    os.chown(root / SITE / "rich", 65532, 0)
    assert faults(root) == [f"/{SITE}/rich: belongs to 65532:0 and not to root"]


@pytest.mark.parametrize("target", ["/usr/bin/gone", "gone", "../../../bin/gone"])
def test_a_link_to_nothing_is_found(root: Path, target: str) -> None:
    (root / SITE / "link").symlink_to(target)
    assert faults(root) == [f"/{SITE}/link: is a link to {target}, which is not there"]


def test_sizes_add_up(root: Path) -> None:
    rows = dict(sizes(root))
    assert rows["package rich"] == 1000
    assert rows["together"] == 3000 == sum(size for name, size in rows.items() if name != "together")


@pytest.mark.parametrize(
    ("path", "left_out"),
    [
        ("/usr/bin/openssl", True),
        ("/sbin/ldconfig", True),
        ("/usr/share/man/man1/openssl.1.gz", True),
        ("/usr/share/doc/libc6/changelog.Debian.gz", True),
        ("/usr/share/doc/libc6/copyright", False),
        ("/usr/lib/x86_64-linux-gnu/libssl.so.3", False),
        ("/usr/lib/ssl/openssl.cnf", False),
        ("/usr/share/zoneinfo/UTC", False),
    ],
)
def test_programs_and_manuals_of_debian_packages_stay_behind(path: str, left_out: bool) -> None:
    assert bool(LEFT_OUT.search(path)) is left_out


def test_the_programs_of_the_operator_are_kept(tmp_path: Path) -> None:
    entries = tmp_path / "lib/python3.11/site-packages/lora_operator-0.1.0.dist-info/entry_points.txt"
    entries.parent.mkdir(parents=True)
    entries.write_text("[console_scripts]\nkubectl-lora = a:b\nlora-operator = c:d\n")
    assert own_programs(tmp_path) == {"kubectl-lora", "lora-operator"}
