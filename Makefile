# Two commands do everything on a fresh machine:  make demo  and  make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# A mirror of the datasets and a folder of ImageNet weights beside the checkout are used if they exist.
ifneq ($(wildcard ../shared/data),)
export GROUNDGLASS_MIRROR ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/weights),)
export GROUNDGLASS_WEIGHTS ?= $(abspath ../shared/weights)
endif

.PHONY: demo test check docs bundles segmenter detector usual-detector clean

demo: $(VENV)/.installed-evaluate
	$(BIN)/groundglass demo -o demo-report
	@echo "Open demo-report/report.html in a browser."

test: check
	$(BIN)/pytest -n 2 --dist worksteal --durations 15

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The documentation site, docs/_build/html/index.html; a warning, such as a broken link, is an error. First the commands of
# its tutorials, the examples in docstrings and the notebooks are run; the site shows the notebooks with their results.
docs: export PATH := $(abspath $(BIN)):$(PATH)
docs: export OMP_NUM_THREADS = 1
docs: export TTY_COMPATIBLE = 0
docs: $(VENV)/.installed-dev
	rm -rf .docs docs/_build && cp -r docs .docs
	$(BIN)/pytest -n 2 -m tutorial
	$(BIN)/pytest --doctest-modules $(shell grep -rl '>>> ' src --include='*.py')
	$(BIN)/pytest -n 2 --nbmake --overwrite .docs/notebooks
	$(BIN)/python -m sphinx -b html -W --keep-going -q .docs docs/_build/html
	@echo "Open docs/_build/html/index.html in a browser."

SHIPPED := src/groundglass/bundle/shipped

# Rebuild the shipped bundles: trained on the training set, chosen on the validation set, with their figures on the
# test set and on another hospital recorded in their cards. The segmenter comes first: the detector's evaluation
# uses it to recognise what is not a chest CT.
bundles: segmenter detector usual-detector

segmenter: $(VENV)/.installed-dev
	$(BIN)/groundglass train recipes/lungs-lite0-first.yaml --overwrite
	$(BIN)/groundglass train recipes/lungs-lite0.yaml --overwrite
	$(BIN)/groundglass bundle runs/lungs-lite0 -o $(SHIPPED)/lungs-lite0
	$(BIN)/python benchmarks/refusals.py --fit $(SHIPPED)/lungs-lite0
	$(BIN)/groundglass evaluate -b lungs-lite0 --data covid19-ct-seg --record -o evaluations/covid19-ct-seg

detector: $(VENV)/.installed-dev
	$(BIN)/groundglass train recipes/detector-lesions.yaml --overwrite
	$(BIN)/groundglass bundle runs/detector-lesions -o $(SHIPPED)/detector-lesions
	$(BIN)/groundglass evaluate --leave-one-source-out recipes/detector-lesions.yaml \
		-o evaluations/leave-one-source-out --record-into detector-lesions
	$(BIN)/groundglass calibrate evaluations/leave-one-source-out/predictions.csv -b detector-lesions \
		--setting differential --source covid-ct --coverage 0.75
	$(BIN)/groundglass calibrate evaluations/leave-one-source-out/predictions.csv -b detector-lesions \
		--setting screening --source sarscov2-ct --coverage 0.85
	$(BIN)/groundglass aggregate -b evaluations/leave-one-source-out/sarscov2-ct --data sarscov2-ct \
		--setting screening -o evaluations/aggregation --record-into detector-lesions
	$(BIN)/groundglass evaluate -b detector-lesions --data covid-ct --record -o evaluations/covid-ct

# The usual transfer learning, which does not generalise, for comparison with the default detector.
usual-detector: $(VENV)/.installed-dev
	$(BIN)/groundglass train recipes/covid-ct-lite0.yaml --overwrite
	$(BIN)/groundglass bundle runs/covid-ct-lite0 -o $(SHIPPED)/covid-ct-lite0
	$(BIN)/groundglass aggregate -b covid-ct-lite0 --data sarscov2-ct -o evaluations/usual-aggregation --record
	$(BIN)/groundglass evaluate -b covid-ct-lite0 --data covid-ct --record -o evaluations/usual-covid-ct
	$(BIN)/groundglass evaluate -b covid-ct-lite0 --data sarscov2-ct --record -o evaluations/usual-sarscov2-ct

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed-evaluate: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable '.[evaluate]'
	touch $@

# torch and torchvision by exact version first: a range would pull torch's CUDA build and gigabytes with it.
$(VENV)/.installed-dev: $(VENV)/.installed-evaluate
	$(PIP) $(shell grep -E '^torch(vision)?==' constraints.txt)
	$(PIP) --editable '.[train,serve,pacs,scale,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-report
