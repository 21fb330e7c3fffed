# Fuzzing with libFuzzer: tests/fuzz/fuzz_<name>.c, see tests/fuzz/fuzz.h.
#
# Needs clang with its libFuzzer; without it a skip is printed. Sources are compiled once more, with
# sanitizers, into $(BUILD)/fuzz. Inputs that were found stay in $(BUILD)/fuzz/corpus/<name> and are
# where the next run begins; a failing input is written to $(BUILD)/fuzz/crash-<name>-*.

FUZZ_SECONDS ?= 60
FUZZ_CC      ?= clang
FUZZ_DIR     := $(BUILD)/fuzz
FUZZ_SAN     := -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer
FUZZ_CFLAGS  := -std=c11 -D_GNU_SOURCE -Icsrc -Itests/c -Itests/fuzz -O1 -g -DGM_DEBUG=1 \
                -ffp-contract=off -fno-math-errno $(FUZZ_SAN)
FUZZ_ALL     := $(filter-out replay,$(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c)))
FUZZ_NAMES   := $(if $(T),$(T),$(FUZZ_ALL))

# Only what parses foreign bytes: the rooms below the model, media, and the helpers that make seeds.
FUZZ_ROOMS   := base tensor format tokenizer media
FUZZ_SRC     := $(foreach r,$(FUZZ_ROOMS),$(wildcard csrc/$(r)/*.c)) \
                $(addprefix tests/c/helper/,gguf_touch.c gguf_writer.c tiny_model.c)
FUZZ_OBJ     := $(FUZZ_SRC:%.c=$(FUZZ_DIR)/obj/%.o)

$(FUZZ_DIR)/obj/%.o: %.c
	@mkdir -p $(@D)
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -MMD -MP -c -o $@ $<

# The library is linked as an archive: a target takes what it needs.
$(FUZZ_DIR)/libfuzzed.a: $(FUZZ_OBJ)
	@rm -f $@
	$(AR) rcs $@ $(FUZZ_OBJ)

$(FUZZ_DIR)/fuzz_%-replay: $(FUZZ_DIR)/obj/tests/fuzz/fuzz_%.o $(FUZZ_DIR)/obj/tests/fuzz/fuzz_replay.o \
                           $(FUZZ_DIR)/libfuzzed.a
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer-no-link -o $@ $^ -lm -ldl -lpthread

# fuzz_seed is weak (fuzz.h): the main of libFuzzer never asks for seeds.
$(FUZZ_DIR)/fuzz_%: $(FUZZ_DIR)/obj/tests/fuzz/fuzz_%.o $(FUZZ_DIR)/libfuzzed.a
	$(FUZZ_CC) $(FUZZ_CFLAGS) -fsanitize=fuzzer -o $@ $^ -lm -ldl -lpthread

# Seeds come from the target itself; those of media from files too.
.PHONY: fuzz fuzz-run-%
fuzz-run-%: $(FUZZ_DIR)/fuzz_% $(FUZZ_DIR)/fuzz_%-replay
	@mkdir -p $(FUZZ_DIR)/corpus/$* $(FUZZ_DIR)/seeds/$*
	@$(FUZZ_DIR)/fuzz_$*-replay --seeds $(FUZZ_DIR)/seeds/$*
	@[ $* != media ] || cp tests/golden/pictures/*.* tests/fuzz/media/* $(FUZZ_DIR)/seeds/$*/
	@echo "fuzz: $*, $(FUZZ_SECONDS) s"
	@log=$(FUZZ_DIR)/$*.log; \
	    if $(FUZZ_DIR)/fuzz_$* -max_total_time=$(FUZZ_SECONDS) -timeout=10 -rss_limit_mb=2048 \
	        -max_len=65536 -artifact_prefix=$(FUZZ_DIR)/crash-$*- -print_final_stats=1 \
	        $$(test -f tests/fuzz/$*.dict && echo -dict=tests/fuzz/$*.dict) \
	        $(FUZZ_DIR)/corpus/$* $(FUZZ_DIR)/seeds/$* >$$log 2>&1; then \
	        grep -E '^stat::(number_of_executed|peak_rss)' $$log | sed 's/^stat::/fuzz: $*: /'; \
	    else \
	        tail -40 $$log; echo "fuzz: $* failed; the input is $(FUZZ_DIR)/crash-$*-*"; exit 1; \
	    fi

# With the ordinary flags, as tests: a target that does not compile, or breaks its promise on one of its
# own seeds, would show only when somebody fuzzes.
FUZZTEST   := $(patsubst %,$(BUILD)/tests/fuzz/fuzz_%,$(if $(T),$(filter $(T),$(FUZZ_ALL)),$(FUZZ_ALL)))
FUZZHELPER := $(addprefix $(BUILD)/obj/tests/,fuzz/fuzz_replay.o \
                c/helper/gguf_touch.o c/helper/gguf_writer.o c/helper/tiny_model.o)

ctest-build: $(FUZZTEST)
$(FUZZTEST): $(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(FUZZHELPER) $(BUILD)/libgemma.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $< $(FUZZHELPER) $(BUILD)/libgemma.a $(LIBS)

FUZZ_WORKS = mkdir -p $(FUZZ_DIR) && echo 'int LLVMFuzzerTestOneInput(const char *p, unsigned long n) \
    { return (int)(n - n) * (p != 0); }' | $(FUZZ_CC) -x c -fsanitize=fuzzer -o $(FUZZ_DIR)/probe - 2>/dev/null

## fuzz: every parser for FUZZ_SECONDS (60) each under sanitizers; T=gguf for one
fuzz:
	@if $(FUZZ_WORKS); then \
	    for t in $(FUZZ_NAMES); do $(MAKE) --no-print-directory fuzz-run-$$t || exit 1; done; \
	else \
	    echo "fuzz: SKIPPED, no clang with libFuzzer here (Debian: apt install clang)"; \
	fi

-include $(FUZZ_OBJ:.o=.d) $(foreach d,$(FUZZ_DIR) $(BUILD),$(patsubst %.c,$(d)/obj/%.d,$(wildcard tests/fuzz/*.c)))
