"""What each alert is shown: once fleets in which it must fire, once the nearest ones in which it must not."""

from __future__ import annotations

from dataclasses import dataclass

Series = dict[str, str]  # series -> values, one a minute, as promtool writes them


@dataclass(frozen=True)
class Case:
    """`labels`: those of the alert beside its severity; None where it must be silent `minutes` after the start."""

    alert: str
    series: Series
    minutes: int
    labels: dict[str, str] | None = None
    summary: str = ""
    severity: str = "warning"


def fires(alert: str, minutes: int, series: Series, summary: str, severity: str = "warning", **labels: str) -> Case:
    return Case(alert, series, minutes, labels, summary, severity)


def silent(alert: str, minutes: int, series: Series) -> Case:
    return Case(alert, series, minutes)


PLAN = 'lora_operator_last_plan_timestamp_seconds{namespace="a",job="b",pod="%s"}'
LOADS = 'lora_operator_loads_total{result="%s"}'
SLOW = 'lora_operator_load_seconds_bucket{le="%s"}'
FETCHES = 'lora_operator_fetches_total{result="%s"}'
CACHE = 'lora_operator_cache_%s_bytes{pod="p"}'
PICKS = 'lora_operator_router_requests_total{route="/v1/pick",status="%s"}'
PICKER = 'lora_operator_picker_requests_total{result="%s"}'
UPLOADS = 'lora_operator_library_uploads_total{result="%s"}'
USERS = 'lora_operator_library_owners{used="%s"}'
CASES = (
    fires("LoraOperatorGone", 10, {"up": "0x10"}, "No lora-operator tells its metrics", "critical"),
    silent("LoraOperatorGone", 10, {PLAN % "p": "0+60x10"}),
    silent("LoraOperatorGone", 4, {"up": "0x10"}),
    # the plan of minute 2 is the last
    fires(
        "LoraOperatorNotPlanning", 7, {PLAN % "p": "0 60 120x10", PLAN % "q": "0x10"},
        "The last plan is 5m 0s old", "critical", namespace="a", job="b",
    ),
    silent("LoraOperatorNotPlanning", 10, {PLAN % "p": "0+60x10", PLAN % "stands-by": "0x10"}),
    # an operator of other namespaces does not speak for this one
    fires(
        "LoraOperatorNotPlanning", 7,
        {PLAN % "p": "0x10", 'lora_operator_last_plan_timestamp_seconds{namespace="c",job="b"}': "0+60x10"},
        "The last plan is 7m 0s old", "critical", namespace="a", job="b",
    ),
    fires(
        "LoraCopiesWithoutPod", 20,
        {'lora_operator_unplaced_copies{reason="NoFreeSlot",pod="p"}': "0 3x20",
         'lora_operator_unplaced_copies{reason="RankTooHigh",pod="p"}': "0x20"},
        "3 replicas of adapters fit on no pod: NoFreeSlot", reason="NoFreeSlot",
    ),
    silent("LoraCopiesWithoutPod", 40, {'lora_operator_unplaced_copies{reason="NoFreeSlot"}': "0 3x10 0x5 3x10 0x20"}),
    fires(
        "LoraLoadsFailing", 40, {LOADS % "ok": "0+6x40", LOADS % "DiskFull": "0+2x40", LOADS % "CacheFull": "0x40"},
        "25% of loads fail: DiskFull", result="DiskFull",
    ),
    silent("LoraLoadsFailing", 40, {LOADS % "ok": "0+20x40", LOADS % "DiskFull": "0+1x40"}),
    silent("LoraLoadsFailing", 40, {LOADS % "ok": "0x40"}),
    fires(
        "LoraLoadsSlow", 40,
        {SLOW % "60": "0+1x40", SLOW % "120": "0+9x40",
         SLOW % "+Inf": "0+10x40"},
        "One load in twenty takes longer than 2m 0s",
    ),
    silent(
        "LoraLoadsSlow", 40,
        {SLOW % "60": "0+99x40", SLOW % "+Inf": "0+100x40"},
    ),
    silent("LoraLoadsSlow", 40, {SLOW % "+Inf": "0x40"}),
    fires("LoraEnginesDown", 15, {'lora_operator_pods{state="Down"}': "2x15"}, "2 engines do not answer"),
    silent("LoraEnginesDown", 15, {'lora_operator_pods{state="Down"}': "1x5 0x10"}),
    silent("LoraEnginesDown", 15, {'lora_operator_pods{state="Starting"}': "3x15"}),
    fires(
        "LoraCopiesVanish", 40, {"lora_operator_drift_total": "0+1x40"},
        "15 replicas vanished from engines within 15 minutes and were loaded again",
    ),
    silent("LoraCopiesVanish", 60, {"lora_operator_drift_total": "0x5 20x60"}),  # a node that was restarted
    silent("LoraCopiesVanish", 60, {"lora_operator_drift_total": "0x9 1x9 2x9 3x9 4x30"}),
    fires(
        "LoraFetchesFailing", 60, {FETCHES % "TlsFailed": "0+1x60"},
        "Fetches of adapter files fail: TlsFailed", result="TlsFailed",
    ),
    silent(
        "LoraFetchesFailing", 60,
        {FETCHES % "ok": "0+9x60", FETCHES % "Cancelled": "0+1x60",
         FETCHES % "Stalled": "0x10 1x60"},
    ),
    fires(
        "LoraCacheThrashes", 60, {'lora_operator_cache_thrash_total{pod="p"}': "0+1x60"},
        "60 versions were fetched again within an hour of their eviction", pod="p",
    ),
    silent("LoraCacheThrashes", 60, {"lora_operator_cache_thrash_total": "0 9x60"}),
    fires(
        "LoraCacheFull", 40,
        {CACHE % "used": "98x40", CACHE % "budget": "100x40"},
        "A cache is 98% full", "info", pod="p",
    ),
    silent("LoraCacheFull", 40, {CACHE % "used": "90x40", CACHE % "budget": "100x40"}),
    silent("LoraCacheFull", 40, {CACHE % "used": "90x40", CACHE % "budget": "-1x40"}),
    fires(
        "LoraLoadUneven", 70, {'lora_operator_pod_load_imbalance_ratio{base_model="llama"}': "2.54x70"},
        "One pod of llama has 2.5 times the mean load", "info", base_model="llama",
    ),
    silent("LoraLoadUneven", 70, {'lora_operator_pod_load_imbalance_ratio{base_model="llama"}': "3x50 1.2x20"}),
    fires(
        "LoraStatusNotWritten", 40, {'lora_operator_status_writes_total{result="error"}': "0+1x40"},
        "Status cannot be written", result="error",
    ),
    silent("LoraStatusNotWritten", 40, {'lora_operator_status_writes_total{result="error"}': "0x10 1x30"}),
    fires(
        "LoraPicksFailing", 40, {PICKS % "200": "0+90x40", PICKS % "503": "0+10x40"},
        "10% of picks are answered with 503", status="503",
    ),
    silent("LoraPicksFailing", 40, {PICKS % "200": "0+90x40", PICKS % "404": "0+10x40", PICKS % "503": "0+1x40"}),
    fires(
        "LoraPickerFailing", 40, {PICKER % "adapter": "0+90x40", PICKER % "not_loaded": "0+10x40"},
        "10% of the requests through the endpoint picker are refused: not_loaded", result="not_loaded",
    ),
    silent("LoraPickerFailing", 40, {PICKER % "adapter": "0+90x40", PICKER % "unknown": "0+10x40"}),
    fires(
        "LoraRouterTableOld", 20, {'lora_operator_router_table_age_seconds{instance="r"}': "0+60x20"},
        "The routing table of r is as it was 20m 0s ago", instance="r",
    ),
    silent("LoraRouterTableOld", 20, {"lora_operator_router_table_age_seconds": "_x5 20x20"}),
    fires(
        "LoraEngineLoadsUnknown", 20,
        {'lora_operator_router_pods{load="stale",job="r",namespace="n"}': "3x20",
         'lora_operator_router_pods{load="fresh",job="r",namespace="n"}': "1x20"},
        "Routers do not know how busy 75% of the engines are", "info", job="r", namespace="n",
    ),
    silent(
        "LoraEngineLoadsUnknown", 20,
        {'lora_operator_router_pods{load="stale"}': "1x20", 'lora_operator_router_pods{load="fresh"}': "2x20"},
    ),
    silent(
        "LoraEngineLoadsUnknown", 20,
        {'lora_operator_router_pods{load="stale"}': "0x20", 'lora_operator_router_pods{load="fresh"}': "0x20"},
    ),
    fires(
        "LoraLibraryUploadsFailing", 40, {UPLOADS % "STORE_UNAVAILABLE": "0+1x40", UPLOADS % "ok": "0+3x40"},
        "25% of the uploads to the user library fail: STORE_UNAVAILABLE", result="STORE_UNAVAILABLE",
    ),
    silent("LoraLibraryUploadsFailing", 40, {UPLOADS % "QUOTA_EXCEEDED": "0+3x40", UPLOADS % "ok": "0+1x40"}),
    silent("LoraLibraryUploadsFailing", 40, {UPLOADS % "INTERNAL": "0+1x40", UPLOADS % "ok": "0+40x40"}),
    fires(
        "LoraLibraryQuotasFull", 90, {USERS % "0-50": "14x90", USERS % "80-95": "3x90", USERS % "95-100": "3x90"},
        "30% of the user library's users have used most of their quota", "info",
    ),
    silent("LoraLibraryQuotasFull", 90, {USERS % "0-50": "1x90", USERS % "95-100": "1x90"}),
    silent("LoraLibraryQuotasFull", 90, {USERS % "0-50": "90x90", USERS % "95-100": "10x90"}),
)  # fmt: skip
