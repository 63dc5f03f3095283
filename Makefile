PYTHON := .venv/bin/python

.PHONY: help setup demo test lint bench clean

help:
	@echo "make setup   everything needed to develop and test: .venv, container engine, runner image"
	@echo "make demo    run examples/demo.py"
	@echo "make test    linters, type checks and the tests"
	@echo "make lint    linters and type checks only"
	@echo "make bench   run the benchmarks"
	@echo "make clean   remove .venv and what tools have left in the checkout"

setup:
	@tools/setup.sh

demo: setup
	$(PYTHON) examples/demo.py

lint: setup
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright
	.venv/bin/lint-imports

test: lint
	$(PYTHON) -m pytest

bench: setup
	$(PYTHON) -m benchmarks

clean:
	rm -rf .venv .pytest_cache .ruff_cache .import_linter_cache build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
