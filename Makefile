# gemma.nvim: build, tests, demo. `make help` lists the targets.

CC      ?= cc
AR      ?= ar
BUILD   ?= build
.DEFAULT_GOAL := all
.DELETE_ON_ERROR:

# ---- flags -------------------------------------------------------------------------------
# DEBUG=1 turns assertions and the no-alloc guard on; SAN=address,undefined or SAN=thread builds
# with sanitizers into a folder of its own; WERROR=1 (CI) makes warnings errors. CFLAGS, CPPFLAGS and LDFLAGS
# are added to ours.
comma := ,
# Of the environment these do not count: many a shell exports a DEBUG of its own.
ifeq ($(origin DEBUG),environment)
  DEBUG :=
endif
ifeq ($(origin SAN),environment)
  SAN :=
endif
ifneq ($(SAN),)
  # `override`, so that it holds for BUILD= on the command line as well; once, so that sub-makes
  # which inherit BUILD do not nest another folder.
  ifeq ($(filter %/san-$(subst $(comma),-,$(SAN)),$(BUILD)),)
    override BUILD := $(BUILD)/san-$(subst $(comma),-,$(SAN))
  endif
  SANFLAGS := -fsanitize=$(SAN) -fno-sanitize-recover=undefined -fno-omit-frame-pointer -g
  DEBUG := 1
endif
OPT     ?= -O2
WARN    := -Wall -Wextra -Wshadow -Wpointer-arith -Wstrict-prototypes -Wmissing-prototypes -Wvla
ifeq ($(WERROR),1)
  WARN += -Werror
endif
DEFINES := $(if $(filter 1,$(DEBUG)),-DGM_DEBUG=1)
ALL_CFLAGS = -std=c11 -D_GNU_SOURCE -Icsrc $(WARN) $(OPT) -g $(CPPFLAGS) $(CFLAGS) $(DEFINES) -fPIC \
             -fvisibility=hidden -ffp-contract=off -fno-math-errno $(SANFLAGS)
LIBS    := $(LDFLAGS) -luv -lm -ldl -lpthread

# lua/gemma/ffi.lua looks for the library by this name.
ifeq ($(shell uname -s),Darwin)
  LIB     := $(BUILD)/libgemma.dylib
  SOFLAGS := -dynamiclib
else
  LIB     := $(BUILD)/libgemma.so
  SOFLAGS := -shared -Wl,-Bsymbolic -Wl,-z,nodelete -Wl,-z,defs
endif

# V=1 shows the commands.
Q   := $(if $(V),,@)
say  = $(if $(V),@:,@printf '  %-3s %s\n' $(1) $(2))

# stamp FILE,TEXT: FILE holds TEXT and is older than what was made with it. Prerequisites cannot see that a
# compiler, a flag or a list of files is another than the last time; this can. TEXT is compared here and not
# in the recipe, so that `make -q` and `make -n` know.
differ = $(subst x$1,,x$2)$(subst x$2,,x$1)
quoted = '$(subst ','\'',$1)'
define stamp_rule
$1: $(if $(call differ,$(shell cat $1 2>/dev/null),$2),FORCE)
	@mkdir -p $$(@D)
	@printf '%s\n' $(subst $$,$$$$,$(call quoted,$2)) >$$@
endef
stamp = $(eval $(call stamp_rule,$1,$(strip $2)))
.PHONY: FORCE

# ---- sources -----------------------------------------------------------------------------
ROOMS   := base tensor format tokenizer kernels kernels/cpu model media engine api
SRC     := $(foreach r,$(ROOMS),$(wildcard csrc/$(r)/*.c))
ARCH    := $(firstword $(subst -, ,$(shell $(CC) -dumpmachine 2>/dev/null || uname -m)))
ifneq ($(filter x86_64 amd64,$(ARCH)),)
  SRC += $(wildcard csrc/kernels/cpu/x86/*.c)
endif
ifneq ($(filter aarch64 arm64,$(ARCH)),)
  SRC += $(wildcard csrc/kernels/cpu/arm/*.c)
endif
include scripts/make/vulkan.mk
SRC     += $(VULKAN_SRC)
OBJ     := $(SRC:csrc/%.c=$(BUILD)/obj/%.o)
TOOLSRC := $(wildcard csrc/tools/*.c)
TOOLOBJ := $(TOOLSRC:csrc/%.c=$(BUILD)/obj/%.o)
$(call stamp,$(BUILD)/objects,$(LIBS) $(OBJ))

# Undefined behaviour is looked for in the plain C twins of the vector kernels: in their long unrolled
# bodies the checks take the compiler minutes.
san_isa_flags = $(if $(SAN),$(if $(findstring kernels/cpu/x86/,$1),-O1 -fno-sanitize=undefined))

# Files in x86/ and arm/ carry their instruction set in their name and are compiled for it; which
# one runs is decided at run time.
isa_avx2       := -mavx2 -mfma -mf16c
isa_avxvnni    := $(isa_avx2) -mavxvnni
isa_avx512     := $(isa_avx2) -mavx512f -mavx512bw -mavx512dq -mavx512vl
isa_avx512vnni := $(isa_avx512) -mavx512vnni
isa_amx        := $(isa_avx512vnni) -mavx512bf16 -mamx-tile -mamx-bf16
isa_dotprod    := -march=armv8.2-a+dotprod
isa_i8mm       := -march=armv8.2-a+dotprod+i8mm
isa_flags = $(isa_$(lastword $(subst _, ,$(basename $(notdir $1)))))

# Plain loops that are worth a vectoriser which tries harder.
$(BUILD)/obj/media/resize.o $(BUILD)/obj/media/unfilter.o $(BUILD)/obj/kernels/vulkan/vk_repack.o: speed_flags := $(if $(SAN)$(DEBUG),,-O3)

# What a file is compiled with beside that is said in this file.
$(call stamp,$(BUILD)/flags,$(CC) $(ALL_CFLAGS) Makefile $(shell cksum <Makefile))

# Two makes may be at work here, of two editors that were started after an update: each writes files of its own,
# named after the shell of the recipe.
own = $(basename $@).$$$$$(suffix $@)

.PHONY: all lib tool tags
## all: the library and the command-line tool
all: lib tool tags
## lib: the library in build/
lib: $(LIB)
## tags: the help's, where there is a Neovim
tags: doc/tags
doc/tags: $(wildcard doc/*.txt)
	@if command -v nvim >/dev/null; then nvim --headless -u NONE -i NONE -c 'helptags doc' -c q || true; fi
## tool: build/gemma
tool: $(BUILD)/gemma

$(BUILD)/obj/%.o: csrc/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) $(speed_flags) $(call isa_flags,$<) $(call san_isa_flags,$<) $(if $(findstring /vk_pipe.c,$<),-I$(SPV)) \
	    -MMD -MP -MF $(@:.o=.d) -MT $@ -c -o $(own) $< && mv -f $(own) $@

# A new inode each time: replacing a library that an editor has mapped must not crash it.
$(LIB): $(OBJ) $(BUILD)/objects
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) $(SOFLAGS) -o $(own) $(OBJ) $(LIBS) && mv -f $(own) $@

$(BUILD)/libgemma.a: $(OBJ) $(BUILD)/objects
	@rm -f $@
	$(Q)$(AR) rcs $@ $(OBJ)

$(BUILD)/gemma: $(TOOLOBJ) $(BUILD)/libgemma.a
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $(own) $(TOOLOBJ) $(BUILD)/libgemma.a $(LIBS) && mv -f $(own) $@

# ---- C tests: one program per tests/c/<room>/test_<file>.c, linked with the static library ----
HELPERSRC := $(wildcard tests/c/helper/*.c)
HELPEROBJ := $(HELPERSRC:%.c=$(BUILD)/obj/%.o)
CTESTSRC  := $(wildcard tests/c/*/test_*.c) $(wildcard tests/ops/test_*.c)
ifneq ($(T),)
  CTESTSRC := $(filter %test_$(T).c,$(CTESTSRC))
endif
CTEST     := $(CTESTSRC:%.c=$(BUILD)/%)
KTESTSRC  := $(wildcard tests/kernels/check_*.c)
ifneq ($(T),)
  KTESTSRC := $(filter %/check_$(T).c,$(KTESTSRC))
endif
KTEST     := $(KTESTSRC:%.c=$(BUILD)/%)

$(BUILD)/obj/tests/%.o: tests/%.c $(BUILD)/flags
	@mkdir -p $(@D)
	$(call say,CC,$<)
	$(Q)$(CC) $(ALL_CFLAGS) -Itests/c -MMD -MP -c -o $@ $<

$(BUILD)/tests/%: $(BUILD)/obj/tests/%.o $(HELPEROBJ) $(BUILD)/libgemma.a
	@mkdir -p $(@D)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_CFLAGS) -o $@ $< $(HELPEROBJ) $(BUILD)/libgemma.a -lcmocka $(LIBS)

.PHONY: ctest-build
ctest-build: $(CTEST) $(KTEST)
.SECONDARY:

include $(filter-out scripts/make/vulkan.mk,$(wildcard scripts/make/*.mk))
-include $(OBJ:.o=.d) $(TOOLOBJ:.o=.d) $(HELPEROBJ:.o=.d)
-include $(patsubst %.c,$(BUILD)/obj/%.d,$(CTESTSRC) $(KTESTSRC) $(wildcard tests/bench/*.c))

.PHONY: clean help
## clean: remove build output
clean:
	rm -rf $(BUILD) doc/tags
## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): \(.*\)/  \1\t\2/p' Makefile scripts/make/*.mk 2>/dev/null | expand -t 20
