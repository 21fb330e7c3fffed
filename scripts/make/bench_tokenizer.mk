# Speed of the tokenizer. A vocabulary comes from tests/golden/make_vocab_gguf.py or is any model.

$(BUILD)/bench/bench_tokenizer: $(BUILD)/obj/tests/bench/bench_tokenizer.o $(BUILD)/libgemma.a
	@mkdir -p $(@D)
	$(CC) $(ALL_CFLAGS) -o $@ $< $(BUILD)/libgemma.a $(LIBS)

.PHONY: bench-tokenizer
## bench-tokenizer: MB/s of encoding VOCAB=file.gguf over FILES="..."
bench-tokenizer: $(BUILD)/bench/bench_tokenizer
	$< $(VOCAB) $(FILES)
