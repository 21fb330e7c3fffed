# Every shader that is embedded: name, file and defines, one line each. scripts/make/vulkan.mk
# compiles them.
SHADER_TYPES := F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS
SHADER_CACHES := F32 F16 Q8_0

$(foreach t,$(SHADER_TYPES),$(call shader,matmul_$t,matmul.comp,-DTYPE_$t))
$(foreach t,$(SHADER_TYPES),$(call shader,embed_$t,embed.comp,-DTYPE_$t))
$(foreach t,$(SHADER_CACHES),$(call shader,kv_write_$t,kv_write.comp,-DCACHE_$t))
$(foreach t,$(SHADER_CACHES),$(call shader,attention_$t,attention.comp,-DCACHE_$t))
$(foreach t,$(SHADER_TYPES),$(call shader,tile_$t,matmul_tile.comp,-DTYPE_$t))
$(foreach t,Q8_0 Q4_0 Q5_0 Q4_K Q5_K Q6_K,$(call shader,dot_$t,matmul_tile.comp,-DTYPE_$t -DDOT))
ifeq ($(MATRIX_SHADERS),1)
$(foreach t,$(filter-out F32 F16 BF16,$(SHADER_TYPES)),$(call shader,matrix_$t,matmul_matrix.comp,-DTYPE_$t))
endif
$(call shader,pack_x,pack_x.comp,)
$(call shader,attention_join,attention_join.comp,)
$(call shader,norm,norm.comp,)
$(call shader,heads,heads.comp,)
$(call shader,geglu,geglu.comp,)
$(call shader,softcap,softcap.comp,)
$(call shader,top_blocks,top_blocks.comp,)
$(call shader,top_bound,top_bound.comp,)
$(call shader,top_list,top_list.comp,)
