# fated: `make` lists what there is. A line `target: ## text` is its own documentation.

CARGO ?= cargo
PREFIX ?= /usr/local
DESTDIR ?=
SEEDS ?= 200000
CARGO_TARGET_DIR ?= target
RELEASE = $(CARGO_TARGET_DIR)/release/fated

.DEFAULT_GOAL := help
.PHONY: help build run test check sim bench install clean

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' Makefile | expand -t 12

build: ## the release binary, target/release/fated
	$(CARGO) build --release --locked

run: build ## the main job on real input: checksums of a large directory by a tree of processes, then the proof (DIR=... for another one)
	FATED=$(RELEASE) examples/checksums/run.sh $(DIR)

test: ## all tests: the core, the kernel side, and end to end with real processes
	$(CARGO) test --locked --no-fail-fast

check: ## formatting, lints as errors, and the house rules
	$(CARGO) fmt --check
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) test --locked --test tidy

sim: ## the deterministic simulation of the core; SEEDS=N for more
	FATED_SIM_SEEDS=$(SEEDS) $(CARGO) test --profile sim --locked --test sim -- --nocapture

bench: ## the measurements, side by side with what they are compared to
	$(CARGO) bench --locked

# Building as the user and installing as root: `make build && sudo make install`. What is built already is not built again.
install: ## binary and documents below DESTDIR and PREFIX (/usr/local)
	test -x $(RELEASE) || $(MAKE) build
	install -d "$(DESTDIR)$(PREFIX)/bin" "$(DESTDIR)$(PREFIX)/share/doc/fated"
	install -m 755 $(RELEASE) "$(DESTDIR)$(PREFIX)/bin/fated"
	install -m 644 README.md ARCHITECTURE.md CHANGELOG.md LICENSE-APACHE LICENSE-MIT "$(DESTDIR)$(PREFIX)/share/doc/fated"
	for page in man/*.[1-8]; do \
	    if [ -f "$$page" ]; then \
	        install -D -m 644 "$$page" "$(DESTDIR)$(PREFIX)/share/man/man$${page##*.}/$${page##*/}" || exit 1; \
	    fi; \
	done

clean: ## removes everything that was built
	$(CARGO) clean
