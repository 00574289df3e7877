# Everything runs in .venv, which the first target that needs it sets up. PYTHON=python3.12 make … picks another one.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help demo demo-full cascade cascade-adapt avatars sources evidence test pytest coverage lint wheel bench gpu gpu-dry gpu-page gpu-numbers gpu-wheels clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 18

$(READY): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet torch torchvision
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

demo: $(READY)  ## adapt sources that come with Tenshot to ten images, and compare: a table, an image, a page; five minutes on two cores
	$(BIN)/python scripts/demo.py

demo-full: $(READY)  ## the same, from sources that it trains first: hours
	$(BIN)/python scripts/sources.py --only-train faces64 faces64_stylegan2
	$(BIN)/python scripts/demo.py --sources $${TENSHOT_SOURCES:-runs/sources}

cascade: $(READY)  ## train a cascade on drawn faces, 16 -> 32 -> 64 px, and draw with it: 15 to 30 minutes on two cores
	$(BIN)/python scripts/cascade.py

cascade-adapt: $(READY)  ## the same, then adapt base and stages to ten images and draw with them: some ten minutes more
	$(BIN)/python scripts/cascade.py --few-shot

AVATARS := data/avataaars64.zip data/avataaars64_held_out.zip data/openpeeps64.zip data/lorelei64.zip
avatars: $(AVATARS)  ## draw the public avatars of docs/sources.md into data/; needs node and npm, a few minutes

data/avataaars64.zip: DRAWN = avataaars 4000 64 data/avataaars64
data/avataaars64_held_out.zip: DRAWN = avataaars 1000 64 data/avataaars64_held_out 4000
data/openpeeps64.zip: DRAWN = openPeeps 1500 64 data/openpeeps64
data/lorelei64.zip: DRAWN = lorelei 1500 64 data/lorelei64
$(AVATARS): | scripts/avatars/node_modules/.ready
	node scripts/avatars/draw.mjs $(DRAWN)
	$(PYTHON) -m zipfile -c $@.part $(basename $@)/
	mv $@.part $@

scripts/avatars/node_modules/.ready: scripts/avatars/package.json
	npm install --prefix scripts/avatars --no-audit --no-fund --no-package-lock
	touch $@

sources: $(READY) avatars  ## train the sources that come with the package again, and write docs/sources.md: hours on two cores
	$(BIN)/python scripts/sources.py

evidence: $(READY)  ## repeat docs/evidence.md: hours on two cores, goes on where it was stopped (SET=faces|avatars|cascades|pairs, DRY=1)
	$(BIN)/python -m scripts.evidence $(if $(SET),--set $(SET)) $(if $(DRY),--dry) $(EVIDENCE_OPTIONS)

stopping: $(READY)  ## repeat docs/stopping.md, whether an adaptation is stopped near its optimum: hours on two cores
	$(BIN)/python scripts/stopping.py

test: $(READY)  ## lint, check types and imports, and run the tests beside it
	$(MAKE) --no-print-directory --jobs=2 --keep-going lint pytest

pytest: $(READY)
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

coverage: $(READY)  ## run the tests, half as long again, and print the coverage of each floor
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder --cov --cov-report=
	$(BIN)/python scripts/coverage_by_floor.py

lint: $(READY)  ## style, types, import contract
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

wheel: $(READY)  ## build the wheel, and type-check a project against it in a fresh environment (pyright too, if it is there)
	$(BIN)/python -m pytest tests/installed/check_wheel.py

bench: $(READY)  ## measure against the official code (GUIDED_DIFFUSION=its checkout)
	$(BIN)/python -m benchmarks.compare

gpu:  ## prove and measure everything on this machine's GPU; needs no installation but torch, see benchmarks/gpu
	$(PYTHON) -m benchmarks.gpu $(GPU_OPTIONS)

gpu-dry: $(READY)  ## the same stages, tiny, on the CPU
	$(BIN)/python -m benchmarks.gpu --dry --budget 300 $(GPU_OPTIONS)

gpu-page: $(READY)  ## write benchmarks/results/gpu_<card>.md of the rows of `make gpu` (ROWS: their files)
	$(BIN)/python -m benchmarks.gpu.page $(ROWS)

gpu-numbers: $(READY)  ## put what was measured on GPUs into docs/memory.md, docs/clusters.md and the recipes
	$(BIN)/python -m benchmarks.gpu.numbers

gpu-wheels: $(READY)  ## fill .gpu-wheels with what `make gpu` needs besides torch and Lightning (Python 3.12)
	$(BIN)/python -m benchmarks.gpu.wheels

clean:  ## remove the environment and caches, never runs
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .coverage
