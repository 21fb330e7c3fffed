#!/usr/bin/env python3
"""Writes the pictures and sounds by which the model is judged, and prompts for the comparison of
the two implementations.

    heldout.py WORK [COUNT]

writes WORK/held/{picture,sound}/NNNN.{png,wav} and WORK/held/media.tsv: group, kind of medium,
files, question, the words of a right answer, and all words that would be an answer. Fonts, voices and
pitches are those that training leaves out; all else is what it draws from, drawn anew.
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


def main():
    work = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 100
    rng = random.Random("held out")
    lines = []
    for kind, groups in (("picture", PICTURES), ("sound", SOUNDS)):
        folder = work / "held" / kind
        folder.mkdir(parents=True, exist_ok=True)
        for old in folder.iterdir():
            old.unlink()
        n = 0
        for group, share in groups.items():
            for _ in range(round(count * share)):
                names = []
                if kind == "picture":
                    images, question, _, right = pictures.task(rng, "held", group)
                    for image in images:
                        names.append(f"{n:04d}.png")
                        image.save(folder / names[-1])
                        n += 1
                else:
                    samples, question, _, right = sounds.task(rng, "held", work, group)
                    names.append(f"{n:04d}.wav")
                    write_wave(folder / names[-1], samples)
                    n += 1
                lines.append("\t".join([group, kind, " ".join(names), question, " ".join(right),
                                        " ".join(LABELS[kind, group])]))
    (work / "held/media.new").write_text("\n".join(lines) + "\n")
    os.replace(work / "held/media.new", work / "held/media.tsv")
    print(f"{len(lines)} questions about held-out pictures and sounds")


if __name__ == "__main__":
    main()
