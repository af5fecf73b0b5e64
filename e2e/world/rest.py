"""Reads and watches the API server as an administrator, without starting kubectl for every look."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

GROUP = "/apis/production-stack.vllm-project/v1alpha1"
PATIENCE_SECONDS = 60.0  # so long is waited for what comes at once on a machine of one's own, before it is a failure
Json = dict[str, Any]


class WaitError(AssertionError):
    """What was waited for did not come; the message shows the last state."""


class Rest:
    """One session with the API server."""

    def __init__(self, kubeconfig: Path) -> None:
        view = json.loads(kubeconfig.read_text())
        cluster, user = view["clusters"][0]["cluster"], view["users"][0]["user"]
        self._url = cluster["server"]
        self._session = requests.Session()
        self._session.trust_env = False
        # the API server answers 429 for a second after a definition was installed, and says when to come again
        patience = Retry(total=5, status_forcelist=[429], allowed_methods=None, raise_on_status=False)
        self._session.mount("https://", HTTPAdapter(max_retries=patience))
        authority = kubeconfig.with_suffix(".ca")
        authority.write_bytes(base64.b64decode(cluster["certificate-authority-data"]))
        self._session.verify = str(authority)
        if "token" in user:
            self._session.headers["Authorization"] = f"Bearer {user['token']}"
        elif "client-certificate-data" in user:  # as kind and minikube have it
            pair = kubeconfig.with_suffix(".crt"), kubeconfig.with_suffix(".key")
            for path, part in zip(pair, ("client-certificate-data", "client-key-data"), strict=True):
                path.touch(mode=0o600)
                path.write_bytes(base64.b64decode(user[part]))
            self._session.cert = (str(pair[0]), str(pair[1]))
        else:
            raise ValueError(f"{kubeconfig}: neither a token nor a client certificate; only these are understood here")

    def close(self) -> None:
        self._session.close()

    def get(self, path: str, **query: str) -> Json:
        """The object or list at `path`; an empty object where there is none."""
        answer = self._session.get(self._url + path, params=query, timeout=30)
        if answer.status_code == 404:
            return {}
        answer.raise_for_status()
        return dict(answer.json())

    def create(self, path: str, body: Json) -> Json:
        answer = self._session.post(self._url + path, json=body, timeout=30)
        if answer.status_code >= 400:
            raise AssertionError(f"POST {path}: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json())

    def follow(self, collection: str, opened: threading.Event) -> Iterator[Json]:
        """Every object of the collection from now on as it changes; sets `opened` once nothing can be missed."""
        listed = self.get(collection, limit="1")
        query = {"watch": "true", "resourceVersion": listed["metadata"]["resourceVersion"], "timeoutSeconds": "60"}
        with self._session.get(self._url + collection, params=query, stream=True, timeout=60) as stream:
            opened.set()
            for line in stream.iter_lines(chunk_size=1):
                yield json.loads(line)["object"]

    def patch(self, path: str, body: Json) -> Json:
        """A merge patch."""
        kind = {"Content-Type": "application/merge-patch+json"}
        answer = self._session.patch(self._url + path, data=json.dumps(body), headers=kind, timeout=30)
        if answer.status_code >= 400:
            raise AssertionError(f"PATCH {path}: {answer.status_code} {answer.text[:500]}")
        return dict(answer.json())

    def delete(self, path: str, **query: str) -> None:
        """Delete an object, or all of a collection; what is not there is gone already."""
        answer = self._session.delete(self._url + path, params=query, timeout=30)
        if answer.status_code >= 400 and answer.status_code != 404:
            raise AssertionError(f"DELETE {path}: {answer.status_code} {answer.text[:500]}")

    def wait(self, collection: str, name: str, done: Callable[[Json], bool], timeout: float = PATIENCE_SECONDS) -> Json:
        """Follow one object until `done(object)`, which gets an empty object while there is none.

        Raises:
            WaitError: it was not so within `timeout` seconds.
        """
        deadline = time.monotonic() + timeout
        last: Json = {}
        while time.monotonic() < deadline:
            listed = self.get(collection, fieldSelector=f"metadata.name={name}")
            last = listed["items"][0] if listed.get("items") else {}
            if done(last):
                return last
            left = max(1, int(deadline - time.monotonic()) + 1)
            query = {
                "watch": "true",
                "fieldSelector": f"metadata.name={name}",
                "resourceVersion": listed["metadata"]["resourceVersion"],
                "timeoutSeconds": str(left),
            }
            try:
                with self._session.get(self._url + collection, params=query, stream=True, timeout=left) as stream:
                    for line in stream.iter_lines(chunk_size=1):
                        event = json.loads(line)
                        if event["type"] in ("ERROR", "BOOKMARK"):
                            break
                        last = {} if event["type"] == "DELETED" else event["object"]
                        if done(last):
                            return last
                        if time.monotonic() > deadline:
                            break
            except requests.RequestException:
                time.sleep(0.05)  # the API server is away, which a test may intend
        raise WaitError(f"{collection}/{name} was not as expected within {timeout:g} s; last seen:\n{_brief(last)}")

    def history(self, collection: str, name: str, version: str) -> list[Json]:
        """All states of one object since that resource version, as a watch gives them."""
        query = {
            "watch": "true",
            "fieldSelector": f"metadata.name={name}",
            "resourceVersion": version,
            "timeoutSeconds": "1",
        }
        answer = self._session.get(self._url + collection, params=query, timeout=30)
        answer.raise_for_status()
        return [json.loads(line)["object"] for line in answer.iter_lines()]


def _brief(body: Json) -> str:
    body = {key: value for key, value in body.items() if key != "metadata"}
    return json.dumps(body, indent=1)[:6000]
