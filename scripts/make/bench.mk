# Speed and correctness against the world outside.

.PHONY: bench peer golden
BENCH_MODEL = $(or $(MODEL),tests/golden/sets/nano/model-Q8_0.gguf)
## bench: tokens a second of MODEL=path (default: the nano model); ARGS="-p 512 -n 128 -t 2"
bench:
	$(SUBMAKE) tool
	@$(BUILD)/gemma bench -m $(call quoted,$(BENCH_MODEL)) $(ARGS)

## peer: our speed over llama.cpp's; MODEL=path PEER_RUN="chroot DIR" PEER_MODEL=path, see the script
peer:
	$(SUBMAKE) tool
	@OURS='$(BUILD)/gemma' MODEL=$(call quoted,$(MODEL)) tests/bench/peer.sh

## golden: the golden tests; with REFERENCE=dir makes the sets anew before
golden:
ifneq ($(REFERENCE),)
	tests/golden/regen '$(REFERENCE)'
endif
	+@$(MAKE) --no-print-directory $(PARALLEL) T=golden ctest-build
	@$(MAKE) --no-print-directory T=golden golden-run
.PHONY: golden-run
golden-run:
	@$(TESTENV) KTEST= scripts/test c
