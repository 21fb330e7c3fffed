# Tests, rules and formatting. What is run is composed by scripts/test.

NPROC    := $(shell nproc 2>/dev/null || echo 2)
# Sub-makes share the job slots of `make -jN`, which make tells only when it runs; without -j they use
# all processors.
PARALLEL = $(if $(filter -j% --jobserver%,$(MAKEFLAGS)),,-j$(NPROC))
SUBMAKE  = +@$(MAKE) --no-print-directory $(PARALLEL)
# Under the thread sanitizer `make test` runs only what has threads, and the team of the kernels once
# (ops), or this would take most of the time; make test SAN=thread runs all of it.
THREADED  = $(filter $(addprefix $(BUILD)/tests/,c/api/% c/kernels/% c/engine/test_worker \
              kernels/check_attn ops/%),$(KTEST) $(CTEST))
TESTENV   = BUILD='$(BUILD)' CTEST='$(CTEST)' KTEST='$(KTEST)' FUZZTEST='$(FUZZTEST)' \
            THREADED='$(THREADED)' T='$(T)' SAN='$(SAN)' MAKE='$(MAKE)'

# It runs the program that was built beside it, and skips without one; builds with sanitizers make tests
# only.
$(BUILD)/tests/c/tools/test_cli: | $(BUILD)/gemma

.PHONY: threaded-build check test kernels layers lint format deps-test

threaded-build: $(THREADED)

## check: fast tests, nothing is installed; T=name for one file
check:
	@scripts/deps --check check
	$(SUBMAKE) all ctest-build
	@$(TESTENV) scripts/test check

ifeq ($(SAN),)
## test: all tests; installs what is missing; SAN=address,undefined or SAN=thread runs the C tests so
test: deps-test
	$(SUBMAKE) $(if $(CI),WERROR=1) all ctest-build
ifeq ($(T),)
	$(SUBMAKE) SAN=address,undefined ctest-build
	$(SUBMAKE) SAN=thread threaded-build
endif
	@$(TESTENV) scripts/test test
else
test: deps-test
	$(SUBMAKE) ctest-build
	@$(TESTENV) scripts/test c
endif

deps-test:
	@scripts/deps $(if $(CI),ci,test)
ifeq ($(SAN),)
	@scripts/nvim 0.10 >/dev/null || true
	@scripts/nvim 0.12 >/dev/null || true
endif

## kernels: check every kernel variant against the reference
kernels:
	$(SUBMAKE) $(KTEST)
	@$(TESTENV) CTEST= FUZZTEST= scripts/test c

## layers: check who includes whom
layers:
	@scripts/layers $$(find csrc -name '*.[ch]')

## lint: the rules of make test: layers, luacheck, shellcheck, layout of C
lint:
	@scripts/deps --check lint
	@$(TESTENV) scripts/test lint

## format: clang-format over C, stylua over Lua where it is installed
format:
	find csrc tests tools -name '*.[ch]' -exec clang-format -i {} +
	@if command -v stylua >/dev/null; then stylua lua plugin; \
	    else echo "format: no stylua here, Lua left as it is"; fi
