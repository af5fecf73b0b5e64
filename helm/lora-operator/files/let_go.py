"""Ends the operator, takes its finalizer off every LoraAdapter, and opens the readiness gates that only it would open:
let_go.py NAMESPACE NAME [WATCHED NAMESPACE ...].

What the engines have loaded stays loaded: who served goes on serving. The finalizers go only when no operator acts any
more, which its Lease tells, since one that acts would put them on again.
"""

import sys
import time
from datetime import UTC, datetime

from kubernetes import client, config

GROUP, VERSION, PLURAL = "production-stack.vllm-project", "v1alpha1", "loraadapters"
FINALIZER = f"{GROUP}/unload"
GATE = f"{GROUP}/adapters-loaded"
OPENED = {"type": GATE, "status": "True", "reason": "Uninstalled", "message": "nobody loads adapters any more"}
PAGE = 500
PATIENCE_SECONDS = 60


def acting(lease):
    """Whether somebody holds the Lease and has renewed it lately."""
    spec = lease.spec
    if not spec.holder_identity or spec.renew_time is None:
        return False
    return (datetime.now(UTC) - spec.renew_time).total_seconds() < (spec.lease_duration_seconds or 15)


def end_operator(namespace, name):
    """Scale it to nothing, and wait until nobody acts."""
    apps, coordination = client.AppsV1Api(), client.CoordinationV1Api()
    try:
        apps.patch_namespaced_deployment_scale(name, namespace, {"spec": {"replicas": 0}})
        deadline = time.monotonic() + PATIENCE_SECONDS
        while acting(coordination.read_namespaced_lease(name, namespace)):
            if time.monotonic() > deadline:
                print(f"the Lease {namespace}/{name} is still held after {PATIENCE_SECONDS} s, going on", flush=True)
                return
            time.sleep(0.5)
    except client.ApiException as error:
        if error.status != 404:
            raise


def let_go(items):
    """Returns how many had the finalizer."""
    api = client.CustomObjectsApi()
    freed = 0
    for item in items:
        meta = item["metadata"]
        rest = [one for one in meta.get("finalizers") or [] if one != FINALIZER]
        if len(rest) == len(meta.get("finalizers") or []):
            continue
        body = {"metadata": {"finalizers": rest, "resourceVersion": meta["resourceVersion"]}}
        try:
            api.patch_namespaced_custom_object(GROUP, VERSION, meta["namespace"], PLURAL, meta["name"], body)
        except client.ApiException as error:
            if error.status not in (404, 409):  # gone, or changed just now: the next look will tell
                raise
        freed += 1
    return freed


def adapters(namespaces):
    """All, or those of the namespaces; one that was deleted has none."""
    api = client.CustomObjectsApi()
    found = []
    for namespace in namespaces or [""]:
        try:
            if namespace:
                found += api.list_namespaced_custom_object(GROUP, VERSION, namespace, PLURAL)["items"]
            else:
                found += api.list_cluster_custom_object(GROUP, VERSION, PLURAL)["items"]
        except client.ApiException as error:
            if error.status == 403 and namespace:
                print(f"no right to list the LoraAdapters of {namespace} (deleted?), going on", flush=True)
            elif error.status != 404:  # the definition is gone, and all LoraAdapters with it
                raise
    return found


def closed(pod):
    """Whether it has the gate, and that is not open."""
    if not any(gate.condition_type == GATE for gate in pod.spec.readiness_gates or []):
        return False
    return not any(one.type == GATE and one.status == "True" for one in pod.status.conditions or [])


def pods(namespaces):
    """All, or those of the namespaces, page by page."""
    api = client.CoreV1Api()
    for namespace in namespaces or [""]:
        more = None
        while more != "":
            try:
                if namespace:
                    page = api.list_namespaced_pod(namespace, limit=PAGE, _continue=more)
                else:
                    page = api.list_pod_for_all_namespaces(limit=PAGE, _continue=more)
            except client.ApiException as error:
                if error.status != 403 or not namespace:  # deleted, and the rights there with it
                    raise
                break
            yield from page.items
            more = page.metadata._continue or ""


def open_gates(namespaces):
    """Returns how many were closed."""
    api = client.CoreV1Api()
    opened = 0
    for pod in filter(closed, pods(namespaces)):
        meta = pod.metadata
        since = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        condition = {**OPENED, "lastTransitionTime": since}
        body = {"metadata": {"uid": meta.uid}, "status": {"conditions": [condition]}}
        try:
            api.patch_namespaced_pod_status(meta.name, meta.namespace, body)
            opened += 1
        except client.ApiException as error:
            if error.status not in (404, 409):  # gone
                raise
    return opened


def main(namespace, name, *watched):
    config.load_config()
    end_operator(namespace, name)
    total = 0
    while freed := let_go(adapters(watched)):
        total += freed
    print(f"the operator is ended, {total} LoraAdapters can be deleted without it", flush=True)
    print(f"opened the readiness gates of {open_gates(watched)} pods", flush=True)


main(*sys.argv[1:])
