"""What happened between two looks at the fleet, in words. Pure."""

from __future__ import annotations

from e2e.demo.fleet import Fleet, Pod, Resource
from e2e.demo.table import short


def changes(before: Fleet, after: Fleet) -> list[str]:
    """One line per thing that changed: pods first, then their engines, then what status says."""
    lines: list[str] = []
    old = {pod.name: pod for pod in before.pods}
    new = {pod.name: pod for pod in after.pods}
    lines += [f"{name} is gone" for name in old if name not in new]
    for name, pod in new.items():
        lines += _pod(old.get(name), pod)
    known = before.resources or {}
    lines += [f"LoraAdapter {name} is gone" for name in known if after.resource(name) is None]
    for name, resource in (after.resources or {}).items():
        lines += _resource(known.get(name), resource)
    return lines


def _pod(before: Pod | None, pod: Pod) -> list[str]:
    if before is None or before.uid != pod.uid:
        return [f"{pod.name} is a new pod", *_state(pod), *_engine(None, pod)]
    lines = _state(pod) if before.state != pod.state else []
    return lines + _engine(before, pod)


def _state(pod: Pod) -> list[str]:
    where = f", at {pod.address}" if pod.state == "ready" else ""
    return [f"{pod.name} is {pod.state}{where}"]


def _engine(before: Pod | None, pod: Pod) -> list[str]:
    had = before.loaded if before is not None else None
    if pod.loaded is None:
        return [f"{pod.name}: its engine does not answer"] if had is not None else []
    lost = sorted(set(had or ()) - pod.loaded.keys())
    got = [
        f"{name} ({short(version)})" for name, version in sorted(pod.loaded.items()) if not _same(had, name, version)
    ]
    lines = [f"{pod.name}: its engine answers, with nothing loaded"] if had is None and not got else []
    lines += [f"{pod.name} has unloaded {', '.join(lost)}"] if lost else []
    return lines + ([f"{pod.name} has loaded {', '.join(got)}"] if got else [])


def _same(had: object, name: str, version: str) -> bool:
    return isinstance(had, dict) and had.get(name) == version


def _resource(before: Resource | None, resource: Resource) -> list[str]:
    lines = [f"LoraAdapter {resource.name} is there"] if before is None else []
    said = None if before is None else (before.ready, before.phase, before.named, before.failed)
    if said != (resource.ready, resource.phase, resource.named, resource.failed) and resource.phase:
        pods = ", ".join(sorted(resource.named)) or "no pod"
        lines.append(f"status of {resource.name}: phase {resource.phase}, Ready={resource.ready}, names {pods}")
    return lines
