"""Command lines as people have them in their pods: what is read of them is right, or unknown."""

from __future__ import annotations

from typing import Any

import pytest

from lora_operator.vllm.command import EngineCommand, read_command
from lora_operator.vllm.hidden import is_hidden


def read(script: str, *, env: dict[str, str] | None = None, **container: Any) -> EngineCommand:
    entries = [{"name": name, "value": value} for name, value in (env or {}).items()]
    return read_command({"name": "vllm", "command": ["bash", "-c", script], "env": entries, **container})


@pytest.mark.parametrize(
    "script",
    [
        "vllm serve m --max-model-len $((8192+2048)) --enable-lora",
        "ARGS=(--enable-lora --max-loras 4); ARGS+=(--port 8000); vllm serve m \"${ARGS[@]}\"",
        'A="--port 8000"; A+=" --enable-lora"; vllm serve m $A',
        'set -- --enable-lora --port 8000; vllm serve m "$@"',
        'vllm serve m ${L:+--enable-lora}',
        "vllm serve m --port $(echo $(cat f)) --enable-lora",
        "if [ -n \"$X\" ]; then E=--enable-lora; else E=--enable-lora; fi; vllm serve m $E",
        "if command -v vllm; then vllm serve m --enable-lora; fi",
        "serve() { vllm serve \"$1\" --enable-lora; }; serve m",
        "while true; do vllm serve m --enable-lora; sleep 1; done",
        'eval "vllm serve m --enable-lora"',
        "exec env PYTHONUNBUFFERED=1 vllm serve m --enable-lora",
        "python3 -m vllm.collect_env; vllm serve m --enable-lora",
        "echo Starting vllm serve now; vllm serve m --enable-lora",
        "vllm serve m --enable-lora # don't",
        "nice -n 5 numactl --interleave=all vllm serve m --enable-lora 2>&1 | tee -a /tmp/log",
    ],
)  # fmt: skip
def test_lora_that_is_on_is_seen_or_left_to_the_engine(script: str) -> None:
    command = read(script)
    assert command.switch("enable-lora") is True or not command.visible
    assert command.model == "m"


@pytest.mark.parametrize(
    ("script", "env", "options"),
    [
        ('vllm serve m --port "${PORT:=9000}" --enable-lora; :', {}, {"port": "9000"}),
        ('vllm serve m --port "${PORT:-9000}"', {"PORT": "7000"}, {"port": "7000"}),
        ('ARGS=(--port 9000 "--served-model-name" "a b"); vllm serve m "${ARGS[@]}"', {},
         {"port": "9000", "served-model-name": "a b"}),
        ("OPTIONS='--max-loras 4\n  --port 9000'\nvllm serve m $OPTIONS", {}, {"max-loras": "4", "port": "9000"}),
        ("set -- a b; shift; vllm serve m --served-model-name $1", {}, {"served-model-name": "b"}),
        ("f() { local P=9000; vllm serve m --port $P; }\nf", {}, {"port": "9000"}),
        (r"eval \"vllm serve /mnt/models --served-model-name \"org/granite\" --port 8001\"".replace('\\"', '"'), {},
         {"port": "8001"}),
        ('eval "vllm serve /mnt/models --served-model-name \\"org/granite\\" --port 8001 --enable-lora"', {},
         {"served-model-name": "org/granite", "port": "8001"}),
        ('set -- --enable-lora "--max-loras" 4; eval "exec vllm serve m --port 9000 ${MORE} $@ --max-lora-rank 8"', {},
         {"port": "9000", "max-loras": "4", "max-lora-rank": "8"}),
        ('A=(x y); f() { vllm serve "$1" --port "$2"; }; f "a-${A[@]}z"', {}, {"port": "yz"}),
        ("cat > /tmp/x <<EOF\nvllm serve wrong --port 1\nEOF\nvllm serve m --port 9000", {}, {"port": "9000"}),
        ("export P=9000 && vllm serve m --port $P", {}, {"port": "9000"}),
        ("vllm serve m --port 9000 > >(tee log) 2>&1", {}, {"port": "9000"}),
    ],
)  # fmt: skip
def test_reads_what_a_shell_makes_of_it(script: str, env: dict[str, str], options: dict[str, str]) -> None:
    command = read(script, env=env)
    assert {name: command.value(name) for name in options} == options


@pytest.mark.parametrize(
    "script",
    [
        "vllm serve ${MODEL##*/}",
        "vllm serve ${MODEL:?must be set}",
        "vllm serve $1",
        "case $SIZE in small) M=a;; *) M=b;; esac; vllm serve $M",
        "if [ -n \"$X\" ]; then M=a; else M=b; fi; vllm serve $M",
        "M=a; [ -n \"$X\" ] && M=b; vllm serve $M",
        "for M in a b; do vllm serve $M; done",
        "read M < /etc/model; vllm serve $M",
        "vllm serve $(cat /etc/model)",
        "if [ -n \"$X\" ]; then vllm serve a; else vllm serve b; fi",
        "vllm serve \"${MODELS[0]}\"",
        "M=$RANDOM; vllm serve $M",
        "vllm serve {a,b}",
        "vllm serve *",
        "vllm serve ~/model",
    ],
)  # fmt: skip
def test_a_model_that_only_a_run_would_tell_is_unknown(script: str) -> None:
    command = read(script)
    assert command.model is None or is_hidden(command.model)


@pytest.mark.parametrize(
    "script",
    [
        "vllm serve m $EXTRA",
        'vllm serve m "$@" $EXTRA',
        'vllm serve m "${EXTRA[@]}"',
        "vllm serve m ${EXTRA:+--enable-lora}",
        "vllm serve m $(cat /etc/arguments)",
        "if true; then vllm serve m; else vllm serve m --enable-lora; fi",
        "vllm serve m --config /etc/vllm/config.yaml",
        "python -m dynamo.vllm --model m",
        "vllm-rs serve m",
        "vllm serve m 'unfinished",
        "./start.sh --model m",
    ],
)
def test_where_there_may_be_more_options_an_absent_one_is_not_said_to_be_absent(script: str) -> None:
    assert not read(script).visible


def test_variables_of_a_whole_config_map_may_set_anything() -> None:
    script = 'vllm serve m --port "${PORT:-9000}" ${LORA:-}'
    command = read(script, envFrom=[{"configMapRef": {"name": "vllm"}}])
    port = command.value("port")
    assert port is not None and is_hidden(port)
    assert not command.visible


@pytest.mark.parametrize(
    ("image", "visible"),
    [
        ("vllm/vllm-openai:v0.32.0", True),
        ("mirror.example.com/vllm/vllm-openai@sha256:00", True),
        ("example.com/team/vllm-with-lora:1", False),
        ("example.com/vllm-openai-custom:1", False),
    ],
)
def test_only_the_projects_own_image_is_known_to_have_no_options_in_its_entry_point(image: str, visible: bool) -> None:
    assert read_command({"name": "vllm", "image": image, "args": ["--model", "m"]}).visible is visible
