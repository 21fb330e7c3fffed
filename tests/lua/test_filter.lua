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
  -- name, before, text, after, shown, swallow
  { 'nothing to the right', 'f(', 'a)', '', 'a)', 0 },
  { 'a closer that is there is not shown', 'f(', 'a)', ')', 'a', 0 },
  { 'two of them', 'f(g(', 'a))', '))', 'a', 0 },
  { 'with the semicolon', 'f(', 'a);', ');', 'a', 0 },
  { 'brackets of its own stay', 'x = ', 'f(a)', ')', 'f(a)', 0 },
  { 'an own pair and a foreign closer', 'f(', 'g(a))', ')', 'g(a)', 0 },
  { 'text behind the closer replaces it', 'f(', 'a) + b', ')', 'a) + b', 1 },
  { 'several lines replace it as well', 'f(', 'a, b)\n  x()\nend', ')', 'a, b)\n  x()\nend', 1 },
  { 'a quote that is there', "print('", "hello')", "')", 'hello', 0 },
  { 'quotes of its own stay', 'x = ', '"a"', '"', '"a"', 0 },
  { 'an apostrophe is no quote', '', "don't", "'", "don't", 0 },
  { 'the rest of the line repeated', 'a = ', 'b + c', ' + c', 'b', 0 },
  { 'a word that only looks alike stays', 'x = ', 'bar', 'r1 = 2', 'bar', 0 },
  { 'all of it is there', 'f(', ')', ')', '', 0 },
}
for _, t in ipairs(FIT) do
  test('filter: right of the cursor: ' .. t[1], function()
    h.eq({ filter.fit_after(t[3], t[2], t[4]) }, { t[5], t[6] })
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

return T
