# The Lua side: its tests, and the files that are generated for it.
# NVIM is a list of Neovims; each runs all tests.
LUAJIT ?= luajit
# In the environment NVIM is not a list but the socket of a Neovim that make was started from.
ifneq ($(origin NVIM),command line)
  NVIM := $(firstword $(wildcard .deps/nvim-0.12/nvim .deps/nvim-0.10/nvim) nvim)
endif

.PHONY: lua-check cdef cdef-check doc doc-check
## lua-check: Lua tests; T=name for one file, NVIM="a b" for several Neovims
lua-check:
	@for nvim in $(NVIM); do \
	    GEMMA_TEST_NVIM="$$(realpath "$$(command -v $$nvim)")" $$nvim --clean -l tests/lua/run.lua T=$(T) || exit 1; \
	done
## cdef: lua/gemma/cdef.lua from csrc/api/gemma.h
cdef:
	$(LUAJIT) scripts/gen_cdef.lua
cdef-check:
	$(LUAJIT) scripts/gen_cdef.lua --check
## doc: the generated parts of doc/gemma.txt
doc:
	$(firstword $(NVIM)) --clean -l scripts/gen_doc.lua
doc-check:
	$(firstword $(NVIM)) --clean -l scripts/gen_doc.lua --check
