# Everything runs in a virtual environment that each target sets up for itself.
#
#   make fuzz            fuzz the running kernel for a minute on all processors   TIME=600 ARGS='--workers 1'
#   make test            all fast tests                         ARGS='-k mremap'
#   make slow            the slow tests
#   make check           format, lint, types, generated files, fast tests
#   make selftest        does fuzzing find planted mistakes?
#   make matrix          the corpus on every known kernel, those that are missing fetched from Debian's archive
#   make repro           every program of the corpus as a C program, built and run: does it say what vmadiff says?
#   make mutants         wrong patches to the kernel's mm/, each built and searched for (an hour)
#   make ablation        what guidance brings: planted mistakes searched for with and without it (an hour)
#   make gallery         the showcase anew: bugs from an empty corpus to reproducers (docs/gallery/)
#   make bench           speeds, as a table and in bench/results.json
#   make peers           vmadiff beside Hypothesis, Atheris, trinity and stress-ng, as a table and in the same file
#   make generate        write generated files anew
#   make format          rewrite the sources in the common format
#   make clean           remove what the above made (findings in .vmadiff/ stay)
#
# PYTHON=python3.12 chooses the interpreter, VENV=dir the place of the environment.

VENV ?= .venv
TIME ?= 60
BIN := $(VENV)/bin
PACKAGES := abi cachedir fuzz kernel_bridge kernels model
export PYTHON

.PHONY: fuzz test slow check generate selftest matrix repro mutants ablation gallery bench peers format clean venv

fuzz: venv
	@$(BIN)/vmadiff fuzz --time $(TIME) $(ARGS)

test: venv
	@$(BIN)/python -m pytest -q -n auto --dist worksteal $(ARGS)

slow: venv
	@$(BIN)/python -m pytest -q -m slow $(ARGS)

check: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m abi.header --check
	$(BIN)/python -m fuzz.changes --check
	$(BIN)/python -m fuzz.samples --check
	$(BIN)/python -m fuzz.domain --check
	$(BIN)/python -m pytest -q -n auto --dist worksteal $(ARGS)

generate: venv
	$(BIN)/python -m abi.header
	$(BIN)/python -m fuzz.changes
	$(BIN)/python -m fuzz.samples
	$(BIN)/python -m fuzz.domain

selftest: venv
	@$(BIN)/vmadiff selftest $(ARGS)

matrix: venv
	@$(BIN)/vmadiff matrix --fetch --workers 2 $(ARGS)

mutants: venv
	@$(BIN)/python bench/mutants/run.py $(ARGS)

ablation: venv
	@$(BIN)/python bench/ablation.py $(ARGS)

gallery: venv
	@$(BIN)/python bench/gallery.py $(ARGS)

repro: venv
	@$(BIN)/python -m pytest -q -m slow tests/fuzz/test_repro.py $(ARGS)

bench: venv
	@$(BIN)/python bench/run.py $(ARGS)
	@$(BIN)/python bench/guest.py $(ARGS)

peers: venv
	@$(BIN)/python bench/peers.py $(ARGS)

format: venv
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(PACKAGES) tests bench -name __pycache__ -type d -exec rm -rf {} +

venv:
	@sh .ci/venv.sh $(VENV)
