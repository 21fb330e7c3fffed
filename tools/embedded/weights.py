"""The weights of the files that the plugin reads, put into transformers' modules.

Used to compare the two implementations (equality.py) and to train on from a model that was shipped
(train.py --start).
"""
import contextlib
import re

import numpy as np
import torch

import net

BLOCK = {"attn_norm": "input_layernorm", "layer_output_scale": "layer_scalar",
         "ffn_down": "mlp.down_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj",
         "post_attention_norm": "post_attention_layernorm",
         "post_ffw_norm": "post_feedforward_layernorm", "ffn_norm": "pre_feedforward_layernorm",
         "attn_k_norm": "self_attn.k_norm", "attn_k": "self_attn.k_proj",
         "attn_output": "self_attn.o_proj", "attn_q_norm": "self_attn.q_norm",
         "attn_q": "self_attn.q_proj", "attn_v": "self_attn.v_proj"}
VISION = {"v.patch_embd": "patch_dense", "v.patch_norm.1": "patch_ln1", "v.patch_norm.2": "patch_ln2",
          "v.patch_norm.3": "pos_norm", "mm.input_projection": "multimodal_embedder.embedding_projection"}


def hf_name(name):
    """Where a tensor of the GGUF files belongs, or None."""
    if name == "token_embd.weight":
        return "model.language_model.embed_tokens.weight"
    if name == "output_norm.weight":
        return "model.language_model.norm.weight"
    if name == "mm.a.input_projection.weight":
        return "model.embed_audio.embedding_projection.weight"
    if name == "v.position_embd.weight":
        return "model.embed_vision.pos_embedding"
    stem, _, leaf = name.rpartition(".")
    if stem in VISION:
        return f"model.embed_vision.{VISION[stem]}.{leaf}"
    found = re.fullmatch(r"blk\.(\d+)\.(\w+)", stem)
    if not found:
        return None
    part = BLOCK[found[2]]
    return f"model.language_model.layers.{found[1]}.{part}" + ("" if part == "layer_scalar" else ".weight")


@torch.no_grad()
def load(model, path):
    from gguf import GGUFReader
    from gguf.quants import dequantize
    named = dict(model.named_parameters())
    named.update({n: b for n, b in model.named_buffers() if n.endswith("layer_scalar")})
    done = set()
    for t in GGUFReader(str(path)).tensors:
        target = hf_name(t.name)
        if target is None:
            continue
        value = torch.from_numpy(np.array(dequantize(t.data, t.tensor_type), dtype=np.float32))
        if t.name == "v.position_embd.weight":  # [axis][position] in the file
            value = value.reshape(2, -1, value.shape[-1]).permute(1, 0, 2)
        if t.name.startswith(("v.patch_embd.weight", "v.patch_norm.1")):  # planes in the file
            value = value.reshape(*value.shape[:-1], 3, net.PATCH ** 2).transpose(-1, -2)
        named[target].copy_(value.reshape(named[target].shape))
        done.add(target)
    return done


def fill(model, folder):
    """All parameters from the two files in a folder; fails when one is not there."""
    done = load(model, folder / "gemma-embedded.gguf") | load(model, folder / "mmproj-gemma-embedded.gguf")
    missing = {n for n, _ in model.named_parameters()} - done - {"lm_head.weight"}
    if missing:
        raise SystemExit(f"not in the files: {sorted(missing)[:4]}")


def q4_0(w):
    """The values that a matrix has in a file of Q4_0: blocks of 32 along rows, in steps of an eighth of the
    largest one, which is float16."""
    blocks = w.reshape(-1, 32)
    step = blocks.gather(1, blocks.abs().argmax(1, True)) / -8.0
    level = torch.where(step == 0.0, 0.0, blocks / step + 8.5).floor_().clamp_(0.0, 15.0) - 8.0
    return (level * step.half().float()).view_as(w)


@contextlib.contextmanager
def as_shipped(model):
    """Within it the feed-forward matrices have the values of the file. Their gradients are taken for those of
    the exact ones, so that training finds weights that bear the rounding (Jacob et al. 2018)."""
    exact = {p: p.data for n, p in model.named_parameters() if ".mlp." in n}
    try:
        for p in exact:
            p.data = q4_0(p.data)
        yield
    finally:
        for p, values in exact.items():
            p.data = values
