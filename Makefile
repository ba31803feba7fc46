# The two commands that matter: `make demo` and `make test`. Both make the environment they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH ?= torch -c constraints.txt

.PHONY: install demo test test-all lint types docs lock clean

install: $(BIN)/stavatar

# Everything is checked against the hashes in requirements.lock, but torch, whose builds differ: what it needs besides
# comes first, so that it finds that there. A machine with a GPU keeps the torch that suits it: make install TORCH=torch
$(BIN)/stavatar: pyproject.toml requirements.lock constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/python -m pip check
	touch $@

# After constraints.txt or the requirements in pyproject.toml have changed. Its tool stays out of the environment.
lock: install
	$(PYTHON) -m venv $(VENV)/lock
	$(VENV)/lock/bin/python -m pip install --quiet uv
	$(VENV)/lock/bin/python scripts/lock_requirements.py

demo: install
	$(BIN)/stavatar assets
	$(BIN)/stavatar demo -o demo

# Most tests use one core. Files of tests stay together, for what their tests share; threads that wait leave the cores
# to the other process.
PYTEST := OMP_WAIT_POLICY=passive $(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test: install lint types
	$(BIN)/stavatar assets
	$(PYTEST) -m 'not slow'

test-all: install
	$(PYTEST)

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: install
	$(BIN)/mypy

# Every part of this machine's speed and memory, into bench.json; on a machine that does nothing else.
bench: install
	$(BIN)/stavatar bench --full --train --memory -o bench.json

# Pages into site/. With npm at hand, diagrams are drawn by a copy of Mermaid; else they are shown as text.
docs: install
	-command -v npm > /dev/null && mkdir -p docs/javascripts && cd docs/javascripts && \
		tar -xzOf "$$(npm pack --silent mermaid@11)" package/dist/mermaid.min.js > mermaid.min.js && rm -f mermaid-*.tgz
	$(BIN)/mkdocs build --strict

clean:
	rm -rf $(VENV) demo site
