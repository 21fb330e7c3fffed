# The embedded model: a small Gemma 4 unified model, trained by the project. See tools/embedded.

EMBEDDED_ENV = TREE='$(TREE)' WORK='$(WORK)' BUILD='$(BUILD)' PLAN='$(PLAN)' \
               TRAIN='$(TRAIN)' START='$(START)' FROM='$(FROM)' MODEL='$(MODEL)' MMPROJ='$(MMPROJ)' \
               ARGS='$(ARGS)'

.PHONY: embedded embedded-eval
## embedded: makes the embedded model from nothing (root, hours, resumable); STAGE=name, WORK=dir TREE=dir
embedded:
	$(SUBMAKE) all
	@$(EMBEDDED_ENV) tools/embedded/chain $(or $(STAGE),all)

## embedded-eval: its scores on held-out data, by the C engine; WORK=dir MODEL=file MMPROJ=file
embedded-eval:
	$(SUBMAKE) all
	@$(EMBEDDED_ENV) tools/embedded/chain eval
