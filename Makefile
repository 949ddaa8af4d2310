# Two commands: `make demo` and `make test`; `make check` has the rest that a change must pass. Each builds
# .venv first, from nothing but Python and make.
PYTHON ?= python3
BIN := .venv/bin
EXTRAS := train,serve,encoder-minilm,pipeline,dev
export MLFLOW_DISABLE_TELEMETRY := true
export HF_HUB_OFFLINE := 1
export QUERYTIER_OUTCOMES ?= $(abspath ../shared/data)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: demo test check figures lint types contract unit slow-test wheel-test distributed-test gateway-test port-test bench-real bench-quality bench-latency bench-growth bench-engines bench-difficulty bench-certify bench-heuristics bench-watch bench-serve bench-drift bench-swap bench-labels bench-poison story-drift story-poison clean

demo: .venv/installed
	dvc repro
	querytier show artifacts --project . \
	  --query "What are your store hours?" \
	  --query "Analyze the tradeoffs of switching our checkout to a subscription model"

# mypy uses one core, so it runs beside the tests.
test: .venv/installed
	$(MAKE) --no-print-directory -j2 lint types contract unit

check: wheel-test slow-test distributed-test gateway-test port-test

# Lines, folders and contracts, as CHANGELOG.md states them.
figures: .venv/installed
	python benchmarks/figures.py

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "querytier needs Python 3.11 or newer; try: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet -c constraints.txt -e ".[$(EXTRAS)]"
	touch $@

lint: .venv/installed
	ruff check .
	ruff format --check .

types: .venv/installed
	mypy

contract: .venv/installed
	lint-imports

unit: .venv/installed
	pytest -n 2 --dist loadfile -m "not slow"

# Simulations of the statistical claims, searches and fine-tuning on small data, the two stories.
slow-test: .venv/installed
	pytest -n 2 --dist loadfile -m slow

# Tests the built wheel with the dependencies of .venv, in a folder without sources around it.
wheel-test: .venv/installed
	rm -rf build dist .venv-wheel
	$(BIN)/python -m build --wheel --quiet
	$(BIN)/python -m venv .venv-wheel
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' \
	  > $$(.venv-wheel/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/borrowed.pth
	.venv-wheel/bin/pip install --quiet --no-deps --ignore-installed dist/*.whl
	rm -rf .venv-wheel/suite && mkdir .venv-wheel/suite && cp -r tests .venv-wheel/suite/tests
	cd .venv-wheel/suite && ../bin/python -m pytest -n 2 --dist loadfile -c ../../pyproject.toml --rootdir . -m "not checkout and not slow" tests

# Daft needs an older tqdm than .venv has, so it is tested in an environment of its own.
distributed-test: .venv-distributed/installed
	.venv-distributed/bin/python -m pytest tests/data/ingest/test_engines.py tests/pipeline/test_distributed.py

.venv-distributed/installed: pyproject.toml constraints-distributed.txt
	$(PYTHON) -m venv .venv-distributed
	.venv-distributed/bin/pip install --quiet -c constraints-distributed.txt -e ".[distributed]" pytest hypothesis
	touch $@

# Real gateways on loopback: LiteLLM's proxy, LangGraph, an MCP client, Envoy.
gateway-test: .venv-gateways/installed
	.venv-gateways/bin/python -m pytest tests/gateways tests/serve/plugins

.venv-gateways/installed: pyproject.toml constraints-gateways.txt
	$(PYTHON) -m venv .venv-gateways
	.venv-gateways/bin/pip install --quiet -c constraints-gateways.txt -e ".[gateways]" pytest hypothesis
	touch $@

# The ports replay the golden vectors of small artifacts, and those of the demo's if it has run.
port-test:
	cd examples/node && npm ci --silent && node --test
	for artifact in $(wildcard $(CURDIR)/tests/fixtures/artifacts/* $(CURDIR)/artifacts/model); do \
	  node examples/node/verify.mjs $$artifact || exit 1; done
	cd examples/browser && npm ci --silent && \
	  QUERYTIER_ARTIFACT=$(CURDIR)/tests/fixtures/artifacts/format-2 node --test

bench-real: .venv/installed
	python benchmarks/real_runs.py

# Takes about half an hour on two cores.
bench-quality: .venv/installed
	python benchmarks/quality.py

# About a quarter of an hour, on an otherwise idle machine.
bench-latency: .venv/installed
	python benchmarks/latency.py

# Twenty minutes on an otherwise idle machine with four processors or more, so that the load generator
# does not take them from the service. ARTIFACTS=DIR uses the artifacts bench-latency kept there.
bench-serve: .venv/installed
	python benchmarks/serving.py $(if $(ARTIFACTS),--artifacts $(ARTIFACTS))

bench-growth: .venv/installed
	python benchmarks/growth.py

# Compares both engines in the environment that has both, with the demo's artifact.
bench-engines: .venv-distributed/installed
	.venv-distributed/bin/python benchmarks/engines.py

bench-difficulty: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/difficulty_transfer.py

# Certificates on real outcomes: about ten minutes, most of them for the runs. RUNS=DIR keeps the runs and
# reuses those that are there.
bench-certify: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/certificates.py $(if $(RUNS),--runs $(RUNS))

# Simulates false alarms and delays of the watch over a certificate: a few minutes.
bench-watch: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/certificate_watch.py

# Simulates the drift tests on the runs of bench-real; RUNS=DIR as above.
bench-drift: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/drift.py $(if $(RUNS),--runs $(RUNS))

# RUNS=DIR as above.
bench-swap: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/pair_swap.py $(if $(RUNS),--runs $(RUNS))

# Half an hour on one core.
bench-labels: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/label_planning.py

# Simulates poisoned labels and their audit: a quarter of an hour.
bench-poison: .venv/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/poisoning.py

# The loop with real processes, a few minutes each on two cores; KEEP=DIR keeps the output.
story-drift: .venv/installed
	OMP_NUM_THREADS=1 python examples/loop/story_drift.py $(if $(KEEP),--out $(KEEP))

story-poison: .venv/installed
	OMP_NUM_THREADS=1 python examples/loop/story_poison.py $(if $(KEEP),--out $(KEEP))

# LiteLLM needs an older huggingface_hub than .venv has, so its scorers run in their own environment.
bench-heuristics: .venv/installed .venv-litellm/installed
	OMP_NUM_THREADS=1 nice -n 10 python benchmarks/heuristics.py $(if $(RUNS),--runs $(RUNS))

.venv-litellm/installed: pyproject.toml constraints-litellm.txt
	$(PYTHON) -m venv .venv-litellm
	.venv-litellm/bin/pip install --quiet -c constraints-litellm.txt -e ".[litellm]"
	touch $@

clean:
	rm -rf .venv .venv-wheel .venv-distributed .venv-litellm .venv-gateways build dist artifacts mlartifacts mlflow.db
