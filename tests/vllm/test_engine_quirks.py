"""What each release means, and under which name a version may be loaded there."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lora_operator.vllm import facts
from lora_operator.vllm.facts import Fact
from lora_operator.vllm.quirks import (
    BaseNameCollision,
    ErrorShape,
    Handling,
    Known,
    LoadName,
    PrefixCacheKey,
    Quirks,
    StaleCache,
    engine_name,
    is_versioned,
    load_name,
    parse_release,
    public_name,
    quirks_for,
    unsupported_features,
)
from lora_scheduler.model import Reason

OLD, NEW = "aaaaaaaa00000000", "bbbbbbbb00000000"
LOAD_ID, NAME, NAME_AND_PATH = PrefixCacheKey.LOAD_ID, PrefixCacheKey.NAME, PrefixCacheKey.NAME_AND_PATH


def name_for(
    release: str,
    served: dict[str, str] | None,
    *,
    fingerprint: str = NEW,
    prefix_caching: bool = True,
    versioned_names: bool = True,
) -> LoadName | StaleCache:
    return load_name(
        name="m",
        fingerprint=fingerprint,
        quirks=quirks_for(release),
        prefix_caching=prefix_caching,
        served=served,
        versioned_names=versioned_names,
    )


@pytest.mark.parametrize(
    ("release", "key", "collision", "failure", "locked", "gauge"),
    [
        ("0.8.5", LOAD_ID, BaseNameCollision.UNREACHABLE, 400, False, "vllm:gpu_cache_usage_perc"),
        ("0.10.2", LOAD_ID, BaseNameCollision.TAKES_OVER, 400, True, "vllm:kv_cache_usage_perc"),
        ("0.12.0", NAME, BaseNameCollision.TAKES_OVER, 400, True, "vllm:kv_cache_usage_perc"),
        ("0.16.0", NAME, BaseNameCollision.TAKES_OVER, 400, True, "vllm:kv_cache_usage_perc"),
        ("0.20.2", NAME, BaseNameCollision.TAKES_OVER, 500, True, "vllm:kv_cache_usage_perc"),
        ("0.25.1", NAME, BaseNameCollision.TAKES_OVER, 500, True, "vllm:kv_cache_usage_perc"),
        ("0.28.0", NAME, BaseNameCollision.TAKES_OVER, 500, True, "vllm:kv_cache_usage_perc"),
        ("0.30.0", NAME, BaseNameCollision.TAKES_OVER, 500, True, "vllm:kv_cache_usage_perc"),
        ("0.31.0", NAME_AND_PATH, BaseNameCollision.TAKES_OVER, 500, True, "vllm:kv_cache_usage_perc"),
        ("0.32.0", NAME_AND_PATH, BaseNameCollision.REFUSED, 500, True, "vllm:kv_cache_usage_perc"),
        ("0.33.0", NAME_AND_PATH, BaseNameCollision.REFUSED, 500, True, "vllm:kv_cache_usage_perc"),
    ],
)
def test_says_of_each_release_what_was_seen(
    release: str, key: PrefixCacheKey, collision: BaseNameCollision, failure: int, locked: bool, gauge: str
) -> None:
    quirks = quirks_for(release)
    assert quirks.known is Known.TABLE
    assert quirks.prefix_cache_key is key
    assert quirks.base_name_collision is collision
    assert quirks.load_failure_status == failure
    assert quirks.loads_locked_per_name is locked
    assert quirks.kv_gauges[0] == gauge
    assert quirks.honours_patterns is (release in ("0.32.0", "0.33.0"))
    assert quirks.error_shape is (ErrorShape.FLAT if release == "0.8.5" else ErrorShape.NESTED)
    assert ("/cohere" in quirks.key_guards) is (release >= "0.28" and release != "0.8.5")
    assert quirks.open_adapters_route is (release not in ("0.8.5", "0.10.2"))


@pytest.mark.parametrize(
    ("version", "key"),
    [
        ("0.11.0", NAME),  # between two that were looked at: the weaker one
        ("0.11.1", NAME),
        ("0.30.9", NAME),
        ("0.31.0rc1", NAME),  # before its release
        ("0.31.0.dev12+g0123abc", NAME),
        ("0.32.5+cpu", NAME_AND_PATH),
        ("v0.32.0-cu128", NAME_AND_PATH),
        ("0.33.0", NAME_AND_PATH),
        ("0.34.0", NAME),  # newer than all that was looked at
        ("1.0.0", NAME),
        ("0.7.3", NAME),  # older
        ("", NAME),
        ("latest", NAME),
        ("nightly-0123", NAME),
    ],
)
def test_assumes_the_weaker_key_where_nothing_was_seen(version: str, key: PrefixCacheKey) -> None:
    assert quirks_for(version).prefix_cache_key is key


@pytest.mark.parametrize(
    ("version", "release"),
    [
        ("0.32.0", (0, 32, 0)),
        ("0.11.0.1", (0, 11, 0)),
        ("0.1.dev1+g2c27", None),  # what a build without tags calls itself
        ("nightly", None),
        (" v0.10.2\n", (0, 10, 2)),
        ("0.9", (0, 9, 0)),
        ("0.31.1.post1", (0, 31, 1)),
        ("0.31.1+cpu", (0, 31, 1)),
        ("0.31.1rc2", (0, 31, 0)),
        ("0.31.0rc2", (0, 30, 9999)),
        ("1.0.0a1", (0, 9999, 9999)),
        ("0.31.0-cu12-aarch64", (0, 31, 0)),
        ("sha-0123", None),
        ("0", None),
        ("0.31.0.1.2.3", None),
        ("٠.٣١.٠", None),
    ],
)
def test_reads_versions_and_image_tags(version: str, release: tuple[int, int, int] | None) -> None:
    assert parse_release(version) == release


@given(st.text() | st.from_regex(r"v?\d+\.\d+(\.\d+)?.*"))
def test_has_an_answer_for_any_text(version: str) -> None:
    quirks = quirks_for(version)
    assert (quirks.release is None) == (quirks.known is Known.UNREADABLE)
    if quirks.known is not Known.TABLE:
        assert quirks.prefix_cache_key is NAME


def test_every_fact_has_rows_in_order_and_a_source() -> None:
    tables = [value for name, value in vars(facts).items() if name.isupper() and isinstance(value, tuple)]
    tables = [rows for rows in [*tables, *facts.FEATURES.values()] if isinstance(rows[0], Fact)]
    assert len(tables) > 10
    for rows in tables:
        assert rows[0].since == facts.FIRST
        assert [row.since for row in rows] == sorted({row.since for row in rows})
        assert all(row.source.startswith(("read: ", "run: ", "run, ")) for row in rows)


def test_patterns_are_wrong_before_0_32_and_right_since() -> None:
    features = {"rank_pattern", "alpha_pattern", "rslora"}
    assert unsupported_features("0.32.0", features) == ()
    objections = unsupported_features("0.31.0", features)
    assert [feature for feature, _ in objections] == ["alpha_pattern", "rank_pattern"]
    assert all("vLLM 0.31.0 ignores" in why and "use vLLM 0.32" in why for _, why in objections)


@pytest.mark.parametrize("version", ["0.8.5", "0.31.0", "0.32.0", "0.40.0", "", "0.7.0"])
def test_what_no_release_gets_right_is_never_supported(version: str) -> None:
    features = {"pissa", "lora_bias", "something_new"}
    assert {feature for feature, _ in unsupported_features(version, features)} == features
    assert all(why.isprintable() and ";" in why for _, why in unsupported_features(version, features))


def test_an_unknown_release_gets_no_patterns() -> None:
    assert unsupported_features("", {"rank_pattern"})[0][1].startswith("this engine, whose release is not known,")
    assert quirks_for("0.33.0").features["rank_pattern"] is Handling.HONOURED


@pytest.mark.parametrize("release", ["0.8.5", "0.10.2", "0.31.0", "0.32.0"])
@pytest.mark.parametrize("served", [None, {}, {"m": OLD}])
def test_a_safe_release_always_gets_the_plain_name(release: str, served: dict[str, str] | None) -> None:
    assert name_for(release, served, versioned_names=False) == LoadName("m", versioned=False)


@pytest.mark.parametrize("release", ["0.12.0", "0.16.0", "0.28.0", "0.30.0", "0.34.0", ""])
class TestWhereTheCacheIsKeyedByName:
    def test_the_first_version_gets_the_plain_name(self, release: str) -> None:
        assert name_for(release, {}) == LoadName("m", versioned=False)
        assert name_for(release, {"other": OLD}) == LoadName("m", versioned=False)

    def test_the_same_version_again_gets_the_plain_name(self, release: str) -> None:
        assert name_for(release, {"m": NEW}) == LoadName("m", versioned=False)

    def test_another_version_gets_a_name_of_its_own(self, release: str) -> None:
        assert name_for(release, {"m": OLD}) == LoadName("m--bbbbbbbb", versioned=True)

    def test_after_an_unknown_past_it_gets_a_name_of_its_own(self, release: str) -> None:
        assert name_for(release, None) == LoadName("m--bbbbbbbb", versioned=True)

    def test_going_back_to_the_version_that_had_the_plain_name_is_safe(self, release: str) -> None:
        assert name_for(release, {"m": OLD}, fingerprint=OLD) == LoadName("m", versioned=False)

    def test_without_versioned_names_it_is_refused_with_what_to_do(self, release: str) -> None:
        for served, word in (({"m": OLD}, "has served"), (None, "may have served")):
            refusal = name_for(release, served, versioned_names=False)
            assert isinstance(refusal, StaleCache)
            assert refusal.reason is Reason.STALE_PREFIX_CACHE
            assert word in refusal.message and "restart the pod" in refusal.message

    def test_a_collision_of_two_versioned_names_is_refused(self, release: str) -> None:
        served = {"m": OLD, "m--bbbbbbbb": "bbbbbbbbffffffff"}
        assert isinstance(name_for(release, served), StaleCache)

    def test_without_prefix_caching_the_plain_name_is_safe(self, release: str) -> None:
        for served in (None, {"m": OLD}):
            assert name_for(release, served, prefix_caching=False) == LoadName("m", versioned=False)


NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,60}", fullmatch=True).filter(lambda name: not is_versioned(name))
FINGERPRINTS = st.from_regex(r"[0-9a-f]{16}", fullmatch=True)


@given(NAMES, FINGERPRINTS)
def test_versioned_names_lead_back_to_the_public_name(name: str, fingerprint: str) -> None:
    own = engine_name(name, fingerprint)
    assert is_versioned(own) and public_name(own) == name and public_name(name) == name


@given(st.lists(FINGERPRINTS, min_size=1, max_size=12), st.sampled_from(["0.12.0", "0.30.0", "0.34.0", "?"]))
def test_no_engine_name_ever_stands_for_two_versions(versions: list[str], release: str) -> None:
    quirks: Quirks = quirks_for(release)
    served: dict[str, str] = {}
    for version in versions:
        choice = load_name(
            name="m", fingerprint=version, quirks=quirks, prefix_caching=True, served=served, versioned_names=True
        )
        if isinstance(choice, LoadName):
            assert served.setdefault(choice.engine_name, version) == version


@pytest.mark.parametrize("fingerprint", ["", "abc", "ABCDEF0123", "zzzzzzzz", "../../etc"])
def test_a_fingerprint_that_is_none_makes_no_name(fingerprint: str) -> None:
    with pytest.raises(ValueError, match="expected 8 or more lower-case hex digits"):
        engine_name("m", fingerprint)
