# One image for the operator, its agents and its router: lora-operator run | agent | router | library.
# docs/image.md says how to build it, what is in it and how that is proved.

# CPython 3.11 on Debian 12, amd64 and arm64. To move to another: change tag and digest together, and `make image-proof`.
ARG PYTHON=python:3.11.15-slim-bookworm@sha256:d29f48a31a8b408ed19272ca1e7b10ebae13b240a27e862d3d4217c528e2e0c3

FROM ${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /src

# Neither gets a pip of its own: the base image's installs into both, and stays behind in this stage.
RUN python3 -m venv --without-pip /opt/lora-operator \
 && python3 -m venv --without-pip /opt/tools

# Optional parts, separated by spaces: "otel" traces, "envoy" the endpoint picker, "library" the user library. Each has a list of its own.
ARG EXTRAS=""
COPY image/requirements image/requirements
RUN set -- --requirement image/requirements/runtime.txt \
 && for extra in ${EXTRAS}; do set -- "$@" --requirement "image/requirements/${extra}.txt"; done \
 && python3 -m pip --python /opt/lora-operator/bin/python3 install --no-compile --only-binary=:all: --require-hashes "$@" \
 && python3 -m pip --python /opt/tools/bin/python3 install --no-compile --only-binary=:all: --require-hashes \
      --requirement image/requirements/build.txt

COPY pyproject.toml README.md LICENSE ./
COPY scheduler scheduler
COPY operator operator
RUN /opt/tools/bin/python3 -m hatchling build --target wheel --directory /wheels \
 && python3 -m pip --python /opt/lora-operator/bin/python3 install --no-compile --no-deps --no-index /wheels/*.whl \
 && python3 -m pip --python /opt/lora-operator/bin/python3 check

# The files that Python and these packages need, and no others: no shell, no compiler, no pip, no package manager.
COPY image/assemble.py image/assemble.py
RUN python3 image/assemble.py /opt/lora-operator /rootfs

FROM scratch
COPY --from=build /rootfs /
ENV PATH=/opt/lora-operator/bin \
    LANG=C.UTF-8 \
    HOME=/tmp \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
ARG VERSION=0.1.0
ARG REVISION=unknown
ARG SOURCE=""
LABEL org.opencontainers.image.title="lora-operator" \
      org.opencontainers.image.description="Keeps LoRA adapters loaded on vLLM pods in Kubernetes" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}" \
      org.opencontainers.image.source="${SOURCE}" \
      org.opencontainers.image.base.name="python:3.11.15-slim-bookworm"
# Numbers, since Kubernetes can tell of numbers alone that they are not root.
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["lora-operator"]
CMD ["--help"]
