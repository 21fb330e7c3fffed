#!/usr/bin/env python3
"""Makes sounds that ask for something to be heard, with a question and its answer.

    sounds.py WORK      speaks the words once with espeak-ng: WORK/sounds/{train,held}.npz

sample(rng, split, work) -> (kind, [("audio", samples)], question, answer), 16 kHz mono floats. Held out
from training are voices; what is not spoken is drawn anew from what training draws from. (A band of pitch that
training leaves out stays unknown: a frame of 40 ms tells apart what is 25 Hz apart, and every pitch is learned by
itself. Sounds of users have every pitch.)
"""
import functools
import os
import random
import subprocess
import sys
import tempfile
import wave
from pathlib import Path

import numpy as np

import words

RATE = 16000
LOCALES = ["en-us", "en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-029"]
VOICES = {
    "train": """f1 f2 f4 f5 m1 m2 m3 m5 m6 m8 Alex Alicia Annie Denis Diogo Gene Hugo Jacky Lee Marco
        Mario Mike Nguyen Reed anika antonio aunty benjamin boris david ed grandma iven john
        marcelo max michel norbert pablo pedro quincy rob sandro shelby travis victor zac""".split(),
    "held": "f3 m4 m7 Andrea Michael adam belinda edward linda paul robert steph".split(),
}
TAKES = {"train": 6, "held": 3}  # of every word with every voice

ASK_ANY = ["What do you hear?", "What is this sound?", "Describe the sound.", "What can be heard?"]
ASK_PITCH = ["Is the tone low or high?", "Is the pitch low or high?"]
ASK_COUNT = ["How many beeps are there?", "Count the beeps.", "How many beeps do you hear?"]
ASK_WORD = ["Which word is spoken?", "What is said?", "Transcribe the speech.", "Transcribe.",
            "What does the speaker say?"]


# ---- speech, made once -------------------------------------------------------------------------

def resample(x, rate):
    """Band-limited, without delay: the spectrum is cut or filled up."""
    n = int(round(len(x) * RATE / rate))
    spectrum = np.fft.rfft(x)
    out = np.zeros(n // 2 + 1, complex)
    k = min(len(out), len(spectrum))
    out[:k] = spectrum[:k]
    return np.fft.irfft(out, n) * (n / len(x))


def speak(word, voice, speed, pitch, folder):
    path = Path(folder) / "w.wav"
    subprocess.run(["espeak-ng", "-v", voice, "-s", str(speed), "-p", str(pitch), "-w", str(path), word],
                   check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    with wave.open(str(path)) as f:
        x = np.frombuffer(f.readframes(f.getnframes()), "<i2").astype(np.float64)
        x = resample(x, f.getframerate())
    loud = np.nonzero(np.abs(x) > np.abs(x).max() * 0.02)[0]
    if len(loud) < RATE // 20:
        return None
    x = x[max(0, loud[0] - 80):loud[-1] + 320]
    return (x / np.abs(x).max() * 30000).astype(np.int16)


def speak_all(work):
    folder = Path(work) / "sounds"
    folder.mkdir(parents=True, exist_ok=True)
    for split, voices in VOICES.items():
        rng = random.Random(split)
        clips, which = [], []
        with tempfile.TemporaryDirectory() as scratch:
            for voice in voices:
                for _ in range(TAKES[split]):
                    locale = rng.choice(LOCALES)
                    speed, pitch = rng.randint(110, 200), rng.randint(25, 75)
                    for number, word in enumerate(words.SPOKEN):
                        clip = speak(word, f"{locale}+{voice}", speed, pitch, scratch)
                        if clip is not None:
                            clips.append(clip)
                            which.append(number)
        starts = np.cumsum([0] + [len(c) for c in clips])
        made = folder / f"{split}.new.npz"
        np.savez(made, samples=np.concatenate(clips), starts=starts, which=which)
        os.replace(made, folder / f"{split}.npz")
        print(f"{split}: {len(clips)} spoken words, {starts[-1] / RATE / 60:.0f} minutes")


@functools.cache
def speech(work, split):
    got = np.load(Path(work) / f"sounds/{split}.npz")
    samples, starts, which = got["samples"], got["starts"], got["which"]
    clips = [[] for _ in words.SPOKEN]
    for i, w in enumerate(which):
        clips[w].append((int(starts[i]), int(starts[i + 1])))
    return samples, clips


# ---- sounds ------------------------------------------------------------------------------------

def noise(n, colour, np_rng):
    x = np_rng.standard_normal(n)
    if colour != "white":
        spectrum = np.fft.rfft(x)
        f = np.maximum(np.arange(len(spectrum)), 1.0)
        x = np.fft.irfft(spectrum / (np.sqrt(f) if colour == "pink" else f ** 0.8), n)
    return x / (np.abs(x).max() + 1e-9)


def tone(n, hertz, rng):
    """A sine, or something with overtones, with soft ends."""
    t = np.arange(n) / RATE
    x = np.sin(2 * np.pi * hertz * t + rng.uniform(0, 6))
    for k, most in ((2, 0.5), (3, 0.4)):
        if rng.random() < 0.4 and hertz * k < 7000:
            x += rng.uniform(0, most) * np.sin(2 * np.pi * hertz * k * t + rng.uniform(0, 6))
    edge = min(n // 4, int(RATE * rng.uniform(0.003, 0.02)))
    ramp = np.ones(n)
    ramp[:edge] = np.linspace(0, 1, edge)
    ramp[n - edge:] = np.linspace(1, 0, edge)
    return x * ramp / np.abs(x).max()


def low_or_high(rng):
    """A pitch that everybody calls low or high."""
    low = rng.random() < 0.5
    a, b = (90.0, 380.0) if low else (1300.0, 4500.0)
    return a * (b / a) ** rng.random(), "low" if low else "high"


def faint(n, rng, np_rng):
    """What a recording has under everything."""
    return np_rng.standard_normal(n) * rng.choice((0.0, 0.0, 1e-4, 1e-3, 3e-3))


def beeps(rng):
    n = rng.randint(1, 5)
    hertz = low_or_high(rng)[0] * rng.uniform(1.0, 1.5)
    long, gap = rng.uniform(0.08, 0.22), rng.uniform(0.09, 0.25)
    parts = [np.zeros(int(RATE * rng.uniform(0.02, 0.3)))]
    for _ in range(n):
        parts.append(tone(int(RATE * long * rng.uniform(0.9, 1.1)), hertz, rng))
        parts.append(np.zeros(int(RATE * gap * rng.uniform(0.9, 1.1))))
    return np.concatenate(parts), n


def spoken(rng, split, work):
    samples, clips = speech(str(work), split)
    which = rng.randrange(len(words.SPOKEN))
    a, b = rng.choice(clips[which])
    x = samples[a:b].astype(np.float64) / 32768.0
    if split == "train":
        x = resample(x, RATE * rng.uniform(0.9, 1.1))
    before, after = int(RATE * rng.uniform(0.0, 0.3)), int(RATE * rng.uniform(0.0, 0.25))
    return np.concatenate([np.zeros(before), x, np.zeros(after)]), words.SPOKEN[which]


def task(rng, split, work, kind):
    """(samples, question, answer, the words that a right answer has)"""
    np_rng = np.random.RandomState(rng.getrandbits(31))
    n = int(RATE * rng.uniform(0.3, 1.6))
    if kind == "plain":
        what = rng.choice(("silence", "noise", "tone"))
        question = rng.choice(ASK_ANY)
        if what == "silence":
            x, answer = np.zeros(n), "Silence."
        elif what == "noise":
            x, answer = noise(n, rng.choice(("white", "white", "pink", "brown")), np_rng), "Noise."
        else:
            hertz, which = low_or_high(rng)
            x, answer = tone(n, hertz, rng), f"A {which} tone."
        right = [what] if what != "tone" else [which, what]
    elif kind == "pitch":
        hertz, which = low_or_high(rng)
        x, question, answer, right = tone(n, hertz, rng), rng.choice(ASK_PITCH), f"{which}.".capitalize(), [which]
    elif kind == "beeps":
        x, count = beeps(rng)
        word = words.NUMBERS[count]
        question, right = rng.choice(ASK_COUNT), [word]
        answer = f"{word} beep{'s' if count > 1 else ''}.".capitalize()
    else:
        x, word = spoken(rng, split, work)
        question, right = rng.choice(ASK_WORD), [word]
        answer = f"{word}.".capitalize()
        if kind == "words":
            # Training only: more to hear in one sound.
            more = [spoken(rng, split, work) for _ in range(rng.randint(1, 3))]
            x = np.concatenate([x] + [y for y, _ in more])
            answer = f"{' '.join([word] + [w for _, w in more])}.".capitalize()
        elif rng.random() < 0.2:
            question, answer = rng.choice(ASK_ANY), f"Someone says {word}."
    if not x.any():
        x = np_rng.standard_normal(len(x)) * rng.choice((0.0, 0.0, 5e-5, 2e-4))
    else:
        x = x * 10 ** rng.uniform(-1.3, -0.05) + faint(len(x), rng, np_rng) * 0.3
    # What a WAV file keeps.
    return np.round(x.clip(-1, 1) * 32767).astype(np.int16), question, answer, right


def sample(rng, split, work):
    kind = rng.choices(("plain", "pitch", "beeps", "word", "words"), (18, 8, 18, 30, 26))[0]
    x, question, answer, _ = task(rng, split, work, kind)
    return kind, [("audio", x.astype(np.float32) / np.float32(32768.0))], question, answer


if __name__ == "__main__":
    speak_all(sys.argv[1])
