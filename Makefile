# A newcomer needs `make demo` and `make test`; CI also runs `make check`.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin

.PHONY: demo test campaign check benchmark clean

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -qq --upgrade pip
	# Everything in one resolution, so that torch and torchvision fit each other.
	$(BIN)/python -m pip install -qq --editable .
	touch $@

# What tests and checks need beyond that, which nobody who only uses sslkit waits for.
$(VENV)/tested: $(VENV)/installed
	$(BIN)/python -m pip install -qq --editable '.[test,check]'
	touch $@

# Six stages on generated images, two baselines, and a table and pictures at the end.
demo: $(VENV)/installed
	PATH="$(abspath $(BIN)):$$PATH" bash stages/pipelines/demo.sh runs/demo

test: $(VENV)/tested
	$(BIN)/python -m pytest -n 2 -q

# Damaged inputs of every kind, each in a process with bounds: a table, and an error if one was not refused or named.
campaign: $(VENV)/tested
	for seed in 1 2; do $(BIN)/python -m tests.campaign --cases 3000 --seed $$seed || exit 1; done

check: $(VENV)/tested
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

# The ratios in .readme/measured.md; lightly is the PIL pipeline that they compare with.
benchmark: $(VENV)/installed
	$(BIN)/python -m pip install -qq --editable '.[benchmark]'
	for script in cli data prepare step products extract knn linear scale; do $(BIN)/python tests/benchmarks/$$script.py || exit 1; done

clean:
	rm -rf $(VENV) runs build *.egg-info
