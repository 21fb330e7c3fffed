#!/usr/bin/env python3
"""Turn a folder of golden files (golden.json, data/, *.gguf) into a set that C tests can read.

    index.py GOLDEN OUT [--models F32,Q4_0] [--cases text_short,mixed]

copies the model files and the arrays that are asked for (default: everything) from GOLDEN to OUT
and writes OUT/cases.txt, a plain-text index without any nesting, so that a test needs no JSON.

cases.txt, one item a line, words separated by single spaces:

    # ...                            comment
    set NAME                         which model
    suppress ID...                   tokens that are never picked (may be empty)
    eog ID...                        tokens that end a generation
    case NAME                        begins a case; several cases can have one name, for other files
    variant NAME FILE                a model file that the numbers of this case hold for; 1 or more
    ids ID...                        the prompt, <bos> included; media rows stand as their slot token
    forced ID...                     the continuation behind the prompt that the logits were taken on:
                                     the sequence is ids + forced
    positions N...                   rows of the logits, as indices of that sequence, ascending
    logits FILE                      float32, little-endian, [positions][n_vocab], after the softcap
    greedy ID...                     best token each time behind the prompt alone, never stopping
    margins X...                     distance of the best two logits at each of these steps
    binding N                        the first N of greedy have a margin of 0.1 or more
    layers FILE ROWS TOKENS HIDDEN   only some: residual stream after the embedding and each layer,
                                     float32 [ROWS = n_layer + 1][TOKENS = n ids][HIDDEN]
    media KIND START END FILE        rows START..END-1 of the prompt are float32 rows [END - START][HIDDEN]
                                     of FILE instead of token embeddings; KIND is image or audio
    end                              ends the case

Files are relative to the folder of cases.txt. Nothing else is in it. Rows of an image see one
another within the window of sliding layers (also later ones), rows of a sound are causal.
"""
import argparse
import json
import shutil
from pathlib import Path


def numbers(values):
    return "".join(f" {v}" for v in values)


def leading(margins, least=0.1):
    """How many steps come before the first close call."""
    return next((i for i, m in enumerate(margins) if m < least), len(margins))


class Set:
    def __init__(self, source, target):
        self.source, self.target = source, target
        self.doc = json.loads((source / "golden.json").read_text(encoding="utf-8"))
        self.lines = [f"# written by index.py from seed {self.doc['seed']}",
                      f"set {self.doc['model']}",
                      "suppress" + numbers(self.doc["suppress_tokens"]),
                      "eog" + numbers(self.doc["end_of_generation"])]
        (target / "data").mkdir(parents=True, exist_ok=True)

    def take(self, name):
        """Copies a file once; its name is the same in the set."""
        if not (self.target / name).exists():
            shutil.copyfile(self.source / name, self.target / name)
        return name

    def case(self, base, record, variants):
        """base: prompt and media; record: the numbers; variants: (name, file) pairs."""
        put = self.lines.append
        put("")
        put(f"case {base['name']}")
        for name, file in variants:
            put(f"variant {name} {self.take(file)}")
        put("ids" + numbers(base["ids"]))
        put("forced" + numbers(base["greedy"]["tokens"][:-1]))
        put("positions" + numbers(record["logits"]["positions"]))
        put(f"logits {self.take(record['logits']['file'])}")
        put("greedy" + numbers(record["greedy"]["tokens"]))
        put("margins" + numbers(record["greedy"]["margins"]))
        put(f"binding {leading(record['greedy']['margins'])}")
        if "layers" in record:
            put(f"layers {self.take(record['layers']['file'])}" + numbers(record["layers"]["shape"]))
        for span, item in zip(base["media_spans"], base["media"]):
            put(f"media {span['type']} {span['start']} {span['end']} "
                + self.take(item["embedding"]["file"]))
        put("end")

    def write(self, models, names):
        variants = {k: v for k, v in self.doc["variants"].items() if models is None or k in models}
        if models is not None and set(models) - set(variants):
            raise SystemExit(f"index.py: no such model: {sorted(set(models) - set(variants))}")
        same = [(k, v["file"]) for k, v in variants.items() if v["same_weights_as_base"]]
        for base in self.doc["cases"]:
            if names is not None and base["name"] not in names:
                continue
            if same:
                self.case(base, base, same)
            for kind, variant in variants.items():
                if base["name"] in variant["cases"]:
                    self.case(base, variant["cases"][base["name"]], [(kind, variant["file"])])
        (self.target / "cases.txt").write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("golden", type=Path)
    p.add_argument("out", type=Path)
    p.add_argument("--models", type=lambda s: s.split(","), help="types to take, comma separated")
    p.add_argument("--cases", type=lambda s: s.split(","), help="cases to take, comma separated")
    a = p.parse_args()
    if a.out.exists():
        for old in [*a.out.glob("data/*.f32"), *a.out.glob("model-*.gguf"), *a.out.glob("cases.txt")]:
            old.unlink()
    golden = Set(a.golden, a.out)
    golden.write(a.models, a.cases)
    size = sum(f.stat().st_size for f in a.out.rglob("*") if f.is_file())
    print(f"{a.out}: {sum(l.startswith('case ') for l in golden.lines)} cases, {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
