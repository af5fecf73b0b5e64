"""The default: replicas spread over their domain, then every pod the same expected load, then even room."""

from lora_scheduler import scorers

SCORERS: tuple[scorers.Scorer, ...] = (
    scorers.movement,
    scorers.replicas_in_domain,
    scorers.delay,
    scorers.expected_load,
    scorers.uneven_room,
    scorers.replicas_on_node,
    scorers.replicas_in_zone,
    scorers.wasted_rank,
)

# what decides among pods of about the same expected load
CLOSE: tuple[scorers.Scorer, ...] = (
    scorers.uneven_room,
    scorers.expected_load,
    scorers.replicas_on_node,
    scorers.replicas_in_zone,
    scorers.wasted_rank,
)
