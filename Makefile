# Kontor. `make` lists what there is.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help run setup playground playground-test check test fmt clippy schema-check sqlx-check compose-check gen bench chaos fuzz

help: ## list the targets
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 22

run: setup ## build and run Kontor with a Postgres and a Redis of its own, on http://127.0.0.1:4000
	@$(MAKE) playground || echo "make: Kontor runs without its playground"
	@echo "make: building Kontor (the first time this takes some minutes)"
	@cargo run --release -p kontor -- run

setup: ## find or install what Kontor needs
	@scripts/setup

playground: ## build the GraphQL playground, if Node is here
	@if command -v npm >/dev/null; then $(MAKE) playground/dist/index.html; \
	else echo "make: no Node here, so no playground (Debian: apt-get install nodejs npm; then make playground)"; fi

playground/dist/index.html: playground/node_modules/.package-lock.json \
		$(wildcard schema.graphql playground/*.mjs playground/src/* playground/examples/*)
	@echo "make: building the playground"
	@cd playground && node build.mjs

# The list of what is installed, which npm writes last.
playground/node_modules/.package-lock.json: $(wildcard playground/*.json)
	@cd playground && npm ci --no-audit --no-fund --loglevel=error

check: fmt clippy ## the quick checks: format and lints

fmt:
	cargo fmt --all --check

clippy:
	cargo clippy --workspace --all-targets -- -D warnings

test: ## every check there is; needs nothing running
	scripts/setup --test --browser
	$(MAKE) fmt sqlx-check clippy schema-check compose-check playground-test
	scripts/with-servers cargo nextest run --workspace
	@scripts/nothing-personal "$${CARGO_TARGET_DIR:-target}/nextest/default/junit.xml" >/dev/null

sqlx-check: # the committed .sqlx/ fits the queries and the migrations
	scripts/sqlx-metadata --check

schema-check: # the committed schema.graphql is what the code says
	@cargo run --quiet -p kontor -- schema > target/schema.graphql
	@diff -u schema.graphql target/schema.graphql || \
	{ echo "schema.graphql is not what the code says: run \`make gen\` and commit it" >&2; exit 1; }

compose-check: # docker-compose.yml is valid
	@if command -v docker-compose >/dev/null; then docker-compose config --quiet; \
	elif docker compose version >/dev/null 2>&1; then docker compose config --quiet; \
	else echo "make: no docker-compose here, so docker-compose.yml is not checked"; fi

playground-test: # the playground works in a browser
	@if ! command -v npm >/dev/null; then echo "make: no Node here, so the playground is not tested"; \
	elif ! command -v chromium >/dev/null; then echo "make: no Chromium here, so the playground is not tested"; \
	else $(MAKE) playground/dist/index.html && cargo build --quiet -p kontor && \
	KONTOR="$${CARGO_TARGET_DIR:-target}/debug/kontor" CHROMIUM=$$(command -v chromium) \
	scripts/with-servers node playground/test/browser.mjs; fi

gen: ## write what is generated and committed: .sqlx/ and schema.graphql
	scripts/sqlx-metadata
	cargo run --quiet -p kontor -- schema > target/schema.graphql
	cp target/schema.graphql schema.graphql

bench: setup ## measure, against Postgres and a plain server on this machine (8 minutes)
	@echo "make: building Kontor and its bench with full optimisation (the first time this takes some ten minutes)"
	@cargo build --profile dist -p kontor -p kontor-tests --bin kontor --bin kontor-bench
	@scripts/with-servers "$${CARGO_TARGET_DIR:-target}/dist/kontor-bench"

FUZZ_SECONDS ?= 600
fuzz: ## feed the guard and the endpoint nonsense, ten minutes each (FUZZ_SECONDS=600)
	scripts/setup --test --fuzz
	mkdir -p fuzz/corpus/guard
	cp playground/examples/*.graphql tests/tests/all/api/introspection.graphql fuzz/corpus/guard/
	cargo fuzz run guard --sanitizer none --target-dir "$${CARGO_TARGET_DIR:-target}/fuzz" -- \
		-max_total_time=$(FUZZ_SECONDS) -timeout=1 -max_len=65536 -len_control=20 -dict=fuzz/graphql.dict -print_final_stats=1
	KONTOR_FUZZ_SECONDS=$(FUZZ_SECONDS) scripts/with-servers cargo nextest run --profile long -p kontor-tests -E 'test(/^api::fuzz::/)'

chaos: setup ## kill everything 200 times while 20,000 orders are placed and paid, then check every one (half an hour)
	@cargo build --quiet -p kontor-tests --bin kontor-chaos --bin kontor-test-helper
	@"$${CARGO_TARGET_DIR:-target}/debug/kontor-chaos"
