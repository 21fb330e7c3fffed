#!/usr/bin/env python3
"""A checkpoint of train.py -> the two files that the plugin reads.

    export.py WORK [--from WORK/train/last.pt ...] [--weights ema|weights]

writes WORK/hf (a checkpoint as Hugging Face transformers saves it), WORK/gemma-embedded.gguf and
WORK/mmproj-gemma-embedded.gguf. The converter and the quantiser are those of llama.cpp, so that the
files are laid out like everybody's.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import gguf
import torch
from gguf.scripts.gguf_new_metadata import MetadataDetails, copy_with_new_metadata

import data
import net
import pictures

CONVERTER = "/usr/share/doc/llama.cpp-tools/scripts/convert_hf_to_gguf.py"
NAME = "Gemma Embedded"
CARD = """---
license: apache-2.0
language: en
tags:
- code
- image-text-to-text
- audio-text-to-text
---
A small model of the Gemma 4 unified architecture for tests and first steps; see tools/embedded.
"""


def checkpoint(work, sources, which):
    """WORK/hf from a training checkpoint, or from the mean of several."""
    folder = work / "hf"
    folder.mkdir(exist_ok=True)
    vocab = data.Speller(work).vocab
    model = net.build(vocab)
    saved = [torch.load(s, map_location="cpu", weights_only=True) for s in sources]
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(sum(s[which][name] for s in saved) / len(saved))
    model.save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).write_bytes((work / "tokenizer" / name).read_bytes())
    (folder / "README.md").write_text(CARD)
    (folder / "generation_config.json").write_text(json.dumps({
        # A small model is right about its first choice or not at all; temperature 1 would be noise.
        "do_sample": True, "top_k": 1, "temperature": 1.0, "top_p": 1.0,
        "bos_token_id": vocab["<bos>"], "eos_token_id": [vocab["<eos>"], vocab["<turn|>"]],
        "pad_token_id": vocab["<pad>"],
        "suppress_tokens": [vocab["<audio|>"], vocab["<image|>"]]}, indent=1))
    (folder / "processor_config.json").write_text(json.dumps({
        "processor_class": "Gemma4UnifiedProcessor", "image_seq_length": 280,
        "audio_seq_length": 750, "audio_ms_per_token": 40,
        "feature_extractor": {"feature_extractor_type": "Gemma4UnifiedAudioFeatureExtractor",
                              "audio_samples_per_token": net.FRAME, "feature_size": net.FRAME,
                              "padding_value": 0.0, "sampling_rate": net.RATE},
        "image_processor": {"image_processor_type": "Gemma4UnifiedImageProcessor",
                            "do_convert_rgb": True, "do_resize": True, "do_rescale": True,
                            "rescale_factor": 1 / 255, "do_normalize": False,
                            "image_mean": [0.0] * 3, "image_std": [1.0] * 3, "resample": 3,
                            "patch_size": 16, "pooling_kernel_size": 3, "max_soft_tokens": pictures.BUDGET}},
        indent=1))
    return max((s["step"], s["seen"]) for s in saved)


def run(command, made, out):
    """Runs what writes `made`, which becomes `out`."""
    env = dict(os.environ, HF_HUB_OFFLINE="1", TRANSFORMERS_OFFLINE="1")
    done = subprocess.run(command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    if done.returncode or not made.exists():
        raise SystemExit(f"{done.stdout[-3000:]}\nmaking {out.name} failed")
    os.replace(made, out)


def convert(folder, out, kind, *extra):
    made = out.with_suffix(".new")
    run([sys.executable, CONVERTER, str(folder), "--outtype", kind, "--outfile", str(made), "--model-name", NAME,
         *extra], made, out)


def quantize(exact, out):
    """The feed-forward matrices as training rounded them (weights.as_shipped), the others as Q8_0."""
    made = out.with_suffix(".new")
    run(["llama-quantize", "--tensor-type", "ffn_(gate|up|down)=q4_0", "--token-embedding-type", "q8_0", str(exact),
         str(made), "Q8_0"], made, out)


def note_pixels(path):
    """Says in the file how large the pictures were that the model learned from."""
    made = path.with_suffix(".new")
    reader = gguf.GGUFReader(path)
    kind = bytes(reader.get_field("general.architecture").parts[-1]).decode()
    writer = gguf.GGUFWriter(made, arch=kind, endianess=reader.endianess)
    pixels = MetadataDetails(gguf.GGUFValueType.UINT32, pictures.BUDGET * net.PATCH ** 2)
    copy_with_new_metadata(reader, writer, {"clip.vision.image_max_pixels": pixels}, [])
    os.replace(made, path)


def latest(train):
    """The ends of the last five cooldowns, the last one as often as the others together: a mean is better than
    each of them, but what was learned last is only in the last ones."""
    ends = sorted(train.glob("cooled-*.pt"), key=lambda path: int(path.stem.split("-")[1]))[-5:]
    return ends + ends[-1:] * (len(ends) - 2)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("work", type=Path)
    p.add_argument("--from", dest="sources", type=Path, nargs="+", help="several: their mean")
    p.add_argument("--weights", choices=("ema", "weights"), default="ema")
    a = p.parse_args()
    train = a.work / "train"
    sources = a.sources or latest(train) or [train / "last.pt"]
    step, seen = checkpoint(a.work, sources, a.weights)
    print(f"{' and '.join(s.name for s in sources)}, {a.weights}: step {step}, {seen / 1e6:.1f} M tokens")
    decoder, embedders = (a.work / f"{name}gemma-embedded.gguf" for name in ("", "mmproj-"))
    exact = a.work / "exact.gguf"
    convert(a.work / "hf", exact, "f32")
    quantize(exact, decoder)
    exact.unlink()
    convert(a.work / "hf", embedders, "f16", "--mmproj")
    note_pixels(embedders)
    for file in (decoder, embedders):
        print(f"{file.stat().st_size:9d}  {file.name}")
    size = decoder.stat().st_size + embedders.stat().st_size
    if size > 10_000_000:
        raise SystemExit(f"{size} bytes together are more than 10 MB")


if __name__ == "__main__":
    main()
