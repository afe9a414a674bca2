# `make demo` and `make test` each do all their own set-up.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FUZZER := $(VENV)/.fuzzer
OTHER := .venv-$(notdir $(PYTHON))
MINUTES ?= 1
# A file at a time in each of three processes, for two cores, because tests of daemons and pages often wait. Folders
# whose files take long come first, so that all end at the same time.
ON_TWO := -n 3 --dist loadfile --no-loadscope-reorder
LONGEST := tests/wheel tests/integration tests/web
IN_ORDER := $(LONGEST) $(filter-out $(LONGEST),$(patsubst %/,%,$(wildcard tests/*/)))
.DEFAULT_GOAL := help
.PHONY: help setup demo test test-ci test-slow test-torch test-wheel test-python wheels deb test-netem sim fuzz attack soak docs docs-site figure lint format clean

help: ## Show this help
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: $(READY) ## Install everything into .venv and fetch the weights

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v <= (3, 13) else \
	    "TensorFlow needs Python 3.10 to 3.13, but $(PYTHON) is %d.%d: make PYTHON=python3.12 ..." % v)'
	@echo "Installing everything into $(VENV), once: 3 GB, which takes a few minutes and says nothing."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@$(BIN)/gradfec weights
	@touch $@

demo: $(READY) ## Run cloud, loss injector and edge on this machine, without and with protection
	$(BIN)/gradfec demo $(ARGS)

test: $(READY) ## Run all tests but the slow ones, on two cores; with ARGS=... those that it names, in one process
	$(BIN)/python -m pytest $(or $(ARGS),$(ON_TWO) $(IN_ORDER))

test-slow: $(READY) ## Run the slow tests, which check once more what faster ones do; before a release, or nightly
	$(BIN)/python -m pytest $(ON_TWO) -m slow $(ARGS)

test-ci: $(READY) ## Run all of `test` and `test-wheel`, together on two cores
	$(BIN)/python -m pytest $(ON_TWO) -m "not netem and not slow and not torch" $(IN_ORDER)

test-torch: $(READY) ## Install PyTorch beside the rest, 1.2 GB, and run the tests that need it, a process a file
	-$(BIN)/python -m pip install --quiet --disable-pip-version-check 'torch>=2.5'
	set -e; for file in $$(grep -rl mark.torch tests --include='*.py'); do $(BIN)/python -m pytest -m torch $$file; done

test-wheel: $(READY) ## Install the wheel into an empty environment, as an edge and for the demo; 700 MB, for a while
	$(BIN)/python -m pytest -m wheel tests/wheel

test-python: ## Run what needs no TensorFlow on another Python, PYTHON=python3.14; TensorFlow is not for 3.14
	@$(PYTHON) -m venv $(OTHER)
	@$(OTHER)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	PYTHONPATH=. $(OTHER)/bin/python -m pytest $(ON_TWO) $(or $(ARGS),tests/common tests/host tests/edge tests/cloud tests/cli)

wheels: $(READY) ## Print for which Pythons each extra can be installed, on amd64 and arm64
	$(BIN)/python -m tests.wheel.wheels $(ARGS)

deb: ## Build a Debian package of the edge, or FOR=cloud, in dist
	deploy/deb.sh $(or $(FOR),edge)

test-netem: $(READY) ## Compare the injector with the kernel's netem, in a small virtual machine; as root, Debian
	$(BIN)/python -m pytest -m netem -s tests/netem

sim: $(READY) ## Run the protocol against a hostile network: SEEDS=1000 of them, SEED=123 alone, ARGS=--planted
	$(BIN)/python -m tests.sim $(if $(SEED),--first $(SEED) --seeds 1,--seeds $(or $(SEEDS),200)) $(ARGS)

attack: $(READY) ## Attack a real cloud for SECONDS=120 while an honest edge sends frames
	$(BIN)/python -m tests.soak.attack --seconds $(or $(SECONDS),120)

soak: $(READY) ## Run the real daemons through faults and attacks for MINUTES=60
	$(BIN)/python -m tests.soak.soak --minutes $(or $(MINUTES),60) $(ARGS)

fuzz: $(FUZZER) ## Fuzz each target, or TARGET=name, for MINUTES=1; TARGET=name INPUT=file runs one input
	$(BIN)/python -m tests.fuzz.run --minutes $(MINUTES) $(if $(TARGET),--target $(TARGET)) $(if $(INPUT),--input $(INPUT))

$(FUZZER): $(READY)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[fuzz]'
	@touch $@

docs: $(READY) ## Write docs/reference/settings.md anew, from the commands
	$(BIN)/gradfec config reference --markdown > docs/reference/settings.md

# Not with --quiet: it hides the warnings from --strict.
docs-site: $(READY) ## Build the docs as a site in site/; a link, an anchor or a page that is not there ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

figure: $(READY) ## Take docs/figures/live-page.png anew, from real daemons in a real browser
	$(BIN)/python -m tests.web.figure $(ARGS)

lint: $(READY) ## Check style, types and layering
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Format the code
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

clean: ## Remove what make has made; the cached weights stay
	rm -rf $(VENV) .venv-* build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
