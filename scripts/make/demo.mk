# The demo, and what comes with it.

.PHONY: demo nvim screens
## demo: builds, fetches what is missing, opens a real Neovim; MODEL=path HEADLESS=1
demo:
	@scripts/deps demo
	$(SUBMAKE) all
	@BUILD='$(BUILD)' HEADLESS='$(HEADLESS)' scripts/demo $(if $(MODEL),$(call quoted,$(MODEL)))

## nvim: unpacks Neovim 0.10 and 0.12 below .deps
nvim:
	@scripts/nvim 0.10
	@scripts/nvim 0.12

## screens: the screens of the demo into README.md
screens:
	@mkdir -p $(BUILD)
	@$(MAKE) --no-print-directory demo HEADLESS=1 >$(BUILD)/screens.txt
	@$$(scripts/nvim best) --clean -l scripts/screens.lua README.md 'grey text while typing' \
	    ':GemmaExplain' ':Gemma image What is this?' <$(BUILD)/screens.txt
