"""Fills pods one after another, so that an autoscaler finds empty ones to remove; replicas still spread."""

from lora_scheduler import scorers

SCORERS: tuple[scorers.Scorer, ...] = (
    scorers.movement,
    scorers.replicas_in_domain,
    scorers.delay,
    scorers.free_slots,
    scorers.free_memory,
    scorers.wasted_rank,
    scorers.expected_load,
)
