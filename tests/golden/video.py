#!/usr/bin/env python3
"""Logits of a prompt with a video, by the reference: what test_video compares with.

    video.py MODEL FRAMES FPS OUT.f32

MODEL is a folder made by make_tiny.py; FRAMES holds all pictures of the video as PNG files, named in
order. Run in the folder of the reference's golden.py. The choice of the frames and their times come
from the reference's video processor; the pictures are resized as in golden.py (Pillow). Writes the
logits after the last token of the prompt, float32.
"""
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers.models.gemma4_unified.video_processing_gemma4_unified import Gemma4UnifiedVideoProcessor
from transformers.video_utils import VideoMetadata

sys.path.insert(0, ".")
from golden import Reference

PROMPT = "See: {}\nWhat happens?"


def main():
    model, frames, fps, out = sys.argv[1:]
    ref = Reference(model)
    files = sorted(Path(frames).glob("*.png"))
    pictures = [Image.open(f).convert("RGB") for f in files]
    video = np.stack([np.asarray(p) for p in pictures]).transpose(0, 3, 1, 2)
    about = VideoMetadata(total_num_frames=len(pictures), fps=float(fps), duration=len(pictures) / float(fps),
                          width=pictures[0].width, height=pictures[0].height)
    got = Gemma4UnifiedVideoProcessor()([torch.from_numpy(video.copy())], video_metadata=[about],
                                        do_sample_frames=True, return_metadata=True, return_tensors="pt")
    about, n = got["video_metadata"][0], int(got["num_soft_tokens_per_video"][0])

    patches, places = [], []
    for i in about.frames_indices:
        size = ref.image_size(pictures[i].width, pictures[i].height, 70)
        x, at = ref.patches(np.asarray(pictures[i].resize(size, Image.BICUBIC)))
        patches.append(x)
        places.append(at)
    # The reference's own resize differs from Pillow's by at most two steps.
    assert (got["pixel_values_videos"][0][:, :n] - torch.stack(patches)).abs().max() * 255 < 2.01

    times = [f"{int(s // 60):02d}:{int(s % 60):02d}" for s in about.timestamps]
    text = " ".join(f"{t} <|image>{'<|video|>' * n}<image|>" for t in times)
    ids = [ref.vocab["<bos>"]] + ref.encode(PROMPT.format(text))
    slot, blocks, i = ref.vocab["<|video|>"], [], 0
    while i < len(ids):
        j = i
        while j < len(ids) and ids[j] == slot:
            j += 1
        if j > i:
            blocks.append((i, j))
        i = max(j, i + 1)
    inputs = {"pixel_values_videos": torch.stack(patches), "video_position_ids": torch.stack(places)}
    logits = ref.logits(ids, inputs, blocks)
    np.asarray(logits[-1], "<f4").tofile(out)
    print(len(ids), "tokens,", len(blocks), "pictures of", n)


if __name__ == "__main__":
    main()
