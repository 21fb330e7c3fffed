"""The arithmetic of transformers' modules in fewer passes over memory, for training on a CPU.

A small network on a CPU spends as much time in the many small steps of its norms, rotations and
attention as in its matrices. install() replaces these three in a model; results and gradients stay
the same but for rounding.
"""
import functools
import types

import torch
from torch.autograd import Function

BLOCK = 128  # queries whose keys are cut off where the last of them ends


class Norm(Function):
    """x / rms(x) * weight over the last dimension; weight may be None."""

    @staticmethod
    def forward(ctx, x, weight, eps):
        size = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
        inverse = (size * size / x.shape[-1] + eps).rsqrt_()
        unit = x * inverse
        ctx.save_for_backward(unit, inverse, weight)
        return unit if weight is None else unit * weight

    @staticmethod
    def backward(ctx, g):
        unit, inverse, weight = ctx.saved_tensors
        g, n = g.contiguous(), g.shape[-1]
        product = g * unit
        if weight is None:
            d_weight = None
            along = product.sum(-1, keepdim=True)
            dx = torch.addcmul(g, unit, along, value=-1.0 / n)
        else:
            d_weight = product.view(-1, n).sum(0)
            along = (product.view(-1, n) @ weight).view(inverse.shape)
            dx = (g * weight).addcmul_(unit, along, value=-1.0 / n)
        return dx.mul_(inverse), d_weight, None


def norm(self, x):
    return Norm.apply(x, self.weight if self.with_scale else None, self.eps)


def turned(x, cosine, sine, sign):
    half = x.shape[-1] // 2
    a, b = x[..., :half], x[..., half:]
    out = torch.empty_like(x)
    torch.mul(a, cosine, out=out[..., :half]).addcmul_(b, sine, value=-sign)
    torch.mul(b, cosine, out=out[..., half:]).addcmul_(a, sine, value=sign)
    return out


class Rotation(Function):
    @staticmethod
    def forward(ctx, x, cosine, sine):
        ctx.save_for_backward(cosine, sine)
        return turned(x, cosine, sine, 1.0)

    @staticmethod
    def backward(ctx, g):
        cosine, sine = ctx.saved_tensors
        return turned(g, cosine, sine, -1.0), None, None


def rotate(x, cos, sin, unsqueeze_dim=1):
    """transformers' apply_rotary_pos_emb. Both halves of cos and sin are the same."""
    half = x.shape[-1] // 2
    return Rotation.apply(x, cos[..., :half].unsqueeze(unsqueeze_dim),
                          sin[..., :half].unsqueeze(unsqueeze_dim))


@functools.lru_cache(8)
def corner(n, groups):
    """What keeps n positions from seeing later ones: [n * groups, n], rows position by position."""
    later = torch.full((n, n), float("-inf")).triu_(1)
    return later.repeat_interleave(groups, 0)


class Attention(Function):
    """softmax(q k^T) v. q: [batch, heads, n, d]; k, v: [batch, key heads, n, d]; mask: which keys a
    query sees, bool [batch, 1, n, n], or None for all that are not later. Returns [batch, n, heads, d].

    The heads that share keys are rows of one matrix, position by position."""

    @staticmethod
    def blocks(n, mask):
        if mask is not None:
            return [(0, n, n)]
        return [(a, min(a + BLOCK, n), min(a + BLOCK, n)) for a in range(0, n, BLOCK)]

    @staticmethod
    def packed(x, heads):
        """[batch, heads * groups, n, d] -> [batch * heads, n * groups, d]"""
        b, h, n, d = x.shape
        x = x.view(b, heads, h // heads, n, d) if x.is_contiguous() else x.unflatten(1, (heads, -1))
        return x.transpose(2, 3).reshape(b * heads, -1, d)

    @staticmethod
    def unpacked(x, b, n):
        """[batch * heads, n * groups, d] -> [batch, n, heads * groups, d]"""
        heads, d = x.shape[0] // b, x.shape[-1]
        return x.view(b, heads, n, -1, d).transpose(1, 2).reshape(b, n, -1, d)

    @staticmethod
    def forward(ctx, q, k, v, mask):
        b, heads, n, d = k.shape
        groups = q.shape[1] // heads
        q, k, v = (Attention.packed(x, heads) for x in (q, k, v))
        out, weights = torch.empty_like(q), []
        hidden = None if mask is None else ~mask[:, :, :, None]
        for first, last, keys in Attention.blocks(n, mask):
            rows = slice(first * groups, last * groups)
            s = torch.bmm(q[:, rows], k[:, :keys].transpose(1, 2))
            if mask is None:
                s[:, :, first:] += corner(last - first, groups)
            else:
                s.view(b, heads, n, groups, n).masked_fill_(hidden, float("-inf"))
            w = torch.softmax(s, -1)
            out[:, rows] = torch.bmm(w, v[:, :keys])
            weights.append(w)
        ctx.save_for_backward(q, k, v, *weights)
        ctx.shape, ctx.blocks = (b, heads, n, d, groups), Attention.blocks(n, mask)
        return Attention.unpacked(out, b, n)

    @staticmethod
    def backward(ctx, g):
        q, k, v, *weights = ctx.saved_tensors
        b, heads, n, d, groups = ctx.shape
        g = Attention.packed(g.transpose(1, 2), heads)
        dq, dk, dv = torch.empty_like(q), torch.zeros_like(k), torch.zeros_like(v)
        for (first, last, keys), w in zip(ctx.blocks, weights):
            rows = slice(first * groups, last * groups)
            dv[:, :keys].baddbmm_(w.transpose(1, 2), g[:, rows])
            dw = torch.bmm(g[:, rows], v[:, :keys].transpose(1, 2))
            ds = torch._softmax_backward_data(dw, w, -1, torch.float32)
            dq[:, rows] = torch.bmm(ds, k[:, :keys])
            dk[:, :keys].baddbmm_(ds.transpose(1, 2), q[:, rows])
        dq = dq.view(b, heads, n, groups, d).transpose(2, 3).reshape(b, heads * groups, n, d)
        return dq, dk.view(b, heads, n, d), dv.view(b, heads, n, d), None


def attend(module, query, key, value, attention_mask, dropout=0.0, scaling=None, **_):
    assert scaling == 1.0 and not dropout
    return Attention.apply(query, key, value, attention_mask), None


def install(model):
    """For float32 on a CPU; nothing but training should see such a model."""
    from transformers import AttentionInterface
    from transformers.models.gemma4_unified import modeling_gemma4_unified as modeling
    AttentionInterface.register("swift", attend)
    model.model.language_model.config._attn_implementation = "swift"
    modeling.apply_rotary_pos_emb = rotate
    for module in model.modules():
        if isinstance(module, modeling.Gemma4UnifiedRMSNorm):
            module.forward = types.MethodType(norm, module)
