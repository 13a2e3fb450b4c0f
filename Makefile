# Every target sets up what it needs: a virtual environment with the pinned versions of requirements.lock.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SITE_STAMP := $(VENV)/.site
BENCH ?=
PEERS ?=
PYTEST_ARGS ?=
WORKERS ?= $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)

.DEFAULT_GOAL := help
.PHONY: help demo test fast check package bench bench-peers docs site pictures drawings lock clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  PYTHON=python3.13 make ... picks the Python; the default is $(PYTHON)"

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: name a newer one, as in make PYTHON=python3.13 ..." >&2; exit 1; }
	@echo "setting up $(VENV) with $$($(PYTHON) --version) (once; a minute or so)"
	@$(PYTHON) -m venv --clear $(VENV) || \
		{ echo "cannot make a virtual environment; on Debian: apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --editable .
	@touch $@

# MkDocs and its theme: only who builds the site waits for them.
$(SITE_STAMP): requirements-site.lock $(STAMP)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --requirement requirements-site.lock
	@touch $@

demo: $(STAMP)  ## Boot three nodes, stream flights, kill the leader, prove that nothing was lost
	@$(BIN)/esctl demo

test: $(STAMP)  ## Run every test but those of make check; raft, dedup and apply must be covered to the last branch
	@# What a thousand processes load is compiled once, and what every worker collects is rewritten once: a file that
	@# cannot be imported ends the run here.
	@$(BIN)/python -m compileall -q esnode esctl tests bench
	@[ -n "$(PYTEST_ARGS)" ] || PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -qqq --collect-only >$(VENV)/.collected \
		|| { cat $(VENV)/.collected >&2; exit 1; }
	@# One worker more than cores, since many tests wait. Files in their own order: by itself xdist begins those with
	@# few tests last, and they take longest.
	@$(BIN)/python -m pytest -q --cov --cov-report=term --numprocesses $(WORKERS) --dist loadfile \
		--no-loadscope-reorder --ignore tests/test_tidy.py $(PYTEST_ARGS)

fast: $(STAMP)  ## Run the tests that wait for nothing
	@$(BIN)/python -m pytest -q -m "not slow" $(PYTEST_ARGS)

check: $(STAMP)  ## Lint, spelling, types, import directions, tidiness
	@$(BIN)/ruff check .
	@$(BIN)/codespell
	@$(BIN)/mypy
	@$(BIN)/mypy docs examples
	@$(BIN)/mypy --package bench.peers
	@$(BIN)/lint-imports --no-logo
	@$(BIN)/python -m pytest -q tests/test_tidy.py

package: $(STAMP)  ## Use the wheel in empty environments, with the lowest and the newest versions
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(BIN)/python -m tests.packaging

bench: $(STAMP)  ## Measure throw-away clusters into bench/results (BENCH="--seconds 60 --only e2e-20k")
	@$(BIN)/python -m bench.suite $(BENCH)

bench-peers: $(STAMP)  ## Measure other systems beside esnode (PEERS="--system nats,esnode --runs 1")
	@PYTHON=$(abspath $(BIN))/python bench/peers/install.sh
	@$(BIN)/python -m bench.peers $(PEERS)

docs: $(STAMP)  ## Write the reference pages of docs/ and the JSON Schemas anew from the code
	@$(BIN)/python docs/make_reference.py
	@$(BIN)/python docs/make_schemas.py

site: $(SITE_STAMP)  ## Build the documents as a site into build/site; a link that leads nowhere is an error
	@PATH="$(abspath $(BIN)):$$PATH" NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "build/site/index.html; with search: $(BIN)/python -m http.server --bind 127.0.0.1 --directory build/site"

pictures: $(STAMP)  ## Take the pictures of the documents anew, on clusters of their own
	@$(BIN)/python docs/make_pictures.py

drawings: $(STAMP)  ## Draw the imports of esctl anew, as they were and as they are (needs graphviz)
	@$(BIN)/python docs/make_drawings.py

lock: $(STAMP)  ## Pin the newest versions that fit pyproject.toml in requirements.lock and requirements-site.lock
	@$(BIN)/python -m pip install -qq --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --extra dev --extra rocksdb \
		--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" \
		pyproject.toml --output-file requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.11 --group site \
		--constraint requirements.lock --no-emit-index-url --no-emit-find-links \
		--custom-compile-command "make lock" --output-file requirements-site.lock

clean:  ## Remove the virtual environment and every cache
	@rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage* dist build
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
