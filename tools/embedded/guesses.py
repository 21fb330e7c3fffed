"""Learning from the model's own guesses at the next line.

Cross entropy asks for good chances of every token; what a user sees is the likeliest line, and that is
best when it is near to what the user meant even where it is not the same. So the model draws some lines
for a place in a file, each is compared with the line that stood there, and those that are nearer than
the others become likelier, the others less likely (REINFORCE, the mean of the other lines as baseline:
Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free"; edit similarity as the aim as in
minimum risk training, Shen et al. 2016).

What the model never draws, it does not learn in this way. A line of the prompt is often nearer than what it says
(likeness.py); that one is beside the drawn lines, with the likeliest line as baseline.
"""
import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import DynamicCache
from transformers.models.gemma4_unified.modeling_gemma4_unified import apply_rotary_pos_emb as turn

import net
import swift
from likeness import similarity

COUNT = 12        # lines for a place
LONGEST = 28      # tokens of one
WARMTH = 0.9      # of drawing
EXACT = 0.2       # more for the very line
ENDS = 0.1        # more for one that ends as that does: with the answer, or with more lines to come
PULL = 1.0        # how much the guesses count beside the cross entropy of the text
COPY = 1.0        # how much what a copier would say counts, where it is better than the likeliest line
WORSE = 0.3       # and of that where it is worse


class Spelling:
    """The pieces as bytes, and which of them end a line."""

    def __init__(self, speller):
        self.bytes = [b""] * len(speller.names)
        for i in speller.names:
            if i not in speller.added:
                self.bytes[i] = speller.octets(i)
        self.ends = torch.tensor([b"\n" in t or i in speller.added for i, t in enumerate(self.bytes)])

    def beginning_with(self, octets):
        return torch.tensor([t.startswith(octets) for t in self.bytes])

    def cut(self, ids):
        """(Their first line, the piece that ends it or None.)"""
        size = next((n for n, i in enumerate(ids) if self.ends[i]), len(ids))
        return ids[:size], ids[size] if size < len(ids) else None

    def line(self, ids, head):
        """What their first line says behind head, without the space around it."""
        return b"".join(self.bytes[i] for i in ids)[len(head):].split(b"\n")[0].strip()


class Reader:
    """What the language model has read: some texts and row by row up to COUNT lines behind each of them which share
    its keys and values. (transformers' cache would be COUNT copies of these.)"""

    def __init__(self, core, texts):
        self.core, self.count = core, len(texts)
        self.sizes = torch.tensor([len(t) for t in texts], device=texts[0].device)
        self.steps = 0
        self.own = [None] * len(core.layers)  # keys and values of the rows [rows, kv, steps, d]
        read = swift.read if texts[0].device.type == "cpu" else self.read
        last, kept = zip(*(read(core, ids) for ids in texts))
        self.last = torch.stack(last)
        # Of the texts [texts, kv, longest, d], zeros behind the shorter ones.
        self.kept = [[pad_sequence([x.transpose(0, 1) for x in same], True).transpose(1, 2).contiguous()
                      for same in zip(*layer)] for layer in zip(*kept)]
        self.texts = torch.arange(self.count, device=self.sizes.device).repeat_interleave(COUNT)  # of the rows
        self.keep(slice(None))

    @staticmethod
    def read(core, ids):
        """swift.read by transformers' own modules."""
        cache = DynamicCache()
        row = core(ids[None], past_key_values=cache, use_cache=True).last_hidden_state[0, -1]
        return row, [(layer.keys[0], layer.values[0]) for layer in cache.layers]

    def keep(self, rows):
        """Only these rows go on."""
        texts = self.texts = self.texts[rows]
        self.own = [own and [x[rows] for x in own] for own in self.own]
        each = torch.bincount(texts, minlength=self.count)
        self.most = int(each.max())
        # Where a row is if every text has as many as the one with the most of them.
        self.slots = texts * self.most + torch.arange(len(texts), device=texts.device) - (each.cumsum(0) - each)[texts]

    def go_on(self, ids):
        """The last norm's rows [rows, hidden] for one more token of each row's line."""
        place = (self.sizes + self.steps)[self.texts]
        self.steps += 1
        x = self.core.embed_tokens(ids)
        angles = {}
        for i, layer in enumerate(self.core.layers):
            at = layer.self_attn
            kind = at.layer_type
            if kind not in angles:
                angles[kind] = [t[0] for t in self.core.rotary_emb(x, place[None], kind)]
            a = layer.input_layernorm(x)
            n, d = len(a), at.head_dim
            q = turn(at.q_norm(at.q_proj(a).view(n, -1, d)), *angles[kind])
            k = at.k_proj(a).view(n, -1, d)
            v = at.v_norm(k if at.v_proj is None else at.v_proj(a).view(n, -1, d))
            k = turn(at.k_norm(k), *angles[kind])
            window = self.core.config.sliding_window if kind == "sliding_attention" else 1 << 30
            x = x + layer.post_attention_layernorm(at.o_proj(self.see(i, q, k, v, window)))
            m = layer.mlp(layer.pre_feedforward_layernorm(x))
            x = (x + layer.post_feedforward_layernorm(m)) * layer.layer_scalar
        return self.core.norm(x)

    def see(self, i, q, k, v, window):
        """Attention of layer i for the rows of the lines: q, k, v [rows, heads, d] -> [rows, heads * d]."""
        new = k[:, :, None], v[:, :, None]
        self.own[i] = [torch.cat([o, x], 2) for o, x in zip(self.own[i], new)] if self.own[i] else new
        keys, values = self.kept[i]
        size, (own_keys, own_values) = keys.shape[2], self.own[i]
        n, kv, _, d = own_keys.shape
        q = q.reshape(n, kv, -1, d)
        groups = q.shape[2]

        def by_text(x):
            """[rows, kv, groups, m] -> [texts, kv, most * groups, m]"""
            whole = x.new_zeros(self.count * self.most, *x.shape[1:])
            whole[self.slots] = x
            return whole.view(self.count, self.most, kv, groups, -1).transpose(1, 2).flatten(2, 3)

        def by_row(x):
            return x.view(self.count, kv, self.most, groups, -1).transpose(1, 2).flatten(0, 1)[self.slots]

        of_text = by_row(by_text(q) @ keys.transpose(2, 3))
        at, here = torch.arange(size, device=q.device), self.sizes[:, None]
        hidden = (at >= here) | (at <= here + self.steps - 1 - window)
        of_text.masked_fill_(hidden[self.texts][:, None, None], -torch.inf)
        weights = torch.cat([of_text, q @ own_keys.transpose(2, 3)], -1).softmax(-1)
        seen = by_row(by_text(weights[..., :size]) @ values) + weights[..., size:] @ own_values
        return seen.reshape(n, -1)


@torch.no_grad()
def draw(model, spelling, places, device):
    """COUNT lines for each place, as lists of ids. The first is the likeliest, which is what a user sees, the
    others come by chance. A place's head are bytes that each of its lines must begin with, as the engine
    heals a prompt that was cut within a piece (csrc/engine/heal.c)."""
    reader = Reader(model.model.language_model, [p["ids"][:p["start"]].to(device) for p in places])
    logits = net.logits_of(model, reader.last)
    for row, place in zip(logits, places):
        if place["head"]:
            row[~spelling.beginning_with(place["head"]).to(device)] = -torch.inf
    logits = logits.repeat_interleave(COUNT, 0)
    lines = [[] for _ in logits]
    ends = spelling.ends.to(device)
    open_ = torch.arange(len(lines), device=device)
    for _ in range(LONGEST):
        # torch.multinomial would draw a number for each piece, which takes longer than a layer.
        sums = (logits / WARMTH).softmax(-1).cumsum(-1)
        chosen = torch.searchsorted(sums, sums[:, -1:] * torch.rand(len(sums), 1, device=device))[:, 0]
        chosen = torch.where(open_ % COUNT == 0, logits.argmax(-1), chosen)
        for i, token in zip(open_.tolist(), chosen.tolist()):
            lines[i].append(token)
        on = (~ends[chosen]).nonzero()[:, 0]
        if not len(on):
            break
        reader.keep(on)
        open_ = open_[on]
        logits = net.logits_of(model, reader.go_on(chosen[on]))
    return [lines[i:i + COUNT] for i in range(0, len(lines), COUNT)]


def fan_out(place, lines, weights):
    """The text of a place with the lines behind it, one after the other, for net.fan_loss: ids [n],
    rows [m], targets [m], counts [m] and the fan (see swift.loss). Counts are those of the mean cross
    entropy of the text, and for each token of a line its weight."""
    text, start = place["ids"], place["start"]
    size = len(text)
    ids, at, first = [text], [torch.arange(size)], [torch.full((size,), start)]
    rows, targets = [torch.arange(size - 1)], [text[1:]]
    counts = [torch.full((size - 1,), 1.0 / (size - 1))]
    end = size
    for line, weight in zip(lines, weights):
        n = len(line)
        ids.append(torch.tensor(line))
        at.append(start + torch.arange(n))
        first.append(torch.full((n,), end))
        rows.append(torch.cat([torch.tensor([start - 1]), end + torch.arange(n - 1)]))
        targets.append(ids[-1])
        counts.append(torch.full((n,), weight))
        end += n
    extra = -end % swift.SAME  # rows that see themselves only and are not asked for
    ids.append(torch.zeros(extra, dtype=torch.long))
    at.append(torch.full((extra,), start))
    first.append(end + torch.arange(extra))
    return (torch.cat(ids), torch.cat(rows), torch.cat(targets), torch.cat(counts),
            (start, torch.cat(at), torch.cat(first)))


def weighed(spelling, place, lines):
    """The lines that the model learns from, with a weight for each, and the mean nearness of those drawn."""
    _, end = spelling.cut(place["ids"][place["start"]:].tolist())

    def worth(line):
        near = similarity(spelling.line(line, place["head"]), place["want"])
        return near, near + EXACT * (near == 1.0) + ENDS * (spelling.cut(line)[1] == end)

    nearness, worths = zip(*(worth(line) for line in lines))
    n, total = len(lines), sum(worths)
    weights = [PULL * (w - (total - w) / (n - 1)) / n for w in worths]
    copy = (spelling.cut(place["copy"])[0] + ([] if end is None else [end]))[:LONGEST]
    if place["copy"] and spelling.line(copy, place["head"]) != spelling.line(lines[0], place["head"]):
        gain = worth(copy)[1] - worths[0]
        lines, weights = lines + [copy], weights + [COPY * gain * (1.0 if gain > 0.0 else WORSE)]
    return lines, weights, sum(nearness) / n


def losses(model, spelling, batch, quick):
    """For each place of a batch its loss, and the mean nearness of the lines that were drawn."""
    places = batch["guess"]
    for place, drawn in zip(places, draw(model, spelling, places, batch["ids"].device)):
        lines, weights, nearness = weighed(spelling, place, drawn)
        yield net.fan_loss(model, *fan_out(place, lines, weights), quick), nearness
