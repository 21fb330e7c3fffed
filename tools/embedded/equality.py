#!/usr/bin/env python3
"""Does the C engine compute the same function as Hugging Face transformers?

    equality.py WORK prepare [COUNT]     writes WORK/held/equal.tsv: COUNT held-out prompts a kind
    equality.py WORK compare [strict]    reads WORK/held/equal.out, which evaluate.lua --only equal
                                         wrote; strict: any difference is a failure

The reference gets the weights of the GGUF files as they are shipped, dequantised, and computes in
float32. It reads each prompt with the engine's answer behind it and looks whether every token of
the answer was its own first choice. With the shipped file the engine multiplies weights by
activations that it rounds to 8 bits, so where two tokens are almost equally good the choice can
differ; for every prompt that differs the distance of the two logits is printed. With the same
weights stored as float32 it must agree everywhere.
"""
import json
import random
import sys
import wave
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import data
import net
import pictures
import weights

TEXT_KINDS = ("complete", "explain")
MEDIA_KINDS = ("picture", "sound")


def prepare(work, count):
    samples = data.Samples(work, 4096)
    lines = []
    for kind in TEXT_KINDS:
        entries = data.read_lines(work / f"held/{kind}.jsonl")
        random.Random(kind).shuffle(entries)
        for entry in entries[:count]:
            parts = [(k, samples.rules(v)) for k, v in entry["parts"]]
            ids = samples.speller.turns(parts)
            lines.append("\t".join([kind, ",".join(map(str, ids)), "", ""]))
    cases = [line.split("\t") for line in (work / "held/media.tsv").read_text().splitlines()]
    for kind in MEDIA_KINDS:
        some = [c for c in cases if c[1] == kind]
        random.Random(kind).shuffle(some)
        for c in some[:count]:
            lines.append("\t".join([kind, "", c[2], c[3]]))
    (work / "held/equal.tsv").write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} prompts for the comparison")


def media_sample(samples, work, kind, files, question):
    media = []
    for name in files.split():
        path = work / "held" / kind / name
        if kind == "picture":
            media.append(("image", pictures.fit(Image.open(path).convert("RGB"), pictures.BUDGET)))
        else:
            with wave.open(str(path)) as f:
                x = np.frombuffer(f.readframes(f.getnframes()), "<i2")
            media.append(("audio", x.astype(np.float32) / np.float32(32768.0)))
    ids, _, images, sounds = samples.asked(media, [(question, "")])
    return ids[:-1], images, sounds


@torch.no_grad()
def compare(work, strict):
    samples = data.Samples(work, 4096)
    vocab = samples.speller.vocab
    model = net.build(vocab).eval()
    weights.fill(model, work)
    suppressed = [vocab["<audio|>"], vocab["<image|>"]]
    prompts = [line.split("\t") for line in (work / "held/equal.tsv").read_text().split("\n") if line]
    answers = [json.loads(line) for line in (work / "held/equal.out").read_text().splitlines()]
    equal, total, worst = {}, {}, {}
    for (kind, ids, files, question), answer in zip(prompts, answers, strict=True):
        images, sounds = [], []
        if ids:
            ids = [int(i) for i in ids.split(",")]
        else:
            ids, images, sounds = media_sample(samples, work, kind, files, question)
        if len(ids) != answer["prompt_tokens"]:
            raise SystemExit(f"{kind}: the engine counts {answer['prompt_tokens']} tokens, not {len(ids)}")
        said = answer["tokens"]
        batch = data.collate([(ids + said, [False] * (len(ids) + len(said)), images, sounds)],
                             vocab["<|image|>"])
        h = net.hidden_states(model, batch)[0, len(ids) - 1:len(ids) + len(said) - 1]
        logits = net.logits_of(model, h)
        logits[:, suppressed] = -torch.inf
        behind = logits.max(1).values - logits[torch.arange(len(said)), said]
        off = [float(b) for b in behind if b > 0]
        total[kind] = total.get(kind, 0) + 1
        equal[kind] = equal.get(kind, 0) + (not off)
        if off:
            worst.setdefault(kind, []).append(off[0])
    for kind, n in total.items():
        line = f"{kind}: greedy output equals the reference's in {equal[kind]} of {n} prompts"
        if kind in worst:
            line += "; logits apart where they part: " + " ".join(f"{x:.3f}" for x in sorted(worst[kind]))
        print(line)
    if strict and equal != total:
        raise SystemExit("the two implementations differ")


def main():
    work, what = Path(sys.argv[1]), sys.argv[2]
    if what == "prepare":
        prepare(work, int(sys.argv[3]) if len(sys.argv) > 3 else 100)
    else:
        compare(work, sys.argv[3:] == ["strict"])


if __name__ == "__main__":
    main()
