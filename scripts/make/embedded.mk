# The embedded model: a small Gemma 4 unified model, trained by the project. See tools/embedded.
# Variables that are given to make reach the chain by themselves.

.PHONY: embedded embedded-eval
## embedded: makes the embedded model from nothing (root, hours, resumable); STAGE=name, WORK=dir TREE=dir
embedded:
	$(SUBMAKE) all
	@BUILD='$(BUILD)' tools/embedded/chain $(or $(STAGE),all)

## embedded-eval: its scores by the C engine (without held-out data in WORK: root, a tree of 3 GB); MODEL= MMPROJ= ARGS=
embedded-eval:
	$(SUBMAKE) all
	@BUILD='$(BUILD)' tools/embedded/chain eval
