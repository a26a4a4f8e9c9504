# Two commands set everything up: `make demo` and `make test`. Both make .venv and reuse it while nothing changed.
# `make contract` runs the tests of the families against the oldest and the newest diffusers that are allowed.
PYTHON ?= python3
PROMPT ?= a cat and a red balloon
BIN := .venv/bin

.PHONY: demo test contract clean

demo: .venv/demo.stamp
	$(BIN)/probe trace "$(PROMPT)" --out out/demo --overwrite
	@echo
	@echo "The report:        $(CURDIR)/out/demo/report.html   (open it in a browser)"
	@echo "The dashboard:     $(BIN)/probe dashboard           (then open the address it prints)"

test: .venv/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

contract: .venv/test.stamp
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.contract

.venv/demo.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dashboard]' --constraint constraints.txt
	touch $@

.venv/test.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[dashboard,dev]' --constraint constraints.txt
	touch $@

clean:
	rm -rf .venv out build dist
