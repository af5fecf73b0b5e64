"""Fewest adapters per pod and fewest copies together, whatever the load: the smallest loss when a pod or zone fails."""

from lora_scheduler import scorers

SCORERS: tuple[scorers.Scorer, ...] = (
    scorers.movement,
    scorers.copies_in_domain,
    scorers.copies_in_zone,
    scorers.copies_on_node,
    scorers.residents,
    scorers.delay,
    scorers.expected_load,
    scorers.uneven_room,
    scorers.wasted_rank,
)
