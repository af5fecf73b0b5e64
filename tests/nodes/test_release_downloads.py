"""The official archives of containerd, runc, the CNI plugins and CoreDNS, from a web server of our own."""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest

from e2e.cluster.releases import RELEASES, download_release
from e2e.controlplane import BinariesError
from e2e.controlplane.versions import target

MACHINE = target()[1]


class Pages:
    """Files by their paths."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        pages = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                content = pages.files.get(self.path)
                self.send_response(200 if content is not None else 404)
                self.end_headers()
                self.wfile.write(content or b"")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def pages() -> Iterator[Pages]:
    made = Pages()
    thread = Thread(target=made.server.serve_forever)
    thread.start()
    yield made
    made.server.shutdown()
    thread.join()
    made.server.server_close()


def archive_of(path: str, content: bytes) -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w:gz") as tar:
        info = tarfile.TarInfo(path)
        info.size = len(content)
        tar.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def test_program_comes_out_of_its_archive(pages: Pages, tmp_path: Path) -> None:
    archive = archive_of("./bridge", b"bridge")
    file = f"cni-plugins-linux-{MACHINE}-v1.2.3.tgz"
    base = "/containernetworking/plugins/releases/download/v1.2.3"
    pages.files[f"{base}/{file}"] = archive
    pages.files[f"{base}/{file}.sha256"] = f"{hashlib.sha256(archive).hexdigest()}  {file}\n".encode()
    download_release(RELEASES["cni-plugins"], "1.2.3", ["bridge"], tmp_path, server=pages.url)
    assert (tmp_path / "bridge").read_bytes() == b"bridge"
    assert (tmp_path / "bridge").stat().st_mode & 0o111


def test_program_that_is_no_archive_is_taken_as_it_is_by_the_line_of_this_machine(pages: Pages, tmp_path: Path) -> None:
    base = "/opencontainers/runc/releases/download/v1.2.3"
    pages.files[f"{base}/runc.{MACHINE}"] = b"runc"
    lines = f"{'0' * 64}  runc.other\n{hashlib.sha256(b'runc').hexdigest()} *runc.{MACHINE}\n"
    pages.files[f"{base}/runc.sha256sum"] = lines.encode()
    download_release(RELEASES["runc"], "1.2.3", ["runc"], tmp_path, server=pages.url)
    assert (tmp_path / "runc").read_bytes() == b"runc"


def test_checksum_that_is_of_other_machines_alone_says_that_there_is_no_release(pages: Pages, tmp_path: Path) -> None:
    pages.files["/opencontainers/runc/releases/download/v1.2.3/runc.sha256sum"] = f"{'0' * 64}  runc.other\n".encode()
    with pytest.raises(BinariesError, match="no release for this platform"):
        download_release(RELEASES["runc"], "1.2.3", ["runc"], tmp_path, server=pages.url)
    assert list(tmp_path.iterdir()) == []


def test_archive_with_another_checksum_is_not_kept(pages: Pages, tmp_path: Path) -> None:
    base = f"/coredns/coredns/releases/download/v1.2.3/coredns_1.2.3_linux_{MACHINE}.tgz"
    pages.files[base] = archive_of("coredns", b"coredns")
    pages.files[f"{base}.sha256"] = f"{'0' * 64}\n".encode()
    with pytest.raises(BinariesError, match="SHA-256"):
        download_release(RELEASES["coredns"], "1.2.3", ["coredns"], tmp_path, server=pages.url)
    assert list(tmp_path.iterdir()) == []


def test_refusal_names_the_program(pages: Pages, tmp_path: Path) -> None:
    with pytest.raises(BinariesError, match="containerd: HTTP Error 404"):
        download_release(RELEASES["containerd"], "1.2.3", ["containerd"], tmp_path, server=pages.url)
