"""Metrics pages of several releases, and pages that are none."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lora_operator.vllm.metrics import EngineMetrics, Moment, parse_metrics

PAGE_0_32 = """\
# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="tiny"} 3.0
# HELP vllm:num_requests_waiting Number of requests waiting to be processed.
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="tiny"} 2.0
# TYPE vllm:num_requests_waiting_by_reason gauge
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="capacity"} 0.0
vllm:num_requests_waiting_by_reason{engine="0",model_name="tiny",reason="deferred"} 2.0
# TYPE vllm:kv_cache_usage_perc gauge
vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0.25
# TYPE vllm:lora_requests_info gauge
vllm:lora_requests_info{max_lora="2",running_lora_adapters="a,b",waiting_lora_adapters="a,b"} 1.7950000010e+09
vllm:lora_requests_info{max_lora="2",running_lora_adapters="old",waiting_lora_adapters="old"} 1.7950000000e+09
vllm:prompt_tokens_total{engine="0",model_name="tiny"} 120.0
"""


def info(value: str, running: str = "", waiting: str = "") -> str:
    labels = f'max_lora="4",running_lora_adapters="{running}",waiting_lora_adapters="{waiting}"'
    return f"vllm:lora_requests_info{{{labels}}} {value}\n"


def test_reads_a_current_page() -> None:
    assert parse_metrics(PAGE_0_32) == EngineMetrics(
        requests_running=3,
        requests_waiting=2,
        waiting_by_reason={"capacity": 0, "deferred": 2},
        kv_cache_usage=0.25,
        active_adapters=frozenset({"a", "b"}),
        max_loras=2,
        moments=(Moment(1_795_000_001.0, frozenset({"a", "b"})), Moment(1_795_000_000.0, frozenset({"old"}))),
    )


def test_counts_finished_requests_whatever_ended_them() -> None:
    page = "".join(
        f'vllm:request_success_total{{engine="0",finished_reason="{reason}",model_name="tiny"}} {count}\n'
        for reason, count in (("stop", 3.0), ("length", 89.0), ("abort", 1.0))
    )
    created = 'vllm:request_success_created{engine="0",finished_reason="stop",model_name="tiny"} 1.79e+09\n'
    assert parse_metrics(page + created).requests_finished == 93
    assert parse_metrics("vllm:num_requests_running 0.0\n").requests_finished is None


def test_an_engine_without_requests_so_far_says_nothing() -> None:
    assert parse_metrics("") == EngineMetrics()


def test_reads_the_kv_gauge_of_old_releases() -> None:
    assert parse_metrics('vllm:gpu_cache_usage_perc{model_name="tiny"} 0.5\n').kv_cache_usage == 0.5


def test_prefers_the_new_name_where_a_release_has_both() -> None:
    page = "vllm:gpu_cache_usage_perc 0.1\nvllm:kv_cache_usage_perc 0.2\n"
    assert parse_metrics(page).kv_cache_usage == 0.2


def test_takes_the_newest_set_of_adapters_wherever_it_stands() -> None:
    page = info("3e9", "new") + info("1e9", "first") + info("2e9", "second")
    assert parse_metrics(page).active_adapters == {"new"}


def test_finds_the_newest_set_among_those_of_a_long_life() -> None:
    page = "".join(info(f"{1_790_000_000 + n}", f"a{n}") for n in range(5_000))
    assert parse_metrics(page + info("not-a-number", "x") + info("NaN", "y")).active_adapters == {"a4999"}


def test_an_idle_engine_has_no_active_adapters_left() -> None:
    assert parse_metrics(info("1e9", "a") + info("2e9")).active_adapters == frozenset()


def test_takes_running_and_waiting_together_where_they_differ() -> None:
    assert parse_metrics(info("1e9", "a,b", "b, c")).active_adapters == {"a", "b", "c"}


def test_adds_up_the_engines_of_one_process() -> None:
    running = "".join(f'vllm:num_requests_running{{engine="{n}"}} {n + 1}\n' for n in range(3))
    page = running + "".join(f'vllm:kv_cache_usage_perc{{engine="{n}"}} 0.{n}\n' for n in range(3))
    metrics = parse_metrics(page)
    assert (metrics.requests_running, metrics.kv_cache_usage) == (6, 0.2)


def test_one_bad_line_hides_no_other() -> None:
    page = 'vllm:num_requests_running{engine="0 3\nvllm:num_requests_waiting two\nvllm:num_requests_running 3\n'
    assert parse_metrics(page).requests_running == 3


def test_values_that_are_no_counts_are_left_out() -> None:
    page = "vllm:num_requests_running NaN\nvllm:num_requests_waiting +Inf\nvllm:kv_cache_usage_perc -1\n"
    assert parse_metrics(page) == EngineMetrics()


def test_an_endless_page_is_read_in_part() -> None:
    page = info("1e9", "x" * 300_000) + "vllm:num_requests_running 1\n" * 3_000
    metrics = parse_metrics(page)
    assert metrics.requests_running == 1_000 and metrics.active_adapters == frozenset()


PIECES = st.sampled_from(
    ["vllm:num_requests_running", "vllm:lora_requests_info", "vllm:kv_cache_usage_perc", '{max_lora="', '"', "}", " 1",
     ",", "\n", "\\", "#", "=", "{", " 1e400", ' # {a="b"} 1', "running_lora_adapters="]
)  # fmt: skip


@given(st.lists(PIECES | st.text(max_size=5), max_size=30).map("".join))
def test_no_page_is_an_error(page: str) -> None:
    assert isinstance(parse_metrics(page), EngineMetrics)
