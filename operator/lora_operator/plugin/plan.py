"""`kubectl lora plan` and `lora-operator plan`: what would be done now, or with other pods and adapters, and why."""

from __future__ import annotations

import argparse
import contextlib

from lora_operator.plugin.connect import Cluster, connected
from lora_operator.plugin.engine_lists import Asked, ask_engines
from lora_operator.plugin.objects import Objects, add_files, from_cluster
from lora_operator.plugin.offline_snapshot import Assumed, assume, read
from lora_operator.plugin.pods import KIND, LIST
from lora_operator.plugin.problems import BAD_COMMAND_LINE, UNPLACED, PluginError, unknown
from lora_operator.plugin.reach import reaching
from lora_operator.plugin.screen import Screen
from lora_operator.plugin.show_plan import Planned, draw
from lora_operator.plugin.source_estimates import Guess, ask_sources
from lora_operator.plugin.what_if import kinds, needs, play, with_more, without
from lora_scheduler import Pod, Policy, Snapshot

DEFAULT_NAMESPACE = "default"


async def run(arguments: argparse.Namespace) -> int:
    if arguments.like and not (arguments.add_pods or arguments.pods_needed):
        raise PluginError("--like says what --add-pods or --pods-needed add; give one of them too", BAD_COMMAND_LINE)
    guess = Guess.of(arguments)
    async with contextlib.AsyncExitStack() as stack:
        cluster = await stack.enter_async_context(connected(arguments)) if not arguments.filename else None
        objects = await from_cluster(cluster) if cluster is not None else Objects()
        namespace = cluster.namespace if cluster is not None else arguments.namespace or DEFAULT_NAMESPACE
        add_files(objects, [*arguments.filename, *arguments.add], namespace)
        resources, records = read(objects)
        for resource in resources.values():
            if resource.spec is None and resource.key in objects.applied:
                raise PluginError(resource.problem)
        asked = Asked()
        if cluster is not None and not arguments.offline:
            reach = await stack.enter_async_context(reaching(cluster, arguments))
            asked = await ask_engines(reach, assume(resources, records, objects.node_labels, {}).pods)
        answers = await ask_sources(resources.values(), records, cluster, guess, offline=arguments.offline)
    moment = assume(resources, records, objects.node_labels, answers.views, asked.engines)
    unread = {key: resource.problem for key, resource in resources.items() if resource.spec is None}
    planned = _planned(
        arguments, moment, unread | answers.unknown, (*objects.notes, *asked.notes, *answers.notes), cluster
    )
    screen = Screen(arguments.output)
    screen.show(planned.document(), lambda: draw(screen, planned))
    return UNPLACED if planned.lacks else 0


def _planned(
    arguments: argparse.Namespace,
    moment: Assumed,
    unread: dict[str, str],
    notes: tuple[str, ...],
    cluster: Cluster | None,
) -> Planned:
    policy = Policy(arguments.policy)
    where = cluster.where if cluster is not None else "in these files"
    snapshot = without(moment.snapshot, [_pod(moment.snapshot, name, where).key for name in arguments.remove_pod])
    like = _pod(moment.snapshot, arguments.like, where) if arguments.like else None
    if arguments.add_pods:
        snapshot = with_more(snapshot, like or _only_kind(moment.snapshot, where), arguments.add_pods)
    outcome = play(snapshot, policy)
    return Planned(
        desired=moment.desired,
        start=snapshot,
        outcome=outcome,
        unread=unread,
        notes=notes,
        needs=tuple(needs(outcome.end, policy, like)) if arguments.pods_needed else None,
    )


def _pod(snapshot: Snapshot, name: str, where: str) -> Pod:
    """The pod of that name, which may have its namespace before a slash. Raises PluginError."""
    found = [pod for pod in snapshot.pods if name in (pod.key, pod.key.rpartition("/")[2])]
    if not found:
        raise unknown(KIND, name, where, (pod.key.rpartition("/")[2] for pod in snapshot.pods), LIST)
    if len(found) > 1:
        raise PluginError(f"several namespaces have a pod {name}; write {found[0].key}")
    return found[0]


def _only_kind(snapshot: Snapshot, where: str) -> Pod:
    """A pod of the one kind that there is. Raises PluginError."""
    found = kinds(snapshot.pods)
    if len(found) == 1:
        return found[0]
    if not found:
        raise PluginError(f"no pod takes part {where}, so that there is none for --add-pods to be like")
    names = ", ".join(pod.key.rpartition("/")[2] for pod in found)
    raise PluginError(f"pods differ: say with --like which one to add more of, one of {names}", BAD_COMMAND_LINE)
