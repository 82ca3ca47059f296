# Every target sets up what it needs in .venv first; what is already there costs nothing.
# Needs only Python 3.11 or newer, gcc and make. Another interpreter: make env PYTHON=/path/to/python3.11

PYTHON ?= $(firstword $(foreach name,python3.11 python3,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip install --quiet --disable-pip-version-check --no-compile
# A stamp names the requirement files that it stands for: editing a pin repeats the steps that depend on it, only those.
STAMPS := $(VENV)/stamps
stamp = $(STAMPS)/$(1)-$(shell cat $(2:%=requirements/%.txt) | cksum | cut -d' ' -f1)
CREATED := $(STAMPS)/created
CORE := torch runtime constraints onedl
TORCH := $(call stamp,torch,torch)
LIBRARIES := $(call stamp,libraries,$(CORE))
DEMO := $(call stamp,demo,$(CORE) demo)
OPERATORS := $(call stamp,operators,$(CORE) build)
FULL := $(call stamp,full,$(CORE) build onedl_detection segmentation demo contract remote export parquet ray dev docs)
TEST_ARGS ?=
# Empty: Python keeps its byte code even where the environment says otherwise. Compiling the libraries takes 8 seconds a process.
export PYTHONDONTWRITEBYTECODE :=
PYTEST = $(PY) -m pytest -n auto --maxprocesses=4 --dist worksteal --durations=25
DETECT ?=
BENCHMARKS ?= backbone contraction inference loss replay saving sources training scaling store

.PHONY: help env env-demo demo test coverage lint bench docs
.DELETE_ON_ERROR:

help:
	@echo 'make env    set up everything in .venv, with the compiled operators (7 minutes on 2 cores, once)'
	@echo 'make demo   teacher, store and distilled student on real handwriting (set-up 2 minutes, once; then 6 minutes)'
	@echo 'make demo DETECT=1   the same, then detectors, which need the compiled operators (sets up like `make env`; 3 minutes more)'
	@echo 'make test   lint, then all tests (sets up like `make env`)'
	@echo 'make coverage   all tests with line coverage of mmtinyvit/, child processes too, by file and in total'
	@echo 'make lint   ruff check'
	@echo 'make bench  the short forms of the speed benchmarks (minutes); docs/en/speed.md has the long ones'
	@echo 'make docs   build the documentation into site/'

env: $(FULL)
	@echo 'The environment is ready: $(PY)'

env-demo: $(DEMO)

demo: $(if $(filter 1,$(DETECT)),$(FULL),$(DEMO))
	$(PY) tools/demo.py $(if $(filter 1,$(DETECT)),--detect)

test: lint
	$(PYTEST) $(TEST_ARGS)

coverage: $(FULL)
	$(PYTEST) --cov --cov-report= $(TEST_ARGS)
	-$(PY) -m coverage combine --append --quiet  # of child processes that ended after the tests
	$(PY) -m coverage report

lint: $(FULL)
	$(PY) -m ruff check .

bench: $(FULL)
	@for name in $(BENCHMARKS); do echo "benchmarks/$$name.py"; $(PY) benchmarks/$$name.py --quick || exit 1; done

docs: $(FULL)
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict  # it advertises on every build

# ---------------------------------------------------------------- set-up, one stamp per step
$(CREATED):
	@test -n '$(PYTHON)' || { echo 'mmtinyvit needs Python 3.11 or newer, and no python3 was found: install it, or name it with PYTHON=...'; exit 1; }
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo 'mmtinyvit needs Python 3.11 or newer, and $(PYTHON) is older: name another with PYTHON=...'; exit 1; }
	@'$(PYTHON)' -m venv $(VENV) || { rm -rf $(VENV); echo '$(PYTHON) cannot create a virtual environment: install its venv module (on Debian and Ubuntu the package python3-venv)'; exit 1; }
	@mkdir -p $(STAMPS) && touch $@

$(TORCH): | $(CREATED)
	@echo 'Installing torch and torchvision (a download of 3 GB, about 1 minute on a fast line) ...'
	@$(PIP) -r requirements/torch.txt
	@touch $@

# --no-cache-dir: pip must not remember the operator-less build of onedl-mmcv that isolation gives, nor serve one here.
$(LIBRARIES): | $(TORCH)
	@echo 'Installing timm and the OpenMMLab libraries, without compiled operators (about 30 seconds) ...'
	@$(PIP) --no-cache-dir -r requirements/runtime.txt -c requirements/constraints.txt -r requirements/onedl.txt
	@sh requirements/headless_opencv.sh $(PY)
	@touch $@

$(DEMO): | $(LIBRARIES)
	@echo 'Installing what the demo needs (a few seconds) ...'
	@$(PIP) -r requirements/demo.txt -r requirements/build.txt
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(OPERATORS): | $(LIBRARIES)
	@$(PIP) -r requirements/build.txt
	@sh requirements/mmcv_operators.sh $(PY)
	@touch $@

$(FULL): | $(OPERATORS)
	@echo 'Installing mmdet, mmseg and the tools for tests, lint and docs (about 40 seconds) ...'
	@$(PIP) -r requirements/onedl_detection.txt -r requirements/segmentation.txt -r requirements/demo.txt \
		-r requirements/contract.txt -r requirements/remote.txt -r requirements/export.txt -r requirements/parquet.txt -r requirements/ray.txt \
		-r requirements/dev.txt -r requirements/docs.txt
	@sh requirements/headless_opencv.sh $(PY)
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $(DEMO) $@
