"""Learning from the model's own guesses at the next line.

Cross entropy asks for good chances of every token; what a user sees is the likeliest line, and that is
best when it is near to what the user meant even where it is not the same. So the model draws some lines
for a place in a file, each is compared with the line that stood there, and those that are nearer than
the others become likelier, the others less likely (REINFORCE, the mean of the other lines as baseline:
Kool et al. 2019, "Buy 4 REINFORCE samples, get a baseline for free"; edit similarity as the aim as in
minimum risk training, Shen et al. 2016).
"""
import torch
import torch.nn.functional as F

import net

COUNT = 12        # lines for a place
LONGEST = 28      # tokens of one
WARMTH = 0.9      # of drawing
EXACT = 0.2       # more for the very line
PULL = 0.5        # how much the guesses count beside the cross entropy of the text


def similarity(a, b):
    """2 * longest common subsequence / both lengths: the edit similarity of evaluate.lua."""
    if a == b:
        return 1.0
    before = [0] * (len(b) + 1)
    for x in a:
        row = [0]
        for j, y in enumerate(b):
            row.append(before[j] + 1 if x == y else max(before[j + 1], row[j]))
        before = row
    return 2.0 * before[-1] / (len(a) + len(b))


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

    def line(self, ids, head):
        """What their first line says behind head, without the space around it."""
        return b"".join(self.bytes[i] for i in ids)[len(head):].split(b"\n")[0].strip()


class Reader:
    """The language model row by row, with what it has read: a text, and COUNT lines behind it which share
    the text's keys and values. (A cache of transformers would be COUNT copies of these.)"""

    def __init__(self, core, ids):
        self.core, self.kept = core, [[] for _ in core.layers]
        self.size = len(ids)
        self.last = self.read(ids, torch.arange(len(ids), device=ids.device))[-1:]

    def read(self, ids, place):
        """The last norm's rows [n, hidden] for n tokens: first those of the text, later one of each line."""
        x = self.core.embed_tokens(ids)
        angles = {}
        for layer, kept in zip(self.core.layers, self.kept):
            kind = layer.self_attn.layer_type
            if kind not in angles:
                angles[kind] = [t[0][:, None] for t in self.core.rotary_emb(x, place[None], kind)]
            seen = self.attend(layer.self_attn, layer.input_layernorm(x), angles[kind], kept)
            x = x + layer.post_attention_layernorm(layer.self_attn.o_proj(seen))
            m = layer.mlp(layer.pre_feedforward_layernorm(x))
            x = (x + layer.post_feedforward_layernorm(m)) * layer.layer_scalar
        return self.core.norm(x)

    def attend(self, at, a, angles, kept):
        n, d = len(a), at.head_dim
        q = turn(at.q_norm(at.q_proj(a).view(n, -1, d)), angles)
        k = at.k_proj(a).view(n, -1, d)
        v = at.v_norm(k if at.v_proj is None else at.v_proj(a).view(n, -1, d))
        k = turn(at.k_norm(k), angles)
        groups = q.shape[1] // k.shape[1]
        window = self.core.config.sliding_window if at.layer_type == "sliding_attention" else self.size + n
        if not kept:
            kept += [k.transpose(0, 1), v.transpose(0, 1), None, None]
            t = torch.arange(n, device=a.device)
            sees = (t[:, None] >= t) & (t[:, None] - t < window)
            both = [x.repeat_interleave(groups, 0) for x in kept[:2]]
            seen = F.scaled_dot_product_attention(q.transpose(0, 1), *both, sees, scale=1.0)
            return seen.transpose(0, 1).reshape(n, -1)
        # kept: keys and values of the text [kv, size, d], of the lines [n, kv, steps, d]
        for i, x in ((2, k), (3, v)):
            kept[i] = x[:, :, None] if kept[i] is None else torch.cat([kept[i], x[:, :, None]], 2)
        steps = kept[2].shape[2]
        q = q.view(n, -1, groups, d)
        text = q.transpose(0, 1).reshape(-1, n * groups, d) @ kept[0].transpose(1, 2)
        text = text.view(-1, n, groups, self.size).transpose(0, 1)
        out_of_sight = self.size + steps - window
        if out_of_sight > 0:
            text[..., :out_of_sight] = -torch.inf
        weights = torch.cat([text, q @ kept[2].transpose(2, 3)], -1).softmax(-1)
        of_text = weights[..., :self.size].transpose(0, 1).reshape(-1, n * groups, self.size) @ kept[1]
        seen = of_text.view(-1, n, groups, d).transpose(0, 1) + weights[..., self.size:] @ kept[3]
        return seen.reshape(n, -1)


def turn(x, angles):
    cosine, sine = angles
    a, b = x.chunk(2, -1)
    return x * cosine + torch.cat([-b, a], -1) * sine


@torch.no_grad()
def draw(model, spelling, ids, head):
    """COUNT lines behind ids [n], as lists of ids. The first is the likeliest, which is what a user sees,
    the others come by chance. head: bytes that each must begin with, as the engine heals a prompt that
    was cut within a piece (csrc/engine/heal.c)."""
    reader = Reader(model.model.language_model, ids)
    lines, open_ = [[] for _ in range(COUNT)], list(range(COUNT))
    h = reader.last
    for step in range(LONGEST):
        logits = net.logits_of(model, h) / WARMTH
        if step == 0:
            if head:
                logits[:, ~spelling.beginning_with(head).to(logits.device)] = -torch.inf
            logits = logits.expand(COUNT, -1)
        chosen = torch.multinomial(logits.softmax(-1), 1)[:, 0]
        chosen[0] = logits[0].argmax()
        for i in open_:
            lines[i].append(int(chosen[i]))
        open_ = [i for i in open_ if not spelling.ends[lines[i][-1]]]
        if not open_:
            break
        h = reader.read(chosen, torch.full((COUNT,), reader.size + step, device=ids.device))
    return lines


def fan_out(place, lines, gains):
    """The text of a place with the lines behind it, one after the other, for net.fan_loss: ids [n],
    rows [m], targets [m], counts [m] and the fan (see swift.loss). Counts are those of the mean cross
    entropy of the text, and for each line how much better it is than the others."""
    text, start = place["ids"], place["start"]
    size = len(text)
    ids, at, first = [text], [torch.arange(size)], [torch.full((size,), start)]
    rows, targets = [torch.arange(size - 1)], [text[1:]]
    counts = [torch.full((size - 1,), 1.0 / (size - 1))]
    end = size
    for line, gain in zip(lines, gains):
        n = len(line)
        ids.append(torch.tensor(line))
        at.append(start + torch.arange(n))
        first.append(torch.full((n,), end))
        rows.append(torch.cat([torch.tensor([start - 1]), end + torch.arange(n - 1)]))
        targets.append(ids[-1])
        counts.append(torch.full((n,), PULL * gain / len(lines)))
        end += n
    return (torch.cat(ids), torch.cat(rows), torch.cat(targets), torch.cat(counts),
            (start, torch.cat(at), torch.cat(first)))


def gains_of(spelling, place, lines):
    """How much nearer each line is to the wanted one than the mean of the others; the mean nearness."""
    near = [similarity(spelling.line(line, place["head"]), place["want"]) for line in lines]
    worth = [r + EXACT * (r == 1.0) for r in near]
    n, total = len(worth), sum(worth)
    return [r - (total - r) / (n - 1) for r in worth], sum(near) / n


def losses(model, spelling, batch, quick):
    """For each place of a batch its loss, and the mean nearness of the lines that were drawn."""
    for place in batch["guess"]:
        lines = draw(model, spelling, place["ids"][:place["start"]].to(batch["ids"].device), place["head"])
        gains, nearness = gains_of(spelling, place, lines)
        yield net.fan_loss(model, *fan_out(place, lines, gains), quick), nearness
