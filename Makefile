# Shortcuts for people; CI runs .ci/run.
PYTHON ?= .venv/bin/python

.PHONY: setup test lint format
setup:
	python3 -m venv .venv && .venv/bin/pip install -q -e '.[dev]'
test:
	$(PYTHON) -m pytest
lint:
	$(PYTHON) -m ruff check . && $(PYTHON) -m ruff format --check . && $(PYTHON) -m mypy
format:
	$(PYTHON) -m ruff check --fix . && $(PYTHON) -m ruff format .
