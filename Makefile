# pintle: build, try, install, test. `make help` lists the targets.
#
#   PREFIX=/usr/local  DESTDIR=  where `install` puts things
#   STATE_DIR=/var/lib/pintle    the cluster's state, for `up` and `down`
#   UP_FLAGS=                    further flags for `pintle up`

PREFIX    ?= /usr/local
DESTDIR   ?=
STATE_DIR ?= /var/lib/pintle
UP_FLAGS  ?=
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
TARGET    := $(shell rustc -vV 2>/dev/null | sed -n 's/^host: //p')
# The runtime's: with musl where rustup has it or can bring it, else with glibc (docs/adr/0011).
MUSL      := $(TARGET:%-gnu=%-musl)
STATIC_TARGET = $(if $(wildcard $(shell rustc --print target-libdir --target $(MUSL))),$(MUSL),$(TARGET))
KUBECTL   := .cache/kubectl/v1.37/kubectl
UNITS     := pintle.service pintle-server.service pintle-agent.service

# What the build, the example and the tests need beyond the Rust toolchain: command or file, and its Debian package.
NEEDS := gcc:gcc make:make python3:python3 pip3:python3-pip ip:iproute2 nft:nftables busybox:busybox-static \
         iptables-legacy-restore:iptables unshare:util-linux newuidmap:uidmap curl:curl ps:procps script:bsdutils \
         systemd-analyze:systemd criu:criu

.PHONY: help all deps tools musl build up down install uninstall test check conformance-runtime conformance-runtime-v2 \
        conformance-callers-v2 bench-cluster bench-runtime bench-proxy soak-proxy outage-proxy clean
.DEFAULT_GOAL := build

help:
	@echo 'make build      bin/pintle and bin/pintle-runc'
	@echo 'make up         installs what is missing, builds, starts a cluster with examples/web.yaml, shows it'
	@echo 'make down       stops it; leaves nothing but $(STATE_DIR)'
	@echo 'make install    into PREFIX=$(PREFIX): binaries, systemd units, completions, manual pages'
	@echo 'make test       everything CI runs'
	@echo 'make conformance-runtime   the same cases against runc, crun and pintle-runc; writes docs/conformance.md'
	@echo 'make conformance-runtime-v2   the cases on pure cgroup v2, in a VM'
	@echo 'make conformance-callers-v2   Podman, Docker and containerd there, with cgroups by systemd and without'
	@echo 'make bench-cluster, make bench-runtime, make bench-proxy   measure; print rows for docs/benchmarks.md'
	@echo 'make check      what this machine lacks, and what that costs'
	@echo 'make soak-proxy  ten minutes of changes under load'
	@echo 'make outage-proxy  an hour without an API server, under load'
	@echo 'make clean      removes what was built'

# Installs only what is missing; needs root only then.
deps:
	@missing=; for need in $(NEEDS); do \
	  command -v $${need%%:*} >/dev/null 2>&1 || missing="$$missing $${need##*:}"; done; \
	if [ -n "$$missing" ]; then \
	  echo "installing$$missing"; \
	  apt-get update -q && DEBIAN_FRONTEND=noninteractive apt-get install -yq --no-install-recommends $$missing; fi
	@command -v cargo >/dev/null || { echo 'error: no Rust toolchain'; echo '  hint: https://rustup.rs'; exit 1; }

tools: deps
	@cargo xtask tools

.cache/tools/bin/cargo-nextest:
	@command -v cargo-nextest >/dev/null 2>&1 || cargo install --locked --root .cache/tools cargo-nextest

musl:
	@test -d "$$(rustc --print target-libdir --target $(MUSL))" || rustup target add $(MUSL) || \
	  echo 'pintle-runc gets glibc, for want of $(MUSL): the same program, half a millisecond later at each start'

# `pintle` is linked at a fixed address: relocated, each of its processes would own 4 MiB of tables that now stay in the
# file (docs/adr/0006). The runtime is static and small: it is the parent of every container. A target directory of its
# own keeps the flags of one build from rebuilding the other.
build: musl
	RUSTFLAGS='-C relocation-model=static' cargo build --release --locked --package pintle --target $(TARGET)
	RUSTFLAGS='-C target-feature=+crt-static -C relocation-model=static' cargo build --profile tiny --locked --package pintle-runtime \
	  --target $(STATIC_TARGET) --target-dir $(TARGET_DIR)/static
	@mkdir -p bin
	@install -m 755 $(TARGET_DIR)/$(TARGET)/release/pintle bin/pintle
	@install -m 755 $(TARGET_DIR)/static/$(STATIC_TARGET)/tiny/pintle-runc bin/pintle-runc
	@ls -l bin

up: deps tools build
	@STATE_DIR='$(STATE_DIR)' KUBECTL='$(KUBECTL)' examples/up.sh $(UP_FLAGS)

# Works also when nothing was built or started.
down:
	@if [ -x bin/pintle ]; then bin/pintle down --state-dir '$(STATE_DIR)'; else echo 'nothing to stop: nothing is built'; fi

check: build
	@bin/pintle check --state-dir '$(STATE_DIR)'

install: build
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/systemd/system $(DESTDIR)$(PREFIX)/share/man/man1 \
	  $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions \
	  $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	install -m 755 bin/pintle bin/pintle-runc $(DESTDIR)$(PREFIX)/bin/
	ln -sf pintle-runc $(DESTDIR)$(PREFIX)/bin/containerd-shim-pintle-v1
	for unit in $(UNITS); do \
	  sed 's|@PREFIX@|$(PREFIX)|g' dist/systemd/$$unit > $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; done
	bin/pintle completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pintle
	bin/pintle completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pintle
	bin/pintle completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pintle.fish
	bin/pintle man $(DESTDIR)$(PREFIX)/share/man/man1

uninstall:
	rm -f $(DESTDIR)$(PREFIX)/bin/pintle $(DESTDIR)$(PREFIX)/bin/pintle-runc $(DESTDIR)$(PREFIX)/bin/containerd-shim-pintle-v1
	for unit in $(UNITS); do rm -f $(DESTDIR)$(PREFIX)/lib/systemd/system/$$unit; done
	rm -f $(DESTDIR)$(PREFIX)/share/bash-completion/completions/pintle \
	  $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_pintle $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/pintle.fish \
	  $(DESTDIR)$(PREFIX)/share/man/man1/pintle.1 $(DESTDIR)$(PREFIX)/share/man/man1/pintle-*.1

test: deps .cache/tools/bin/cargo-nextest build
	cargo xtask test

# What a cluster costs, in fresh namespaces; prints the rows of docs/benchmarks.md. Takes about four minutes.
bench-cluster: build
	cargo build --locked --package pintle-bench
	unshare --net --mount --propagation private \
	  sh -c 'ip link set lo up && exec $(TARGET_DIR)/debug/pintle-bench cluster'

# Namespaces of its own, and no empty cgroup2 beside the v1 controllers: crun refuses that mixture.
APART = unshare --net --mount --propagation private sh -c 'ip link set lo up; \
  ! test -d /sys/fs/cgroup/memory || umount /sys/fs/cgroup/unified 2>/dev/null; exec "$$@"' sh

# The same cases against Debian's runc and crun and against pintle-runc, which then serves Podman, Docker and containerd, and
# 1,000 containers in 20 workers; writes docs/conformance.md. About five minutes.
conformance-runtime: deps build
	cargo xtask peers
	cargo build --locked --package pintle-conformance
	$(APART) $(TARGET_DIR)/debug/pintle-conformance --peers .cache/peers --report docs/conformance.md
	PINTLE_PEERS=$(CURDIR)/.cache/peers cargo nextest run --locked --package pintle-runtime --test containerd

# The cases alone, on pure cgroup v2, in a VM; writes docs/conformance-v2.md. About eight minutes: its processors are software.
# After `cargo xtask peers` V2_FLAGS='--peers .cache/peers --only memory' asks runc and crun too, and writes nothing.
conformance-runtime-v2: deps build
	cargo build --locked --package pintle-conformance
	GUEST_ENV=TMPDIR=/var/lib/vm vagrant/vm/run.sh -m 1500 -d 2G -t 2400 -s $(CURDIR) -s $(abspath $(TARGET_DIR)) -- \
	  $(abspath $(TARGET_DIR))/debug/pintle-conformance --pintle $(CURDIR)/bin/pintle-runc --workers 3 \
	  $(or $(V2_FLAGS),--report $(CURDIR)/docs/conformance-v2.md)

# Podman, Docker and containerd on pure cgroup v2, in a VM with systemd, who makes the cgroups the first time. Minutes as well.
conformance-callers-v2: deps build
	cargo xtask peers
	vagrant/vm/run.sh -S -m 2500 -t 2700 -s $(CURDIR) -- \
	  conformance/callers/guest.sh $(CURDIR)/bin/pintle-runc $(CURDIR)/.cache/peers systemd cgroupfs

# What containers cost with each of them, beside the floor; prints the tables of docs/benchmarks.md. Needs a quiet machine.
# About seven minutes.
bench-runtime: deps build
	cargo xtask peers
	cargo build --locked --package pintle-bench
	$(APART) $(TARGET_DIR)/debug/pintle-bench runtime --peers .cache/peers

# Ten minutes of random changes of Services under connection load; a shorter one is part of `make test`.
soak-proxy: deps .cache/tools/bin/cargo-nextest
	PINTLE_SOAK_SECONDS=600 cargo nextest run --locked --profile soak --package pintle-proxy --no-capture \
	  random_changes_under_load_give_no_wrong_answer_and_refuse_nobody

# PINTLE_OUTAGE_SECONDS says how long; an hour by itself.
outage-proxy: deps .cache/tools/bin/cargo-nextest
	PINTLE_OUTAGE_SECONDS=$${PINTLE_OUTAGE_SECONDS:-3600} cargo nextest run --locked --profile outage --package pintle-proxy \
	  --no-capture an_api_server_that_is_away_changes_nothing_and_one_that_is_back_is_listed_again

# The proxy at sizes, beside kube-proxy's layouts given to nft and iptables-restore; makes its own network namespaces and
# touches no other. PROXY_BENCH_FLAGS=--large adds 50,000 Services, --nft-up-to=5000 a minute of waiting for nft.
bench-proxy: deps
	CARGO_PROFILE_RELEASE_LTO=off cargo build --release --locked --package pintle-bench
	$(TARGET_DIR)/release/pintle-bench proxy $(PROXY_BENCH_FLAGS)

clean:
	cargo clean
	rm -rf bin
