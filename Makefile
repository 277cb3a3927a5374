# The two commands of a newcomer are `make demo` and `make test`; `make check` is what CI asks for besides.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test check benchmark clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	# One resolution for all, so that torch and torchvision fit each other.
	$(BIN)/python -m pip install -qq --editable '.[test,check]'
	touch $@

# Six stages on images made on the fly, two baselines beside them, a table and pictures at the end.
demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash stages/pipelines/demo.sh runs/demo

test: $(VENV)/installed
	$(BIN)/python -m pytest -n 2 -q

check: $(VENV)/installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# Ratios of the README; lightly is the PIL pipeline they are measured against.
benchmark: $(VENV)/installed
	$(BIN)/python -m pip install -qq --editable '.[benchmark]'
	for script in cli data step extract knn linear; do $(BIN)/python tests/benchmarks/$$script.py || exit 1; done

clean:
	rm -rf $(VENV) runs build *.egg-info
