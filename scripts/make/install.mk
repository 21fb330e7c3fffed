# Copies for package managers that do not use the checkout itself.

.PHONY: install uninstall install-rock
## install: the plugin as a Neovim package in DEST (default: ~/.local/share/nvim/site/pack/gemma/start/gemma.nvim)
DEST ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/nvim/site/pack/gemma/start/gemma.nvim
install: lib tags
	@scripts/install $(call quoted,$(DEST)) $(LIB)
## uninstall: takes away what install has put into DEST
uninstall:
	@scripts/install --remove $(call quoted,$(DEST))

# For LuaRocks, which deploys what lies in LUADIR; the library and the small model go beside the Lua files.
install-rock:
	@mkdir -p $(call quoted,$(LUADIR)/gemma)
	cp -R lua/gemma/. $(LIB) tools/embedded/model/*.gguf $(call quoted,$(LUADIR)/gemma/)
