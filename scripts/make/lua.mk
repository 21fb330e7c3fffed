# The Lua side: its tests, and the files that are generated for it.
# NVIM on the command line is a list of Neovims; each runs all tests. In the environment it is the socket
# of a Neovim that make was started from, and scripts are to see it so: it is never assigned here, since
# make hands on what it assigns.
LUAJIT ?= luajit
NVIMS  := $(if $(filter command line,$(origin NVIM)),$(NVIM),\
            $(firstword $(wildcard .deps/nvim-0.12/nvim .deps/nvim-0.10/nvim) nvim))

.PHONY: lua-check cdef cdef-check doc doc-check
## lua-check: Lua tests; T=name for one file, NVIM="a b" for several Neovims
lua-check:
	@for nvim in $(NVIMS); do \
	    GEMMA_TEST_NVIM="$$(realpath "$$(command -v $$nvim)")" $$nvim --clean -l tests/lua/run.lua T=$(T) || exit 1; \
	done
## cdef: lua/gemma/cdef.lua from csrc/api/gemma.h
cdef:
	$(LUAJIT) scripts/gen_cdef.lua
cdef-check:
	$(LUAJIT) scripts/gen_cdef.lua --check
## doc: the generated parts of doc/gemma.txt
doc:
	$(firstword $(NVIMS)) --clean -l scripts/gen_doc.lua
doc-check:
	$(firstword $(NVIMS)) --clean -l scripts/gen_doc.lua --check
