"""Which proxy leads to a URL: HTTPS_PROXY, HTTP_PROXY and NO_PROXY, as everywhere else.

What asks engines, agents and the API server goes by none. A proxy resolves names itself: rules about private addresses
then hold for addresses that are written out in a URL, and for the rest it is the proxy that has to refuse.
"""

from __future__ import annotations

from urllib.parse import urlsplit
from urllib.request import getproxies_environment, proxy_bypass


def proxy_for(url: str) -> str | None:
    """The proxy's URL, None where the host is asked directly."""
    parts = urlsplit(url)
    proxies = getproxies_environment()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def is_proxy(host: str) -> bool:
    """Whether this is the host of a proxy, which may have a private address: whoever runs this process named it."""
    proxies = getproxies_environment()
    return host.lower() in {_host(proxy) for kind, proxy in proxies.items() if kind in ("http", "https", "all")}


def _host(proxy: str) -> str:
    try:
        return (urlsplit(proxy if "://" in proxy else f"http://{proxy}").hostname or "").lower()
    except ValueError:
        return ""
