# Two commands do everything on a fresh machine:  make demo  and  make test
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# A mirror of the datasets and a folder of ImageNet weights beside the checkout are used where they are.
ifneq ($(wildcard ../shared/data),)
export GROUNDGLASS_MIRROR ?= $(abspath ../shared/data)
endif
ifneq ($(wildcard ../shared/weights),)
export GROUNDGLASS_WEIGHTS ?= $(abspath ../shared/weights)
endif

.PHONY: demo test check bundles clean

demo: $(VENV)/.installed
	$(BIN)/groundglass demo -o demo-report
	@echo "Open demo-report/report.html in a browser."

test: check
	$(BIN)/pytest -n 2

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The shipped bundle, made again: trained on covid-ct's train part, chosen on its validation part, and its figures
# on the test part and on another hospital entered into its card.
bundles: $(VENV)/.installed-dev
	$(BIN)/groundglass train recipes/covid-ct-lite0.yaml --overwrite
	$(BIN)/groundglass bundle runs/covid-ct-lite0 -o src/groundglass/detect/bundles/covid-ct-lite0
	$(BIN)/groundglass evaluate covid-ct-lite0 covid-ct --record -o evaluations/covid-ct
	$(BIN)/groundglass evaluate covid-ct-lite0 sarscov2-ct --record -o evaluations/sarscov2-ct

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(PIP) --editable .
	touch $@

# torch and torchvision by exact version first: a range would pull torch's CUDA build and gigabytes with it.
$(VENV)/.installed-dev: $(VENV)/.installed
	$(PIP) $(shell grep -E '^torch(vision)?==' constraints.txt)
	$(PIP) --editable '.[train,dev]'
	touch $@

clean:
	rm -rf $(VENV) demo-report
