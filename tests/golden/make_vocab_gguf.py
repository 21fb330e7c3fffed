#!/usr/bin/env python3
"""Make a GGUF file that holds a vocabulary and nothing else, from a Hugging Face tokenizer.json.

    make_vocab_gguf.py tokenizer.json[.xz] vocab.gguf

The tokenizer tests take the result with GEMMA_TEST_VOCAB=vocab.gguf. The metadata are those of
the published Gemma 4 files (types, scores, special ids); the one tensor is a placeholder, so that
readers which insist on a tensor are content. Needs nothing but Python's standard library.
"""

import hashlib
import json
import lzma
import re
import struct
import sys

# The file of google/gemma-4-12B-it. Others work too; this only decides what is printed.
KNOWN_SHA256 = 'cc8d3a0ce36466ccc1278bf987df5f71db1719b9ca6b4118264f45cb627bfe0f'

# Special tokens that stay visible in decoded text are "user-defined" in GGUF, the others "control".
VISIBLE = {'<|tool_call>', '<tool_call|>', '<|tool_response>', '<tool_response|>', '<|"|>',
           '<|channel>', '<channel|>'}
# Published files have this one as an ordinary token although Hugging Face counts it as special.
ORDINARY = {'<|video|>'}
NORMAL, CONTROL, USER_DEFINED, BYTE = 1, 3, 4, 6

U32, I32, F32, BOOL, STR, ARR = 4, 5, 6, 7, 8, 9
FORMAT = {U32: '<I', I32: '<i', F32: '<f', BOOL: '<?'}
ALIGNMENT = 32


def string(s):
    b = s.encode('utf-8')
    return struct.pack('<Q', len(b)) + b


def scalar(kind, v):
    return string(v) if kind == STR else struct.pack(FORMAT[kind], v)


def entry(key, kind, v):
    return string(key) + struct.pack('<I', kind) + scalar(kind, v)


def array(key, kind, values):
    head = string(key) + struct.pack('<IIQ', ARR, kind, len(values))
    return head + b''.join(scalar(kind, v) for v in values)


def token_type(text, special):
    if text in VISIBLE:
        return USER_DEFINED
    if text in special and text not in ORDINARY:
        return CONTROL
    return BYTE if re.fullmatch(r'<0x[0-9A-F]{2}>', text) else NORMAL


def metadata(tok):
    vocab = tok['model']['vocab']
    special = {a['content'] for a in tok['added_tokens']}
    texts = [None] * len(vocab)
    for text, i in vocab.items():
        texts[i] = text
    merges = [m if isinstance(m, str) else ' '.join(m) for m in tok['model']['merges']]
    ids = {name: vocab[text] for name, text in
           (('bos', '<bos>'), ('eos', '<eos>'), ('unknown', '<unk>'), ('padding', '<pad>'),
            ('mask', '<mask>')) if text in vocab}
    suppressed = [vocab[t] for t in ('<audio|>', '<image|>') if t in vocab]
    return [
        entry('general.architecture', STR, 'gemma4'),
        entry('tokenizer.ggml.model', STR, 'gemma4'),
        array('tokenizer.ggml.tokens', STR, texts),
        array('tokenizer.ggml.scores', F32, [-1000.0] * len(texts)),
        array('tokenizer.ggml.token_type', I32, [token_type(t, special) for t in texts]),
        array('tokenizer.ggml.merges', STR, merges),
        *(entry(f'tokenizer.ggml.{name}_token_id', U32, i) for name, i in ids.items()),
        entry('tokenizer.ggml.add_bos_token', BOOL, True),
        entry('tokenizer.ggml.add_space_prefix', BOOL, False),
        array('tokenizer.ggml.suppress_tokens', I32, suppressed),
    ]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], 'rb') as f:
        raw = f.read()
    if raw[:6] == b'\xfd7zXZ\0':
        raw = lzma.decompress(raw)
    sha = hashlib.sha256(raw).hexdigest()
    print(f'tokenizer.json: sha256 {sha}',
          '(gemma-4-12B-it)' if sha == KNOWN_SHA256 else '(not the file of gemma-4-12B-it)')
    keys = metadata(json.loads(raw))
    out = b'GGUF' + struct.pack('<IQQ', 3, 1, len(keys)) + b''.join(keys)
    out += string('placeholder.weight') + struct.pack('<IQIQ', 1, 8, 0, 0)
    out += b'\0' * (-len(out) % ALIGNMENT) + struct.pack('<8f', *[0.0] * 8)
    with open(sys.argv[2], 'wb') as f:
        f.write(out)
    print(f'{sys.argv[2]}: {len(out)} bytes')


if __name__ == '__main__':
    main()
