# What a picture costs before the model sees it.

$(BUILD)/bench/bench_media: $(BUILD)/obj/tests/bench/bench_media.o $(BUILD)/libgemma.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/libgemma.a $(LIBS)

.PHONY: bench-media
## bench-media: ms of decoding, resizing and cutting PICTURE=file into patches; BUDGET=280
bench-media: $(BUILD)/bench/bench_media
	$< $(PICTURE) $(BUDGET)
