--- Hunks: a diff, done piece by piece in any order, always ends at the new text.

local h = require('helper')
local hunks = require('gemma.edit.hunks')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

--- 'a b c' -> { 'a', 'b', 'c' }; '' -> {}
local function L(s)
  return s == '' and {} or vim.split(s, ' ', { plain = true })
end

test('a diff names the lines that go and those that come', function()
  for _, row in ipairs({
    { 'a b c', 'a b c', {} },
    { 'a b c', 'a x c', { { 2, 'b', 'x' } } },
    { 'a b', 'a x b', { { 2, '', 'x' } } },
    { 'a b', 'x a b', { { 1, '', 'x' } } },
    { 'a b', 'a b x', { { 3, '', 'x' } } },
    { 'a b c', 'a c', { { 2, 'b', '' } } },
    { 'a', '', { { 1, 'a', '' } } },
    { '', 'a', { { 1, '', 'a' } } },
    { 'a b c d e', 'x b c d y', { { 1, 'a', 'x' }, { 5, 'e', 'y' } } },
  }) do
    local got = vim.tbl_map(function(k)
      return { k.at, table.concat(k.old, ' '), table.concat(k.new, ' ') }
    end, hunks.diff(L(row[1]), L(row[2])))
    h.eq(got, row[3], row[1] .. ' -> ' .. row[2])
  end
  h.eq(hunks.diff({ '' }, { 'x' }), { { at = 1, old = { '' }, new = { 'x' } } })
end)

test('hunks can be done in any order; all of them make the new text', function()
  math.randomseed(7)
  local function random_lines()
    local out = {}
    for i = 1, math.random(0, 12) do
      out[i] = ('abcd'):sub(math.random(4)):sub(1, 1)
    end
    return out
  end
  local several = 0
  for _ = 1, 300 do
    local old, new = random_lines(), random_lines()
    local rest, lines = hunks.diff(old, new), old
    several = several + (#rest > 2 and 1 or 0)
    while #rest > 0 do
      local n = math.random(#rest)
      local hunk = rest[n]
      h.eq(vim.list_slice(lines, hunk.at, hunk.at + #hunk.old - 1), hunk.old, 'the old lines are there')
      lines, rest = hunks.apply(lines, rest, n)
    end
    h.eq(lines, new)
  end
  h.ok(several > 50, 'the texts differ in several places')
end)

test('of two lines only what differs is marked, by whole characters', function()
  for _, row in ipairs({
    { 'local a = 1', 'local b = 1', { 6, 7 }, { 6, 7 } },
    { 'f(x)', 'f(x, y)', { 3, 3 }, { 3, 6 } },
    { 'aa', 'aaa', { 2, 2 }, { 2, 3 } },
    { 'x ä', 'x ö', { 2, 4 }, { 2, 4 } },
    { 'ä x', 'ö x', { 0, 2 }, { 0, 2 } },
    { '  a', '  b' },
    { '', 'b' },
  }) do
    local got = hunks.changed(row[1], row[2])
    h.eq(got, row[3] and { old = row[3], new = row[4] } or nil, row[1] .. ' -> ' .. row[2])
  end
end)

test('what was moved to the left margin is moved back', function()
  local old = { '  if a then', '    b()', '  end' }
  for _, row in ipairs({
    { { 'if a then', '', '  c()', 'end' }, { '  if a then', '', '    c()', '  end' } },
    { { '  if a then', '    c()', '  end' }, { '  if a then', '    c()', '  end' } },
    -- Something stays where it was: the rest is meant as it is.
    { { 'x()', '  if a then' }, { 'x()', '  if a then' } },
    { { '' }, { '' } },
    { { '\tb()' }, { '\tb()' } },
  }) do
    h.eq(hunks.reindent(old, row[1]), row[2])
  end
  h.eq(hunks.reindent({ 'a' }, { 'b' }), { 'b' })
end)

test('code finds its place by its first and last line', function()
  local file = vim.split([[
local M = {}

function M.add(a, b)
  if a then
    return a + b
  end
end

function M.sub(a, b)
  return a - b
end

return M]], '\n')
  local function at(code)
    return { hunks.locate(file, vim.split(code, '\n')) }
  end
  h.eq(at('function M.add(a, b)\n  return b + a\nend'), { 3, 7 })
  h.eq(at('  function M.sub(a, b)\n    return 0\n  end'), { 9, 11 })
  h.eq(at('function M.mul(a, b)\n  return a * b\nend'), {})
  h.eq(at('end'), {})
  h.eq(at(''), {})
  h.eq({ hunks.locate({ 'f(1)', 'f(1)' }, { 'f(1)' }) }, {}, 'twice is not plain')
end)

return T
