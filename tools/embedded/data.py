"""Samples for training: what they are made of, and how they come together in batches.

A sample is (ids, wanted, pictures, sounds): token ids, for each of them whether the model is to
predict it, and the media whose rows replace the placeholder ids, in order. The kinds of sample are
methods of Samples, one for each name in a mixture:

    text      a stretch of a source file or of documentation
    complete  the plugin's own completion prompt and what was in the hole (prompts.lua made them)
    guess     the same of real code, for learning from the model's own guesses (guesses.py)
    explain   the plugin's own prompt for :GemmaExplain and a sentence about the function
    figure, glyph, word   many small pictures and what is on each (pictures.py)
    picture   one or two pictures, questions and answers
    clip      many sounds and what is heard in each (sounds.py)
    sound     a sound, a question, the answer

Everything is a function of a seed, so that a training that was interrupted goes on with new
samples and never needs to store where it was.
"""
import itertools
import json
import os
import random
import re
import string
from pathlib import Path

import numpy as np
import torch

import likeness
import net

TEXT_SHARE = {"lua": 0.60, "c": 0.25, "text": 0.10, "markdown": 0.05}
NAMED = "File: "  # begins the prompts about a file
FOLDERS = ("src", "lua", "lib", "plugin", "test", "tests", "util", "core", "include", "tools", "config", "work", "code",
           "project", "app", "scripts", "nvim", "engine", "common", "net", "api", "ui", "model", "server", "client")
STEMS = ("init", "main", "utils", "list", "table", "strings", "helpers", "data", "parser", "buffer", "window", "file",
         "path", "options", "state", "events", "queue", "log", "cache", "types", "test", "foo", "a", "x")


class Speller:
    """Text and turns -> ids, as csrc/tokenizer/turns.c writes them."""

    def __init__(self, work):
        from tokenizers import Tokenizer
        doc = json.loads((Path(work) / "tokenizer/tokenizer.json").read_text(encoding="utf-8"))
        self.vocab = doc["model"]["vocab"]
        self.plain = Tokenizer.from_str(json.dumps(dict(doc, added_tokens=[])))
        self.names = {i: t for t, i in self.vocab.items()}
        self.added = {t["id"] for t in doc["added_tokens"]}

    def encode(self, text):
        return self.plain.encode(text, add_special_tokens=False).ids

    def octets(self, i):
        octet = re.fullmatch(r"<0x([0-9A-F]{2})>", self.names[i])
        return bytes([int(octet[1], 16)]) if octet else self.names[i].replace("\u2581", " ").encode()

    def decode(self, ids):
        return b"".join(self.octets(i) for i in ids if i not in self.added).decode("utf-8", "replace")

    def turns(self, parts):
        """parts: (kind, value) with kind system, user, model, text, image, audio; the value of a
        text is a string, of a medium its number of rows. Roles open turns. Returns ids; a model
        turn that is last stays open and its text is not trimmed."""
        v = self.vocab
        ids, run = [v["<bos>"]], ""

        def flush():
            nonlocal run
            if run:
                ids.extend(self.encode(run))
            run = ""

        def special(name):
            flush()
            ids.append(v[name])

        open_turn = False
        for n, (kind, value) in enumerate(parts):
            if kind in ("system", "user", "model"):
                if open_turn:
                    special("<turn|>")
                    run += "\n"
                special("<|turn>")
                run += kind + "\n"
                open_turn = True
                last_model = kind == "model" and not any(
                    p[0] in ("system", "user", "model") for p in parts[n + 1:])
                if last_model:
                    special("<|channel>")
                    run += "thought\n"
                    special("<channel|>")
            elif kind == "text":
                run += value if last_model else value.strip()
            else:
                special(f"<|{kind}>")
                ids.extend([v[f"<|{kind}|>"]] * value)
                special(f"<{kind}|>")
        if open_turn and not last_model:
            special("<turn|>")
            run += "\n"
            special("<|turn>")
            run += "model\n"
            special("<|channel>")
            run += "thought\n"
            special("<channel|>")
        flush()
        return ids


def read_lines(path):
    """Without the few prompts in which a cut went through a character."""
    with open(path, encoding="utf-8", errors="replace") as f:
        return [json.loads(line) for line in f if "\ufffd" not in line]


def elsewhere(text, rng):
    """A prompt's file, mostly under another name. Corpora have few, and a model that learns by them which files it
    is to go on with does otherwise in a folder that it does not know."""
    if rng.random() < 0.3:
        return text
    path, rest = text[len(NAMED):].split("\n", 1)
    stem, dot, end = path.rsplit("/", 1)[-1].rpartition(".")
    if rng.random() < 0.5:
        stem = rng.choice(FOLDERS + STEMS)
    folders = rng.choices(FOLDERS, k=rng.randrange(3))
    odd = "".join(rng.choices(string.ascii_letters + string.digits, k=rng.randint(3, 8)))
    front = rng.choice(([], ["~"], ["~", odd.lower()], ["", "home", odd.lower()], ["", "tmp", odd],
                        ["", "tmp", "nvim." + odd.lower(), str(rng.randrange(20))], [".."]))
    return NAMED + "/".join(front + folders + [stem + dot + end]) + "\n" + rest


class Samples:
    """The kinds of sample. Each method takes a random.Random and returns one sample."""

    def __init__(self, work, longest, rules=1.0):
        """rules: the share of prompts that keep the plugin's system turn whole. It is hundreds of tokens
        that are always the same, so most of a training does well without."""
        self.work = Path(work)
        self.longest = longest
        self.whole = rules
        self.speller = Speller(work)
        self.end = self.speller.vocab["<turn|>"]
        self.files = {}
        self._lists = {}

    # -- text

    def tokens_of(self, language):
        """(ids of all training files of a language, where each begins), made once."""
        if language not in self.files:
            store = self.work / f"tokenizer/{language}.npz"
            if not store.exists():
                ids, starts = [], []
                files = sorted((self.work / "corpus/train" / language).glob("*"))
                if not files:
                    raise SystemExit(f"neither {store} nor {self.work}/corpus/train/{language} is there")
                for f in files:
                    starts.append(len(ids))
                    ids += self.speller.encode(f.read_text(encoding="utf-8"))
                starts.append(len(ids))
                made = store.with_suffix(f".{os.getpid()}.npz")
                np.savez(made, ids=np.array(ids, np.uint16), starts=np.array(starts))
                os.replace(made, store)
            got = np.load(store)
            self.files[language] = got["ids"], got["starts"]
        return self.files[language]

    def text(self, rng):
        language = rng.choices(list(TEXT_SHARE), list(TEXT_SHARE.values()))[0]
        ids, starts = self.tokens_of(language)
        size = min(self.longest, rng.choice((128, 256, 256, 512))) - 1
        at = rng.randrange(len(ids))
        file = int(np.searchsorted(starts, at, "right")) - 1
        first, last = int(starts[file]), int(starts[file + 1])
        at = max(first, min(at, last - size))
        piece = [self.speller.vocab["<bos>"]] + ids[at:min(last, at + size)].tolist()
        return piece, [False] + [True] * (len(piece) - 1), [], []

    def prepare(self):
        """Makes what is stored, before several processes look for it."""
        for language in TEXT_SHARE:
            self.tokens_of(language)

    # -- prompts of the plugin

    def some(self, name):
        if name not in self._lists:
            path = self.work / f"prompts/{name}.jsonl"
            self._lists[name] = read_lines(path) if path.exists() else []
        return self._lists[name]

    def rules(self, text):
        """Texts that begin with a NUL byte stand for one of the plugin's fixed texts."""
        if not text.startswith("\0"):
            return text
        if "rules" not in self._lists:
            self._lists["rules"] = json.loads((self.work / "prompts/rules.json").read_text())
        return self._lists["rules"][text[1:]]

    def forget_rules(self, parts, rng):
        """The system turn as it is, left out or shortened, so that the model does not hang on
        every word of it."""
        if parts[0][0] != "system" or rng.random() < self.whole:
            return parts
        if rng.random() < 0.9:
            return parts[2:]
        pieces = re.split(r"(?<=[.\n])\s+", parts[1][1])
        kept = [p for p in pieces if rng.random() < 0.5]
        return parts[:1] + [("text", "\n".join(kept))] + parts[2:] if kept else parts[2:]

    def prompted(self, entry, rng, all_text):
        parts = [(k, elsewhere(v, rng) if v.startswith(NAMED) else self.rules(v)) for k, v in entry["parts"]]
        parts = self.forget_rules(parts, rng)
        if parts[-1][0] == "text" and any(p[0] == "model" for p in parts):
            head = self.speller.turns(parts[:-1])
            tail = self.speller.encode(parts[-1][1] + entry["answer"])
        else:
            head = self.speller.turns(parts)
            tail = self.speller.encode(entry["answer"])
        ids = head + tail + [self.end]
        wanted = [all_text] * len(head) + [True] * (len(tail) + 1)
        wanted[0] = False
        if len(ids) > self.longest:
            return None
        return ids, wanted, [], []

    def made_or_any(self, rng, name, share):
        """An entry, so often one about the simple functions of modules.py."""
        key = name + " made"
        if key not in self._lists:
            self._lists[key] = [e for e in self.some(name) if e.get("package") == "made"]
        made = self._lists[key]
        return rng.choice(made if made and rng.random() < share else self.some(name))

    def complete(self, rng):
        """Some are of simple functions: they are what somebody tries first. Some are of several lines, which
        few places in a file ask for."""
        if "several" not in self._lists:
            self._lists["several"] = [e for e in self.some("complete") if "\n" in e["answer"]]
        several = self._lists["several"]
        entry = rng.choice(several) if several and rng.random() < 0.2 else self.made_or_any(rng, "complete", 0.15)
        return self.prompted(entry, rng, True)

    def real_code(self):
        """(All completions of files that people wrote, those at the beginning of a line of Lua.)"""
        if "real" not in self._lists:
            real = [e for e in self.some("complete") if e.get("package") != "made"]
            mouths = [e["parts"][-1][1] for e in real]
            lines = [e for e, m in zip(real, mouths)
                     if m.startswith("```lua\n") and not m.rsplit("\n", 1)[1].strip()]
            self._lists["real"] = real, lines
        return self._lists["real"]

    def guess(self, rng):
        """With where the guesses begin, how (a piece may lie across the cursor), the wanted line and what a copier
        would say. Mostly whole lines of Lua, which are asked for most, and places where a copier says something."""
        real, lines = self.real_code()
        entry = rng.choice(lines if rng.random() < 0.7 else real)
        mouth, line = entry["parts"][-1][1], entry["answer"].split("\n")[0].strip()
        copy = likeness.copied(entry["parts"][-3][1], mouth)
        if not copy and rng.random() < 0.7:
            return None
        sample = self.prompted(entry, rng, True)
        if sample is None or len(line) < 2:
            return None
        ids = sample[0]
        said = self.speller.encode(mouth)
        head = b""
        if said and not mouth.endswith("\n"):
            head = self.speller.octets(said.pop())
        first = len(ids) - ids[::-1].index(self.speller.vocab["<channel|>"])
        start = first + len(said)
        if ids[first:start] != said:
            return None
        copy = self.speller.encode(mouth + copy + "\n") if copy else []
        copy = copy[len(said):] if copy[:len(said)] == said else []
        return *sample, dict(start=start, head=head, want=line.encode(), copy=copy)

    def explain(self, rng):
        """Mostly about simple functions: what people write above real ones is often not in the code."""
        return self.prompted(self.made_or_any(rng, "explain", 0.7), rng, False)

    # -- pictures and sounds

    @staticmethod
    def take(kind, value, pictures, sounds):
        """Adds what the model gets of a medium to one of the lists; its number of rows."""
        if kind == "image":
            pictures.append(net.patches(value))
            return len(pictures[-1][0])
        sounds.append(net.frames(value))
        return len(sounds[-1])

    def asked(self, media, turns, system=None):
        """Questions about media [(kind, value)], which stand before the first one, and answers."""
        rows = []
        pictures, sounds = [], []
        for kind, value in media:
            rows.append((kind, self.take(kind, value, pictures, sounds)))
        parts = ([("system", ""), ("text", system)] if system else []) + [("user", "")] + rows
        ids, wanted = [], []
        for question, answer in turns:
            if not ids:
                head = self.speller.turns(parts + [("text", question)])
            else:
                # A past answer keeps its empty thought, which the plugin takes out: it is there so
                # that one picture teaches several answers, not to teach conversation.
                head = self.speller.encode("\n")
                head += self.speller.turns([("user", ""), ("text", question)])[1:]
            tail = self.speller.encode(answer) + [self.end]
            ids += head + tail
            wanted += [False] * len(head) + [True] * len(tail)
        return ids, wanted, pictures, sounds

    def cards(self, things):
        """Media and labels in a row, without turns: [(kind, value, label)]."""
        v = self.speller.vocab
        ids, wanted, pictures, sounds = [v["<bos>"]], [False], [], []
        for kind, value, label in things:
            n = self.take(kind, value, pictures, sounds)
            ids += [v[f"<|{kind}>"]] + [v[f"<|{kind}|>"]] * n + [v[f"<{kind}|>"]]
            said = self.speller.encode(label + "\n")
            wanted += [False] * (n + 2) + [True] * len(said)
            ids += said
        return ids, wanted, pictures, sounds

    def dealt(self, rng, name, count, make):
        """So many of what make() makes. Most come again, since making one takes as long as learning it."""
        pool = self._lists.setdefault(name, [])
        things = []
        for _ in range(count):
            if len(pool) > 3000 and rng.random() < 0.7:
                things.append(rng.choice(pool))
            else:
                things.append(make())
                if len(pool) < 6000:
                    pool.append(things[-1])
                else:
                    pool[rng.randrange(len(pool))] = things[-1]
        return self.cards(things)

    def drawn(self, rng, name):
        import pictures
        make = getattr(pictures, name)
        return self.dealt(rng, name, 16, lambda: ("image", *make(rng)))

    def figure(self, rng):
        return self.drawn(rng, "figure")

    def glyph(self, rng):
        return self.drawn(rng, "glyph")

    def word(self, rng):
        return self.drawn(rng, "word")

    def clip(self, rng):
        import sounds

        def make():
            _, media, _, answer = sounds.sample(rng, "train", self.work)
            return "audio", media[0][1], answer
        return self.dealt(rng, "clips", 10, make)

    def picture(self, rng):
        import pictures
        _, media, turns = pictures.sample(rng)
        answer = turns[0][1]
        if answer.startswith(("A ", "An ", "The digit is", "The word")) and rng.random() < 0.15:
            turns[0] = self.rules("\0image"), answer
        return self.asked(media, turns, self.listener(rng))

    def sound(self, rng):
        import sounds
        kind, media, question, answer = sounds.sample(rng, "train", self.work)
        system = self.listener(rng)
        if kind in ("word", "words") and not answer.startswith("Someone") and rng.random() < 0.25:
            question = self.rules("\0audio")
            if rng.random() < 0.5:
                system, question = self.rules("\0dictate"), self.rules("\0dictation")
        return self.asked(media, [(question, answer)], system)

    def listener(self, rng):
        """The plugin's words before a question about media, or nothing, which is shorter."""
        return self.rules("\0attach") if rng.random() < self.whole / 3 else None


# ---- batches ---------------------------------------------------------------------------------

def collate(samples, image_id):
    """Samples of about the same length, filled up on the right, as tensors."""
    size = max(len(s[0]) for s in samples)
    size = -(-size // 32) * 32
    ids = np.zeros((len(samples), size), np.int64)
    wanted = np.zeros((len(samples), size), bool)
    blocks, pixels, places, sound = [], [], [], []
    for i, (tokens, want, pictures, sounds, *_) in enumerate(samples):
        ids[i, :len(tokens)] = tokens
        wanted[i, :len(tokens)] = want
        spans, at = [], 0
        for x, place in pictures:
            at = tokens.index(image_id, at)
            spans.append((at, at + len(x)))
            at += len(x)
            pixels.append(x)
            places.append(place)
        blocks.append(spans)
        sound += sounds
    return {
        "ids": torch.from_numpy(ids), "wanted": torch.from_numpy(wanted), "blocks": blocks,
        "pixels": torch.from_numpy(np.concatenate(pixels)) if pixels else None,
        "places": torch.from_numpy(np.concatenate(places)) if places else None,
        "sound": torch.from_numpy(np.concatenate(sound)) if sound else None,
        "guess": [dict(s[4], ids=torch.tensor(s[0])) for s in samples if len(s) > 4],
    }


class Batches(torch.utils.data.IterableDataset):
    """Endless batches of about n_token tokens. Each has one kind of sample, so that their losses
    can be told apart; the kinds come by the shares of tokens in the mixture. Guesses, which take much
    longer than all others, come at the same steps in all processes, so that none waits."""

    def __init__(self, work, seed, mixture, n_token, longest, rules=1.0):
        self.args = work, seed, mixture, n_token, longest, rules

    def __iter__(self):
        work, seed, mixture, n_token, longest, rules = self.args
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{seed} {worker.id if worker else 0}")
        samples = Samples(work, longest, rules)
        kinds = [k for k, share in mixture.items() if share > 0]
        ready = {k: [] for k in kinds}
        spent = {k: 0.0 for k in kinds if k != "guess"}
        guessing = mixture.get("guess", 0.0) / sum(mixture.values())
        for step in itertools.count():
            if int((step + 1) * guessing) > int(step * guessing):
                kind = "guess"
            else:
                # The kind that is furthest behind its share.
                kind = min(spent, key=lambda k: (spent[k] / mixture[k], rng.random()))
            if not ready[kind]:
                ready[kind] = self.pool(samples, kind, rng, n_token)
            batch = ready[kind].pop()
            if kind in spent:
                spent[kind] += batch["ids"].numel()
            yield kind, batch

    @staticmethod
    def pool(samples, kind, rng, n_token):
        """Some batches' worth of one kind, sorted by length so that little is filled up."""
        found, total = [], 0
        while total < 4 * n_token:
            s = getattr(samples, kind)(rng)
            if s is not None:
                found.append(s)
                total += len(s[0])
        found.sort(key=lambda s: len(s[0]))
        groups, group = [], []
        for s in found:
            if group and (len(group) + 1) * len(s[0]) > n_token:
                groups.append(group)
                group = []
            group.append(s)
        if group:
            groups.append(group)
        rng.shuffle(groups)
        image = samples.speller.vocab["<|image|>"]
        return [collate(g, image) for g in groups]
