# make repro   set up everything and rebuild the paper
# make test    set up everything and run the tests (make test-fast: the quick ones)
# make verify  set up everything, run what is committed anew in a clone, and compare
# make site    set up everything and build site/ from the committed run
# make archive pack the sources and the cached results of the last run into dist/, to evaluate without training
PYTHON ?= python3
# Tests run in as many processes as there are cores, up to four; each takes up to 3 GB.
SEVERAL = --numprocesses logical --maxprocesses 4 --dist loadgroup
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: setup repro verify test test-fast test-long site archive lint lock

setup: .venv/.ready

.venv/.ready: requirements.txt pyproject.toml
	@git rev-parse --git-dir >/dev/null 2>&1 || { echo "this copy has no .git, which DVC needs; make one: git init && git add --all && git commit --message copy"; exit 1; }
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "takes Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

repro: setup
	walls unlock
	dvc --wait-for-lock repro
	walls readme
	walls summary

verify: setup
	walls verify

test: setup
	pytest $(SEVERAL)

# No stage of the pipeline, no browser, no input by the hundred, nothing of more than four seconds: while working.
test-fast: setup
	pytest $(SEVERAL) -m "not long and not pipeline and not browser and not bulk and not slow"

site: setup
	walls site

archive: setup
	walls pack

# What .pre-commit-config.yaml lists, over everything: format, lint, types, stripped notebooks.
lint: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --editable ".[dev]"
	pre-commit run --all-files

# What needs longer: every kind of stage killed at random moments, and other faults; and Quantus, without the
# opencv-python that it asks for: the lock's opencv-python-headless has the same files.
QUANTUS = import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["quantus"])
test-long: setup
	.venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps $$(.venv/bin/python -c '$(QUANTUS)')
	pytest $(SEVERAL) -m long

# The lock: exact versions and hashes, for every platform and Python from 3.11 on.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --quiet \
	  --custom-compile-command "make lock" --extra artefact --output-file requirements.txt pyproject.toml
