"""The ways to get the programs, in their order: nothing here downloads or builds anything real."""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Event, Thread

import pytest

from e2e.controlplane import BinariesError
from e2e.controlplane.binaries import find_binaries
from e2e.controlplane.downloads import download_programs
from e2e.controlplane.gobuild import MODULES, build_programs
from e2e.controlplane.versions import ETCD_VERSION, KUBERNETES_VERSION, PROGRAMS, binaries_directory, target

SYSTEM = "-".join(target())


def a_program(directory: Path, name: str) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    return path


def put(names: Sequence[str], directory: Path) -> None:
    for name in names:
        a_program(directory, name)


def refuse(names: Sequence[str], directory: Path) -> None:
    raise BinariesError("no way through")


def must_not_be_asked(names: Sequence[str], directory: Path) -> None:
    raise AssertionError(f"asked for {names}")


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    return {"LORA_OPERATOR_CACHE": str(tmp_path / "cache")}


def test_go_modules_name_the_versions_that_are_pinned() -> None:
    kubernetes = (MODULES / "kubernetes" / "go.mod").read_text()
    _, minor, patch = KUBERNETES_VERSION.split(".")
    assert f"\tk8s.io/kubernetes v{KUBERNETES_VERSION} " in kubernetes
    assert set(re.findall(r"^\tk8s\.io/\S+ => k8s\.io/\S+ (\S+)$", kubernetes, re.M)) == {f"v0.{minor}.{patch}"}
    assert f"go.etcd.io/etcd/server/v3 v{ETCD_VERSION}\n" in (MODULES / "etcd" / "go.mod").read_text()


def test_what_is_in_the_cache_is_taken_without_asking_anybody(environment: dict[str, str]) -> None:
    put(PROGRAMS, binaries_directory(environment))
    found = find_binaries(environment, fills=[("any", must_not_be_asked)])
    assert found.etcd == binaries_directory(environment) / "etcd"


def test_cache_follows_the_users_cache_directory() -> None:
    assert str(binaries_directory({"XDG_CACHE_HOME": "/x"})).startswith("/x/lora-operator/bin/kubernetes-")
    assert str(binaries_directory({"LORA_OPERATOR_CACHE": "/y"})).startswith("/y/lora-operator/bin/kubernetes-")
    assert binaries_directory({}).is_relative_to(Path.home() / ".cache" / "lora-operator")


def test_assets_come_first_and_what_they_lack_comes_from_elsewhere(environment: dict[str, str], tmp_path: Path) -> None:
    assets = tmp_path / "assets"
    put(["etcd", "kube-apiserver", "kubectl"], assets)
    put(PROGRAMS, binaries_directory(environment))
    found = find_binaries({**environment, "KUBEBUILDER_ASSETS": str(assets)}, fills=[("any", must_not_be_asked)])
    assert found.kube_apiserver == assets / "kube-apiserver"
    assert found.kube_controller_manager.parent == binaries_directory(environment)


def test_next_way_is_asked_for_what_the_one_before_did_not_give(environment: dict[str, str]) -> None:
    asked: list[tuple[str, ...]] = []

    def half(names: Sequence[str], directory: Path) -> None:
        put(names[:2], directory)
        raise BinariesError("the line went dead")

    def rest(names: Sequence[str], directory: Path) -> None:
        asked.append(tuple(names))
        put(names, directory)

    find_binaries(environment, fills=[("half", half), ("rest", rest)])
    assert asked == [PROGRAMS[2:]]


def test_two_that_need_the_programs_at_once_get_them_once(environment: dict[str, str]) -> None:
    asked: list[tuple[str, ...]] = []
    other_is_waiting = Event()

    def slow(names: Sequence[str], directory: Path) -> None:
        asked.append(tuple(names))
        other.start()
        other_is_waiting.wait(10)
        put(names, directory)

    def find_too() -> None:
        other_is_waiting.set()
        find_binaries(environment, fills=[("any", must_not_be_asked)])

    other = Thread(target=find_too)
    find_binaries(environment, fills=[("slow", slow)])
    other.join()
    assert asked == [PROGRAMS]


def test_when_nothing_works_the_message_lists_the_ways_and_what_to_install(environment: dict[str, str]) -> None:
    with pytest.raises(BinariesError) as failure:
        find_binaries(environment, fills=[("first", refuse), ("second", refuse)])
    message = str(failure.value)
    assert "no way to get etcd, kube-apiserver, kube-controller-manager, kubectl worked" in message
    assert "KUBEBUILDER_ASSETS: not set" in message
    assert "first: no way through" in message and "second: no way through" in message
    assert "Install Go" in message


def test_build_without_go_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(BinariesError, match="there is no `go` on the PATH"):
        build_programs(["etcd"], tmp_path)


def test_failed_build_tells_what_go_said_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fake = a_program(tmp_path / "bin", "go")
    fake.write_text("#!/bin/sh\necho 'go: module lookup disabled' >&2\nexit 1\n")
    monkeypatch.setenv("PATH", f"{fake.parent}:/bin:/usr/bin")
    target_directory = tmp_path / "to"
    target_directory.mkdir()
    with pytest.raises(BinariesError, match="etcd: go build ended with 1: go: module lookup disabled"):
        build_programs(["etcd"], target_directory)
    assert list(target_directory.iterdir()) == []
    assert "building etcd with go" in capsys.readouterr().err


class Releases(ThreadingHTTPServer):
    """A release page on loopback; `files` maps paths to bodies."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = files.get(self.path)
                self.send_response(200 if body is not None else 403)
                self.send_header("Content-Length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


@pytest.fixture
def files() -> dict[str, bytes]:
    system, architecture = target()
    kubectl = f"/v{KUBERNETES_VERSION}/bin/{system}/{architecture}/kubectl"
    packed = io.BytesIO()
    stem = f"etcd-v{ETCD_VERSION}-{SYSTEM}"
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        member = tarfile.TarInfo(f"{stem}/etcd")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"etcd"))
    archive = packed.getvalue()
    return {
        kubectl: b"kubectl",
        f"{kubectl}.sha256": hashlib.sha256(b"kubectl").hexdigest().encode(),
        f"/v{ETCD_VERSION}/{stem}.tar.gz": archive,
        f"/v{ETCD_VERSION}/SHA256SUMS": f"{hashlib.sha256(archive).hexdigest()}  {stem}.tar.gz\n".encode(),
    }


@pytest.fixture
def releases(files: dict[str, bytes]) -> Iterator[Releases]:
    with Releases(files) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_download_puts_checked_programs_in_place(releases: Releases, tmp_path: Path) -> None:
    where = {"kubernetes_releases": releases.url, "etcd_releases": releases.url}
    download_programs(["etcd", "kubectl"], tmp_path, **where)
    assert (tmp_path / "etcd").read_bytes() == b"etcd"
    assert (tmp_path / "kubectl").read_bytes() == b"kubectl"
    assert (tmp_path / "kubectl").stat().st_mode & 0o111
    assert sorted(path.name for path in tmp_path.iterdir()) == ["etcd", "kubectl"]


def test_download_with_a_wrong_checksum_is_not_kept(
    releases: Releases, files: dict[str, bytes], tmp_path: Path
) -> None:
    name = next(path for path in files if path.endswith("/kubectl"))
    files[name] = b"kubectI"
    with pytest.raises(BinariesError, match=r"kubectl: .* has SHA-256 .*, its publisher says"):
        download_programs(["kubectl"], tmp_path, kubernetes_releases=releases.url)
    assert list(tmp_path.iterdir()) == []


def test_refused_download_is_an_error_that_names_the_program(releases: Releases, tmp_path: Path) -> None:
    with pytest.raises(BinariesError, match="kube-apiserver: HTTP Error 403"):
        download_programs(["kube-apiserver"], tmp_path, kubernetes_releases=releases.url)


def test_place_that_does_not_answer_is_an_error_too(tmp_path: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as closed:
        port = closed.server_port
    with pytest.raises(BinariesError, match=r"kubectl: .*refused"):
        download_programs(["kubectl"], tmp_path, kubernetes_releases=f"http://127.0.0.1:{port}")
