# Copies for package managers that do not use the checkout itself.

.PHONY: install install-rock
## install: the plugin as a Neovim package in DEST (default: ~/.local/share/nvim/site/pack/gemma/start/gemma.nvim)
DEST ?= $(or $(XDG_DATA_HOME),$(HOME)/.local/share)/nvim/site/pack/gemma/start/gemma.nvim
install: lib tags
	@mkdir -p '$(DEST)/build' '$(DEST)/tools/embedded'
	@# What is gone from a newer version goes; an editor that has the old model or library mapped keeps it.
	rm -rf '$(DEST)/lua/gemma' '$(DEST)/tools/embedded/model'
	cp -R plugin lua doc prompts LICENSE '$(DEST)/'
	cp -R tools/embedded/model '$(DEST)/tools/embedded/'
	cp $(BUILD)/libgemma.so '$(DEST)/build/libgemma.so.tmp'
	mv -f '$(DEST)/build/libgemma.so.tmp' '$(DEST)/build/libgemma.so'

# For LuaRocks, which deploys what lies in LUADIR; the library and the small model go beside the Lua files.
install-rock:
	@mkdir -p '$(LUADIR)'
	cp -R lua/gemma '$(LUADIR)/gemma'
	cp $(BUILD)/libgemma.so tools/embedded/model/*.gguf '$(LUADIR)/gemma/'
