#!/usr/bin/env python3
"""Trains the tokenizer: the Gemma kind (byte-pair pieces, byte fallback, no words), only smaller.

    vocabulary.py WORK [SIZE]

reads WORK/corpus/train and WORK/prompts/fixed.txt (the plugin's own prompt texts, where they
exist), writes WORK/tokenizer/{tokenizer.json,tokenizer_config.json,chat_template.jinja}. Where a training
begins with shipped weights (WORK/start), the pieces are those of its file: the same text in other versions
would give others, and each row of the embedding belongs to one.
"""
import json
import random
import shutil
import sys
from pathlib import Path

import words

SPACE = "\u2581"
HEAD = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
CHAT = ["<|tool>", "<tool|>", "<|tool_call>", "<tool_call|>", "<|tool_response>",
        "<tool_response|>", '<|"|>', "<|think|>", "<|channel>", "<channel|>", "<|turn>", "<turn|>"]
MEDIA = ["<|image>", "<|audio>", "<|image|>", "<|audio|>", "<image|>", "<audio|>", "<|video|>"]
RUN = 31  # newlines or spaces in one piece
TABS = 12
SHARE = {"lua": 9_000_000, "c": 6_000_000, "text": 2_000_000, "markdown": 400_000}

# How the pieces are cut for learning. Runs of blanks are pieces of their own; a single space
# belongs to what follows it. Encoding knows no words, but no piece is learned across these cuts.
CUT = (r"\n+|\t+|" + SPACE + r"{2,}|" + SPACE + r"?[^\W\d_" + SPACE + r"]+|" + SPACE + r"?\d|" +
       SPACE + r"?_+|" + SPACE + r"?[^\w\s" + SPACE + r"]+|" + SPACE)

# Turns as the real template writes them; thinking off. Roles other than assistant keep their name.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}"
    "{{ '<|turn>' + ('model' if m['role'] == 'assistant' else m['role']) + '\\n' }}"
    "{% if m['content'] is string %}{{ m['content'] | trim }}{% else %}"
    "{% for p in m['content'] %}{% if p['type'] == 'image' %}{{ '<|image|>' }}"
    "{% elif p['type'] == 'audio' %}{{ '<|audio|>' }}{% else %}{{ p['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}{{ '<turn|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}"
    "{{ '<|turn>model\\n<|channel>thought\\n<channel|>' }}{% endif %}")


def sample(work):
    """Training text, languages in fixed shares, and often what the model will hear often."""
    rng = random.Random(1)
    texts = []
    for language, most in SHARE.items():
        files = sorted((work / "corpus/train" / language).glob("*"))
        rng.shuffle(files)
        total = 0
        for f in files:
            text = f.read_text(encoding="utf-8")
            texts.append(text)
            total += len(text)
            if total > most:
                break
    fixed = work / "prompts/fixed.txt"
    often = fixed.read_text(encoding="utf-8") if fixed.exists() else ""
    names = " ".join(list(words.COLOURS) + words.SHAPES + words.READ + words.SPOKEN)
    texts += [often] * 60 + [words.SENTENCES] * 200 + [names] * 300
    return [t.replace(" ", SPACE) for t in texts]


def learn(texts, count):
    """The first `count` pieces of byte-pair training, in the order in which they were learned."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Split(Regex(CUT), "isolated")
    tok.train_from_iterator(texts, trainers.BpeTrainer(
        vocab_size=count + 3000, min_frequency=20, show_progress=False, max_token_length=24,
        limit_alphabet=200))
    merges = json.loads(tok.to_str())["model"]["merges"]
    pieces = []
    for a, b in (m if isinstance(m, list) else m.split(" ") for m in merges):
        piece = a + b
        if set(piece) <= {SPACE} or set(piece) & set("\n\t") or piece in pieces:
            continue
        pieces.append(piece)
    if len(pieces) < count:
        raise SystemExit(f"the corpus is too small: {len(pieces)} of {count} pieces")
    return pieces[:count]


def vocabulary(size, texts):
    chars = [SPACE] + [chr(c) for c in range(33, 127)]
    newlines = ["\n" * n for n in range(1, RUN + 1)]
    spaces = [SPACE * n for n in range(2, RUN + 1)]
    tabs = ["\t" * n for n in range(1, TABS + 1)]
    octets = [f"<0x{b:02X}>" for b in range(256)]
    known = HEAD + CHAT + MEDIA + newlines + spaces + tabs + octets + chars
    learned = learn(texts, size - len(known))
    # The alphabet may hold other characters; those stay bytes, and so do pieces with them.
    order = HEAD + CHAT + newlines + spaces + tabs + octets + learned + chars + MEDIA
    if not len(order) == len(set(order)) == size:
        raise SystemExit("a piece was learned twice")
    vocab = {t: i for i, t in enumerate(order)}

    # Every way to make a piece of two others is a merge, longest left part first; runs of blanks
    # come before everything else. So it is in the released tokenizer.
    def splits(piece):
        found = [(piece[:i], piece[i:]) for i in range(1, len(piece))]
        found = [s for s in found if s[0] in vocab and s[1] in vocab]
        return sorted(found, key=lambda p: (-len(p[0]), -len(p[1])))

    merges = sorted((s for run in newlines + spaces + tabs for s in splits(run)),
                    key=lambda p: (-len(p[0]), -len(p[1])))
    for piece in learned:
        merges += splits(piece)
    return vocab, merges


def shipped(path):
    """Pieces and merges of a file that was exported before."""
    from gguf import GGUFReader
    fields = GGUFReader(str(path)).fields

    def texts(key):
        f = fields[f"tokenizer.ggml.{key}"]
        return [bytes(f.parts[i]).decode("utf-8") for i in f.data]

    return {t: i for i, t in enumerate(texts("tokens"))}, [tuple(m.split(" ")) for m in texts("merges")]


def write(folder, vocab, merges):
    special = HEAD + CHAT + MEDIA
    doc = {
        "version": "1.0", "truncation": None, "padding": None,
        "added_tokens": [{"id": vocab[t], "content": t, "single_word": False, "lstrip": False,
                          "rstrip": False, "normalized": False, "special": True}
                         for t in sorted(special, key=vocab.get)],
        "normalizer": {"type": "Replace", "pattern": {"String": " "}, "content": SPACE},
        "pre_tokenizer": {"type": "Split", "pattern": {"String": " "},
                          "behavior": "MergedWithPrevious", "invert": False},
        "post_processor": None,
        "decoder": {"type": "Sequence", "decoders": [
            {"type": "Replace", "pattern": {"String": SPACE}, "content": " "},
            {"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "dropout": None, "unk_token": "<unk>",
                  "continuing_subword_prefix": None, "end_of_word_suffix": None,
                  "fuse_unk": True, "byte_fallback": True, "ignore_merges": False,
                  "vocab": vocab, "merges": [list(m) for m in merges]},
    }
    conf = {"tokenizer_class": "GemmaTokenizer", "add_bos_token": True, "add_eos_token": False,
            "bos_token": "<bos>", "eos_token": "<turn|>", "unk_token": "<unk>",
            "pad_token": "<pad>", "mask_token": "<mask>", "clean_up_tokenization_spaces": False,
            "padding_side": "left", "extra_special_tokens": CHAT + ["<|video|>"],
            "model_max_length": 8192, "processor_class": "Gemma4UnifiedProcessor",
            "model_specific_special_tokens": {
                "boi_token": "<|image>", "eoi_token": "<image|>", "image_token": "<|image|>",
                "boa_token": "<|audio>", "eoa_token": "<audio|>", "audio_token": "<|audio|>"}}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(json.dumps(doc, ensure_ascii=False), encoding="utf-8")
    (folder / "tokenizer_config.json").write_text(json.dumps(conf, indent=1), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")


def main():
    work = Path(sys.argv[1])
    size = int(sys.argv[2]) if len(sys.argv) > 2 else 4096
    start = work / "start/gemma-embedded.gguf"
    vocab, merges = shipped(start) if start.exists() else vocabulary(size, sample(work))
    # Under another name until it has been tried: what has its name is taken for done.
    folder, made = work / "tokenizer", work / "tokenizer.new"
    write(made, vocab, merges)
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(str(made / "tokenizer.json"))
    for language in SHARE:
        n_byte = n_id = 0
        for f in sorted((work / "corpus/held" / language).glob("*"))[:40]:
            text = f.read_text(encoding="utf-8")
            ids = tok.encode(text, add_special_tokens=False).ids
            if tok.decode(ids) != text:
                raise SystemExit(f"{f}: the text does not come back from its tokens")
            n_byte += len(text.encode())
            n_id += len(ids)
        print(f"{language:8} {n_byte / n_id:.2f} bytes a token")
    print(f"{len(vocab)} pieces, {len(merges)} merges")
    shutil.rmtree(folder, ignore_errors=True)
    made.rename(folder)


if __name__ == "__main__":
    main()
