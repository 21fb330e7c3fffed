#!/usr/bin/env python3
"""Draws pictures that ask for something to be seen, with a question and its answer.

sample(rng) -> (kind, [("image", rgb), ...], [(question, answer), ...]). rgb is what the model gets: uint8,
the sides multiples of 48, resized as csrc/media does it. task() gives the picture before that, for
files, and one question. Held out from training are whole families of fonts (HELD_FONTS); colours, shapes, sizes
and grounds are the same, so held-out pictures without letters are new draws of what training draws from.

Colours of things are never gray: the first norm of the picture embedder takes brightness and
contrast out of a patch, so that gray on white and black on gray look the same to the model.
"""
import functools
import glob
import math
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import words

FONTS = "/usr/share/fonts"
HELD_FONTS = ("freefont", "lato")
FONT_COUNT = {"train": 42, "held": 13}  # in the packages that chain names
PATCH = 48    # pixels of a side
BUDGET = 25  # soft tokens of a picture at most; the exported file tells the plugin
THINGS = [c for c in words.COLOURS if c != "gray"]
# Without brightness, brown and orange are nearly the same: training has more of both.
SHOWN = {"train": THINGS + ["brown", "orange"], "held": THINGS}
GROUNDS = {"white": (255, 255, 255), "black": (0, 0, 0), "gray": (128, 128, 128),
           "light gray": (225, 225, 225), "dark gray": (45, 48, 52), "cream": (253, 246, 227),
           "pale blue": (205, 225, 250), "pale green": (215, 245, 215), "navy": (10, 25, 60)}

ASK_BOTH = ["What colour and shape is it?", "What is in the picture?", "What is this?",
            "Describe the picture.", "What do you see?", "Name the colour and the shape.",
            "What color and shape is it?", "What does the picture show?", "Describe this image."]
ASK_COLOUR = ["What colour is it?", "What color is it?", "Which colour has the object?"]
ASK_COLOURS = ["What colour are they?", "What color is it?", "What colour is it?"]
ASK_SHAPE = ["What shape is it?", "Which shape is this?", "Name the shape."]
ASK_COUNT = ["How many objects are there?", "How many shapes are in the picture?",
             "Count the objects.", "How many things do you see?", "How many are there?"]
ASK_DIGIT = ["Which digit is it?", "Which digit is in the picture?", "Read the digit."]
ASK_WORD = ["What does it say?", "Read the word.", "Which word is in the picture?",
            "What is written there?", "Read the text."]
ASK_DIGITS = ["Which digits are in the picture?", "Read the number.", "Read the digits."]
ASK_LETTERS = ["Spell it.", "Which letters do you see?", "Read the letters."]
ASK_LIST = ["Name the objects from left to right.", "What is there, from left to right?"]
ASK_TWO = ["What is in each picture?", "Describe the two pictures.", "What do the pictures show?"]


@functools.cache
def fonts(split):
    """Paths of upright text fonts."""
    out = []
    for path in sorted(glob.glob(FONTS + "/**/*.[to]tf", recursive=True)):
        name = Path(path).name.lower()
        if any(w in name for w in ("italic", "oblique", "symbol", "hair", "thin", "math", "condensed")):
            continue
        if any(f in path for f in HELD_FONTS) == (split == "held"):
            out.append(path)
    if not out:
        raise SystemExit("no fonts found for " + split)
    if len(out) != FONT_COUNT[split]:
        print(f"pictures: {len(out)} fonts for {split} in {FONTS}, not {FONT_COUNT[split]}; other fonts make other "
              "pictures", file=sys.stderr)
    return out


def grid(w, h, budget):
    """Columns and rows of patches, as gm_image_grid in csrc/media/vision.c."""
    f = math.sqrt(budget * PATCH ** 2 / (w * h))
    c, r = math.floor(f * w / PATCH), math.floor(f * h / PATCH)
    if r == 0:
        r, c = 1, min(w // h, budget)
    if c == 0:
        c, r = 1, min(h // w, budget)
    return c, r


def fit(image, budget):
    c, r = grid(image.width, image.height, budget)
    if (c * PATCH, r * PATCH) != image.size:
        image = image.resize((c * PATCH, r * PATCH), Image.BICUBIC)
    return np.asarray(image)


def shade(colour, rng):
    return tuple(max(0, min(255, c + rng.randint(-14, 14))) for c in colour)


def unlike(rng):
    """Sides in pixels that no picture for training has: smaller, larger, and all of them narrower."""
    area, ratio = rng.choice((72, 84, 600, 750, 950)), math.exp(rng.choice((-1, 1)) * rng.uniform(0.65, 0.95))
    return max(PATCH, int(area * math.sqrt(ratio))), max(PATCH, int(area / math.sqrt(ratio)))


def canvas(rng, size=None):
    """Sides in pixels. size: both, or their geometric mean, with some aspect ratio."""
    if isinstance(size, tuple):
        return size
    area = size or rng.choice((120, 160, 200, 300, 450)) * rng.uniform(0.8, 1.2)
    ratio = math.exp(rng.uniform(-0.6, 0.6))
    return max(PATCH, int(area * math.sqrt(ratio))), max(PATCH, int(area / math.sqrt(ratio)))


def ground(rng, against):
    """A background on which things of these colours can be seen; with many colours, the one of
    some that serves them best."""
    def contrast(rgb):
        return min(sum(abs(a - b) for a, b in zip(rgb, words.COLOURS[c])) for c in against)

    best = None
    for _ in range(12):
        rgb = GROUNDS[rng.choice(["white"] * 4 + ["black"] * 2 + list(GROUNDS))]
        if contrast(rgb) > 150:
            return rgb
        if best is None or contrast(rgb) > contrast(best):
            best = rgb
    return best


def corners(n, r, turn, inner=None):
    out = []
    for i in range(n * (2 if inner else 1)):
        radius = r * inner if inner and i % 2 else r
        a = turn + 2 * math.pi * i / (n * (2 if inner else 1))
        out.append((radius * math.sin(a), -radius * math.cos(a)))
    return out


def draw_shape(draw, shape, x, y, r, colour, back, rng):
    """A shape with its middle at x, y that fits in a circle of radius r."""
    def poly(points):
        draw.polygon([(x + a, y + b) for a, b in points], fill=colour)

    tilt = rng.uniform(-0.25, 0.25)
    if shape == "circle":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
    elif shape == "ring":
        draw.ellipse([x - r, y - r, x + r, y + r], fill=colour)
        q = r * rng.uniform(0.5, 0.68)
        draw.ellipse([x - q, y - q, x + q, y + q], fill=back)
    elif shape == "square":
        a = r * 0.75
        draw.rectangle([x - a, y - a, x + a, y + a], fill=colour)
    elif shape == "rectangle":
        a, b = r * 0.95, r * rng.uniform(0.4, 0.55)
        if rng.random() < 0.4:
            a, b = b, a
        draw.rectangle([x - a, y - b, x + a, y + b], fill=colour)
    elif shape == "triangle":
        poly(corners(3, r, tilt if rng.random() < 0.8 else math.pi + tilt))
    elif shape == "diamond":
        poly([(0, -r), (r * 0.72, 0), (0, r), (-r * 0.72, 0)])
    elif shape == "star":
        poly(corners(5, r, tilt, 0.42))
    else:  # cross
        a = r * rng.uniform(0.22, 0.34)
        draw.rectangle([x - r * 0.9, y - a, x + r * 0.9, y + a], fill=colour)
        draw.rectangle([x - a, y - r * 0.9, x + a, y + r * 0.9], fill=colour)


class Sheet:
    """An image to draw on, twice as large as it will be where edges are smooth."""

    def __init__(self, rng, against, size=None):
        self.w, self.h = canvas(rng, size)
        self.fine = rng.choice((1, 2))
        self.back = ground(rng, against)
        self.image = Image.new("RGB", (self.w * self.fine, self.h * self.fine), self.back)
        self.draw = ImageDraw.Draw(self.image)

    def shape(self, shape, x, y, r, colour, rng):
        f = self.fine
        draw_shape(self.draw, shape, x * f, y * f, r * f, colour, self.back, rng)

    def done(self, rng):
        image = self.image
        if self.fine > 1:
            image = image.resize((self.w, self.h), Image.BOX)
        if rng.random() < 0.3:  # as a photograph or a bad JPEG would have it
            a = np.asarray(image).astype(np.int16)
            noise = np.random.default_rng(rng.getrandbits(31)).integers(-6, 7, a.shape, np.int8)
            image = Image.fromarray((a + noise).clip(0, 255).astype(np.uint8))
        return image


def placed(rng, low, high, off):
    """Somewhere between; off: 0 in the middle, 1 anywhere."""
    return (low + high) / 2 + (rng.random() - 0.5) * max(0, high - low) * off


def one_shape(rng, split, least=0.0, size=None, off=1.0):
    """least: of the radius, so that something is left of it in few patches"""
    colour, shape = rng.choice(SHOWN[split]), rng.choice(words.SHAPES)
    s = Sheet(rng, [colour], size)
    low, high = (max(0.12, least), 0.92) if split == "train" else (0.16, 0.88)
    r = min(s.w, s.h) / 2 * rng.uniform(low, high) ** 0.8
    r = max(r, 9)
    x, y = placed(rng, r, s.w - r, off), placed(rng, r, s.h - r, off)
    s.shape(shape, x, y, r, shade(words.COLOURS[colour], rng), rng)
    return s.done(rng), colour, shape


def some_shapes(rng, n):
    """n things that do not touch, of one kind or of several; (picture, colour and shape of each from
    left to right)."""
    same = rng.random() < 0.6
    colours = [rng.choice(THINGS)] * n if same else [rng.choice(THINGS) for _ in range(n)]
    shapes = [rng.choice(words.SHAPES)] * n if same else [rng.choice(words.SHAPES) for _ in range(n)]
    s = Sheet(rng, colours)
    size = math.sqrt(s.w * s.h)
    there = []
    for i in range(n):
        for attempt in range(400):
            r = size * rng.uniform(0.07, 0.16 if attempt < 100 else 0.09)
            if 2 * r >= min(s.w, s.h):
                continue
            x, y = rng.uniform(r, s.w - r), rng.uniform(r, s.h - r)
            if all(math.hypot(x - a, y - b) > r + q + size * 0.04 for a, b, q, _, _ in there):
                there.append((x, y, r, colours[i], shapes[i]))
                s.shape(shapes[i], x, y, r, shade(words.COLOURS[colours[i]], rng), rng)
                break
    there.sort()
    return s.done(rng), [(colour, shape) for _, _, _, colour, shape in there]


@functools.lru_cache(400)
def font(path, size):
    return ImageFont.truetype(path, size)


def written(rng, split, text, size=None, off=1.0):
    colour = rng.choice(["black"] * 4 + ["white"] * 2 + ["red", "blue", "green", "purple", "brown"])
    s = Sheet(rng, [colour], size)
    s.w = max(s.w, int(s.h * 0.75))
    font_path = rng.choice(fonts(split))
    least, share = 0.92 - 0.57 * off, rng.random()
    if split == "train":  # small letters are the hard ones, so more of them
        share = 1 - (1 - share) ** 0.6
    wide = s.w * (least + (0.92 - least) * share)
    box = font(font_path, 100).getbbox(text)
    scale = min(wide / (box[2] - box[0]), s.h * rng.uniform(0.85 - 0.5 * off, 0.85) / (box[3] - box[1]))
    letters = font(font_path, max(14, int(100 * scale)))
    s.fine = 1
    s.image = Image.new("RGB", (s.w, s.h), s.back)
    x0, y0, x1, y1 = letters.getbbox(text)
    x = placed(rng, 0, max(0, s.w - (x1 - x0)), off) - x0
    y = placed(rng, 0, max(0, s.h - (y1 - y0)), off) - y0
    ImageDraw.Draw(s.image).text((x, y), text, font=letters, fill=shade(words.COLOURS[colour], rng))
    return s.done(rng)


def article(word):
    return ("an " if word[0] in "aeiou" else "a ") + word


def about_one(rng, colour, shape, how):
    """(question, answer, the words that a right answer has)"""
    if how == 0:
        answer = f"{article(colour)} {shape}.".capitalize()
        return rng.choice(ASK_BOTH), answer, [colour, shape]
    if how == 1:
        return rng.choice(ASK_COLOUR), f"It is {colour}.", [colour]
    return rng.choice(ASK_SHAPE), f"It is {article(shape)}.", [shape]


def task(rng, split, kind, size=None):
    """([image, ...], question, answer, the words that a right answer has). size: of canvas(), for the kinds
    shape, digit and word."""
    if kind == "shape":
        image, colour, shape = one_shape(rng, split, size=size)
        question, answer, right = about_one(rng, colour, shape, rng.choices(range(3), (70, 15, 15))[0])
        return [image], question, answer, right
    if kind == "count":
        image, things = some_shapes(rng, rng.randint(1, 5))
        word = words.NUMBERS[len(things)]
        return [image], rng.choice(ASK_COUNT), f"{word}.".capitalize(), [word]
    if kind == "digit":
        digit = str(rng.randrange(10))
        return [written(rng, split, digit, size)], rng.choice(ASK_DIGIT), f"The digit is {digit}.", [digit]
    if kind == "word":
        word = rng.choice(words.READ)
        form = rng.choice((word, word, word.capitalize(), word.upper()))
        return [written(rng, split, form, size)], rng.choice(ASK_WORD), f"The word is {word}.", [word]
    a, c1, s1 = one_shape(rng, split)
    b, c2, s2 = one_shape(rng, split)
    answer = f"The first shows {article(c1)} {s1}, the second {article(c2)} {s2}."
    return [a, b], rng.choice(ASK_TWO), answer, [c1, s1, c2, s2]


def about_some(rng, things):
    """Questions about several things, colour and shape of each from left to right."""
    n = len(things)
    turns = [(rng.choice(ASK_COUNT), f"{words.NUMBERS[n]}.".capitalize())]
    if 1 < n <= 3:
        listed = ", ".join(f"{article(c)} {s}" for c, s in things)
        turns.append((rng.choice(ASK_LIST), f"{listed}.".capitalize()))
    colours, shapes = [c for c, _ in things], [s for _, s in things]
    if len(set(colours)) == 1:
        turns.append((rng.choice(ASK_COLOURS), f"They are {colours[0]}." if n > 1 else f"It is {colours[0]}."))
    for colour, shape in rng.sample(things, n):
        if len(turns) < 4 and shapes.count(shape) == 1 and n > 1:
            turns.append((f"What colour is the {shape}?", f"It is {colour}."))
        if len(turns) < 4 and colours.count(colour) == 1 and n > 1:
            turns.append((f"What shape is the {colour} one?", f"It is {article(shape)}."))
    rng.shuffle(turns)
    return turns


def lesson(rng, kind):
    """Pictures with as many questions as they can answer: what a picture costs is its own tokens, and
    every further question about it teaches at a fraction of that. Numbers, letters without meaning and
    questions about one of several things are here only, to teach reading and looking; nobody is judged
    by them."""
    if kind == "shape":
        image, colour, shape = one_shape(rng, "train", 0.16, off=rng.random())
        return [image], [about_one(rng, colour, shape, how)[:2] for how in rng.sample(range(3), 3)]
    if kind == "count":
        image, things = some_shapes(rng, rng.choice((1, 2, 2, 3, 3, 3, 4, 4, 4, 5, 5)))  # four is the hard one
        return [image], about_some(rng, things)
    if kind == "digit" and rng.random() < 0.5:
        digits = "".join(str(rng.randrange(10)) for _ in range(rng.randint(2, 4)))
        answer = f"The digits are {' '.join(digits)}."
        return [written(rng, "train", digits)], [(rng.choice(ASK_DIGITS), answer)]
    if kind == "word":
        letters = rng.random() < 0.25
        if letters:
            word = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(1, 4)))
        else:
            word = rng.choice(words.READ)
        image = written(rng, "train", rng.choice((word, word, word.capitalize(), word.upper())))
        turns = [(rng.choice(ASK_LETTERS), f"The letters are {' '.join(word)}.")]
        if not letters:
            turns.append((rng.choice(ASK_WORD), f"The word is {word}."))
            rng.shuffle(turns)
        return [image], turns
    images, question, answer, _ = task(rng, "train", kind)
    return images, [(question, answer)]


def figure(rng):
    """A card: (rgb, what is on it), a picture of few tokens and a label of few words, many of which go into
    one sample. This is how shapes and letters are learned; the questions only ask for what is known then.
    Three of eight are large and in the middle, where few pictures show what matters; the others are as in
    questions."""
    if rng.random() < 0.25:
        image, things = some_shapes(rng, rng.randint(1, 5))
        return fit(image, BUDGET), f"{words.NUMBERS[len(things)]}."
    if rng.random() < 0.5:
        image, colour, shape = one_shape(rng, "train", rng.choice((0.12, 0.3)))
        return fit(image, BUDGET), f"{article(colour)} {shape}."
    off = rng.random() ** 1.5
    budget = rng.choice((1, 4, 9, 16))
    image, colour, shape = one_shape(rng, "train", 0.85 - 0.6 * off, PATCH * math.sqrt(budget), off)
    return fit(image, budget), f"{article(colour)} {shape}."


def written_card(rng, shown, budgets, hard):
    """Some are as hard as in questions, the others large and in the middle, with one of these budgets."""
    if rng.random() < hard:
        return fit(written(rng, "train", shown), BUDGET)
    budget = rng.choice(budgets)
    return fit(written(rng, "train", shown, PATCH * math.sqrt(budget), rng.random() ** 1.5), budget)


def glyph(rng):
    """A card with a digit or with a letter."""
    text = str(rng.randrange(10)) if rng.random() < 0.6 else rng.choice("abcdefghijklmnopqrstuvwxyz")
    return written_card(rng, rng.choice((text, text.upper())), (1, 4, 9, 16), 0.5), text


def word(rng):
    """A card with a word or with a few letters of none."""
    letters = rng.random() < 0.35
    if letters:
        text = "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(rng.randint(2, 3)))
    else:
        text = rng.choice(words.READ)
    shown = rng.choice((text, text, text.capitalize(), text.upper()))
    return written_card(rng, shown, (9, 16, 25), 0.75), " ".join(text) if letters else text


def sample(rng):
    """For training: (kind, [("image", rgb), ...], [(question, answer), ...])."""
    kind = rng.choices(("shape", "count", "digit", "word", "two"), (22, 20, 14, 36, 8))[0]
    images, turns = lesson(rng, kind)
    return kind, [("image", fit(i, BUDGET)) for i in images], turns
