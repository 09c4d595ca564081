# `make demo` and `make test` create what they need; only Python 3.11 has to be there.
PYTHON ?= python3.11
BIN := .venv/bin

.PHONY: demo test clean

demo: .venv/.ready
	$(BIN)/python examples/demo.py demo.png

test: .venv/.ready
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/ruff check src tests examples benchmarks
	$(BIN)/mypy
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 --dist loadfile

# The stamp is made last: an install that was cut off starts again.
.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf .venv demo.png
