#!/usr/bin/env python3
"""Turn the tokenizer part of golden.json into a plain-text file that a C test can read.

    tokenizer_index.py GOLDEN/golden.json MODEL > tokenizer_NAME.txt

MODEL is the model file to test with, relative to tests/golden. Lines of the result:

    # ...               comment
    model FILE          the file with the vocabulary
    text HEX            begins an item: the bytes of a text
    special ID...       its ids with special tokens parsed
    plain ID...         its ids as plain text, which has no special tokens
    decoded HEX         what decoding the plain ids gives, where it is not the text
"""
import json
import sys


def line(word, values):
    return " ".join([word, *map(str, values)])


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as f:
        doc = json.load(f)
    print(f"# written by tokenizer_index.py: {doc['model']}, seed {doc['seed']}")
    print("model", sys.argv[2])
    for item in doc["tokenizer"]:
        print()
        print(line("text", [item["text"].encode("utf-8").hex()]).rstrip())
        print(line("special", item["ids"]))
        print(line("plain", item.get("ids_plain", item["ids"])))
        if "plain_decodes_to_hex" in item:
            print("decoded", item["plain_decodes_to_hex"])


if __name__ == "__main__":
    main()
