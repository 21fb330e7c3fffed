"""How alike two lines are, and which line of a prompt a copier would say."""
import re

LIKELY = 0.55  # from here on a copied line was nearer to the wanted one than the model's own, on the average
BEFORE = 0.3   # how much the line before the last one counts


def subsequence(a, b):
    """Length of the longest common subsequence, by words of len(a) bits (Hyyro 2004, "Bit-parallel LCS-length
    computation revisited"): a bit of `left` is 1 where a row of the usual table does not grow."""
    at = {}
    for i, x in enumerate(a):
        at[x] = at.get(x, 0) | 1 << i
    left = whole = (1 << len(a)) - 1
    for y in b:
        here = left & at.get(y, 0)
        left = (left + here | left - here) & whole
    return len(a) - left.bit_count()


def similarity(a, b):
    """2 * longest common subsequence / both lengths: the edit similarity of evaluate.lua."""
    return 1.0 if a == b else 2.0 * subsequence(a, b) / (len(a) + len(b))


def part(text, name):
    """The lines of one part of a completion prompt (context.lua)."""
    found = re.search(rf"<{name}>\n(.*?)\n?\n</{name}>\n", text, re.DOTALL)
    return found[1].split("\n") if found else []


def copied(prompt, mouth):
    """At the beginning of a line: what stands behind the two lines of the prompt that are most like those above
    the cursor, if it is indented as the cursor is; or None."""
    lines = part(prompt, "above") + mouth.split("\n")[1:]
    indent = lines.pop() if lines else "x"
    above = [line.strip() for line in lines if line.strip()]
    if indent.strip() or len(above) < 2:
        return None
    best, said = LIKELY, None
    for stretch in (lines, part(prompt, "next")[1:] + part(prompt, "below")):
        last, before = "", ""
        for line in stretch:
            text = line.strip()
            if last and text and line[:len(line) - len(line.lstrip())] == indent:
                like = (1.0 - BEFORE) * similarity(above[-1], last)
                if like + BEFORE >= best:
                    like += BEFORE * similarity(above[-2], before) if before else 0.0
                if like >= best:
                    best, said = like, text
            if text:
                last, before = text, last
            else:
                last, before = "", last or before
    return said
