# What a person types. Each target stands on its own on a fresh machine; `make help` lists them.

.DEFAULT_GOAL := help
SHELL := /bin/sh
BIN := .venv/bin

# The whole test run is bounded; a single test is bounded by pytest's own timeout (pyproject.toml).
MINUTES := 40
BOUND := $(if $(shell command -v timeout),timeout --foreground --signal=INT --kill-after=30 $(MINUTES)m,)
PYTEST := $(BOUND) $(BIN)/pytest
# A worker for each core: with more, what must hold while things restart is starved. Tests that share a costly fixture
# stay together, and begin in the order that tests/doubles/run_order.py says.
PARALLEL := -n auto --dist loadgroup --no-loadscope-reorder
# What an ordinary user's machine does otherwise: run once more as one, if we are root.
AS_USER := tests/node tests/capture tests/live/test_life.py

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: venv
venv: ## make .venv with everything the project needs (only what changed is installed)
	@scripts/venv dev

.PHONY: demo
demo: ## a mesh on this machine with the Bookinfo sample in it; prints the page's address
	@scripts/venv runtime
	@$(BIN)/ostria demo

.PHONY: test
test: lint types ## everything that must hold before a change lands
	$(PYTEST) $(PARALLEL)
	@if [ "$$(id -u)" = 0 ]; then $(MAKE) --no-print-directory as-user; fi

.PHONY: as-user
as-user: venv ## the tests of pods once more, as an ordinary user
	@code=0; scripts/as-user sh -c 'exec $(PYTEST) $(AS_USER) $(PARALLEL) -q -r f -p no:cacheprovider --basetemp=$$HOME/pt' || code=$$?; \
	if [ $$code = 69 ]; then echo "as-user: this machine lets root become nobody else; left out" >&2; exit 0; fi; exit $$code

.PHONY: lint
lint: venv ## ruff: rules and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

.PHONY: types
types: venv ## mypy, strict
	$(BIN)/mypy

.PHONY: unit
unit: venv ## the tests that start no Envoy
	$(PYTEST) $(PARALLEL) -m "not envoy"

.PHONY: live
live: venv ## the tests against a real Envoy
	$(PYTEST) $(PARALLEL) -m envoy

.PHONY: fuzz
fuzz: venv ## the laws again, with new examples each time (make test always tries the same)
	$(PYTEST) $(PARALLEL) -m hypothesis --hypothesis-profile=fuzz

.PHONY: soak
soak: venv ## an hour of certificates that live for a minute, under load, one root after another; writes soak.json
	OSTRIA_SOAK=$${OSTRIA_SOAK:-3600} $(BIN)/pytest tests/agent/test_rotation_envoy.py -q -p no:cacheprovider

.PHONY: bench
bench: venv ## measure everything and write docs/benchmarks.md
	PYTHONPATH=tests:. $(BIN)/python -m benchmarks

.PHONY: pictures
pictures: venv ## draw the pictures of README.md anew, from a mesh that is started for it
	$(BIN)/python scripts/pictures.py

.PHONY: lock
lock: ## resolve pyproject.toml into requirements/*.txt (needs uv)
	scripts/lock

.PHONY: schemas
schemas: ## pack the schemas of Kubernetes' kinds that the API server ships
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && python3 -m venv "$$folder" && \
	"$$folder/bin/pip" --quiet install kubernetes-validate==1.37.0 && \
	PYTHONPATH=src "$$folder/bin/python" scripts/pack_schemas.py src/ostria/kubeapi/schemas.bin

.PHONY: audit
audit: venv ## what we ship that others wrote (dist/ostria.cdx.json), its licences, and advisories against it
	@scripts/audit

.PHONY: clean
clean: ## remove everything that was made here, .venv included
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
