# SPDX-License-Identifier: Apache-2.0
# Everything a fresh clone needs, and the commands people type. `make` alone lists them.

PROXY_MODE ?= iptables
# Not from the environment, where the name is used for other things.
PROXY =
LEVEL ?= core
REPORT ?= report
ARGS ?=
N ?= 20
MODES ?= iptables nftables ebpf

VENV := .venv
BIN := $(VENV)/bin
# PYTHON chooses the interpreter of the virtual environment; without it an existing environment stays as it is.
READY := $(VENV)/.ready$(if $(PYTHON),-$(notdir $(PYTHON)))
KUBE_PROXY := $(VENV)/.kube-proxy
C_FILES := $(wildcard dataplane_ref/bpf/*.[ch] clusters/measure/*.[ch])

export PYTHON
# Where Debian keeps nft and iptables, which an ordinary user's PATH lacks.
SYSTEM_PATH := /usr/sbin:/sbin
export PATH := $(PATH):$(SYSTEM_PATH)
MAKEFLAGS += --no-builtin-rules --no-print-directory
.SUFFIXES:
.DEFAULT_GOAL := help
.PHONY: help certify test contract setup datapath lint format controls mutants versions control-plane bench hop soak
.PHONY: scale compare
.PHONY: kills fuzz property coverage schedulers clean
.PHONY: system kube-proxy proxy programs kernel

help: ## list what make can do
	@sed -n 's/^\([a-z][a-z-]*\):.*## \(.*\)/  make \1 - \2/p' $(firstword $(MAKEFILE_LIST))
	@echo 'Variables: PROXY_MODE=$(PROXY_MODE) LEVEL=$(LEVEL) REPORT=$(REPORT) ARGS= N=$(N) PYTHON=python3'

certify: $(READY) proxy ## certify kube-proxy, PROXY_MODE=ebpf or PROXY=kube-router, in an embedded lab; writes report/ (LEVEL, REPORT, ARGS)
	@mkdir -p "$(REPORT)"
	$(BIN)/python -m pytest $(if $(PROXY),--proxy=$(PROXY),--proxy-mode=$(PROXY_MODE)) --level=$(LEVEL) --report="$(REPORT)" \
	  --junitxml="$(REPORT)/junit.xml" --report-log="$(REPORT)/reportlog.jsonl" $(ARGS)

test: export WANTED := ipset iperf3

test: setup ## lint plumbline and run its own tests
	@$(MAKE) lint
	@$(MAKE) programs || echo 'plumbline: what needs the programs that are missing will say that it is unfit' >&2
	$(BIN)/python -m pytest -rs tests

contract: setup programs ## ask the lab's API server and a real kube-apiserver the same questions (ARGS)
	$(BIN)/python -m pytest -rs tests/apiserver/contract $(ARGS)

setup: $(READY) kube-proxy ## get what certify and test need: system packages, .venv, kube-proxy

kernel: $(READY) ## build the fast kernel of --kernel=uml from Linux's sources, some 10 minutes (ARGS=--source=PATH)
	$(BIN)/python -m clusters.hermetic.build $(ARGS)

datapath: $(READY) ## build the reference datapath's object with the pinned compiler (ARGS)
	$(BIN)/python -m dataplane_ref.build $(ARGS)

lint: $(READY) ## ruff and clang-format (rules and format), and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(C_FILES)
	$(BIN)/mypy --strict

format: $(READY) ## let ruff format the code and mend what it can
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .
	$(BIN)/clang-format -i $(C_FILES)

controls: setup ## prove that the suite goes red on broken dataplanes
	$(BIN)/python -m tests.controls

mutants: $(READY) ## prove that the suite notices every mutant of the reference datapath; writes docs/mutants.md (ARGS)
	$(BIN)/python -m tests.mutants $(ARGS)

versions: setup ## judge the four newest minor releases of kube-proxy; writes docs/versions.md (ARGS)
	$(BIN)/python -m tests.versions $(ARGS)

control-plane: setup ## compare the embedded API server with etcd and kube-apiserver; writes docs/control-plane.md
	$(BIN)/python -m tests.control_plane $(ARGS)

bench: setup ## measure lab, API server, agent and reference datapath (ARGS: names)
	$(BIN)/python -m benchmarks $(ARGS)

scale compare: export WANTED := iperf3

scale: $(READY) proxy ## measure how PROXY_MODE behaves as Services grow; draws report/scale.html (PROXY, REPORT, ARGS)
	@mkdir -p "$(REPORT)"
	$(BIN)/python -m pytest $(if $(PROXY),--proxy=$(PROXY),--proxy-mode=$(PROXY_MODE)) -m scale --report="$(REPORT)" $(ARGS)

compare: setup ## measure the same for MODES, one after the other; draws them together in report/scale.html (REPORT, ARGS)
	@mkdir -p "$(REPORT)"
	$(BIN)/python -m plugins.scale.compare --modes $(MODES) --report="$(REPORT)" $(ARGS)

hop: setup ## measure an announced IP on its endpoint's node and on another; writes docs/benchmarks.md
	$(BIN)/python -m benchmarks.hop

soak: setup ## run the core level N times against an unmodified kube-proxy (ARGS: --modes … ebpf, --level=all, -n 2)
	$(BIN)/python -m tests.soak --runs $(N) $(ARGS)

kills: setup ## SIGKILL something of a run at N random moments, and look for what stays behind
	$(BIN)/python -m tests.soak.kills --runs $(N)

fuzz: $(READY) ## run N mangled packets (a million) through the reference datapath, and judge each
	$(BIN)/python -m tests.datapath.fuzz --packets $(if $(filter file,$(origin N)),1000000,$(N)) $(ARGS)

property: $(READY) ## hold the model and the reference datapath against each other on N generated examples (100,000)
	$(BIN)/python -m tests.datapath.property --examples $(if $(filter file,$(origin N)),100000,$(N)) $(ARGS)

coverage: $(READY) ## say which requirements stand for upstream's tests and for bugs of the past; writes docs/coverage.md
	$(BIN)/python -m tests.coverage

schedulers: setup ## judge each scheduler of kube-proxy's ipvs mode by its null model; writes docs/schedulers.md (ARGS)
	$(BIN)/python -m tests.schedulers $(ARGS)

clean: ## remove .venv, report/ and caches of this clone (not the cached kube-proxy)
	rm -rf $(VENV) "$(REPORT)" .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Cheap enough to be looked at every time: six look-ups on PATH.
system:
	@.ci/system-packages $(READY)

$(READY): pyproject.toml constraints.txt | system
	@.ci/environment $@

# A proxy that the arguments name, another cluster's, or the reference needs no kube-proxy from here.
proxy: $(if $(PROXY)$(filter ebpf,$(PROXY_MODE))$(filter --proxy=% --proxy-binary% --proxy-command% --proxy-version% --cluster%,$(ARGS)),,kube-proxy)

kube-proxy: $(READY)
	@test -x "$$(cat $(KUBE_PROXY) 2>/dev/null)" -a $(KUBE_PROXY) -nt clusters/binaries.py \
	  || { $(BIN)/python -m clusters.binaries kube-proxy >$(KUBE_PROXY).new && mv $(KUBE_PROXY).new $(KUBE_PROXY); }

# What only plumbline's own tests run, unless an option asks for it: a client of the API, the real server, an announcer.
# Built where they cannot be downloaded.
programs: $(READY)
	@for tool in kubectl etcd kube-apiserver metallb-speaker; do $(BIN)/python -m clusters.binaries $$tool >/dev/null || exit; done
