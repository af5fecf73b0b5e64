"""Fewest adapters per pod and fewest replicas together, whatever the load: the smallest loss when a pod or zone
fails."""

from lora_scheduler import scorers

SCORERS: tuple[scorers.Scorer, ...] = (
    scorers.movement,
    scorers.replicas_in_domain,
    scorers.replicas_in_zone,
    scorers.replicas_on_node,
    scorers.residents,
    scorers.delay,
    scorers.expected_load,
    scorers.uneven_room,
    scorers.wasted_rank,
)
