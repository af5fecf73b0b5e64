"""What inspection says of good adapters, and of folders in which something is missing or in the way."""

from __future__ import annotations

import hashlib
import os
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from lora_operator.artifacts import AdapterFile, AdapterRefused, Inspection, RefusedReason, inspect
from lora_operator.artifacts import inspection as inspection_module
from tests.artifacts.written_adapter import BASE, lora_tensors, tensor_name, write_adapter

Q0 = "model.layers.0.self_attn.q_proj"
LINEAR = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def refusal(folder: Path, **options: object) -> AdapterRefused:
    with pytest.raises(AdapterRefused) as caught:
        inspect(folder, **options)  # type: ignore[arg-type]
    return caught.value


def test_describes_a_good_adapter(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "a")
    config, weights = (folder / "adapter_config.json").read_bytes(), (folder / "adapter_model.safetensors").read_bytes()

    found = inspect(folder, base=BASE, served_base_model="org/tiny-base")

    assert found == Inspection(
        rank=4,
        bytes=2 * 2 * (4 * 16 + 16 * 4 + 4 * 16 + 8 * 4),
        peft_type="LORA",
        base_model="org/tiny-base",
        targets=("q_proj", "v_proj"),
        layers=2,
        dtype="F16",
        use_rslora=False,
        features=frozenset(),
        shapes=(
            ("model.layers.{}.self_attn.q_proj", 16, 16),
            ("model.layers.{}.self_attn.v_proj", 16, 8),
        ),
        files=(
            AdapterFile("adapter_config.json", len(config), hashlib.sha256(config).hexdigest()),
            AdapterFile("adapter_model.safetensors", len(weights), hashlib.sha256(weights).hexdigest()),
        ),
    )


@pytest.mark.parametrize("dtype", ["F16", "BF16", "F32"])
def test_accepts_all_linear_layers_in_every_dtype(tmp_path: Path, dtype: str) -> None:
    shapes = lora_tensors(rank=2, targets=LINEAR)
    found = inspect(write_adapter(tmp_path, shapes=shapes, dtype=dtype, r=2, target_modules=list(LINEAR)), base=BASE)
    assert (found.dtype, found.rank, found.targets) == (dtype, 2, tuple(sorted(LINEAR)))


def test_accepts_embeddings_and_head_and_skips_the_base_embeddings_beside_them(tmp_path: Path) -> None:
    shapes = {
        "base_model.model.model.embed_tokens.lora_embedding_A": (4, 32),
        "base_model.model.model.embed_tokens.lora_embedding_B": (16, 4),
        "base_model.model.model.embed_tokens.base_layer.weight": (32, 16),
        tensor_name("lm_head", "A"): (4, 16),
        tensor_name("lm_head", "B"): (32, 4),
    }
    found = inspect(write_adapter(tmp_path, shapes=shapes, target_modules=["embed_tokens", "lm_head"]), base=BASE)
    assert found.layers == 0
    assert found.bytes == 2 * (4 * 32 + 16 * 4 + 4 * 16 + 32 * 4)


def test_refuses_embeddings_that_were_saved_because_tokens_were_added(tmp_path: Path) -> None:
    shapes = lora_tensors() | {"base_model.model.lm_head.base_layer.weight": (40, 16)}
    assert refusal(write_adapter(tmp_path, shapes=shapes)).reason is RefusedReason.FEATURE_UNSUPPORTED


def test_reports_rslora_as_a_feature(tmp_path: Path) -> None:
    found = inspect(write_adapter(tmp_path, use_rslora=True), base=BASE)
    assert found.use_rslora
    assert found.features == {"rslora"}


def test_takes_the_largest_rank_of_a_rank_pattern(tmp_path: Path) -> None:
    shapes = lora_tensors() | {tensor_name(Q0, "A"): (8, 16), tensor_name(Q0, "B"): (16, 8)}
    for key in (Q0, "layers.0.self_attn.q_proj", r"layers\.0\.self_attn\.q_proj", r".*\.0\..*q_proj"):
        found = inspect(write_adapter(tmp_path, shapes=shapes, rank_pattern={key: 8}), base=BASE)
        assert (found.rank, found.features) == (8, {"rank_pattern"}), key


def test_a_pattern_without_effect_is_no_feature(tmp_path: Path) -> None:
    found = inspect(write_adapter(tmp_path, rank_pattern={"q_proj": 4}, alpha_pattern={"k_proj": 99}), base=BASE)
    assert found.features == frozenset()
    found = inspect(write_adapter(tmp_path, alpha_pattern={"q_proj": 99}), base=BASE)
    assert found.features == {"alpha_pattern"}


def test_the_first_matching_pattern_wins(tmp_path: Path) -> None:
    shapes = lora_tensors(rank=8)
    good = write_adapter(
        tmp_path / "good", shapes=shapes, rank_pattern={"self_attn.q_proj": 8, "q_proj": 2, "v_proj": 8}
    )
    assert inspect(good, base=BASE).rank == 8
    bad = write_adapter(tmp_path / "bad", shapes=shapes, rank_pattern={"q_proj": 2, "self_attn.q_proj": 8, "v_proj": 8})
    assert refusal(bad, base=BASE).reason is RefusedReason.RANK_MISMATCH


@pytest.mark.parametrize(
    "key", ["(a+)+b", "a**", r"(q|q)*", "(?P<x>q)", ".*.*.*", "q{9}", "(q_proj", "", r"(.)\1", "[[a]", "[a--b]"]
)
def test_refuses_patterns_that_could_keep_the_operator_busy_or_are_none(tmp_path: Path, key: str) -> None:
    refused = refusal(write_adapter(tmp_path, rank_pattern={key: 8}))
    assert refused.reason is RefusedReason.CONFIG_INVALID
    assert "rank_pattern" in refused.message


def test_refuses_more_matching_than_is_done_in_a_moment(tmp_path: Path) -> None:
    shapes = lora_tensors(layers=10)
    many = {f".*x.*{number}": 4 for number in range(26)}
    assert (
        refusal(write_adapter(tmp_path / "many", shapes=shapes, rank_pattern=many)).reason
        is RefusedReason.CONFIG_INVALID
    )
    path = ".".join(["long"] * 60)
    shapes = {tensor_name(path, "A"): (4, 4), tensor_name(path, "B"): (4, 4)}
    long = write_adapter(tmp_path / "long", shapes=shapes, target_modules="x.*", rank_pattern={".*x": 4})
    assert refusal(long).reason is RefusedReason.CONFIG_INVALID


def test_names_file_and_tensor_when_the_rank_differs(tmp_path: Path) -> None:
    refused = refusal(write_adapter(tmp_path, r=8))
    assert refused.reason is RefusedReason.RANK_MISMATCH
    assert "adapter_model.safetensors" in refused.message
    assert f"{tensor_name(Q0, 'A')} has rank 4" in refused.message


def test_says_which_file_is_missing(tmp_path: Path) -> None:
    assert refusal(tmp_path / "nowhere").reason is RefusedReason.FOLDER_MISSING
    assert refusal(tmp_path).reason is RefusedReason.CONFIG_MISSING
    folder = write_adapter(tmp_path)
    (folder / "adapter_model.safetensors").unlink()
    assert refusal(folder).reason is RefusedReason.WEIGHTS_MISSING
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    refused = refusal(folder)
    assert refused.reason is RefusedReason.PICKLE_REFUSED
    assert "safetensors" in refused.message


def test_a_pickle_beside_safetensors_does_not_matter(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    (folder / "adapter_model.bin").write_bytes(b"\x80\x04.")
    assert [file.path for file in inspect(folder).files] == ["adapter_config.json", "adapter_model.safetensors"]


def test_refuses_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert refusal(tmp_path / "file").reason is RefusedReason.FOLDER_MISSING
    assert refusal(Path("/proc/self/mem\0")).reason is RefusedReason.FOLDER_MISSING


def test_refuses_added_embeddings(tmp_path: Path) -> None:
    (write_adapter(tmp_path) / "new_embeddings.safetensors").write_bytes(b"")
    assert refusal(tmp_path).reason is RefusedReason.FEATURE_UNSUPPORTED


@pytest.mark.parametrize("name", ["adapter_config.json", "adapter_model.safetensors"])
def test_refuses_links_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    folder = write_adapter(tmp_path / "a")
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    refused = refusal(folder)
    assert refused.reason is RefusedReason.LINK_ESCAPES
    assert name in refused.message


def test_follows_links_inside_the_folder_as_mounted_config_maps_have_them(tmp_path: Path) -> None:
    write_adapter(tmp_path / "..data-1")
    (tmp_path / "..data").symlink_to("..data-1")
    for name in ("adapter_config.json", "adapter_model.safetensors"):
        (tmp_path / name).symlink_to(f"..data/{name}")
    assert inspect(tmp_path, base=BASE).rank == 4


def test_refuses_links_in_circles_and_dangling_ones(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    weights = folder / "adapter_model.safetensors"
    weights.unlink()
    weights.symlink_to("adapter_model.safetensors")
    assert refusal(folder).reason is RefusedReason.LINK_ESCAPES
    weights.unlink()
    weights.symlink_to("nowhere")
    assert refusal(folder).reason is RefusedReason.WEIGHTS_MISSING


def test_refuses_what_is_not_a_regular_file_without_waiting_for_it(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    weights = folder / "adapter_model.safetensors"
    weights.unlink()
    os.mkfifo(weights)
    assert refusal(folder).reason is RefusedReason.NOT_A_REGULAR_FILE
    weights.unlink()
    weights.mkdir()
    assert refusal(folder).reason is RefusedReason.NOT_A_REGULAR_FILE


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be somebody who may not read everything: root may."""
    before = os.geteuid()
    if before == 0:
        os.seteuid(65534)
    yield
    os.seteuid(before)


@pytest.fixture
def public_folder() -> Iterator[Path]:
    """A folder that others may enter, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def test_says_that_it_may_not_read_a_file(public_folder: Path, request: pytest.FixtureRequest) -> None:
    folder = write_adapter(public_folder / "a")
    (folder / "adapter_model.safetensors").chmod(0o000)
    request.getfixturevalue("nobody")
    refused = refusal(folder)
    assert refused.reason is RefusedReason.NOT_READABLE
    assert refused.message.startswith("adapter_model.safetensors cannot be read")


def test_says_that_it_may_not_enter_the_folder(public_folder: Path, request: pytest.FixtureRequest) -> None:
    folder = write_adapter(public_folder / "a")
    folder.chmod(0o000)
    request.getfixturevalue("nobody")
    assert refusal(folder).reason is RefusedReason.NOT_READABLE


def test_notices_that_the_weights_change_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_adapter(tmp_path)
    real = inspection_module.sha256_of_finite

    def meddled(descriptor: int, tensors: object, size: int) -> str:
        with (folder / "adapter_model.safetensors").open("ab") as file:
            file.write(b"more")
        return real(descriptor, tensors, size)  # type: ignore[arg-type]

    monkeypatch.setattr(inspection_module, "sha256_of_finite", meddled)
    refused = refusal(folder)
    assert refused.reason is RefusedReason.FILE_CHANGED
    assert refused.transient


def test_notices_that_the_weights_shrink_while_they_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_adapter(tmp_path)
    real = inspection_module.pair_up

    def meddled(*read: object) -> object:
        os.truncate(folder / "adapter_model.safetensors", 900)
        return real(*read)  # type: ignore[arg-type]

    monkeypatch.setattr(inspection_module, "pair_up", meddled)
    assert refusal(folder).reason is RefusedReason.FILE_CHANGED


def test_never_accepts_a_file_that_is_being_rewritten(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path)
    target = folder / "adapter_model.safetensors"
    versions = [target.read_bytes(), write_adapter(tmp_path / "b", seed=1).joinpath(target.name).read_bytes()]
    whole = {hashlib.sha256(version).hexdigest() for version in versions}
    stop = threading.Event()

    def rewrite() -> None:
        while not stop.is_set():
            for version in versions:
                with target.open("wb") as file:
                    for start in range(0, len(version), 512):
                        file.write(version[start : start + 512])
                        file.flush()

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        accepted = set()
        for _ in range(200):
            try:
                accepted.add(inspect(folder).files[1].sha256)
            except AdapterRefused:
                continue
    finally:
        stop.set()
        writer.join()
    assert accepted <= whole
