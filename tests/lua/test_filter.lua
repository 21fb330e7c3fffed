--- What may be shown of the model's text: tables of text in, text out.

local h = require('helper')
local filter = require('gemma.filter')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

--- A context for lua code; before, after and below as in the buffer.
local function ctx(o)
  return vim.tbl_extend('keep', o or {}, {
    before = '',
    after = '',
    below = {},
    single = false,
    prose = false,
    fence = true,
    tabstop = 8,
    max_lines = 8,
  })
end

local BODY = {
  -- name, context, text, shown when done
  { 'plain text goes through', {}, 'return x', 'return x' },
  { 'blanks at the end go', {}, 'return x  \n\n', 'return x' },
  { 'only blanks are nothing', {}, ' \n\t\n ', '' },
  { 'CRLF becomes newline', {}, 'a\r\nb', 'a\nb' },
  { 'NUL ends it', {}, 'ab\0cd', 'ab' },
  { 'an escape sequence ends it', {}, 'ok\27[31mred', 'ok' },
  { 'DEL ends it', {}, 'ok\127', 'ok' },
  { 'a C1 control ends it', {}, 'ok\194\155x', 'ok' },
  { 'broken UTF-8 ends it', {}, 'gr\195\188n\255x', 'grün' },
  { 'a surrogate ends it', {}, 'a\237\160\128', 'a' },
  { 'text that reorders what is seen ends it', {}, 'if ok \226\128\174 then', 'if ok' },
  { 'a replacement character ends it', {}, 'a\239\191\189b', 'a' },
  { 'a turn marker as plain text ends it', {}, 'x = 1<turn|>\nmore', 'x = 1' },
  { 'a closing fence ends it', {}, 'x = 1\n```\nThis sets x.', 'x = 1' },
  { 'in prose a fence is text', { fence = false, prose = true }, 'a\n```\nb', 'a\n```\nb' },
  { 'line limit', { max_lines = 2 }, 'a\nb\nc', 'a\nb' },
  { 'single line', { single = true }, 'foo(bar)\nbaz()', 'foo(bar)' },
  { 'two blank lines end it', {}, 'a = 1\n\n\nb = 2', 'a = 1' },
  { 'one blank line does not', {}, 'a = 1\n\nb = 2', 'a = 1\n\nb = 2' },
  {
    'stops where it repeats the next line',
    { before = '  ', below = { '', '  return total', 'end' } },
    'total = total + 1\n  return total\nend',
    'total = total + 1',
  },
  {
    'nothing when all it says is the next line',
    { before = '  ret', below = { '  return total' } },
    'urn total',
    '',
  },
  {
    'a line that nearly repeats the next one counts as well',
    { below = { 'local result = compute_the_total(items, rate)' } },
    'local n = 1\nlocal result = compute_the_total(items, rates)',
    'local n = 1',
  },
  { 'the third equal line is one too many', {}, 'x()\nx()\nx()\nx()', 'x()\nx()' },
  { 'a run within a line is cut', {}, 'ab = ' .. ('foo '):rep(12), 'ab = foo' },
  { 'a ruler is left alone', {}, '-- ' .. ('-'):rep(60), '-- ' .. ('-'):rep(60) },
  {
    'ends where the block ends',
    { before = '    total = ' },
    'total + x\n    n = n + 1\nlocal function other()',
    'total + x\n    n = n + 1',
  },
  {
    'may close the block it was asked in',
    { before = '    total = ' },
    'total + x\n  end\n  return total',
    'total + x\n  end',
  },
  {
    'does not close a block that is closed already',
    { before = '    total = ', below = { '  end', 'end' } },
    'total + x\n  end',
    'total + x',
  },
  {
    'ends after closing what its own line opened',
    { before = 'local function add(' },
    'a, b)\n  return a + b\nend\n\nlocal function sub(a, b)',
    'a, b)\n  return a + b\nend',
  },
  {
    'else is not an end',
    { before = 'if x ' },
    'then\n  a()\nelse\n  b()\nend\nc()',
    'then\n  a()\nelse\n  b()\nend',
  },
  {
    'tabs count as wide as they are',
    { before = '\tx = ', tabstop = 4 },
    '1\n    y = 2\nz = 3',
    '1\n    y = 2',
  },
  {
    'a blank line before the cursor takes its depth from the answer',
    { before = '  ' },
    'local a = 1\n  local b = 2\nend',
    'local a = 1\n  local b = 2\nend',
  },
  { 'prose has no blocks', { before = '  - a', prose = true }, 'b\n- c', 'b\n- c' },
}

for _, t in ipairs(BODY) do
  test('filter: ' .. t[1], function()
    h.eq((filter.body(t[3], ctx(t[2]), true)), t[4])
  end)
end

test('filter: whatever arrives in whatever pieces, what is shown only grows', function()
  for _, t in ipairs(BODY) do
    local c, shown, stopped = ctx(t[2]), '', false
    for n = 1, #t[3] do
      local body, stop = filter.body(t[3]:sub(1, n), c, false)
      if not stopped then
        h.ok(vim.startswith(body, shown) or stop, t[1] .. ': ' .. vim.inspect({ shown, body }))
        h.ok(vim.startswith((filter.clean(t[3])), body), t[1] .. ': not a prefix')
        shown, stopped = body, stop
      end
    end
    -- A run is only known as one when it is long; the rest of the cases end as they would at once.
    if stopped and not t[1]:find('run') then
      h.eq(shown, t[4], t[1])
    end
  end
end)

test('filter: only whole lines are ready while the model writes', function()
  local body, stop, _, tail = filter.body('a = 1\nb = ', ctx(), false)
  h.eq({ body, stop, tail }, { 'a = 1', false, '\nb = ' })
end)

test('filter: a suggestion that stopped says why', function()
  local _, stop, why = filter.body('a\nb\nc\n', ctx({ max_lines = 2 }), false)
  h.eq({ stop, why }, { true, 'line limit' })
end)

local PARTIAL = {
  { 'whole words are shown', {}, 'local x = comp', 'local x' },
  { 'one word alone waits', {}, 'loc', '' },
  { 'closers at the end wait', {}, 'f(a) ', 'f(a' },
  { 'a line that may become the next one waits', { below = { 'return a + b' } }, 'return a ', '' },
  { 'newlines in front stay', {}, '\n  foo bar', '\n  foo' },
}
for _, t in ipairs(PARTIAL) do
  test('filter: of an unfinished line, ' .. t[1], function()
    h.eq(filter.partial(t[3], ctx(t[2])), t[4])
  end)
end

local FIT = {
  -- name, before, text, after, shown, where the closers are that replace those on the right; an open quote
  { 'nothing to the right', 'f(', 'a)', '', 'a)', {} },
  { 'a closer that is there is not shown', 'f(', 'a)', ')', 'a', {} },
  { 'two of them', 'f(g(', 'a))', '))', 'a', {} },
  { 'with the semicolon', 'f(', 'a);', ');', 'a', {} },
  { 'brackets of its own stay', 'x = ', 'f(a)', ')', 'f(a)', {} },
  { 'an own pair and a foreign closer', 'f(', 'g(a))', ')', 'g(a)', {} },
  { 'text behind the closer replaces it', 'f(', 'a) + b', ')', 'a) + b', { 2 } },
  { 'several lines replace it as well', 'f(', 'a, b)\n  x()\nend', ')', 'a, b)\n  x()\nend', { 5 } },
  { 'each of them where it stands', 'f(g(', 'a) + b) * c', '))', 'a) + b) * c', { 2, 7 } },
  { 'a quote that the text goes on within', 'print("', 'hello")', ')', 'hello"', {}, '"' },
  { 'behind its end as well', 'print("', 'hello");', ')', 'hello");', { 7 }, '"' },
  { 'an apostrophe that was typed is none', "f(a: &'a", ' str, b: u8)', ')', ' str, b: u8', {}, "'" },
  { 'nor are two', "f(a: &'a", " str, b: &'b u8)", ')', " str, b: &'b u8", {}, "'" },
  { 'a quote that is there', "print('", "hello')", "')", 'hello', {} },
  { 'quotes of its own stay', 'x = ', '"a"', '"', '"a"', {} },
  { 'an apostrophe is no quote', '', "don't", "'", "don't", {} },
  { 'the rest of the line repeated', 'a = ', 'b + c', ' + c', 'b', {} },
  { 'a word that only looks alike stays', 'x = ', 'bar', 'r1 = 2', 'bar', {} },
  { 'all of it is there', 'f(', ')', ')', '', {} },
}
for _, t in ipairs(FIT) do
  test('filter: right of the cursor: ' .. t[1], function()
    h.eq({ filter.fit_after(t[3], t[2], t[4], t[7]) }, { t[5], t[6] })
  end)
end

test('filter: closers at the end of the line do not weigh', function()
  h.eq(filter.weight_after(')}];'), 0)
  h.eq(filter.weight_after(' + foo)'), 6)
  h.eq(filter.weight_after(''), 0)
end)

test('filter: the first line is up to the newline that does not stand first', function()
  h.eq(filter.first_line('a\nb\nc'), 'a')
  h.eq(filter.first_line('\nb\nc'), '\nb')
  h.eq(filter.first_line('a'), 'a')
end)

test('filter: a file of garbage takes no time worth speaking of', function()
  math.randomseed(1)
  local bytes = {}
  for i = 1, 20000 do
    bytes[i] = string.char(math.random(0, 255))
  end
  local s = table.concat(bytes)
  filter.body(s, ctx(), true)
  filter.body(('x'):rep(20000), ctx(), false)
  filter.fit_after(('('):rep(5000) .. (')'):rep(5001), '', ')')
end)


-- ---- indentation ------------------------------------------------------------------------------

local INDENT = {
  -- name, context, text, what it becomes
  { 'tabs become levels', { spaces = true, unit = 2, before = 'x' }, '{\n\ty()\n\t\tz()', '{\n  y()\n    z()' },
  { 'spaces stay where tabs are not wanted', { spaces = true, unit = 2, before = 'x' }, '{\n   a\n}', '{\n   a\n}' },
  {
    'spaces become tabs',
    { spaces = false, tabstop = 4, unit = 4, before = 'x' },
    '{\n    a\n        b',
    '{\n\ta\n\t\tb',
  },
  { 'two spaces become one tab', { spaces = false, before = 'x' }, '{\n  a\n    b', '{\n\ta\n\t\tb' },
  { 'what is left over stays: it aligns', { spaces = false, before = 'x' }, '{\n    a\n     * b', '{\n\ta\n\t * b' },
  { 'a single blank is no indentation', { spaces = false, before = '/*' }, '*\n * a\n */', '*\n * a\n */' },
  { 'mixed indentation is left alone', { spaces = false, before = 'x' }, 'y\n\t  a', 'y\n\t  a' },
  { 'the first line only where a line begins', { spaces = true, unit = 4, before = 'x' }, '\ty\n\tz', '\ty\n    z' },
  { 'the first line after blanks', { spaces = true, unit = 4, before = '    ' }, '\ty', '    y' },
  { 'tabs inside a line are text', { spaces = true, unit = 4 }, 'a\tb', 'a\tb' },
  { 'prose is left alone', { spaces = true, unit = 4, prose = true }, '\ta', '\ta' },
  { 'nothing is known, nothing is done', {}, '\ta', '\ta' },
}
for _, t in ipairs(INDENT) do
  test('filter: indentation: ' .. t[1], function()
    h.eq(filter.indentation(t[3], ctx(t[2])), t[4])
  end)
end

test('filter: indentation of a line never changes when more lines come', function()
  local c = ctx({ spaces = false, tabstop = 8, unit = 8, before = 'x' })
  local text, was = '{\n    a\n  b\n      c\n        d\n}', {}
  for n = 1, #text do
    local lines = vim.split(filter.indentation(text:sub(1, n), c), '\n', { plain = true })
    for i = 1, #lines - 1 do
      h.eq(lines[i], was[i] or lines[i])
      was[i] = lines[i]
    end
  end
end)

-- ---- brackets ---------------------------------------------------------------------------------

local brackets = require('gemma.brackets')

local OPEN = {
  { 'nothing', 'local x = 1', {} },
  { 'a call', 'print(', { ')' } },
  { 'the innermost last', 'f({ a[', { ')', '}', ']' } },
  { 'what is closed is not open', 'f(a) + g(b', { ')' } },
  { 'a bracket in a string is text', 'f("(", ', { ')' } },
  { 'an escaped quote does not end a string', [[f("\"(", ]], { ')' } },
  { 'an open string', 'f("a', { ')', '"' } },
  { 'an apostrophe in a word is no quote', "-- don't (", { ')' } },
  { 'a quote ends with its line', "-- it's ' odd\nf(", { ')' } },
  { 'a back quote does not', '`a (\nb', { '`' } },
}
for _, t in ipairs(OPEN) do
  test('brackets: open before the cursor: ' .. t[1], function()
    h.eq(brackets.open(t[2]), t[3])
  end)
end

local SURPLUS = {
  -- name, before the cursor, text, shown
  { 'a closer of the text before', 'f(', 'a)', 'a)' },
  { 'one too many', 'f(', 'a))', 'a)' },
  { 'a closer of nothing', 'x = ', 'a)', 'a' },
  { 'its own brackets', 'x = ', 'f(a[1])', 'f(a[1])' },
  { 'an inner one may have been in a comment', 'f({ -- :(\n', 'a })', 'a })' },
  { 'a brace that closes nothing ends it', 'void f(void)\n{\n    x', '();\n}\n}\n', '();\n}' },
  { 'a closer inside a string is text', 'x = ', '")"', '")"' },
  { 'a string that is open already', 'f("a', ')")', ')")' },
}
for _, t in ipairs(SURPLUS) do
  test('filter: bracket stack: ' .. t[1], function()
    local c = ctx({ before = t[2]:match('[^\n]*$'), open = brackets.open(t[2]) })
    h.eq((filter.body(t[3], c, true)), t[4])
  end)
end

-- ---- scope ------------------------------------------------------------------------------------

local SCOPE = {
  -- name, context, text, shown
  {
    'with a known floor shallower lines of the same block go on',
    { before = '          three,', floor = 0 },
    ' four)\n  local a = 1\n  return a\nend\nlocal function other()',
    ' four)\n  local a = 1\n  return a\nend',
  },
  {
    'without one indentation alone ends it',
    { before = '          three,' },
    ' four)\n  local a = 1',
    ' four)',
  },
  { 'a line at the floor ends it', { before = '    x = ', floor = 2 }, '1\n  y = 2', '1' },
  { 'one closer at the floor is taken', { before = '    x = ', floor = 2 }, '1\n  end\n  z()', '1\n  end' },
  { 'none below it', { before = '    x = ', floor = 2 }, '1\nend', '1' },
  {
    'none that is there already',
    { before = '    x = ', floor = 2, below = { '  end' } },
    '1\n  end',
    '1',
  },
}
for _, t in ipairs(SCOPE) do
  test('filter: scope: ' .. t[1], function()
    h.eq((filter.body(t[3], ctx(t[2]), true)), t[4])
  end)
end

-- ---- confidence -------------------------------------------------------------------------------

test('filter: sure: by the probability of the token, and 0 takes every token', function()
  h.eq({ filter.sure(-0.1, 0.5), filter.sure(-1, 0.5), filter.sure(-9, 0), filter.sure(nil, 0.5) },
    { true, false, true, true })
end)

local suggestion = require('gemma.suggestion')

test('suggestion: ends before a token that is not sure, and says why', function()
  local s, c = suggestion.new('auto', 0), ctx()
  local o = { now = 0, first_paint = 0, min_confidence = 0.3 }
  s:add('alpha = ', -0.1, c, o)
  s:add('beta', -0.5, c, o)
  s:add(' noise', -2, c, o)
  s:add(' more', 0, c, o)
  h.eq({ s.text, s.over, s.why }, { 'alpha = beta', true, 'the model is not sure' })
end)

test('suggestion: beside text to the right half a line is never shown', function()
  local s, c = suggestion.new('auto', 0), ctx({ after = ' + 1', single = true })
  s:add('alpha * beta * gam', -0.1, c, { now = 0, first_paint = 0, min_confidence = 0 })
  h.eq(s.text, '')
  s:finish(c)
  h.eq(s.text, 'alpha * beta * gam')
end)

test('suggestion: what was typed before it was asked for counts as its own', function()
  local s, c = suggestion.new('next', 0, 'al'), ctx()
  h.eq({ s:rest('al'), s:rest('alx') }, { '' })
  s:add('pha\n', -0.1, c, { now = 0, first_paint = 0, min_confidence = 0 })
  h.eq({ s:rest('al'), s:rest('alp'), s:rest('x') }, { 'pha', 'ha' })
end)

return T
