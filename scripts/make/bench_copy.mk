# How fast a device copies its own memory; tests/bench/gpu.sh compares decoding with it.

$(BUILD)/bench/bench_copy: $(BUILD)/obj/tests/bench/bench_copy.o $(BUILD)/libgemma.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/libgemma.a $(LIBS)

.PHONY: bench-copy
## bench-copy: GB/s that DEVICE=vulkan reads and writes when it copies
bench-copy: $(BUILD)/bench/bench_copy
	$< $(DEVICE)
