"""Brings an adapter's files to where a pod's engine reads them: onto a shared volume, or through the pod's agent.

Which way is chosen pod by pod, by what the pod offers (`delivery_router`); every way proves the files before an engine
sees them.
"""

from lora_operator.delivery.delivery_router import Delivery, DeliveryRouter

__all__ = ["Delivery", "DeliveryRouter"]
