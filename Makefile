# Everything sets itself up: `make demo` and `make test` work on a fresh machine with Python 3.11+, make and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PEER := .peer

.PHONY: demo test check setup peer clean

demo: setup
	$(BIN)/yoloperf data synth
	$(BIN)/yoloperf sweep sweeps/smoke.yaml --platform demo --logs out/logs
	$(BIN)/yoloperf parse out/logs/demo/smoke -o out/demo/runs.csv
	@echo
	$(BIN)/yoloperf table out/demo/runs.csv
	@echo
	$(BIN)/yoloperf plot out/demo/runs.csv -o out/demo/plots
	$(BIN)/yoloperf report out/logs/demo/smoke -o out/demo/report.html
	@echo "table: out/demo/runs.csv (epochs.csv and kernels.csv beside it); plots: out/demo/plots; all of it on one page: out/demo/report.html"

test: setup check
	$(BIN)/python -m pytest

check: setup
	$(BIN)/ruff check .
	$(BIN)/mypy

setup: $(STAMP)

$(STAMP): requirements.txt pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -r requirements.txt
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

# the ultralytics package, as a trainer to compare with: an environment of its own, on the torch of ours
peer: $(PEER)/bin/yolo

$(PEER)/bin/yolo: $(STAMP)
	$(BIN)/python -m venv $(PEER)
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$($(PEER)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/base.pth"
	$(PEER)/bin/pip install --quiet --disable-pip-version-check polars==2.1.0 requests==2.34.2 pillow==13.0.0
	$(PEER)/bin/pip install --quiet --disable-pip-version-check --no-deps ultralytics==8.4.190 ultralytics-thop==2.2.3

clean:
	rm -rf $(VENV) $(PEER) out
