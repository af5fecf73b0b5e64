"""The model in a form (audio) is found and replaced; a form that engines might read in another way is refused."""

from __future__ import annotations

import aiohttp
import pytest

from lora_operator.picking.form_field import is_form, read_form
from lora_operator.picking.model_field import BadBody
from tests.picking.gateway import picking
from tests.router.fleet import a_fleet

TYPE = "multipart/form-data; boundary=x"
FILE = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\nContent-Type: audio/wav\r\n\r\n%s\r\n'
MODEL = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\n%s\r\n'
SOUND = b'\x00--x\r\n--y\nname="model"\xff'


async def test_a_request_with_a_form_goes_to_a_pod_that_holds_its_adapter() -> None:
    raw = FILE % SOUND + MODEL % b"chat" + b"--x--\r\n"
    async with picking(a_fleet()) as it:
        told = await it.gateway.ask(raw, path="/v1/audio/transcriptions", headers={"content-type": TYPE}, chunks=7)
        assert told.endpoint == "10.0.0.1:8000"
        assert told.body == raw.replace(b"\r\nchat\r\n", b"\r\nchat--1234\r\n")
        assert told.headers["content-length"] == str(len(told.body))


async def test_forms_as_clients_write_them_are_understood() -> None:
    form = aiohttp.FormData({"model": "sql", "language": "de"})
    form.add_field("file", b"RIFF", filename='a"ä.wav', content_type="audio/wav")
    made = form()
    assert isinstance(made, aiohttp.MultipartWriter)
    raw = await made.as_bytes()
    read = read_form(raw, made.content_type)
    assert read.model == "sql" and read.with_model("other") == raw.replace(b"\r\nsql\r\n", b"\r\nother\r\n")
    assert read_form(MODEL % b"a" + b"--x--", 'Multipart/Form-Data; boundary="x"').model == "a"
    assert is_form("multipart/form-data;boundary=x") and not is_form("application/json")


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b"", "does not begin"),
        (b"preamble\r\n" + MODEL % b"a" + b"--x--", "does not begin"),
        (FILE % SOUND + b"--x--", '0 fields "model"'),
        (MODEL % b"a" + MODEL % b"b" + b"--x--", '2 fields "model"'),
        (MODEL % b"a" + b"--x--" + MODEL % b"b", "after its last boundary"),
        (MODEL % b"a", "ends too early"),
        (MODEL % b"", "ends too early"),
        (MODEL % b"" + b"--x--", "not a name"),
        (MODEL % b"\xff" + b"--x--", "not UTF-8"),
        (MODEL % (b"a" * 513) + b"--x--", "not a name"),
        (b"--x \r\n" + (MODEL % b"a")[5:] + b"--x--", "behind it"),
        (MODEL.replace(b'"model"', b'"model"; filename="f"') % b"a" + b"--x--", "is a file"),
        (MODEL.replace(b"\r\n\r\n", b"\r\nContent-Transfer-Encoding: base64\r\n\r\n") % b"YQ==" + b"--x--", "encoded"),
        (MODEL.replace(b'"model"', b'"file";\r\n name="model"') % b"a" + b"--x--", "folded|plain name"),
        (MODEL.replace(b'"model"', b"\"x\"; name*=utf-8''model") % b"a" + b"--x--", "plain name"),
        (b"--x\r\nX: 1\r\n\r\na\r\n--x--", "no Content-Disposition"),
        (b"--x\r\n" + b"X: %s\r\n" % (b"a" * 5000) + b"\r\na\r\n--x--", "4 KiB of headers"),
        (b"".join([FILE % b""] * 101) + b"--x--", "more than 100 parts"),
    ],
)
def test_a_form_that_could_be_read_in_two_ways_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(BadBody, match=says):
        read_form(raw, TYPE)


@pytest.mark.parametrize(
    "kind", ["multipart/form-data", "multipart/form-data; boundary=", "multipart/form-data; boundary=x; boundary=y"]
)
def test_a_form_without_one_boundary_is_refused(kind: str) -> None:
    with pytest.raises(BadBody, match="boundary"):
        read_form(MODEL % b"a" + b"--x--", kind)
