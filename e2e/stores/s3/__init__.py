"""An S3 store on loopback: moto's server, which keeps everything in memory and loses it when it ends."""

from e2e.stores.s3.server import KEYS, PAGE_KEYS, S3Server

__all__ = ["KEYS", "PAGE_KEYS", "S3Server"]
