#!/usr/bin/env python3
"""Writes the pictures and sounds by which the model is judged, and prompts for the comparison of
the two implementations.

    heldout.py WORK [COUNT]

writes WORK/held/{picture,sound}/NNNN.{png,wav} and WORK/held/media.tsv: group, kind of medium,
files, question, the words of a right answer, and all words that would be an answer. Fonts and voices are
those that training leaves out; all else is what it draws from, drawn anew. Groups whose name ends in "sizes"
are of pictures whose sides and aspect ratios training does not have either.
"""
import os
import random
import sys
import wave
from pathlib import Path

import pictures
import sounds
import words

# Group -> how many of COUNT, and the words one of which it is about.
PICTURES = {"shape": 1.0, "two": 0.5, "count": 0.75, "digit": 0.75, "word": 0.75}
SOUNDS = {"plain": 1.0, "pitch": 0.5, "beeps": 1.0, "word": 1.4}
LABELS = {
    ("picture", "shape"): list(words.COLOURS) + words.SHAPES,
    ("picture", "two"): list(words.COLOURS) + words.SHAPES,
    ("picture", "count"): words.NUMBERS,
    ("picture", "digit"): [str(d) for d in range(10)],
    ("picture", "word"): words.READ,
    ("sound", "plain"): ["silence", "noise", "tone", "low", "high"],
    ("sound", "pitch"): ["low", "high"],
    ("sound", "beeps"): words.NUMBERS,
    ("sound", "word"): words.SPOKEN,
}


def write_wave(path, samples):
    with wave.open(str(path), "wb") as f:
        f.setnchannels(1)
        f.setsampwidth(2)
        f.setframerate(sounds.RATE)
        f.writeframes(samples.astype("<i2").tobytes())


class Folder:
    """The files of one kind, numbered, and the lines of media.tsv about them."""

    def __init__(self, work, kind):
        self.path, self.kind, self.n, self.lines = work / "held" / kind, kind, 0, []
        self.path.mkdir(parents=True, exist_ok=True)
        for old in self.path.iterdir():
            old.unlink()

    def add(self, group, label, media, question, right):
        """media: pictures, or the samples of one sound."""
        names = []
        for medium in media:
            names.append(f"{self.n:04d}." + ("png" if self.kind == "picture" else "wav"))
            if self.kind == "picture":
                medium.save(self.path / names[-1])
            else:
                write_wave(self.path / names[-1], medium)
            self.n += 1
        self.lines.append("\t".join([group, self.kind, " ".join(names), question, " ".join(right),
                                     " ".join(LABELS[self.kind, label])]))


def main():
    work = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    rng = random.Random("held out")
    picture, sound = Folder(work, "picture"), Folder(work, "sound")
    for group, share in PICTURES.items():
        for _ in range(round(count * share)):
            images, question, _, right = pictures.task(rng, "held", group)
            picture.add(group, group, images, question, right)
    for group, share in SOUNDS.items():
        for _ in range(round(count * share)):
            samples, question, _, right = sounds.task(rng, "held", work, group)
            sound.add(group, group, [samples], question, right)
    rng = random.Random("other sizes")
    for group in ("shape", "digit", "word"):
        for _ in range(round(count * PICTURES[group])):
            images, question, _, right = pictures.task(rng, "held", group, pictures.unlike(rng))
            picture.add(group + " of other sizes", group, images, question, right)
    lines = picture.lines + sound.lines
    (work / "held/media.new").write_text("\n".join(lines) + "\n")
    os.replace(work / "held/media.new", work / "held/media.tsv")
    print(f"{len(lines)} questions about held-out pictures and sounds")


if __name__ == "__main__":
    main()
