# `make help` lists the targets. Each does what it needs first, on a fresh machine too; doing it again is quick.
.DEFAULT_GOAL := help
PYTHON := .venv/bin/python
BREWLINE := .venv/bin/brewline
SITE := NO_MKDOCS_2_WARNING=1 .venv/bin/mkdocs
ARGS ?=
IN ?= libs services sandbox
# One more than there are cores: a test with sidecars waits most of its time.
WORKERS ?= $(shell echo $$(($$(getconf _NPROCESSORS_ONLN) + 1)))
# Where it is set, as in many images, each process would compile every module anew: seconds for each one that is started.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help setup dapr-cli run up down env token test test-unit test-more test-containers test-scale chaos check lock contracts histories docs images deploy undeploy test-k8s bench clean

help: ## this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "make %-16s%s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'brewline             the command line (after make setup): export PATH="$(CURDIR)/.venv/bin:$$PATH"; brewline --help'

setup: ## the Python environment, Dapr's programs and Redis
	@tools/setup.sh

dapr-cli: ## the dapr CLI, for who types `dapr run -f dapr.yaml`; nothing else here needs it
	@tools/setup.sh cli

run: ## start everything, place one sample order, show what came of it; Ctrl-C stops it all
	@tools/setup.sh run && exec $(BREWLINE) run

up: ## the same in the background; starts again what has died
	@tools/setup.sh run && exec $(BREWLINE) up

down: ## stop what runs in the background
	@tools/setup.sh environment && exec $(BREWLINE) down

env: ## the tokens, for `eval "$(make -s env)"` before a plain `dapr run -f dapr.yaml`; APP=order-service: what that one has
	@tools/setup.sh environment >&2
	@exec $(BREWLINE) env $(APP)

# The values reach the shell through the environment, so that no quote or space in them means anything.
token: ## a bearer token: ROLE=user|staff|admin [SUB=…] [TENANT=…] [TENANT_NAME=…]; alone on stdout
	@tools/setup.sh environment >&2
	@exec $(BREWLINE) token $${ROLE:+"--role=$$ROLE"} $${SUB:+"--sub=$$SUB"} \
		$${TENANT:+"--tenant=$$TENANT"} $${TENANT_NAME:+"--tenant-name=$$TENANT_NAME"}

test: setup ## every test, with real sidecars, on every core; ARGS goes to pytest (-n 0: one after the other)
	@exec $(PYTHON) -m pytest -n $(WORKERS) $(ARGS)

test-unit: ## the tests that need no sidecar, broker or database server; IN=services/payment: only those there
	@tools/setup.sh environment
	@exec $(PYTHON) -m pytest -n $(WORKERS) -p no:schemathesis -m "not integration and not more and not chaos and not containers and not k8s and not scale" $(IN) $(ARGS)

test-more: setup dapr-cli ## the tests that need what `make test` does not get: the dapr CLI, a browser, an S3 server, WireMock, the bench's engines
	@tools/setup.sh browser
	@tools/setup.sh prometheus
	@tools/setup.sh s3
	@tools/setup.sh wiremock
	@tools/setup.sh examples
	@tools/setup.sh bench
	@exec $(PYTHON) -m pytest -m more $(ARGS)

test-containers: setup images ## one order through the images, in containers, on a Docker engine or on podman
	@exec $(PYTHON) -m pytest -m containers tests/containers $(ARGS)

test-scale: setup ## past one machine: two replicas of every service on Kafka and PostgreSQL, and the moves there; 5 minutes
	@tools/setup.sh production
	@tools/setup.sh kafka
	@tools/setup.sh prometheus
	@exec $(PYTHON) -m pytest -m scale $(ARGS)

chaos: setup ## the tests that take minutes each: crashes and large numbers; and each property on ten times as many examples
	@EXAMPLES=10 exec $(PYTHON) -m pytest -n $(WORKERS) -m "chaos or (hypothesis and not integration)" $(ARGS)

check: ## format, lint, types, import rules, contracts and manifests up to date, the documentation's links
	@tools/setup.sh environment
	.venv/bin/ruff format --check
	.venv/bin/ruff check
	.venv/bin/pyright
	$(PYTHON) tools/import_rules.py
	$(PYTHON) tools/contracts.py --check
	$(PYTHON) tools/manifests.py
	$(SITE) build --strict --quiet

lock: ## resolve requirements.lock anew after a dependency was added; UPGRADE=1 takes the newest of all
	@tools/setup.sh lock

contracts: ## write contracts/ anew from the code
	@tools/setup.sh environment
	$(PYTHON) tools/contracts.py

histories: setup ## record anew what the workflow engine keeps of each workflow, for the test that replays it; before a release
	@exec $(PYTHON) tests/integration/record_histories.py

docs: ## docs/ as a site, with the reference made from the code, to var/site; ARGS=serve: at a local port, as it is written
	@tools/setup.sh environment
	$(SITE) $(or $(ARGS),build --strict --quiet)

# Names are REGISTRY/brewline/order:TAG; ENGINE is docker, podman or buildah; BASE_IMAGE=local makes a base of Debian's
# packages, which is also what is done, and said, where no registry gives the usual one.
images: ## an image of each service: [ENGINE=…] [REGISTRY=localhost] [TAG=latest] [BASE_IMAGE=…]; ARGS=order: only that
	@tools/setup.sh containers
	@exec $(PYTHON) tools/images.py $${ENGINE:+"--engine=$$ENGINE"} $${REGISTRY:+"--registry=$$REGISTRY"} \
		$${TAG:+"--tag=$$TAG"} $${BASE_IMAGE:+"--base=$$BASE_IMAGE"} $(ARGS)

deploy: ## to the cluster of kubectl's current context, where Dapr is: OVERLAY=local|production [TAG=…]; waits, tells the addresses
	@tools/setup.sh environment
	@exec $(PYTHON) tools/deploy.py deploy $${OVERLAY:+"--overlay=$$OVERLAY"} $${TAG:+"--tag=$$TAG"} $(ARGS)

undeploy: ## the namespace and all that is in it, secrets and data too: OVERLAY=…
	@tools/setup.sh environment
	@exec $(PYTHON) tools/deploy.py undeploy $${OVERLAY:+"--overlay=$$OVERLAY"} $(ARGS)

test-k8s: setup ## the tests in a real Kubernetes of one node, as root on Debian; its programs are built once, in 10 minutes
	@tools/setup.sh cluster
	@tools/setup.sh containers
	@$(PYTHON) tools/images.py --tag=k8s --archive=var/images/k8s.tar
	@exec $(PYTHON) -m pytest -m k8s -rs $(ARGS)

bench: setup ## measure, beside two durable engines: 7 minutes, to var/bench; ARGS=--help tells the rest, ARGS=full takes 21
	@tools/setup.sh bench
	@exec $(PYTHON) tests/bench/bench.py $(ARGS)

clean: down ## stop, and delete data, logs, built programs and the environment
	rm -rf var tools/bin .venv .dapr .pytest_cache .ruff_cache .hypothesis .import_linter_cache
