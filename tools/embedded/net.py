"""The network: its shape, its first weights, and the forward pass that training uses.

Nothing here is an architecture of our own. The modules are those of Hugging Face transformers
(gemma4_unified); this file only chooses sizes, draws the first weights so that a short training
on a small computer gets far, and builds the attention masks (transformers 5.12.1 opens the block
of an image in the global layers as well, which the released model does not do).
"""
import math

import numpy as np
import torch
import torch.nn.functional as F

import swift
from pictures import PATCH
from sounds import RATE

FRAME = 640  # samples

# Sliding and global layers, softcap, k = v in global layers, norms: as in the 12B. Only smaller.
SHAPE = dict(hidden=256, ffn=1408, pattern="sssssg", heads=4, kv=2, head_dim=64, global_kv=1,
             global_head_dim=128, window=512, mm_embed=192, posemb=288, softcap=30.0,
             rope_local=10000.0, rope_global=1000000.0, partial=0.25, context=8192)


def config(vocab):
    from transformers import Gemma4UnifiedConfig
    c = SHAPE
    text = dict(
        vocab_size=len(vocab), hidden_size=c["hidden"], intermediate_size=c["ffn"],
        num_hidden_layers=len(c["pattern"]), num_attention_heads=c["heads"],
        num_key_value_heads=c["kv"], head_dim=c["head_dim"],
        global_head_dim=c["global_head_dim"], num_global_key_value_heads=c["global_kv"],
        attention_k_eq_v=True, sliding_window=c["window"], final_logit_softcapping=c["softcap"],
        layer_types=["sliding_attention" if p == "s" else "full_attention" for p in c["pattern"]],
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": c["rope_local"]},
            "full_attention": {"rope_type": "proportional", "rope_theta": c["rope_global"],
                               "partial_rotary_factor": c["partial"]}},
        use_bidirectional_attention="vision", rms_norm_eps=1e-6, tie_word_embeddings=True,
        pad_token_id=vocab["<pad>"], eos_token_id=vocab["<eos>"], bos_token_id=vocab["<bos>"],
        max_position_embeddings=c["context"])
    return Gemma4UnifiedConfig(
        text_config=text,
        vision_config=dict(mm_embed_dim=c["mm_embed"], output_proj_dims=c["mm_embed"],
                           mm_posemb_size=c["posemb"], patch_size=16, pooling_kernel_size=3),
        audio_config=dict(audio_embed_dim=FRAME),
        image_token_id=vocab["<|image|>"], audio_token_id=vocab["<|audio|>"],
        video_token_id=vocab["<|video|>"], boi_token_id=vocab["<|image>"],
        eoi_token_id=vocab["<image|>"], boa_token_id=vocab["<|audio>"],
        eoa_token_index=vocab["<audio|>"],
        architectures=["Gemma4UnifiedForConditionalGeneration"])


# ---- first weights ---------------------------------------------------------------------------

def cosines(n, count):
    """The first `count` rows of the orthonormal cosine transform of length n."""
    k = np.arange(count)[:, None]
    x = np.arange(n)[None]
    rows = np.cos(math.pi * (x + 0.5) * k / n) * math.sqrt(2.0 / n)
    rows[0] /= math.sqrt(2.0)
    return rows


def picture_filters(n_out):
    """[n_out, 48*48*3]: the lowest cosine waves of brightness and of two colour differences."""
    waves = cosines(PATCH, 24)
    order = sorted(((u * u + v * v, u, v) for u in range(24) for v in range(24)))
    n_colour = n_out // 4
    mixes = [((1, 1, 1), n_out - 2 * n_colour), ((1, -1, 0), n_colour), ((0.5, 0.5, -1), n_colour)]
    rows = []
    for mix, count in mixes:
        colour = np.array(mix) / np.linalg.norm(mix)
        for _, u, v in order[:count]:
            rows.append((waves[v][:, None, None] * waves[u][None, :, None] * colour).ravel())
    # A patch has most of its energy in the lowest waves; lift the others.
    gain = [1.0 + 0.35 * math.sqrt(order[i][0]) for _, count in mixes for i in range(count)]
    return np.array(rows) * np.array(gain)[:, None]


def sound_filters(n_out):
    """[n_out, 640]: pairs of cosine and sine under a window, close together at low frequencies.

    A quarter of the pairs looks at the whole frame of 40 ms (fine pitch), the rest at its first
    and its second half (quick changes in speech)."""
    def mel(f):
        return 1127.0 * math.log(1.0 + f / 700.0)

    def hertz(m):
        return 700.0 * (math.exp(m / 1127.0) - 1.0)

    pairs = n_out // 2
    whole = pairs // 4
    half = (pairs - whole) // 2
    t = np.arange(FRAME) / RATE
    rows = []
    for start, width, count, low, high in ((0, FRAME, pairs - 2 * half, 60.0, 3000.0),
                                           (0, FRAME // 2, half, 120.0, 7400.0),
                                           (FRAME // 2, FRAME // 2, half, 120.0, 7400.0)):
        window = np.zeros(FRAME)
        window[start:start + width] = np.hanning(width + 2)[1:-1]
        for i in range(count):
            f = hertz(mel(low) + (mel(high) - mel(low)) * i / (count - 1))
            tilt = (f / 1000.0) ** 0.4  # speech falls off towards high frequencies
            for wave in (np.cos(2 * math.pi * f * t), np.sin(2 * math.pi * f * t)):
                row = window * wave
                rows.append(tilt * row / np.linalg.norm(row))
    return np.array(rows)


@torch.no_grad()
def draw_weights(model):
    """First weights. The residual stream starts with unit size; branches add a little each."""
    generator = torch.Generator().manual_seed(1)
    n_layer = model.config.text_config.num_hidden_layers
    hidden = model.config.text_config.hidden_size
    for name, p in model.named_parameters():
        if name.endswith(("patch_dense.bias", "pos_embedding")):
            p.zero_()
        elif p.dim() < 2:
            continue
        elif "embed_tokens" in name:
            p.normal_(0.0, 1.0 / math.sqrt(hidden), generator=generator)
        else:
            p.normal_(0.0, 1.0 / math.sqrt(p.shape[1]), generator=generator)
    for layer in model.model.language_model.layers:
        layer.post_attention_layernorm.weight.fill_(1.0 / math.sqrt(2 * n_layer))
        layer.post_feedforward_layernorm.weight.fill_(1.0 / math.sqrt(2 * n_layer))
        # The scores are not divided by the root of the head size, so the norms have to do that.
        size = layer.self_attn.head_dim
        layer.self_attn.q_norm.weight.fill_(1.5 * size ** -0.25)
        layer.self_attn.k_norm.weight.fill_(size ** -0.25)
    # With tied embeddings every token would otherwise begin by predicting itself.
    model.model.language_model.norm.weight.fill_(0.4)
    vision = model.model.embed_vision
    n_mm = vision.patch_dense.weight.shape[0]
    filters = torch.from_numpy(picture_filters(n_mm)).float()  # planes of (y, x, channel)
    vision.patch_dense.weight.copy_(filters)
    vision.pos_embedding.normal_(0.0, 0.02, generator=generator)
    wave = torch.from_numpy(cosines(vision.pos_embedding.shape[0], n_mm // 6)).float().t() * 2.0
    vision.pos_embedding[:, 0, :wave.shape[1]] += wave
    vision.pos_embedding[:, 1, wave.shape[1]:2 * wave.shape[1]] += wave
    sound = torch.from_numpy(sound_filters(hidden)).float()
    # A matched filter of unit norm answers a frame of unit rms with up to sqrt(640 / 2).
    model.model.embed_audio.embedding_projection.weight.copy_(sound / 4.0)


def build(vocab):
    from transformers import Gemma4UnifiedForConditionalGeneration
    model = Gemma4UnifiedForConditionalGeneration(config(vocab)).float()
    model.set_attn_implementation("sdpa")
    model.config.use_cache = False
    draw_weights(model)
    return model


# ---- forward pass ----------------------------------------------------------------------------

def patches(rgb):
    """uint8 [h, w, 3], sides multiples of 48 -> ([n, 6912] uint8, [n, 2] column and row)."""
    h, w = rgb.shape[0] // PATCH, rgb.shape[1] // PATCH
    x = rgb.reshape(h, PATCH, w, PATCH, 3).transpose(0, 2, 1, 3, 4).reshape(h * w, -1)
    at = np.stack([np.tile(np.arange(w), h), np.repeat(np.arange(h), w)], -1)
    return x, at


def frames(samples):
    n = -(-len(samples) // FRAME)
    return np.pad(samples, (0, n * FRAME - len(samples))).reshape(n, FRAME).astype(np.float32)


def masks(size, blocks, window, device):
    """None where plain causal attention is meant; else additive masks for both kinds of layers.

    blocks: for each row of the batch the (start, end) of its images."""
    if size <= window and not any(blocks):
        return {"full_attention": None, "sliding_attention": None}
    q = torch.arange(size, device=device)[:, None]
    k = torch.arange(size, device=device)[None]
    keep = (k <= q)[None].repeat(len(blocks), 1, 1)
    for i, spans in enumerate(blocks):
        for a, b in spans:
            keep[i, a:b, a:b] = True
    keep &= (q - k < window)[None]
    return {"full_attention": None, "sliding_attention": keep[:, None]}


def embeddings(model, batch):
    """Of tokens, pictures and sounds: [rows, size, hidden]."""
    core = model.model
    ids = batch["ids"]
    x = core.language_model.embed_tokens(ids)
    if batch["pixels"] is not None:
        rows = core.embed_vision(batch["pixels"][None].float() / 255.0, batch["places"][None])[0]
        x = x.masked_scatter((ids == core.config.image_token_id)[..., None], rows.to(x.dtype))
    if batch["sound"] is not None:
        rows = core.embed_audio(batch["sound"][None])[0]
        x = x.masked_scatter((ids == core.config.audio_token_id)[..., None], rows.to(x.dtype))
    return x


def hidden_states(model, batch):
    """[rows, size, hidden] after the last norm."""
    core, x = model.model, embeddings(model, batch)
    window = core.config.text_config.sliding_window
    mask = masks(x.shape[1], batch["blocks"], window, x.device)
    return core.language_model(inputs_embeds=x, attention_mask=mask, use_cache=False).last_hidden_state


def logits_of(model, h):
    """Of rows [..., hidden] after the last norm: [..., pieces], behind the soft cap."""
    cap = model.config.text_config.final_logit_softcapping
    return torch.tanh(F.linear(h, model.model.language_model.embed_tokens.weight).float() / cap) * cap


def mean_loss(model, batch, quick=False):
    """Mean cross entropy of the wanted tokens. quick: by swift.py, for float32 on a CPU."""
    # The token at a position is predicted by the one before.
    wanted = batch["wanted"].roll(-1, 1)
    wanted[:, -1] = False
    target = batch["ids"].roll(-1, 1)[wanted]
    if quick:
        core, cap = model.model.language_model, model.config.text_config.final_logit_softcapping
        only = wanted.flatten().nonzero()[:, 0]
        return swift.loss(core, embeddings(model, batch), batch["blocks"], only, target, cap)
    return F.cross_entropy(logits_of(model, hidden_states(model, batch)[wanted]), target)


def fan_loss(model, ids, rows, targets, counts, fan, quick=False):
    """Sum of the cross entropies of the tokens `targets` behind the rows `rows` of one text with several
    continuations, each counted so often; see swift.loss for the fan."""
    core, n = model.model.language_model, len(ids)
    if quick:
        cap = model.config.text_config.final_logit_softcapping
        return swift.loss(core, core.embed_tokens(ids[None]), [[]], rows, targets, cap, counts, fan)
    device = core.embed_tokens.weight.device
    start, place, first = fan[0], fan[1].to(device), fan[2].to(device)
    ids, rows, targets, counts = (x.to(device) for x in (ids, rows, targets, counts))
    q, k = torch.arange(n, device=device)[:, None], torch.arange(n, device=device)[None]
    keep = (k <= q) & ((k < start) | (k >= first[:, None]))
    near = keep & (place[:, None] - place[None] < core.config.sliding_window)
    mask = {"full_attention": keep[None, None], "sliding_attention": near[None, None]}
    h = core(inputs_embeds=core.embed_tokens(ids[None]), attention_mask=mask, position_ids=place[None],
             use_cache=False).last_hidden_state[0]
    return F.cross_entropy(logits_of(model, h[rows]), targets, reduction="none") @ counts
