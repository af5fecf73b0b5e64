from __future__ import annotations

import pytest

from lora_operator.cli.main import main, parser
from lora_operator.settings.operator import Settings, SettingsError, from_arguments


def settings(*flags: str, **environment: str) -> Settings:
    return from_arguments(parser().parse_args(["run", *flags]), environment)


def test_flags_win_over_the_environment_and_that_over_defaults() -> None:
    assert settings().probe_seconds == 0.95
    assert settings(LORA_OPERATOR_PROBE_SECONDS="3").probe_seconds == 3.0
    assert settings("--probe-seconds", "2", LORA_OPERATOR_PROBE_SECONDS="3").probe_seconds == 2.0


def test_lists_come_from_repeated_flags_or_commas() -> None:
    assert settings("--namespace", "a", "--namespace", "b").namespaces == ("a", "b")
    assert settings(LORA_OPERATOR_NAMESPACES="a, b").namespaces == ("a", "b")


def test_switches_can_be_turned_off() -> None:
    assert not settings("--no-versioned-names").versioned_names
    assert not settings(LORA_OPERATOR_VERSIONED_NAMES="false").versioned_names


@pytest.mark.parametrize(
    ("flags", "environment", "says"),
    [
        (("--adapter-root", "relative"), {}, "--adapter-root"),
        (("--probe-seconds", "-1"), {}, "--probe-seconds"),
        (("--base-model-config", "nonsense"), {}, "NAME=PATH"),
        ((), {"LORA_OPERATOR_HEALTH_PORT": "eighty"}, "LORA_OPERATOR_HEALTH_PORT"),
        ((), {"LORA_OPERATOR_LOG_FORMAT": "xml"}, "json, console"),
        (("--routing-weights", "heat=1"), {}, "there is no weight .heat."),
        ((), {"LORA_OPERATOR_VERSIONED_NAMES": "maybe"}, "true nor false"),
        (("--probe-seconds", "nan"), {}, "--probe-seconds"),
        (("--load-timeout", "0"), {}, "--load-timeout: 0.0 cannot be used; give 0.1 or more"),
        (("--retry-seconds", "0"), {}, "--retry-seconds"),
        (("--probes-per-second", "0"), {}, "--probes-per-second"),
        (("--relist-seconds", "0"), {}, "--relist-seconds"),
        (("--fresh-concurrency", "0"), {}, "--fresh-concurrency: 0 cannot be used; give 1 or more"),
        (("--health-port", "70000"), {}, "--health-port: 70000 is too much; give at most 65535"),
        (("--namespace", ""), {}, "--namespace"),
        ((), {"LORA_OPERATOR_POLICY": "fastest"}, "balanced, binpack, spread"),
    ],
)
def test_nonsense_is_refused_by_name(flags: tuple[str, ...], environment: dict[str, str], says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings(*flags, **environment)


def test_bad_settings_end_with_status_two_and_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "--adapter-root", "relative"]) == 2
    assert capsys.readouterr().err.startswith("lora-operator: --adapter-root")


def test_help_explains_every_flag(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    text = capsys.readouterr().out
    assert "--withdraw-seconds" in text and "LORA_OPERATOR_ADAPTER_ROOT" in text
