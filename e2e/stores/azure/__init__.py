"""An Azure blob store on loopback: Azurite, installed once from npm into the project's cache outside of the repository.

It keeps everything in memory and loses it when it ends.
"""

from e2e.stores.azure.install import AzuriteUnavailable
from e2e.stores.azure.server import ACCOUNT, KEY, AzureServer

__all__ = ["ACCOUNT", "KEY", "AzureServer", "AzuriteUnavailable"]
