#!/usr/bin/env python3
"""Writes small modules of plain functions with true comments: WORK/raw/made/{lua,c}/*.

    modules.py WORK [COUNT]

Real code is mostly too hard for a small model to explain. These are the functions that everybody
writes, in many spellings, so that it can say of a simple function what it does, with the names that
it has; and it sees how a function goes on. They go the way of all other files: cut into holes, their
comments asked for, one in twenty held out (corpus.py). Held out are files, not functions: they are new
files made of the same functions, most of which stand in the training text with the same parameters and
body.
"""
import random
import shutil
import sys
from pathlib import Path

LISTS = "list items values numbers rows lines parts entries elements names words data".split()
ITEMS = "item value v x entry element row line part word e".split()
TOTALS = "total sum result acc count n".split()
MAPS = "map table_ options opts config fields t index".split()
TEXTS = "s text str line name input word".split()
KEYS = ["key", "k", "name", "id"]
MODULES = "M util helpers lib m tools".split()
# What a file says of itself, so that it is not taken for what a function does.
HEADS = ["Small helpers for $t and $u.", "Helpers for $t.", "Utilities for $t and $u.", "Functions on $t.",
         "$t and $u.", "Things that every module needs.", "Common functions.", "Simple tools for $t."]
THEMES = ("tables strings lists numbers files text paths options buffers arrays memory nodes sets "
          "values words lines").split()
COMMENTED = 0.8  # of the functions; the others stand between what is asked about and other comments

# (names, comments, code). $f is the function; $a a list, $x an item, $r a result, $m a map, $k a
# key, $s a text, $M the module. A name of the first list may be used for $f.
LUA = [
    ("sum total add_all sum_of", ["Returns the sum of the numbers in `$a`.", "Adds up all numbers in `$a`.", "Sum of a list of numbers."],
     "  local $r = 0\n  for _, $x in ipairs($a) do\n    $r = $r + $x\n  end\n  return $r", "$a"),
    ("product multiply_all", ["Returns the product of the numbers in `$a`.", "Multiplies all numbers in `$a`."],
     "  local $r = 1\n  for _, $x in ipairs($a) do\n    $r = $r * $x\n  end\n  return $r", "$a"),
    ("average mean avg", ["Returns the average of the numbers in `$a`, or 0 when there are none.", "The mean of a list of numbers; 0 for an empty list."],
     "  if #$a == 0 then\n    return 0\n  end\n  local $r = 0\n  for _, $x in ipairs($a) do\n    $r = $r + $x\n  end\n  return $r / #$a", "$a"),
    ("max largest biggest", ["Returns the largest number in `$a`, or nil when it is empty.", "The largest of a list of numbers."],
     "  local $r\n  for _, $x in ipairs($a) do\n    if not $r or $x > $r then\n      $r = $x\n    end\n  end\n  return $r", "$a"),
    ("min smallest least", ["Returns the smallest number in `$a`, or nil when it is empty.", "The smallest of a list of numbers."],
     "  local $r\n  for _, $x in ipairs($a) do\n    if not $r or $x < $r then\n      $r = $x\n    end\n  end\n  return $r", "$a"),
    ("keys get_keys sorted_keys", ["Returns the keys of `$m`, sorted.", "The keys of a table, sorted."],
     "  local keys = {}\n  for $k in pairs($m) do\n    keys[#keys + 1] = $k\n  end\n  table.sort(keys)\n  return keys", "$m"),
    ("keys get_keys list_keys", ["Returns a list of the keys of `$m`.", "Collects all keys of `$m` in a list."],
     "  local keys = {}\n  for $k in pairs($m) do\n    keys[#keys + 1] = $k\n  end\n  return keys", "$m"),
    ("values get_values list_values", ["Returns a list of the values of `$m`.", "Collects all values of `$m` in a list."],
     "  local values = {}\n  for _, $x in pairs($m) do\n    values[#values + 1] = $x\n  end\n  return values", "$m"),
    ("count size count_keys", ["Returns how many entries `$m` has.", "Counts the entries of `$m`."],
     "  local $r = 0\n  for _ in pairs($m) do\n    $r = $r + 1\n  end\n  return $r", "$m"),
    ("contains includes has", ["Tells whether `$x` is in `$a`.", "Returns true when `$a` contains `$x`."],
     "  for _, other in ipairs($a) do\n    if other == $x then\n      return true\n    end\n  end\n  return false", "$a, $x"),
    ("index_of find position", ["Returns the index of `$x` in `$a`, or nil when it is not there.", "Finds the place of `$x` in `$a`."],
     "  for i, other in ipairs($a) do\n    if other == $x then\n      return i\n    end\n  end\n  return nil", "$a, $x"),
    ("reverse reversed", ["Returns `$a` in reverse order.", "A new list with the elements of `$a` from last to first."],
     "  local $r = {}\n  for i = #$a, 1, -1 do\n    $r[#$r + 1] = $a[i]\n  end\n  return $r", "$a"),
    ("filter select keep_if", ["Returns the elements of `$a` for which `fn` is true.", "Keeps only the elements of `$a` that `fn` accepts."],
     "  local $r = {}\n  for _, $x in ipairs($a) do\n    if fn($x) then\n      $r[#$r + 1] = $x\n    end\n  end\n  return $r", "$a, fn"),
    ("map apply transform", ["Calls `fn` for every element of `$a` and returns the results.", "Returns a new list with `fn` applied to each element of `$a`."],
     "  local $r = {}\n  for i, $x in ipairs($a) do\n    $r[i] = fn($x)\n  end\n  return $r", "$a, fn"),
    ("each for_each walk", ["Calls `fn` for every element of `$a`.", "Runs `fn` on each element of `$a`."],
     "  for _, $x in ipairs($a) do\n    fn($x)\n  end", "$a, fn"),
    ("any some any_of", ["Tells whether `fn` is true for any element of `$a`.", "Returns true when `fn` accepts at least one element of `$a`."],
     "  for _, $x in ipairs($a) do\n    if fn($x) then\n      return true\n    end\n  end\n  return false", "$a, fn"),
    ("all every all_of", ["Tells whether `fn` is true for all elements of `$a`.", "Returns true when `fn` accepts every element of `$a`."],
     "  for _, $x in ipairs($a) do\n    if not fn($x) then\n      return false\n    end\n  end\n  return true", "$a, fn"),
    ("copy clone shallow_copy", ["Returns a shallow copy of `$m`.", "Copies the entries of `$m` to a new table."],
     "  local $r = {}\n  for $k, $x in pairs($m) do\n    $r[$k] = $x\n  end\n  return $r", "$m"),
    ("deep_copy deepcopy copy_all", ["Returns a copy of `$m` in which tables are copied too.", "Makes a deep copy of `$m`."],
     "  if type($m) ~= 'table' then\n    return $m\n  end\n  local $r = {}\n  for $k, $x in pairs($m) do\n    $r[$k] = $M.$f($x)\n  end\n  return $r", "$m"),
    ("merge extend update", ["Copies all entries of `b` to `a`.", "Merges `b` into `a` and returns `a`."],
     "  for $k, $x in pairs(b) do\n    a[$k] = $x\n  end\n  return a", "a, b"),
    ("invert flip swap", ["Returns a table with the keys and values of `$m` exchanged.", "Exchanges the keys and the values of `$m`."],
     "  local $r = {}\n  for $k, $x in pairs($m) do\n    $r[$x] = $k\n  end\n  return $r", "$m"),
    ("is_empty empty", ["Tells whether `$m` has no entries.", "Returns true when `$m` is empty."],
     "  return next($m) == nil", "$m"),
    ("unique dedup distinct", ["Returns the elements of `$a` without repetitions.", "Removes duplicates from `$a`, keeping the order."],
     "  local seen, $r = {}, {}\n  for _, $x in ipairs($a) do\n    if not seen[$x] then\n      seen[$x] = true\n      $r[#$r + 1] = $x\n    end\n  end\n  return $r", "$a"),
    ("append concat join_lists", ["Appends all elements of `b` to `a`.", "Adds the elements of `b` to the end of `a`."],
     "  for _, $x in ipairs(b) do\n    a[#a + 1] = $x\n  end\n  return a", "a, b"),
    ("slice sub take_range", ["Returns the elements of `$a` from `first` to `last`.", "A new list with the elements `first` to `last` of `$a`."],
     "  local $r = {}\n  for i = first, last do\n    $r[#$r + 1] = $a[i]\n  end\n  return $r", "$a, first, last"),
    ("split split_string fields", ["Splits `$s` at every `sep`.", "Returns the parts of `$s` between occurrences of `sep`."],
     "  local parts = {}\n  for part in ($s .. sep):gmatch('(.-)' .. vim.pesc(sep)) do\n    parts[#parts + 1] = part\n  end\n  return parts", "$s, sep"),
    ("words split_words", ["Returns the words of `$s` as a list.", "Splits `$s` at white space."],
     "  local words = {}\n  for word in $s:gmatch('%S+') do\n    words[#words + 1] = word\n  end\n  return words", "$s"),
    ("lines split_lines", ["Returns the lines of `$s` as a list.", "Splits `$s` into lines."],
     "  local lines = {}\n  for line in ($s .. '\\n'):gmatch('(.-)\\n') do\n    lines[#lines + 1] = line\n  end\n  return lines", "$s"),
    ("trim strip", ["Returns `$s` without white space at both ends.", "Removes white space from both ends of `$s`."],
     "  return ($s:gsub('^%s+', ''):gsub('%s+$', ''))", "$s"),
    ("starts_with has_prefix startswith", ["Tells whether `$s` begins with `prefix`.", "Returns true when `$s` starts with `prefix`."],
     "  return $s:sub(1, #prefix) == prefix", "$s, prefix"),
    ("ends_with has_suffix endswith", ["Tells whether `$s` ends with `suffix`.", "Returns true when `$s` ends with `suffix`."],
     "  return suffix == '' or $s:sub(-#suffix) == suffix", "$s, suffix"),
    ("capitalize upper_first", ["Returns `$s` with its first letter in upper case.", "Makes the first letter of `$s` a capital."],
     "  return $s:sub(1, 1):upper() .. $s:sub(2)", "$s"),
    ("pad_left left_pad", ["Fills `$s` with spaces on the left up to `width` characters.", "Pads `$s` on the left to `width`."],
     "  return (' '):rep(width - #$s) .. $s", "$s, width"),
    ("pad_right right_pad", ["Fills `$s` with spaces on the right up to `width` characters.", "Pads `$s` on the right to `width`."],
     "  return $s .. (' '):rep(width - #$s)", "$s, width"),
    ("count_char occurrences", ["Counts how often `pattern` occurs in `$s`.", "Returns the number of matches of `pattern` in `$s`."],
     "  local _, $r = $s:gsub(pattern, '')\n  return $r", "$s, pattern"),
    ("clamp limit bound", ["Limits `x` to the range from `low` to `high`.", "Returns `x`, but not less than `low` and not more than `high`."],
     "  if x < low then\n    return low\n  elseif x > high then\n    return high\n  end\n  return x", "x, low, high"),
    ("round nearest", ["Rounds `x` to the nearest integer.", "Returns the integer that is nearest to `x`."],
     "  return math.floor(x + 0.5)", "x"),
    ("is_even even", ["Tells whether `n` is even.", "Returns true when `n` is an even number."],
     "  return n % 2 == 0", "n"),
    ("factorial fact", ["Returns the factorial of `n`.", "Computes the factorial of `n` by recursion."],
     "  if n <= 1 then\n    return 1\n  end\n  return n * $M.$f(n - 1)", "n"),
    ("gcd greatest_divisor", ["Returns the greatest common divisor of `a` and `b`.", "Computes the greatest common divisor of two numbers."],
     "  while b ~= 0 do\n    a, b = b, a % b\n  end\n  return a", "a, b"),
    ("read_file read slurp", ["Reads the whole file `path`, or returns nil when it cannot be opened.", "Returns the contents of the file at `path`."],
     "  local file = io.open(path, 'r')\n  if not file then\n    return nil\n  end\n  local text = file:read('*a')\n  file:close()\n  return text", "path"),
    ("write_file write save", ["Writes `text` to the file `path` and tells whether that worked.", "Saves `text` in the file at `path`."],
     "  local file = io.open(path, 'w')\n  if not file then\n    return false\n  end\n  file:write(text)\n  file:close()\n  return true", "path, text"),
    ("exists file_exists", ["Tells whether the file `path` can be opened.", "Returns true when there is a file at `path`."],
     "  local file = io.open(path, 'r')\n  if file then\n    file:close()\n    return true\n  end\n  return false", "path"),
    ("get dig lookup", ["Returns `$m[$k]`, or `default` when it is nil.", "Looks up `$k` in `$m`, with a default."],
     "  local value = $m[$k]\n  if value == nil then\n    return default\n  end\n  return value", "$m, $k, default"),
    ("swap_items exchange", ["Exchanges the elements `i` and `j` of `$a`.", "Swaps two elements of `$a`."],
     "  $a[i], $a[j] = $a[j], $a[i]", "$a, i, j"),
    ("last get_last", ["Returns the last element of `$a`.", "The last element of a list."],
     "  return $a[#$a]", "$a"),
    ("group_by group", ["Groups the elements of `$a` by what `fn` returns for them.", "Returns a table from the results of `fn` to lists of elements of `$a`."],
     "  local $r = {}\n  for _, $x in ipairs($a) do\n    local $k = fn($x)\n    $r[$k] = $r[$k] or {}\n    table.insert($r[$k], $x)\n  end\n  return $r", "$a, fn"),
    ("to_set set", ["Returns a set with the elements of `$a`.", "Makes a table in which every element of `$a` is a key with the value true."],
     "  local set = {}\n  for _, $x in ipairs($a) do\n    set[$x] = true\n  end\n  return set", "$a"),
]

C = [
    ("sum array_sum", ["Returns the sum of `n` numbers.", "Adds up the `n` numbers in `$a`."],
     "int $f(const int *$a, size_t n)\n{\n    int $r = 0;\n    for (size_t i = 0; i < n; i++)\n        $r += $a[i];\n    return $r;\n}"),
    ("max array_max", ["Returns the largest of `n` numbers.", "Finds the largest number in `$a`."],
     "int $f(const int *$a, size_t n)\n{\n    int $r = $a[0];\n    for (size_t i = 1; i < n; i++) {\n        if ($a[i] > $r)\n            $r = $a[i];\n    }\n    return $r;\n}"),
    ("min array_min", ["Returns the smallest of `n` numbers.", "Finds the smallest number in `$a`."],
     "int $f(const int *$a, size_t n)\n{\n    int $r = $a[0];\n    for (size_t i = 1; i < n; i++) {\n        if ($a[i] < $r)\n            $r = $a[i];\n    }\n    return $r;\n}"),
    ("contains array_has", ["Tells whether `x` is among the `n` numbers in `$a`.", "Returns true when `$a` contains `x`."],
     "bool $f(const int *$a, size_t n, int x)\n{\n    for (size_t i = 0; i < n; i++) {\n        if ($a[i] == x)\n            return true;\n    }\n    return false;\n}"),
    ("index_of find", ["Returns the index of `x` in `$a`, or -1 when it is not there.", "Finds the place of `x` in `$a`."],
     "int $f(const int *$a, int n, int x)\n{\n    for (int i = 0; i < n; i++) {\n        if ($a[i] == x)\n            return i;\n    }\n    return -1;\n}"),
    ("reverse array_reverse", ["Reverses the order of the `n` numbers in `$a`.", "Turns `$a` around in place."],
     "void $f(int *$a, size_t n)\n{\n    for (size_t i = 0; i < n / 2; i++) {\n        int tmp = $a[i];\n        $a[i] = $a[n - 1 - i];\n        $a[n - 1 - i] = tmp;\n    }\n}"),
    ("swap swap_ints", ["Exchanges the values of `a` and `b`.", "Swaps two integers."],
     "void $f(int *a, int *b)\n{\n    int tmp = *a;\n    *a = *b;\n    *b = tmp;\n}"),
    ("clamp limit", ["Limits `x` to the range from `low` to `high`.", "Returns `x`, but not less than `low` and not more than `high`."],
     "int $f(int x, int low, int high)\n{\n    if (x < low)\n        return low;\n    if (x > high)\n        return high;\n    return x;\n}"),
    ("length str_length", ["Returns the length of the string `$s`.", "Counts the characters of `$s`."],
     "size_t $f(const char *$s)\n{\n    size_t n = 0;\n    while ($s[n] != '\\0')\n        n++;\n    return n;\n}"),
    ("count_char char_count", ["Counts how often `c` occurs in `$s`.", "Returns the number of characters `c` in `$s`."],
     "size_t $f(const char *$s, char c)\n{\n    size_t n = 0;\n    for (; *$s; $s++) {\n        if (*$s == c)\n            n++;\n    }\n    return n;\n}"),
    ("starts_with has_prefix", ["Tells whether `$s` begins with `prefix`.", "Returns true when `$s` starts with `prefix`."],
     "bool $f(const char *$s, const char *prefix)\n{\n    return strncmp($s, prefix, strlen(prefix)) == 0;\n}"),
    ("copy_string dup_string", ["Returns a copy of `$s` that the caller must free.", "Copies the string `$s` to new memory."],
     "char *$f(const char *$s)\n{\n    size_t n = strlen($s) + 1;\n    char *copy = malloc(n);\n    if (copy)\n        memcpy(copy, $s, n);\n    return copy;\n}"),
    ("to_upper upper", ["Makes all letters of `$s` upper case.", "Changes `$s` to upper case in place."],
     "void $f(char *$s)\n{\n    for (; *$s; $s++)\n        *$s = toupper((unsigned char)*$s);\n}"),
    ("is_power_of_two power_of_two", ["Tells whether `x` is a power of two.", "Returns true when exactly one bit of `x` is set."],
     "bool $f(unsigned x)\n{\n    return x != 0 && (x & (x - 1)) == 0;\n}"),
    ("gcd greatest_divisor", ["Returns the greatest common divisor of `a` and `b`.", "Computes the greatest common divisor of two numbers."],
     "int $f(int a, int b)\n{\n    while (b != 0) {\n        int r = a % b;\n        a = b;\n        b = r;\n    }\n    return a;\n}"),
    ("factorial fact", ["Returns the factorial of `n`.", "Computes the factorial of `n` by recursion."],
     "unsigned long $f(unsigned n)\n{\n    if (n <= 1)\n        return 1;\n    return n * $f(n - 1);\n}"),
    ("fill array_fill", ["Sets all `n` numbers in `$a` to `x`.", "Fills `$a` with `x`."],
     "void $f(int *$a, size_t n, int x)\n{\n    for (size_t i = 0; i < n; i++)\n        $a[i] = x;\n}"),
    ("list_length count_nodes", ["Returns the number of nodes in the list.", "Counts the nodes of the list that begins with `head`."],
     "size_t $f(const struct node *head)\n{\n    size_t n = 0;\n    for (const struct node *p = head; p; p = p->next)\n        n++;\n    return n;\n}"),
    ("list_free free_list", ["Frees all nodes of the list.", "Frees the list that begins with `head`."],
     "void $f(struct node *head)\n{\n    while (head) {\n        struct node *next = head->next;\n        free(head);\n        head = next;\n    }\n}"),
    ("read_file load_file", ["Reads up to `size` bytes of the file `path` into `buf`.", "Reads a file into a buffer and returns how many bytes there were, or -1."],
     "long $f(const char *path, char *buf, size_t size)\n{\n    FILE *f = fopen(path, \"rb\");\n    if (!f)\n        return -1;\n    size_t n = fread(buf, 1, size, f);\n    fclose(f);\n    return (long)n;\n}"),
]


def fill(text, names):
    for k, v in sorted(names.items(), key=lambda p: -len(p[0])):
        text = text.replace("$" + k, v)
    return text


def names_for(rng, module, functions):
    return {"f": rng.choice(functions.split()), "a": rng.choice(LISTS), "x": rng.choice(ITEMS),
            "r": rng.choice(TOTALS), "m": rng.choice(MAPS), "k": rng.choice(KEYS),
            "s": rng.choice(TEXTS), "M": module}


def fresh(names):
    """Names of one function must differ, or it would not do what is said of it."""
    used = [names[k] for k in ("a", "x", "r", "m", "k", "s")]
    return len(set(used)) == len(used)


def head(rng):
    t, u = rng.sample(THEMES, 2)
    said = rng.choice(HEADS).replace("$t", t).replace("$u", u)
    return said[0].upper() + said[1:]


def lua_module(rng):
    module = rng.choice(MODULES)
    unit = rng.choice(("  ", "  ", "  ", "    ", "\t"))
    quote = rng.choice("''\"")
    dashes = rng.choice(("---", "---", "--"))
    out = [f"{dashes} {head(rng)}"] if rng.random() < 0.6 else []
    out += [""] if out and rng.random() < 0.3 else []
    out += [f"local {module} = {{}}", ""]
    for functions, comments, body, params in rng.sample(LUA, rng.randint(4, 8)):
        names = names_for(rng, module, functions)
        while not fresh(names):
            names = names_for(rng, module, functions)
        local = rng.random() < 0.2 and "$M." not in body
        first = ("local function $f" if local else "function $M.$f") + f"({params})"
        if rng.random() < COMMENTED:
            out.append(f"{dashes} " + fill(rng.choice(comments), names))
        text = fill(first + "\n" + body + "\nend", names)
        lines = [unit * ((len(s) - len(s.lstrip(" "))) // 2) + s.lstrip(" ") for s in text.split("\n")]
        out += [s.replace("'", quote) for s in lines] + [""]
    return "\n".join(out + [f"return {module}", ""])


def c_module(rng):
    out = [f"/* {head(rng)} */"] if rng.random() < 0.6 else []
    out += ["#include <stdbool.h>", "#include <stdio.h>", "#include <stdlib.h>", "#include <string.h>", ""]
    unit = rng.choice(("    ", "    ", "  ", "\t"))
    hang = rng.random() < 0.5
    for functions, comments, code in rng.sample(C, rng.randint(4, 7)):
        names = names_for(rng, "", functions)
        while not fresh(names):
            names = names_for(rng, "", functions)
        if names["r"] == "n" and "size_t n" in code:
            names["r"] = "total"  # not drawn again: all files behind this one would get other names
        said = fill(rng.choice(comments), names)
        if rng.random() < COMMENTED:
            out.append(f"/* {said} */" if rng.random() < 0.7 else f"// {said}")
        text = fill(("static " if rng.random() < 0.5 else "") + code, names)
        if hang:
            text = text.replace(")\n{", ") {", 1)
        lines = [unit * ((len(s) - len(s.lstrip(" "))) // 4) + s.lstrip(" ") for s in text.split("\n")]
        out += lines + [""]
    if any("toupper" in s for s in out):
        out.insert(out.index("#include <stdbool.h>"), "#include <ctype.h>")
    return "\n".join(out)


def main():
    work = Path(sys.argv[1])
    count = int(sys.argv[2]) if len(sys.argv) > 2 else 1500
    rng = random.Random("modules")
    for language, make, share in (("lua", lua_module, 0.7), ("c", c_module, 0.3)):
        folder = work / "raw/made" / language
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for i in range(int(count * share)):
            (folder / f"{rng.choice(LISTS)}_{i}.{language}").write_text(make(rng))
    print(f"{count} modules")


if __name__ == "__main__":
    main()
