"""The decoder of transformers' gemma4_unified in fewer passes over memory, for training on a CPU.

A small network on a CPU spends more time in the many small steps of its norms, rotations, attention
and losses than in its matrices. Here a layer is one step of the gradient's graph: its products go to
PyTorch, everything between them to swift.c. The parameters stay those of transformers' modules, and
results and gradients are the same but for rounding (`swift.py WORK` compares them).

Where the processor multiplies bfloat16 (twice as fast as float32), products are of
bfloat16 with sums in float32, as in PyTorch's autocast; weights, the residual stream, its gradient,
scores and logits stay float32.
"""
import ctypes
import functools
import sys
from pathlib import Path

import torch
from torch.autograd import Function

BLOCK = 128    # queries whose keys are cut off where the last of them ends
ROWS = 512     # whose logits are made at a time
SAME = 128     # numbers of rows are multiples of it where they would be any: products of few shapes are compiled
WIDEST = 4096  # as in swift.c
HALF = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)()
NUM = torch.bfloat16 if HALF else torch.float32  # of what is multiplied


@functools.cache
def lib():
    return ctypes.CDLL(str(Path(__file__).with_name("libswift-half.so" if HALF else "libswift.so")))


def room_for(x):
    """Where the same in NUM goes: x itself if it is that already."""
    return torch.empty(x.shape, dtype=NUM) if HALF else x


class Shape(ctypes.Structure):
    _fields_ = [(f, ctypes.c_long) for f in ("batch", "n", "heads", "kv", "d", "columns", "shared")]


def call(name, *args):
    """Tensors go as pointers, which must be dense."""
    out = []
    for a in args:
        if torch.is_tensor(a):
            assert a.is_contiguous()
            out.append(ctypes.c_void_p(a.data_ptr()))
        elif isinstance(a, float):
            out.append(ctypes.c_float(a))
        elif isinstance(a, int):
            out.append(ctypes.c_long(a))
        elif a is None:
            out.append(ctypes.c_void_p(None))
        else:
            out.append(ctypes.byref(a))
    getattr(lib(), name)(*out)


class Kind:
    """What the layers of one kind share for one batch: positions and who sees whom."""

    def __init__(self, attention, angles, batch, n, low, high, gap=None):
        self.heads = attention.q_proj.out_features // attention.head_dim
        self.kv, self.d = attention.k_proj.out_features // attention.head_dim, attention.head_dim
        self.groups, self.batch, self.n = self.heads // self.kv, batch, n
        shared = attention.v_proj is None
        columns = (self.heads + (1 if shared else 2) * self.kv) * self.d
        self.shape = Shape(batch, n, self.heads, self.kv, self.d, columns, int(shared))
        self.cosine, self.sine = angles
        self.low, self.high = low, high
        self.gap, self.gap_end = gap or (None, None)
        self.blocks = []  # (first query, behind the last, first key, behind the last)
        for first in range(0, n, BLOCK):
            last = min(first + BLOCK, n)
            self.blocks.append((first, last, int(low[:, first:last].min()),
                                int(high[:, first:last].max())))


def angles_at(rotary, kind, at):
    """cos and sin [n, head size / 2] of the positions `at`; both halves of a head turn alike."""
    cosine, sine = rotary(torch.zeros(1, 1), at[None], kind)
    half = cosine.shape[-1] // 2
    return cosine[0, :, :half].contiguous(), sine[0, :, :half].contiguous()


@functools.lru_cache(64)
def angles_of(rotary, kind, n):
    return angles_at(rotary, kind, torch.arange(n))


def kinds_of(core, blocks, n, fan=None):
    """{kind of layer: Kind}. A query sees the keys in [low, high): sliding layers open the block of an
    image, within the window. fan: see loss."""
    batch = len(blocks)
    at = torch.arange(n, dtype=torch.int32).repeat(batch, 1)
    zero, after = torch.zeros_like(at), at + 1
    opened = after.clone()
    for i, spans in enumerate(blocks):
        for a, b in spans:
            opened[i, a:b] = b
    place, gap = at, None
    if fan:
        start, place, first = fan
        place, first = place[None].int(), first[None].int()
        gap = torch.full_like(first, start), first
    low = (place - core.config.sliding_window + 1).clamp_(min=0)
    sees = {"full_attention": (zero, after), "sliding_attention": (low, opened)}
    out = {}
    for layer in core.layers:
        kind = layer.self_attn.layer_type
        if kind not in out:
            angles = angles_at(core.rotary_emb, kind, place[0]) if fan else \
                angles_of(core.rotary_emb, kind, n)
            out[kind] = Kind(layer.self_attn, angles, batch, n, *sees[kind], gap)
    return out


class Layer(Function):
    """One decoder layer on rows [batch * n, hidden]. only: the rows that go on, or None for all; the last
    layer has no use for those whose next token is not asked for."""

    @staticmethod
    def forward(ctx, x, kind, eps, scale, only, norms, q_norm, k_norm, wqkv, wo, wgu, wd):
        rows, width, s = *x.shape, kind.shape
        assert max(width, s.d) <= WIDEST
        wqkv, wo, wgu, wd = (w.to(NUM) for w in (wqkv, wo, wgu, wd))
        before, after, before_ff, after_ff = norms.unbind()
        a, inverse_a = torch.empty(rows, width, dtype=NUM), torch.empty(rows)
        call("norm_forward", x, before, a, inverse_a, rows, width, eps)
        projected = a @ wqkv.t()
        q = torch.empty(s.batch * s.kv, s.n * kind.groups, s.d)
        k, v = torch.empty(s.batch * s.kv, s.n, s.d), torch.empty(s.batch * s.kv, s.n, s.d, dtype=NUM)
        inv_heads = torch.empty(rows, s.heads + 2 * s.kv)
        call("heads_forward", s, projected, q_norm, k_norm, kind.cosine, kind.sine, q, k, v,
             inv_heads, eps)
        seen, weights = torch.empty(q.shape, dtype=NUM), []
        for first, last, k0, k1 in kind.blocks:
            r = slice(first * kind.groups, last * kind.groups)
            scores = torch.bmm(q[:, r], k[:, k0:k1].transpose(1, 2))
            w = room_for(scores)
            call("softmax_forward", scores, w, kind.low, kind.high, kind.gap, kind.gap_end, s.batch, s.kv,
                 last - first, kind.groups, k1 - k0, s.n, first, k0)
            torch.bmm(w, v[:, k0:k1], out=seen[:, r]) if len(kind.blocks) == 1 else \
                seen[:, r].copy_(torch.bmm(w, v[:, k0:k1]))
            weights.append(w)
        mixed = seen.view(s.batch, s.kv, s.n, kind.groups, s.d).transpose(1, 2).reshape(rows, -1)
        stream = x
        if only is not None:
            mixed, stream, rows = mixed[only], x[only], len(only)
        inverse = torch.empty(3, rows)
        o = mixed @ wo.t()
        middle, out = torch.empty(2, rows, width).unbind()
        m, gated = torch.empty(rows, width, dtype=NUM), torch.empty(rows, wd.shape[1], dtype=NUM)
        call("join_forward", o, after, stream, middle, inverse[0], rows, width, eps, 1.0)
        call("norm_forward", middle, before_ff, m, inverse[1], rows, width, eps)
        both = m @ wgu.t()
        call("geglu_forward", both, gated, rows, wd.shape[1])
        f = gated @ wd.t()
        call("join_forward", f, after_ff, middle, out, inverse[2], rows, width, eps, scale)
        k = k.to(NUM)
        ctx.seen = k, v
        ctx.save_for_backward(x, norms, q_norm, k_norm, wqkv, wo, wgu, wd, inverse_a, inverse, a, projected,
                              q.to(NUM), k, v, inv_heads, mixed, o, middle, m, both, gated, f, *weights)
        ctx.rest = kind, scale, only
        return out

    @staticmethod
    def backward(ctx, g):
        (x, norms, q_norm, k_norm, wqkv, wo, wgu, wd, inverse_a, inverse, a, projected, q, k, v,
         inv_heads, mixed, o, middle, m, both, gated, f, *weights) = ctx.saved_tensors
        kind, scale, only = ctx.rest
        s, (rows, width) = kind.shape, middle.shape
        before, after, before_ff, after_ff = norms.unbind()
        dnorms = torch.zeros_like(norms)
        g = g.contiguous()
        df, do = torch.empty(2, rows, width, dtype=NUM).unbind()
        call("join_backward", g, f, inverse[2], after_ff, df, dnorms[3], rows, width, scale)
        dwd = df.t() @ gated
        dgated = df @ wd
        dboth = torch.empty_like(both)
        call("geglu_backward", dgated, both, dboth, rows, wd.shape[1])
        dwgu = dboth.t() @ m
        dm = dboth @ wgu
        dmiddle = g * scale
        call("norm_backward", dm, middle, inverse[1], before_ff, dmiddle, dnorms[2], rows, width)
        call("join_backward", dmiddle, o, inverse[0], after, do, dnorms[1], rows, width, 1.0)
        dwo = do.t() @ mixed
        dx, dmixed = dmiddle, do @ wo
        if only is not None:
            dx = torch.zeros_like(x).index_add_(0, only, dx)
            dmixed = torch.zeros(x.shape[0], dmixed.shape[1]).index_add_(0, only, dmixed.float()).to(NUM)
        dmixed = dmixed.view(s.batch, s.n, s.kv, kind.groups, s.d).transpose(1, 2)
        dmixed = dmixed.reshape(s.batch * s.kv, s.n * kind.groups, s.d)
        dq = torch.empty_like(q)
        dk, dv = torch.zeros(2, *k.shape).unbind()
        for (first, last, k0, k1), w in zip(kind.blocks, weights):
            r = slice(first * kind.groups, last * kind.groups)
            gr, keys = dmixed[:, r], k[:, k0:k1]
            dv[:, k0:k1] += torch.bmm(w.transpose(1, 2), gr)
            ds = torch.bmm(gr, v[:, k0:k1].transpose(1, 2))
            call("softmax_backward", ds, w, w.shape[0] * w.shape[1], k1 - k0)
            dq[:, r] = torch.bmm(ds, keys)
            dk[:, k0:k1] += torch.bmm(ds.transpose(1, 2), q[:, r])
        dprojected = torch.empty_like(projected)
        dq_norm, dk_norm = torch.zeros_like(q_norm), torch.zeros_like(k_norm)
        call("heads_backward", s, projected, q_norm, k_norm, kind.cosine, kind.sine, dq, dk, dv,
             inv_heads, dprojected, dq_norm, dk_norm, torch.ones(s.d), torch.empty(s.d))
        dwqkv = dprojected.t() @ a
        da = dprojected @ wqkv
        call("norm_backward", da, x, inverse_a, before, dx, dnorms[0], x.shape[0], width)
        return (dx, None, None, None, None, dnorms, dq_norm, dk_norm,
                *(d.float() for d in (dwqkv, dwo, dwgu, dwd)))


class Norm(Function):
    """The last one."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        inverse, out = torch.empty(x.shape[0]), torch.empty_like(x)
        call("last_norm_forward", x, weight, out, inverse, x.shape[0], x.shape[1], eps)
        ctx.save_for_backward(x, weight, inverse)
        return out

    @staticmethod
    def backward(ctx, g):
        x, weight, inverse = ctx.saved_tensors
        dx, dweight = torch.zeros_like(x), torch.zeros_like(weight)
        call("norm_backward", g.to(NUM), x, inverse, weight, dx, dweight, x.shape[0], x.shape[1])
        return dx, dweight, None


@functools.cache
def logits_rows(pieces):
    """Kept, because pages that are new each time take longer than what is done in them."""
    logits = torch.empty(ROWS, pieces)
    return logits, room_for(logits)


def logits_room(rows, pieces):
    return [x[:rows] for x in logits_rows(pieces)]


class Loss(Function):
    """Sum of the cross entropies of the rows h [n, hidden] behind the table and the soft cap, each counted
    as often as `count` [n] says. The gradients are made at once, some rows at a time: all logits of a batch
    would be the largest thing in memory."""

    @staticmethod
    def forward(ctx, h, table, target, count, cap):
        losses, dh, dtable = torch.empty(len(h)), torch.empty_like(h), torch.zeros_like(table)
        half = table.to(NUM)
        for first in range(0, len(h), ROWS):
            r = slice(first, first + ROWS)
            logits, slope = logits_room(len(h[r]), len(table))
            torch.mm(h[r], table.t(), out=logits)
            call("loss_of_rows", logits, slope, target[r], count[r], losses[r], *logits.shape, cap)
            dh[r] = slope @ half
            dtable += slope.t() @ h[r].to(NUM)
        ctx.save_for_backward(dh, dtable)
        return losses @ count

    @staticmethod
    def backward(ctx, g):
        dh, dtable = ctx.saved_tensors
        return dh * g, dtable * g, None, None, None


class Reading:
    """In the place of a Layer's context where there will be no way back: has the keys and values `seen`."""

    def save_for_backward(self, *_):
        pass


def layer_step(layer, x, kind, only, apply=Layer.apply):
    at, ff = layer.self_attn, layer.mlp
    norms = torch.stack([n.weight for n in (layer.input_layernorm, layer.post_attention_layernorm,
                                            layer.pre_feedforward_layernorm,
                                            layer.post_feedforward_layernorm)])
    qkv = [at.q_proj.weight, at.k_proj.weight] + ([at.v_proj.weight] if at.v_proj is not None else [])
    return apply(x, kind, layer.input_layernorm.eps, layer.layer_scalar.item(), only, norms,
                 at.q_norm.weight, at.k_norm.weight, torch.cat(qkv), at.o_proj.weight,
                 torch.cat([ff.gate_proj.weight, ff.up_proj.weight]), ff.down_proj.weight)


@torch.no_grad()
def read(core, ids):
    """What the language model has of a text [n] behind it: the last norm's row of its last token, and the
    (keys, values) [kv, n, d] of each layer."""
    kinds = kinds_of(core, [[]], len(ids))
    x, seen = core.embed_tokens(ids), []
    for layer in core.layers:
        ctx = Reading()
        x = layer_step(layer, x, kinds[layer.self_attn.layer_type], None, functools.partial(Layer.forward, ctx))
        seen.append([t.float() for t in ctx.seen])
    return core.norm(x[-1]), seen


def loss(core, embeddings, blocks, only, target, cap, count=None, fan=None):
    """Mean cross entropy of the tokens `target` behind the rows `only` of the language model on
    embeddings [batch, n, hidden]; blocks: of images, by row of the batch. With `count` the sum, each so
    often. fan (start, place [n], first [n]) is for several continuations of one text, one behind the
    other: what is in row i stands at position place[i] and sees the rows before start and those from
    first[i] to i."""
    batch, n, width = embeddings.shape
    if count is None:
        count = torch.full((len(target),), 1.0 / len(target))
    extra = -len(only) % SAME  # they count nothing
    only = torch.cat([only, only[-1:].expand(extra)])
    target = torch.cat([target, target[-1:].expand(extra)])
    count = torch.cat([count, torch.zeros(extra)])
    kinds = kinds_of(core, blocks, n, fan)
    x = embeddings.reshape(batch * n, width)
    for layer in core.layers:
        last = layer is core.layers[-1]
        x = layer_step(layer, x, kinds[layer.self_attn.layer_type], only if last else None)
    h = Norm.apply(x, core.norm.weight, core.norm.eps)
    return Loss.apply(h, core.embed_tokens.weight, target, count, cap)


def compare(work):
    """The gradients of some batches by both ways."""
    import data
    import guesses
    import net
    speller = data.Speller(work)
    spelling = guesses.Spelling(speller)
    mixture = {"complete": 0.3, "guess": 0.25, "picture": 0.25, "sound": 0.2}
    batches = iter(data.Batches(work, "compare", mixture, 1024, 768))
    model = net.build(speller.vocab)
    worst, bound = 0.0, 6e-2 if HALF else 1e-3
    for _ in range(8):
        kind, batch = next(batches)
        fans = []
        places = batch["guess"]
        for place, lines in zip(places, places and guesses.draw(model, spelling, places, "cpu")):
            gains = [i / 100.0 for i in range(len(lines))]  # of any size that is a gain's
            fans.append(guesses.fan_out(place, lines, gains))
        losses, grads = [], []
        for swift in (False, True):
            model.zero_grad()
            value = sum(net.fan_loss(model, *f, swift) for f in fans) or net.mean_loss(model, batch, swift)
            value.backward()
            losses.append(value.item())
            grads.append({n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None})
        off = max(((grads[0][n] - grads[1][n]).norm() / (grads[0][n].norm() + 1e-12)).item()
                  for n in grads[0])
        worst = max(worst, off, abs(losses[0] - losses[1]))
        print(f"{kind:9} {tuple(batch['ids'].shape)} loss {losses[0]:.6f} {losses[1]:.6f}, "
              f"gradients differ by {off:.1e}")
    if worst > bound:
        raise SystemExit("the two ways differ")


if __name__ == "__main__":
    compare(sys.argv[1])
