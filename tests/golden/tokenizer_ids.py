#!/usr/bin/env python3
"""Encode files with Hugging Face tokenizers, for `bench_tokenizer --check`.

    tokenizer_ids.py tokenizer.json IDS FILE...

Needs the Python module `tokenizers`. IDS gets for each file a count and the ids with special tokens
parsed, then the same for plain text; 32-bit, little-endian. A file that is not UTF-8, which this
tokenizer cannot take, gets the count -1 twice. The whole check:

    make_vocab_gguf.py tokenizer.json vocab.gguf
    files=$(find /usr/share/nvim/runtime -type f)
    tokenizer_ids.py tokenizer.json ids.bin $files
    bench_tokenizer --check ids.bin vocab.gguf $files
"""
import struct
import sys

from tokenizers import Tokenizer


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    tok = Tokenizer.from_file(sys.argv[1])
    binary = 0
    with open(sys.argv[2], "wb") as out:
        for path in sys.argv[3:]:
            with open(path, "rb") as f:
                raw = f.read()
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError:
                binary += 1
                out.write(struct.pack("<ii", -1, -1))
                continue
            for plain in (False, True):
                tok.encode_special_tokens = plain
                ids = tok.encode(text, add_special_tokens=False).ids
                out.write(struct.pack(f"<i{len(ids)}i", len(ids), *ids))
    print(f"{len(sys.argv) - 3} files, {binary} of them not UTF-8")


if __name__ == "__main__":
    main()
