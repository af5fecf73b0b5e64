"""When a signed URL runs out, as far as its query tells. Pure."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit

# What nobody tells the end of is asked for again after this long: signed links of hubs live an hour.
UNKNOWN_SECONDS = 600.0


def link_expiry(url: str, now: float) -> float | None:
    """Unix time; None for a URL that is not signed. Knows S3 (X-Amz-…), CloudFront and others (Expires)."""
    fields = {name.lower(): values[0] for name, values in parse_qs(urlsplit(url).query).items()}
    if not fields:
        return None
    try:
        if "x-amz-expires" in fields:
            begin = datetime.strptime(fields["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            return begin.timestamp() + float(fields["x-amz-expires"])
        return float(fields["expires"])
    except (KeyError, ValueError, OverflowError):
        return now + UNKNOWN_SECONDS
