"""Answers the API server's AdmissionReviews of pods, and lets every pod pass: at worst without an agent."""

from __future__ import annotations

import base64
import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiohttp import web

from lora_operator.injection.patch import Parts, json_patch
from lora_operator.process.certificates import BadCertificate, RenewedCertificate
from lora_operator.process.listening import Runner, open_port
from lora_operator.telemetry.server import ServeError

log = logging.getLogger(__name__)

PATH = "/inject"
MAX_BODY_BYTES = 8 << 20  # a pod is at most 1.5 MiB; a review has it once, or twice


class BadParts(Exception):
    """What is to be injected cannot be read; the message names the file."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """Where it listens, with which certificate, and what it puts into pods."""

    host: str
    port: int
    cert_file: Path
    key_file: Path
    parts_file: Path

    async def serve(self) -> web.AppRunner:
        """Answer from now on. Raises ServeError."""
        try:
            tls = RenewedCertificate(self.cert_file, self.key_file, ("http/1.1",)).context()
            parts = read_parts(self.parts_file)
        except (BadCertificate, BadParts) as error:
            raise ServeError(f"the webhook that injects agents cannot begin: {error}") from error
        runner = Runner(application(parts), lambda status, text: web.Response(status=status, text=text + "\n"))
        await runner.setup()
        try:
            opened = open_port(self.host, self.port)
            await web.SockSite(runner, opened, ssl_context=tls).start()
        except OSError as error:
            await runner.cleanup()
            raise ServeError(f"cannot listen on {self.host}:{self.port}: {error}; choose another port") from error
        log.info("the webhook that injects agents listens on port %d", self.port)
        return runner


def read_parts(file: Path) -> Parts:
    """Raises BadParts."""
    try:
        read = json.loads(file.read_bytes())
        return Parts(dict(read["agent"]), [dict(one) for one in read["volumes"]])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadParts(f"{file}: not the agent and volumes that the chart writes there: {error}") from error


def application(parts: Parts) -> web.Application:
    """The HTTP application: POST /inject with an AdmissionReview (admission.k8s.io/v1)."""

    async def inject(request: web.Request) -> web.Response:
        try:
            review = json.loads(await request.read())
            answer = reviewed(review, parts)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            # the API server lets the pod pass without an agent, as failurePolicy says
            log.warning("a review that cannot be understood: %s: %s", type(error).__name__, error)
            return web.Response(status=400, text="not an AdmissionReview of a pod\n")
        return web.json_response(answer)

    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app.router.add_post(PATH, inject)
    return app


def reviewed(review: dict[str, Any], parts: Parts) -> dict[str, Any]:
    """The review with its response."""
    request = review["request"]
    response: dict[str, Any] = {"uid": request["uid"], "allowed": True}
    if patch := json_patch(request["object"], parts):
        response["patchType"] = "JSONPatch"
        response["patch"] = base64.b64encode(json.dumps(patch).encode()).decode()
        log.info("injects an agent into a pod of %s", request.get("namespace"))
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response}
