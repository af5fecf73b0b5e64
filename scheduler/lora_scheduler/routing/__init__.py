"""Where to send a request: `pick(index, ask)`; which request a worker should take: `match(worker, pending)`.

Also which adapter a text is for (`selection`). Pure: `now` and a source of draws are passed in, nothing is waited for.
"""

from lora_scheduler.routing.chance import Chance
from lora_scheduler.routing.errors import InvalidAsk, InvalidEndpoint, InvalidKeywords, InvalidRules, RoutingError
from lora_scheduler.routing.explaining import Candidate, explain
from lora_scheduler.routing.index import Index
from lora_scheduler.routing.model import (
    Answer,
    Endpoint,
    EndpointState,
    EngineLoad,
    Holding,
    HoldingState,
    NotLoaded,
    Picked,
    RoutingRequest,
    Unknown,
)
from lora_scheduler.routing.picking import pick
from lora_scheduler.routing.policies import POLICIES
from lora_scheduler.routing.pull import Match, Pending, PullRules, match
from lora_scheduler.routing.rules import Rules, Weights
from lora_scheduler.routing.scoring import Score
from lora_scheduler.routing.selection import Catalogue, Selection, Topic, problem_of

__all__ = [
    "POLICIES",
    "Answer",
    "Candidate",
    "Catalogue",
    "Chance",
    "Endpoint",
    "EndpointState",
    "EngineLoad",
    "Holding",
    "HoldingState",
    "Index",
    "InvalidAsk",
    "InvalidEndpoint",
    "InvalidKeywords",
    "InvalidRules",
    "Match",
    "NotLoaded",
    "Pending",
    "Picked",
    "PullRules",
    "RoutingError",
    "RoutingRequest",
    "Rules",
    "Score",
    "Selection",
    "Topic",
    "Unknown",
    "Weights",
    "explain",
    "match",
    "pick",
    "problem_of",
]
