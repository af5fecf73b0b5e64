"""Builds the Dockerfile without Docker and runs the image as Kubernetes would: `make image-proof`.

buildah carries out the Dockerfile, runc runs what comes of it; neither a daemon nor an image registry is needed.
"""
