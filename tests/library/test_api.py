"""What users do through HTTP, and what they are told where it cannot be done."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from e2e.world.adapters import write_adapter
from lora_library.names import engine_name, resource_name
from tests.library.conftest import Running


def an_adapter(folder: Path, name: str = "style", **options: Any) -> Path:
    return write_adapter(folder / f"made-{name}", base_model="tiny", **options)


async def test_an_upload_is_answered_listed_described_and_read_back(library: Running, tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    metadata = json.dumps({"run": 42})
    status, made = await library.alice.upload(adapter, "style", **{"tags[]": ["b", "a"], "metadata": metadata})
    size = sum(each.stat().st_size for each in adapter.iterdir())
    assert status == 201
    assert {key: made[key] for key in ("name", "size_bytes", "tags", "owner", "url", "base_model", "version")} == {
        "name": "style", "size_bytes": size, "tags": ["a", "b"], "owner": "alice", "url": f"/api/loras/{made['id']}",
        "base_model": "tiny", "version": 1,
    }  # fmt: skip
    _, page = await library.alice.call("GET", "/api/loras")
    assert (page["total"], page["limit"], page["offset"]) == (1, 50, 0)
    assert page["loras"][0]["id"] == made["id"]
    _, details = await library.alice.call("GET", made["url"])
    assert (details["rank"], details["modules"], details["metadata"]) == (8, ["q_proj", "v_proj"], {"run": 42})
    assert [each["version"] for each in details["versions"]] == [1]
    path = f"{made['url']}/files/adapter_model.safetensors"
    assert await library.alice.call("GET", path) == (200, (adapter / "adapter_model.safetensors").read_bytes())
    _, quota = await library.alice.call("GET", "/api/loras/quota")
    assert (quota["used_bytes"], quota["adapters"], quota["warning"]) == (size, 1, None)
    for key in library.stored:
        library.parts.library.store.delete(key)
    assert (await library.alice.call("GET", path))[1]["code"] == "STORE_UNAVAILABLE"
    assert (await library.alice.call("GET", "/api/user-loras"))[1]["total"] == 1


async def test_what_is_anothers_is_not_there_and_two_users_names_never_meet(library: Running, tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    _, hers = await library.alice.upload(adapter, "style")
    _, his = await library.bob.upload(adapter, "style")
    assert hers["model"] != his["model"]
    assert (await library.bob.call("GET", "/api/loras"))[1]["total"] == 1
    calls: list[tuple[str, str, Any]] = [
        ("GET", "", None), ("PATCH", "", {"name": "mine"}), ("DELETE", "", None), ("DELETE", "?purge=true", None),
        ("POST", "/restore", None), ("GET", "/files/adapter_config.json", None),
    ]  # fmt: skip
    for id_ in (hers["id"], "0" * 32, "nonsense"):
        for method, path, body in calls:
            status, problem = await library.bob.call(method, f"/api/loras/{id_}{path}", json=body)
            assert (status, problem["code"]) == (404, "LORA_NOT_FOUND"), (id_, method, path)
    assert (await library.alice.call("GET", hers["url"]))[0] == 200


async def test_the_same_content_of_one_owner_is_one_object(library: Running, tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    for name in ("a", "b", "a"):
        assert (await library.alice.upload(adapter, name))[0] == 201
    objects = [key for key in library.stored if key.startswith("objects/") and key.endswith(".safetensors")]
    assert len(objects) == 1
    _, quota = await library.alice.call("GET", "/api/loras/quota")
    assert quota["adapters"] == 2
    _, listed = await library.alice.call("GET", "/api/loras?sort=name&order=asc")
    assert [(each["name"], each["version"]) for each in listed["loras"]] == [("a", 1), ("b", 1)]


async def test_versions_are_rolled_back_pinned_and_only_the_last_are_kept(library: Running, tmp_path: Path) -> None:
    for seed in range(7):
        _, made = await library.alice.upload(an_adapter(tmp_path, seed=seed), "style")
    _, details = await library.alice.call("GET", made["url"])
    assert (details["version"], [each["version"] for each in details["versions"]]) == (7, [7, 6, 5, 4, 3])
    status, back = await library.alice.call("PATCH", made["url"], json={"version": 5, "pinned": True})
    assert (status, back["version"], back["pinned"]) == (200, 5, True)
    _, made = await library.alice.upload(an_adapter(tmp_path, seed=8), "style")
    assert made["version"] == 5
    assert (await library.alice.call("PATCH", made["url"], json={"version": 2}))[0] == 400
    _, newest = await library.alice.call("PATCH", made["url"], json={"pinned": False})
    assert newest["version"] == 8
    (config,) = [k for k in library.stored if k.startswith("published/") and k.endswith("/adapter_config.json")]
    assert config.split("/")[-2] == "style"


async def test_deleted_is_gone_for_all_restorable_and_purged_for_good(library: Running, tmp_path: Path) -> None:
    _, made = await library.alice.upload(an_adapter(tmp_path), "style")
    assert (await library.alice.call("DELETE", made["url"]))[0] == 204
    assert (await library.alice.call("GET", made["url"]))[0] == 404
    assert not [key for key in library.stored if key.startswith("published/")]
    _, trash = await library.alice.call("GET", "/api/loras?deleted=true")
    assert [each["id"] for each in trash["loras"]] == [made["id"]]
    assert (await library.alice.call("POST", f"{made['url']}/restore"))[0] == 200
    assert (await library.alice.call("GET", made["url"]))[0] == 200
    assert [key for key in library.stored if key.startswith("published/")]
    assert (await library.alice.call("DELETE", f"{made['url']}?purge=true"))[0] == 204
    assert (await library.alice.call("POST", f"{made['url']}/restore"))[0] == 404
    await library.parts.sweeper.sweep()
    assert library.stored == []
    assert (await library.alice.call("GET", "/api/loras/quota"))[1]["used_bytes"] == 0


async def test_sharing_shows_it_to_whom_it_is_shared_with_and_lets_nobody_else_change_it(
    library: Running, tmp_path: Path
) -> None:
    _, made = await library.alice.upload(an_adapter(tmp_path), "style")
    share = {"shared_with": {"users": ["bob"]}}
    assert (await library.alice.call("PATCH", made["url"], json=share))[0] == 200
    status, seen = await library.bob.call("GET", made["url"])
    assert (status, seen["owner"], seen["shared_with"]) == (200, "alice", None)
    assert (await library.bob.call("PATCH", made["url"], json={"name": "x"}))[0] == 404
    status, renamed = await library.alice.call("PATCH", made["url"], json={"name": "x", "tags": ["t"]})
    assert (status, renamed["name"], renamed["tags"]) == (200, "x", ["t"])
    _, other = await library.alice.upload(an_adapter(tmp_path, seed=1), "y")
    assert (await library.alice.call("PATCH", other["url"], json={"name": "x"}))[1]["code"] == "NAME_TAKEN"
    assert (await library.bob.call("GET", "/api/loras?mine=true"))[1]["total"] == 0
    assert (await library.alice.call("PATCH", made["url"], json={"shared_with": {}}))[0] == 200
    assert (await library.bob.call("GET", made["url"]))[0] == 404


async def test_lists_are_searched_filtered_sorted_and_turned_page_by_page(library: Running, tmp_path: Path) -> None:
    for number, name in enumerate(["sql-a", "sql_b", "100%", "poem"]):
        if name != "100%":
            adapter = an_adapter(tmp_path, seed=number, rank=2 * (number + 1))
            await library.alice.upload(adapter, name, **{"tags": f"t{number},all"})

    async def names(query: str) -> list[str]:
        status, page = await library.alice.call("GET", f"/api/loras?{query}")
        assert status == 200, page
        return [each["name"] for each in page["loras"]]

    assert await names("search=SQL&sort=name&order=asc") == ["sql-a", "sql_b"]
    assert await names("search=l_b") == ["sql_b"]
    assert await names("search=%25") == []
    assert await names("tags=t3&tags=all") == ["poem"]
    assert await names("tags=t3,t1") == []
    assert await names("sort=size&order=desc&limit=2") == ["poem", "sql_b"]
    assert await names("sort=created_at&order=asc&limit=1&offset=1") == ["sql_b"]
    for wrong in ("limit=0", "limit=501", "offset=-1", "sort=colour", "order=up", "search=%00"):
        status, problem = await library.alice.call("GET", f"/api/loras?{wrong}")
        assert (status, problem["code"]) == (400, "INVALID_REQUEST")


def packed(adapter: Path, kind: str, folder: str = "deep/er/") -> bytes:
    out = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
            for each in adapter.iterdir():
                archive.write(each, folder + each.name)
            archive.writestr(folder + "README.md", "hello")
    else:
        with tarfile.open(fileobj=out, mode="w:gz") as tar:
            for each in adapter.iterdir():
                tar.add(each, folder + each.name)
    return out.getvalue()


async def test_an_archive_is_unpacked_and_gives_its_name(library: Running, tmp_path: Path) -> None:
    for kind in ("zip", "tar.gz"):
        files = {"file": (f"my {kind[:3]}.{kind}", packed(an_adapter(tmp_path), kind))}
        status, made = await library.alice.call("POST", "/api/loras/upload", files=files)
        assert (status, made["name"]) == (201, f"my-{kind[:3]}"), made


async def test_an_archive_that_unpacks_to_far_more_than_it_is_is_refused(library: Running) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_model.safetensors", bytes(80 << 20))
    files = {"file": ("bomb.zip", out.getvalue())}
    status, problem = await library.alice.call("POST", "/api/loras/upload", files=files)
    assert (status, problem["code"]) == (400, "INVALID_FILE_FORMAT")
    assert "far more" in problem["detail"]


def nan_weights(adapter: Path) -> Path:
    file = adapter / "adapter_model.safetensors"
    content = bytearray(file.read_bytes())
    content[-2:] = np.array([np.nan], dtype="<f2").tobytes()
    file.write_bytes(bytes(content))
    return adapter


async def test_what_would_not_work_is_refused_with_its_reason_and_nothing_of_it_stays(
    library: Running, tmp_path: Path
) -> None:
    wrong = {
        "NotFinite": nan_weights(an_adapter(tmp_path, "nan")),
        "RankMismatch": an_adapter(tmp_path, "rank", config_rank=4),
    }
    for reason, adapter in wrong.items():
        status, problem = await library.alice.upload(adapter, "style")
        assert (status, problem["code"], problem["reason"]) == (400, "ADAPTER_REFUSED", reason)
    cut = an_adapter(tmp_path, "cut") / "adapter_model.safetensors"
    cut.write_bytes(cut.read_bytes()[:-10])
    status, problem = await library.alice.upload(cut.parent, "style")
    assert (status, problem["code"], problem["detected"]) == (400, "INVALID_FILE_FORMAT", "FileTruncated")
    assert library.stored == [] and not list((tmp_path / "work").iterdir())
    assert (await library.alice.call("GET", "/api/loras/quota"))[1]["reserved_bytes"] == 0


PICKLE = b"\x80\x02}q\x00."


async def test_pickles_are_refused_with_how_to_convert_them(library: Running) -> None:
    for name, content in (("adapter_model.bin", b"x"), ("s.pt", b"x"), ("s.ckpt", b"x"), ("s.safetensors", PICKLE)):
        files = [("file", (name, content)), ("file", ("adapter_config.json", b"{}"))]
        status, problem = await library.alice.call("POST", "/api/loras/upload", files=files, data={"name": "style"})
        assert (status, problem["code"], problem["detected"]) == (400, "INVALID_FILE_FORMAT", "pickle")
        assert "safe_serialization=True" in problem["detail"]


async def test_a_name_that_no_adapter_can_have_is_refused(library: Running, tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    for name in ("../../etc/passwd", "a/b", "sty le", "naïve", "🎨", "", "x" * 101, "a..b", "tiny"):
        status, problem = await library.alice.upload(adapter, name)
        assert (status, problem["code"]) == (400, "INVALID_NAME"), name
    assert library.stored == []


async def test_a_file_name_is_no_path(library: Running, tmp_path: Path) -> None:
    adapter = an_adapter(tmp_path)
    files = [("file", (f"../../../../tmp/{each.name}", each.read_bytes())) for each in adapter.iterdir()]
    status, _ = await library.alice.call("POST", "/api/loras/upload", files=files, data={"name": "style"})
    assert status == 201
    assert {key.split("/")[0] for key in library.stored} == {"objects", "published", "index"}


async def test_beyond_a_quota_an_upload_is_refused_with_the_figures(library: Running, tmp_path: Path) -> None:
    quota = {"quota_bytes": 25_000, "quota_adapters": 5}
    assert (await library.bob.call("PUT", "/api/admin/loras/quotas/alice", json=quota))[0] == 403
    assert (await library.root.call("PUT", "/api/admin/loras/quotas/alice", json=quota))[0] == 200
    _, made = await library.alice.upload(an_adapter(tmp_path), "a")
    refused = [await library.alice.upload(an_adapter(tmp_path, seed=n), f"b{n}") for n in range(1, 4)]
    status, problem = refused[-1]
    assert (status, problem["code"], problem["quota"], problem["maximum"]) == (413, "QUOTA_EXCEEDED", "bytes", 25_000)
    assert problem["available"] == 25_000 - problem["current"] < made["size_bytes"]
    _, seen = await library.alice.call("GET", "/api/loras/quota")
    assert seen["used_bytes"] == problem["current"] and "%" in seen["warning"]
    _, users = await library.root.call("GET", "/api/admin/loras/users")
    assert [(each["subject"], each["maximum_bytes"]) for each in users["users"]] == [("alice", 25_000)]
    _, log = await library.root.call("GET", "/api/admin/loras/audit?owner=alice")
    assert [each["action"] for each in log["entries"]][-2:] == ["upload", "quota"]


async def test_without_a_good_token_nothing_is_answered(library: Running) -> None:
    for token in ("", "token-of-nobody", "token-of-alice2", "\x00", "a" * 20_000):
        for method, path in (("GET", "/api/loras"), ("POST", "/api/loras/upload"), ("GET", "/api/admin/loras/users")):
            headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
            answer = await library.client.request(method, path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "UNAUTHENTICATED")


def test_engine_names_of_two_subjects_differ_whatever_they_are_called() -> None:
    names = {engine_name(subject, "style") for subject in ("alice", "alice ", "Alice", "ali", "système", "")}
    assert len(names) == 6
    # fewer digits could be tried until they are another's
    assert {len(each.split("-")[1]) for each in (*names, resource_name("alice", "tiny", 0))} == {16}


async def test_the_openapi_document_says_that_every_answer_may_be_a_problem(library: Running) -> None:
    document = (await library.client.get("/openapi.json")).json()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert "application/problem+json" in operation["responses"]["default"]["content"], (method, path)
            assert "422" not in operation["responses"]
