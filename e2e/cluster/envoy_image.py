"""Envoy for nodes that reach no registry: that of the wheel, on the operator's libraries, by the name in the chart."""

from __future__ import annotations

import tempfile
from pathlib import Path

from e2e.cluster.archive import Image, layer_of_files, read_image, write_archive
from e2e.cluster.cluster import Cluster
from e2e.cluster.errors import ImageError
from e2e.cluster.own_images import OPERATOR_IMAGE, OwnImages
from e2e.envoy import EnvoyUnavailable, find_envoy
from e2e.envoy.install import VERSION

ENVOY_IMAGE = f"docker.io/envoyproxy/envoy:distroless-v{VERSION}"
PLACE = "usr/local/bin"


def load_envoy(cluster: Cluster, own: OwnImages) -> None:
    """Put it onto every node that has no image of this name.

    Raises:
        ImageError: there is no Envoy, or containerd refuses.
    """
    if all(node.has_image(ENVOY_IMAGE) for node in cluster.nodes()):
        return
    archive = own.archive.with_name("envoy.tar")
    try:
        write_envoy_image(own, find_envoy(), archive)
        cluster.load(archive, ENVOY_IMAGE)
    except EnvoyUnavailable as error:
        raise ImageError(str(error)) from error
    finally:
        archive.unlink(missing_ok=True)


def write_envoy_image(own: OwnImages, program: Path, to: Path) -> None:
    """Its libraries are those of C alone, which Python needs too; so are the certificates of authorities."""
    with tempfile.TemporaryDirectory(prefix=".envoy-", dir=to.parent) as scratch:
        base, _ = read_image(own.archive, OPERATOR_IMAGE, Path(scratch))
        top = layer_of_files({f"{PLACE}/envoy": program}, Path(scratch, "top.tar"))
        write_archive([Image([ENVOY_IMAGE], [*base, top], {"Env": [f"PATH=/{PLACE}"]})], to)
