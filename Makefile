# SPDX-License-Identifier: GPL-3.0-or-later

# A command that fails in a pipe fails the target: without this a go that was
# killed would leave testreport with what had passed until then.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

GO ?= go
DESTDIR ?=
# Which Debian package's files to install; all when empty.
PACKAGE ?=
# How long each fuzz target runs, and how many generated fragments are held
# against bash.
FUZZTIME ?= 20s
FRAGMENTS ?= 10000
# How many random rulesets, with 50 packets each, are held against the kernel.
RULESETS ?= 120
BENCHTIME ?= 1s

# The Gateway's Tor in the demo, stand-in or real.
TOR ?= stand-in

CC ?= cc
# Where the preload library is built.
LIBDIR ?= build/lib
# What Debian builds with, and nothing of the C runtime's start-up code.
HARDENING := -O2 -D_FORTIFY_SOURCE=2 -fstack-protector-strong -fPIC -fvisibility=hidden \
	-Wall -Wextra -Werror -shared -nostartfiles -Wl,-z,relro,-z,now,-z,noexecstack

VERSION := $(shell scripts/version)
BUILD := -trimpath -buildvcs=false -ldflags '-s -w -X whonix-networking/pkg/cli.Version=$(VERSION)'
STATICCHECK := honnef.co/go/tools/cmd/staticcheck@v0.6.1
GOVULNCHECK := golang.org/x/vuln/cmd/govulncheck@v1.1.4
SCRIPTS = $(shell git grep -lE '^\#!/bin/(ba|busybox )?sh' -- scripts .ci etc/profile.d etc/kernel etc/update-motd.d etc/uwt.d/40_qubes.conf etc/qubes etc/qubes-rpc systemd/user-environment-generators)

export CGO_ENABLED := 0
export GOTOOLCHAIN := local

.DEFAULT_GOAL := all
.PHONY: all library demo test race fuzz bench lint man deps install debs e2e boottest vmtest reproducible clean help

all: ## build every program into build/bin, and each package's as one into build/packages
	$(GO) build $(BUILD) -o build/bin/ ./cmd/...
	$(GO) build $(BUILD) -o build/packages/ $$($(GO) run ./scripts/combine build/.combined)

library: $(LIBDIR)/libindp.so ## build the preload library (gcc)

$(LIBDIR)/libindp.so: pkg/bindp/preload/libindp.c
	mkdir -p $(@D)
	$(CC) $(HARDENING) -Wl,-soname,$(@F) -o $@ $<

demo: all ## show a Gateway and a Workstation that do not leak; TOR=real for Debian's tor (root)
	rm -rf build/demo
	scripts/install-package build/demo anon-gw-anonymizer-config
	build/bin/whonix-lab --shipped etc/whonix_firewall.d --tor='$(TOR)' --installed build/demo $(DEMO)

test: ## run every test; a skipped one is a failure (root)
	$(GO) test -json ./... | $(GO) run ./scripts/testreport

race: export CGO_ENABLED := 1
race: ## run every test with the race detector (root, gcc)
	$(GO) test -race -json ./... | CGO_ENABLED=0 $(GO) run ./scripts/testreport

fuzz: ## fuzz each target for FUZZTIME, hold FRAGMENTS fragments against bash, and RULESETS rulesets against the kernel (root)
	GO='$(GO)' scripts/fuzz '$(FUZZTIME)'
	$(GO) test ./pkg/confd -run '^TestDifferential$$' -count=1 -timeout=60m -rapid.checks=$(FRAGMENTS)
	$(GO) test ./pkg/leakproof -run '^TestKernelAgrees$$' -count=1 -timeout=60m -rapid.checks=$(RULESETS)

bench: all ## measure what has a figure to keep (root)
	$(GO) test ./... -run '^$$' -bench . -benchtime $(BENCHTIME)

lint: ## check format, vet, staticcheck, known vulnerabilities, manual pages, scripts, dependencies
	unformatted=$$(gofmt -l cmd pkg scripts); test -z "$$unformatted" || { echo "$$unformatted" >&2; exit 1; }
	$(GO) vet -tags vmtest,e2e ./...
	$(GO) run $(STATICCHECK) -tags vmtest,e2e ./...
	scripts/check-vulnerabilities '$(GO)' '$(GOVULNCHECK)'
	mandoc -T lint -W warning man/*.[1-8]
	shellcheck $(SCRIPTS)
	scripts/check-tree
	scripts/dependencies '$(GO)' | diff -u scripts/deps.txt -

man: ## show the manual pages as text
	for page in man/*.[1-8]; do mandoc -T utf8 "$$page"; done

deps: ## write down the modules that each program links
	scripts/dependencies '$(GO)' > scripts/deps.txt

install: all library ## install below DESTDIR, all packages or PACKAGE
	scripts/install-package '$(DESTDIR)' $(PACKAGE)

debs: all library ## build the Debian packages into build/debs
	scripts/build-debs

e2e: debs ## install the packages in containers, boot them, and use them as a person would (root)
	GO='$(GO)' scripts/e2e

boottest: all ## boot the units of Workstation and Gateway in a container, beside the other (root)
	scripts/boottest

vmtest: all library ## run what needs a kernel of its own under Debian's, in a virtual machine
	GO='$(GO)' scripts/vmtest

reproducible: ## build twice, in two places, and compare
	GO='$(GO)' scripts/reproducible

clean: ## remove what was built
	rm -rf build

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/\1\t\2/p' Makefile | awk -F"\t" "{ printf \"%-13s %s\\n\", \$$1, \$$2 }"
