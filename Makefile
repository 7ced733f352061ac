# Two commands for a newcomer: `make demo` and `make test`. Both set up .venv by themselves.
.POSIX:
.PHONY: help setup dev demo test test-slow lint bench train lock clean

BIN = .venv/bin
PYTEST = $(BIN)/python -m pytest
# Workers take a file each, the long ones first (tests/conftest.py); one file alone is quicker without them.
WORKERS = -n auto --dist loadfile --no-loadscope-reorder

help:
	@echo "make demo        a day in Anping, checked by itself (SERVE=1 stays up)"
	@echo "make test        lint and the whole suite"
	@echo "make test-slow   endurance runs"
	@echo "make bench       measurements, as ratios of one run"
	@echo "make setup       only .venv"

setup:
	@deploy/setup.sh runtime

dev:
	@deploy/setup.sh dev

demo: setup
	@$(BIN)/tipline demo $(if $(SERVE),--serve,)

test: dev lint
	@$(PYTEST) -m "not slow" $(if $(ARGS),$(ARGS),$(WORKERS))

test-slow: dev
	@$(PYTEST) -m slow --timeout 3600 $(ARGS)

lint: dev
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache

bench: dev
	@$(BIN)/python -m bench $(ARGS)

train: dev
	@$(BIN)/python training/train.py

lock:
	@requirements/lock.sh

clean:
	rm -rf .venv .venv-boot .setup-lock build dist .mypy_cache .ruff_cache .hypothesis report.html
