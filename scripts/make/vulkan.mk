# Shaders: GLSL to SPIR-V to arrays of the library. Included by the Makefile before it lists its
# objects.

GLSLC ?= glslc
# Versions of make differ in what they leave of an escaped one.
hash  := \#
# Builds with sanitizers lie below the ordinary one and use its shaders, which are the same.
SPV   := $(firstword $(subst /san-, ,$(BUILD)))/shaders

# Without the headers or the compiler the library has no Vulkan backend and says so when asked for it.
VULKAN ?= $(shell command -v $(GLSLC) >/dev/null && echo '$(hash)include <vulkan/vulkan.h>' | \
            $(CC) -E - >/dev/null 2>&1 && echo 1)
ifneq ($(VULKAN),1)
  VULKAN_SRC := csrc/kernels/vulkan/vk_stub.c
else
  VULKAN_SRC := $(filter-out %/vk_stub.c,$(wildcard csrc/kernels/vulkan/*.c))

  # Shaders for matrix units need a glslc of 2023.5 or newer; without them a device uses its other ways.
  MATRIX_SHADERS ?= $(shell printf '$(hash)version 450\n$(hash)extension GL_KHR_cooperative_matrix : require\nvoid main() {}\n' | \
                      $(GLSLC) --target-env=vulkan1.2 -fshader-stage=compute -o /dev/null - 2>/dev/null && echo 1)

  # shader NAME FILE DEFINES
  SHADERS :=
  define shader_rule
SHADERS += $1
$(SPV)/$1.inc: shaders/$2 shaders/variants.mk
	@mkdir -p $(SPV)
	$$(call say,SPV,$1)
	$$(Q)$(GLSLC) --target-env=vulkan1.2 -O $3 -MD -MF $(SPV)/$1.d -MT $(SPV)/$1.inc -mfmt=c -o $$(own) $$< && mv -f $$(own) $$@
  endef
  shader = $(eval $(call shader_rule,$1,$2,$3))
  include shaders/variants.mk

$(call stamp,$(SPV)/names,$(SHADERS))
$(SPV)/list.inc: $(SPV)/names $(SHADERS:%=$(SPV)/%.inc)
	@{ for s in $(SHADERS); do \
	    echo "static const uint32_t spv_$$s[] ="; echo "#include \"$$s.inc\""; echo ";"; done; \
	  echo "static const gm_vk_shader shaders[] = {"; \
	  for s in $(SHADERS); do echo "    {\"$$s\", spv_$$s, sizeof spv_$$s},"; done; \
	  echo "};"; } >$(own) && mv -f $(own) $@
$(BUILD)/obj/kernels/vulkan/vk_pipe.o: $(SPV)/list.inc
-include $(SHADERS:%=$(SPV)/%.d)
endif
