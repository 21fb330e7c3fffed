#!/usr/bin/env python3
"""Unpacked packages -> clean text files for training, and others that training never sees.

    corpus.py WORK

reads WORK/raw/<package>/..., writes WORK/corpus/{train,held}/<language>/<name> and
WORK/corpus/list.tsv (split, language, bytes, package, path in the package).

Held out is what heldout.txt lists, and of the modules that modules.py made one in twenty, by the
hash of the name. So that this means something, a file most of whose lines stand in files taken
before is dropped, and a held-out one is dropped when a third of its lines stand in the training
files.
"""
import hashlib
import os
import re
import shutil
import sys
from pathlib import Path

LANGUAGE = {".lua": "lua", ".c": "c", ".h": "c", ".md": "markdown"}
MOST = 120_000  # bytes of one file
HELD = 13 / 256  # of the made modules
# Byte dumps, generated tables and screens of test suites teach nothing about writing code.
SKIP = re.compile(r"/(unicode|spell|tzdata|syntax_spec|lsp/types|i18n|locale)/|_spec\.lua$.*ui/|"
                  r"test/functional/(ui|legacy|treesitter/highlight)|test/old|/deps?/|"
                  r"cjson.*/tests/unity|/xxhash|errno_names|unicode_|lj_opt_fold_|/vulkan_(?!core)|obj_mac|"
                  r"/(objects|obj_dat)|/gen/|/auto/|generated", re.I)
# Not under the licences of sources.tsv: of lz4 only the library is BSD; Neovim's xdiff is LGPL (and EDL);
# Debian's copyright file of lua-ljsyscall has the last one.
OTHER = re.compile(r"/lz4-[^/]*/(?!lib/)|/src/xdiff/|/doc/constants\.lua$")
# The same by what stands at the top. (A choice of licences is one: Vim or GPL in sha256.c.)
COPYLEFT = re.compile(r"General\s+Public|terms of the L?GPL|CC-BY", re.I)


def strip_licence(text, language):
    """Without the comment at the top, when it is about rights."""
    if language == "lua":
        head = re.match(r"(?:#![^\n]*\n)?(?:\s*--\[(=*)\[.*?\]\1\]\s*\n|(?:[ \t]*--[^\n]*\n|\s*\n)+)", text, re.S)
    elif language == "c":
        head = re.match(r"\s*(?:/\*.*?\*/\s*|(?://[^\n]*\n)+\s*)+", text, re.S)
    else:
        return text
    if head and re.search(r"copyright|licen[sc]e|\(c\)", head[0], re.I):
        return text[head.end():].lstrip("\n")
    return text


def clean(raw, language):
    """None, or the text as training reads it."""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return None
    text = text.replace("\r\n", "\n").lstrip("\ufeff")
    text = "\n".join(line.rstrip() for line in text.split("\n")).strip("\n") + "\n"
    if COPYLEFT.search(text[:1000]):
        return None
    text = strip_licence(text, language)
    text = re.sub(r"\n{4,}", "\n\n\n", text)
    if not 200 <= len(text) <= MOST:
        return None
    lines = text.split("\n")
    if max(map(len, lines)) > 400 or len(text) / len(lines) > 90:
        return None
    odd = sum(c not in "\t\n" and (ord(c) < 32 or ord(c) > 126) for c in text)
    digits = len(re.findall(r"0x[0-9a-fA-F]+|\b\d{2,}\b", text))
    if odd > len(text) / 50 or digits > len(text) / 40 or text.count("|\n") > len(lines) / 8:
        return None
    return text


def telling(text):
    """Hashes of the lines that say something."""
    return {hash(s) for s in (line.strip() for line in text.split("\n")) if len(s) >= 16}


def bare(package, inside):
    """The name of a file in heldout.txt, which says the same in all versions and on all machines.

    The list is what the hash of package and path held out when the shipped weights were trained, what was
    dropped as a copy included. The hash itself would choose anew with every version that stands in a
    path (neovim-0.12.4/src/...), and would hold out what those weights have read. Files that are new are
    for training."""
    if package.startswith("src-"):
        inside = inside.split("/", 1)[1]
    return package + "/" + re.sub(r"(-[\d.]+|/[\d.]+|/\w+-linux-gnu\w*)(?=/)", "", inside)


def languages():
    """{folder in WORK/raw: what is read of it}, from sources.tsv."""
    said = {}
    for line in Path(__file__).with_name("sources.tsv").read_text().splitlines():
        if line and not line.startswith("#"):
            name, kind, _, read = line.split("\t")
            said[name if kind == "deb" else "src-" + name] = read.split(", ")
    return said


def help_text(work):
    """Neovim's help files, which are the English of the corpus."""
    return sorted((work / "raw/neovim-runtime").glob("usr/share/nvim/runtime/doc/*.txt"))


def main():
    work = Path(sys.argv[1])
    out = work / "corpus"
    shutil.rmtree(out, ignore_errors=True)
    read, found = languages(), []
    for path in sorted((work / "raw").rglob("*")):
        language = LANGUAGE.get(path.suffix)
        if not language or path.is_symlink() or not path.is_file():
            continue
        package, inside = path.relative_to(work / "raw").as_posix().split("/", 1)
        if package in read and language not in read[package]:
            continue
        if SKIP.search("/" + inside) or OTHER.search("/" + inside):
            continue
        found.append((language, package, inside, path))
    found += [("text", "neovim-runtime", p.name, p) for p in help_text(work)]
    # Packages before sources, so that of two copies the installed one stays.
    found.sort(key=lambda f: (f[1].startswith("src-"), f[1], f[2]))

    listed = set(Path(__file__).with_name("heldout.txt").read_text().splitlines())

    def held(f):
        if f[1] == "made":
            return hashlib.sha256(f"{f[1]}/{f[2]}".encode()).digest()[0] < HELD * 256
        return bare(f[1], f[2]) in listed

    seen, rows, size = set(), [], {}
    for f in [f for f in found if not held(f)] + [f for f in found if held(f)]:
        language, package, inside, path = f
        text = clean(path.read_bytes(), language)
        if text is None:
            continue
        marks = telling(text)
        split = "held" if held(f) else "train"
        # What modules.py made repeats itself on purpose.
        most = len(marks) * (0.33 if split == "held" else 0.6)
        if package != "made" and (len(marks) < 4 or len(marks & seen) > most):
            continue
        seen |= marks
        # As in holes.lua.
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", f"{package}-{inside.split('usr/share/', 1)[-1]}")[-120:]
        to = out / split / language
        to.mkdir(parents=True, exist_ok=True)
        (to / name).write_text(text, encoding="utf-8")
        rows.append((split, language, str(len(text.encode())), package, inside))
        size[split, language] = size.get((split, language), 0) + len(text.encode())
    (out / "list.new").write_text("".join("\t".join(r) + "\n" for r in rows))
    os.replace(out / "list.new", out / "list.tsv")
    for (split, language), n in sorted(size.items()):
        files = sum(r[0] == split and r[1] == language for r in rows)
        print(f"{split:5} {language:8} {files:5} files {n / 1e6:7.2f} MB")


if __name__ == "__main__":
    main()
