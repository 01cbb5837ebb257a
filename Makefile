# `make help` lists the targets; `make demo` and `make test` are all that a newcomer needs.
CARGO ?= cargo
PREFIX ?= /usr/local
export CARGO_TARGET_DIR ?= $(CURDIR)/target

.DEFAULT_GOAL := help
.PHONY: help demo test check vm vm-test bench install clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## Install what is missing, build, and show the main job on a real Debian
	@scripts/demo

test: ## Format, lints, unit tests, root tests on this kernel and in a virtual machine
	@scripts/test

check: ## What needs neither root nor a virtual machine: format, lints, unit tests
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(CARGO) test --workspace --lib --bins $(patsubst tests/%.rs,--test %,$(wildcard tests/*.rs))

vm: ## A root shell in the virtual machine with lamina installed
	@scripts/install-packages build run vm
	$(CARGO) build --release --workspace
	@"$$CARGO_TARGET_DIR/release/vm-tests" shell

vm-test: ## Root tests in the virtual machine: make vm-test CASES="thin crash::btrfs"
	@scripts/vm-test $(CASES)

bench: ## Measure all drivers in one kernel, in the virtual machine if need be; report in target/bench.html
	@scripts/bench

install: ## Install lamina into PREFIX/bin (/usr/local/bin)
	@scripts/install-packages build run
	$(CARGO) build --release --package lamina
	install -D -m 755 "$$CARGO_TARGET_DIR/release/lamina" "$(DESTDIR)$(PREFIX)/bin/lamina"

clean: ## Remove all that was built, fetched and cached
	$(CARGO) clean
