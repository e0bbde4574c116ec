# Everything a newcomer types. `make` alone prints this list.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

BIN := .venv/bin

# Everything a server keeps (database, keys, logs); one directory a checkout, so that two never meet.
ifndef LEASING_STATE_DIR
LEASING_STATE_DIR := $(shell if [ "$$(id -u)" = 0 ]; \
	then printf '/var/lib/leasing/%s-%s' "$$(basename "$$PWD")" "$$(printf %s "$$PWD" | sha256sum | cut -c1-8)"; \
	else printf '%s/.leasing' "$$PWD"; fi)
endif
export LEASING_STATE_DIR

# One test process a core, two at least: much of their time is waiting for containers.
JOBS := $(shell n=$$(nproc); echo $$(( n < 2 ? 2 : n > 8 ? 8 : n )))

##@ Use

.PHONY: run
run: .env-run ## Set this machine up where needed, then serve; Ctrl-C stops
	@$(BIN)/python -m leasing.host setup
	@exec $(BIN)/lease serve

.PHONY: demo
demo: .env-run ## Lease a container, call it, watch it, release it: each step with its time
	@$(BIN)/python -m leasing.host setup
	@exec $(BIN)/lease demo

.PHONY: uninstall
uninstall: .env-run ## Remove this installation's containers, networks, firewall rules and data
	@exec $(BIN)/lease admin uninstall

##@ Work on it

.PHONY: test
test: .env-dev ## Run every test on real parts; ARGS="-k name" picks some
	@$(BIN)/python -m leasing.host setup --for-tests
	@exec $(BIN)/python -m pytest -n $(JOBS) --dist loadgroup $(ARGS)

.PHONY: check
check: .env-dev ## Lint, format, types, import directions, architecture
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-logo
	@exec $(BIN)/python -m pytest -q tests/architecture

.PHONY: format
format: .env-dev ## Put the code in its one format
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: docs
docs: .env-dev ## Write anew the documents that follow from the code
	@$(BIN)/python -m tests.docs.generated

.PHONY: lock
lock: .env-dev ## Pin the newest allowed dependencies, with hashes, anew
	@$(COMPILE) --group build -o requirements.txt pyproject.toml
	@$(COMPILE) --group build --group dev -c requirements.txt -o requirements-dev.txt pyproject.toml

COMPILE := UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile --quiet --no-config --upgrade --universal \
	--python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links

.PHONY: clean
clean: ## Remove the virtual environment and every cache; data stays
	@rm -rf .venv build *.egg-info .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis test-results
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

##@ Measure

BENCHMARKS := $(sort $(basename $(notdir $(wildcard tests/benchmarks/[a-z]*.py))))

.PHONY: bench
bench: $(BENCHMARKS:%=bench-%) ## Run every benchmark; one alone is `make bench-NAME`

.PHONY: $(BENCHMARKS:%=bench-%)
$(BENCHMARKS:%=bench-%): bench-%: .env-dev
	@$(BIN)/python -m leasing.host setup --for-tests
	@$(BIN)/python -m tests.benchmarks.$*

MINUTES ?= 5

.PHONY: chaos
chaos: .env-dev ## Break everything at random under load; MINUTES=30 SEED=7
	@$(BIN)/python -m leasing.host setup --for-tests
	@exec $(BIN)/python -m tests.chaos --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) $(ARGS)

##@ Help

.PHONY: help
help: ## Print this
	@bold= plain=; if [ -t 1 ]; then bold='\033[1m' plain='\033[0m'; fi; \
	awk -v bold="$$bold" -v plain="$$plain" 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s%s%s\n", bold, substr($$0, 5), plain } \
		/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' Makefile
	@printf '\nBenchmarks: %s\n' '$(or $(BENCHMARKS),none yet)'

# The virtual environment; the script decides in milliseconds whether anything is left to do.
.PHONY: .env-run .env-dev
.env-run:
	@python3 -I leasing/host/bootstrap.py
.env-dev:
	@python3 -I leasing/host/bootstrap.py --dev
