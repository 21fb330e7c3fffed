--- The rules for ghost text, one by one, as somebody in front of the screen sees them. Screens are
--- compared with the stored ones in tests/lua/screens; `GEMMA_SCREENS=write` stores new ones.

local h = require('helper')

local T = {}

--- Children whose ghost text has a colour of its own, so that the pictures can tell.
local asking = h.asking
h.asking = function(text, o)
  return asking(text, vim.tbl_extend('keep', o or {}, { colour = true, fake = true, cols = 70, lines = 20 }))
end

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local shown, hidden = h.shown, h.hidden

local MARKS = [[
  local ns = vim.api.nvim_get_namespaces()['gemma.ghost']
  local out = {}
  for _, b in ipairs(vim.api.nvim_list_bufs()) do
    for _, m in ipairs(ns and vim.api.nvim_buf_get_extmarks(b, ns, 0, -1, {}) or {}) do
      out[#out + 1] = { b, m[2], m[3] }
    end
  end
  return out]]

-- ---- 1: one mark, updated in place; painted text only grows -----------------------------------

test('rule 1: a suggestion grows on the screen by whole lines', function()
  local c = h.asking('local t = |\n\nreturn t', {
    config = 'vim.g.gemma = { completion = { first_paint = 10000 } }',
  })
  c:lua("Fake.emit('{\\n  one = 1,\\n  tw')")
  shown(c)
  c:looks_like('grows-1')
  c:lua("Fake.emit('o = 2,\\n}') Fake.done()")
  c:wait("require('gemma.ghost').text():find('}', 1, true)")
  c:looks_like('grows-2')
  h.eq(#c:lua(MARKS), 1, 'marks in all buffers')
end)

test('rule 1: whatever the model writes next, whole lines on the screen are never rewritten', function()
  local pieces = { 'alpha', '(1,', ' 2)\n', '  beta = ', 'gam', 'ma\n', '  if x', ' then\n', '    y()\n', '  end' }
  local c = h.asking('  |', { config = 'vim.g.gemma = { completion = { first_paint = 0 } }' })
  local shows = { '', 'alpha(1', 'alpha(1, 2)', 'alpha(1, 2)\n  beta', 'alpha(1, 2)\n  beta',
    'alpha(1, 2)\n  beta = gamma', 'alpha(1, 2)\n  beta = gamma\n  if',
    'alpha(1, 2)\n  beta = gamma\n  if x then', 'alpha(1, 2)\n  beta = gamma\n  if x then\n    y()',
    'alpha(1, 2)\n  beta = gamma\n  if x then\n    y()\n  end' }
  local painted = ''
  for i, piece in ipairs(pieces) do
    c:lua('Fake.emit(...)', piece)
    if i == #pieces then
      c:lua('Fake.done()')
    end
    c:wait(("Fake.heard() and (require('gemma.ghost').text() or '') == %s"):format(vim.inspect(shows[i])))
    local text = c:ghost()
    text = type(text) == 'string' and text or ''
    local lines = painted:match('^.*\n') or ''
    h.ok(vim.startswith(text, lines), ('%q after %q'):format(text, painted))
    painted = text
  end
  local clears = vim.tbl_filter(function(e)
    return e == 'GemmaGhostClear'
  end, c:events())
  h.eq(#clears, 0, 'it was never taken down')
end)

test('rule 1: a second window on the same buffer shows none', function()
  local c = h.asking('x = |')
  c:feed('<Esc>')
  c:cmd('split')
  c:feed('a')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('alpha\\nbeta') Fake.done()")
  shown(c)
  c:looks_like('two-windows')
  c:feed('<Esc><C-w>ja')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 3')
  c:lua("Fake.emit('gamma') Fake.done()")
  shown(c)
  c:looks_like('two-windows-other')
end)

test('rule 1: in a second tab page, a buffer without a name and beside folds it is drawn the same', function()
  local c = h.asking('x = |')
  c:feed('<Esc>')
  c:cmd('tabnew')
  c:insert_at('one\ntwo\nthree\ny = |')
  c:lua("vim.wo.foldmethod = 'manual' vim.cmd('2,3fold')")
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('alpha\\nbeta') Fake.done()")
  shown(c)
  c:looks_like('tab-page')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'one', 'two', 'three', 'y = alpha', 'beta' })
  c:cmd('tabprevious')
  h.eq(c:lua(MARKS), {})
end)

-- ---- 2: typed-through -------------------------------------------------------------------------

test('rule 2: typing what it says moves the cursor and nothing else on the screen', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha(one)\\n  beta\\n')")
  shown(c)
  c:looks_like('typed-through-0')
  c:type('alph')
  c:looks_like('typed-through-4')
  h.eq(c:lua('return { #Fake.jobs, #Fake.cancelled }'), { 1, 0 }, 'the model goes on')
end)

test('rule 2: wide and composed characters are typed through', function()
  local c = h.suggesting('x = |', 'größe("世界", e\204\129)')
  shown(c)
  c:type('größe("世')
  h.eq(c:ghost(), '界", e\204\129)')
  c:looks_like('typed-through-wide')
end)

-- ---- 3: another key ---------------------------------------------------------------------------

test('rule 3: another key clears it in the same tick, the key is read at once, writing waits', function()
  local c = h.asking('x = |', { config = 'vim.g.gemma = { completion = { delay = 10000 } }' })
  c:lua("Fake.emit('alpha\\nbeta\\n')")
  shown(c)
  local warm = c:lua('return #Fake.warm')
  c:feed('q')
  c:looks_like('other-key')
  h.eq(c:lua('return #Fake.cancelled'), 1, 'the model stops')
  c:wait('#Fake.warm > ' .. warm, 'the key goes into the cache')
  local req = c:lua('local r = Fake.warm[#Fake.warm].req return { r.max_tokens, r.priority, r.heal }')
  h.eq(req, { 0, 'typing', true })
  h.eq(c:lua('return #Fake.jobs'), 1, 'nothing is written before the delay')
end)

test('rule 3: a slow machine reads nothing before the pause', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 10000 } }' })
  c:lua('Fake.decode_tok_s = 5')
  c:insert_at('|')
  c:wait('#Fake.warm == 1', 'the buffer is read')
  c:type('abc')
  h.eq(c:lua('return #Fake.warm'), 1)
end)

-- ---- 4: stale answers -------------------------------------------------------------------------

test('rule 4: an answer for an older text is dropped, one that was typed ahead is trimmed', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('al')")
  c:wait("require('gemma.engine').state == 'generating'")
  c:type('alph')
  c:lua("Fake.emit('pha + beta') Fake.done()")
  h.eq(shown(c), 'a + beta')
  c:looks_like('typed-ahead')
  c:type('q')
  c:lua("Fake.jobs[1].live = true Fake.emit('more', 1) Fake.done(1)")
  c:wait('Fake.heard()')
  h.ok(hidden(c))
end)

-- ---- 5: what takes it down --------------------------------------------------------------------

local DOWN = {
  { '<Esc>', '<Esc>' },
  { '<C-c>, which fires no InsertLeave', '<C-c>' },
  { 'one Normal mode command', '<C-o>' },
  { 'a movement', '<Up>' },
  { 'a movement within the line', '<Left>' },
  { 'undo', '<Cmd>undo<CR>' },
  { 'a split', '<Cmd>split<CR>' },
  { 'another window', '<Cmd>wincmd w<CR>', 'split' },
  { 'another buffer', '<Cmd>enew!<CR>' },
  { 'another tab page', '<Cmd>tabnew<CR>' },
  { "'paste'", '<Cmd>set paste<CR>' },
  { 'a mouse click elsewhere', '<LeftMouse><0,0>' },
  { 'an edit above it', '<Cmd>1s/above/below/<CR>' },
  { 'wiping the buffer', '<Cmd>bwipeout!<CR>' },
}
for _, d in ipairs(DOWN) do
  test('rule 5: it goes with ' .. d[1], function()
    local c = h.suggesting('above\nx = |', 'alpha\nbeta', { running = true })
    if d[3] then
      c:feed('<Esc>')
      c:cmd(d[3])
      c:feed('a')
      c:feed([[<M-Bslash>]])
      c:wait('#Fake.jobs == 2')
      c:lua("Fake.emit('alpha\\nbeta\\n')")
    end
    c:lua("Fake.emit('\\n')")
    shown(c)
    c:feed(d[2])
    h.ok(hidden(c), 'still shown')
    h.eq(c:lua(MARKS), {}, 'marks that are left')
    h.eq(c:lua('return Fake.jobs[#Fake.jobs].live'), false, 'the model still writes')
  end)
end

test('rule 5: in the command-line window there is none, and entering it takes it down', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:feed('<Esc>q:')
  h.ok(hidden(c))
  c:feed('i')
  local n = c:lua('return #Fake.jobs')
  c:type('echo')
  h.has(c:lua("return require('gemma.status').here()"), 'no suggestion')
  h.eq(c:lua('return #Fake.jobs'), n)
  c:feed('<Esc><C-c><C-c>')
end)

test("rule 5: with 'paste' nothing comes", function()
  local c = h.child()
  c:cmd('set paste')
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('abc')
  h.has(c:lua("return require('gemma').status().here"), "'paste' is on")
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('rule 5: while a macro is recorded none comes, unless in_macros says so', function()
  for _, want in ipairs({ false, true }) do
    local c = h.child({ config = ('vim.g.gemma = { completion = { in_macros = %s, delay = 0 } }'):format(want) })
    c:lua("Fake.auto = function() return { 'alpha beta' } end")
    c:insert_at('|')
    c:wait("require('gemma.engine').is_loaded()")
    c:feed('<Esc>qqA')
    c:type('x = ')
    if want then
      shown(c)
    else
      h.has(c:lua("return require('gemma').status().here"), 'macro is being recorded')
      h.eq(c:lua('return #Fake.jobs'), 0)
    end
    c:feed('<Esc>q')
    c:feed('@q')
    h.ok(hidden(c))
    h.eq(c:lines(), { 'x = x = ' }, 'the macro does what was typed')
  end
end)

test('rule 5: a macro in which something was accepted holds the keys, not the text', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { in_macros = true, delay = 0 } }' })
  c:lua("Fake.auto = function() return { 'alpha' } end")
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<Esc>qqA')
  c:type('x = ')
  shown(c)
  c:feed('<M-l>')
  c:type('; ')
  c:feed('<Esc>q')
  c:feed('@q')
  h.eq(c:lines(), { 'x = alpha; x = ; ' }, 'what came behind it is typed, not a command')
end)

-- ---- 6: accept --------------------------------------------------------------------------------

test('rule 6: accept puts the text in literally, whatever the options do to typed text', function()
  local c = h.suggesting('  call(|', 'alpha, {\n      beta }\n\tend -- abbr ', { ft = 'text' })
  c:lua([[vim.bo.textwidth, vim.bo.cindent, vim.bo.autoindent = 10, true, true
    vim.cmd.iabbrev('abbr broken') vim.keymap.set('i', 'a', 'BROKEN')]])
  shown(c)
  c:feed('<M-l>')
  h.eq(c:lines(), { '  call(alpha, {', '      beta }', '\tend -- abbr' })
  h.eq(c:cursor(), { 3, 12 })
  c:looks_like('accepted')
end)

test('rule 6: `.` repeats typed and accepted text, as one', function()
  local c = h.suggesting('|', 'alpha(1, 2)')
  c:feed('<Esc>')
  c:feed('ox = ')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('compute(1, 2)') Fake.done()")
  shown(c)
  c:feed('<M-l>')
  c:type('!')
  c:feed('<Esc>.')
  h.eq(c:lines(), { '', 'x = compute(1, 2)!', 'x = compute(1, 2)!' })
end)

test('rule 6: words accepted one by one are repeated by `.`, and a count repeats them', function()
  local c = h.suggesting('|', 'zero')
  c:feed('<Esc>3a')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('one two three') Fake.done()")
  shown(c)
  c:feed('<M-Right><M-Right>')
  c:type(';')
  c:feed('<Esc>')
  h.eq(c:lines(), { 'one two;one two;one two;' })
end)

test('rule 6: a paste handler of another plugin never sees an accept', function()
  local c = h.suggesting('x = |', 'alpha')
  c:lua('vim.paste = function() _G.pasted = true return true end _G.paste = vim.paste')
  shown(c)
  c:feed('<M-l>')
  h.eq(c:lua('return { _G.pasted or false, vim.paste == _G.paste }'), { false, true })
  h.eq(c:lines(), { 'x = alpha' })
end)

test('rule 6: what stands right of the cursor is drawn where it will be, and swallowed', function()
  local c = h.suggesting('call(|);', 'function()\n  x()\nend)')
  shown(c)
  c:looks_like('closers-shown')
  c:feed('<M-l>')
  c:looks_like('closers-accepted')
  h.eq(c:lines(), { 'call(function()', '  x()', 'end);' })
end)

-- ---- 7: parts ---------------------------------------------------------------------------------

test('rule 7: word by word: blanks and one run of keyword characters or of others', function()
  local c = h.suggesting('x = |', 'foo_bar-baz  ->größe()\n  end')
  shown(c)
  local line, want = 'x = ', { 'foo_bar', '-', 'baz', '  ->', 'größe', '()' }
  for _, w in ipairs(want) do
    c:feed('<M-Right>')
    line = line .. w
    h.eq(c:lines(), { line })
  end
  c:looks_like('word-by-word')
  c:feed('<M-Right>')
  h.eq(c:lines(), { line, '  end' })
end)

test("rule 7: 'iskeyword' decides what a word is", function()
  local c = h.suggesting('x|', '-large-one two', { ft = 'text' })
  c:cmd('set iskeyword+=-')
  shown(c)
  c:feed('<M-Right>')
  h.eq(c:lines(), { 'x-large-one' })
end)

test('rule 7: line by line', function()
  local c = h.suggesting('f(|\n\nend', 'a,\n  b,\n  c)')
  shown(c)
  c:feed('<M-Down>')
  c:looks_like('line-by-line')
  c:feed('<M-Down><M-Down>')
  h.eq(c:lines(), { 'f(a,', '  b,', '  c)', '', 'end' })
end)

-- ---- 8: how it is drawn -----------------------------------------------------------------------

test("rule 8: tabs are drawn by 'tabstop', from the column they stand in", function()
  local c = h.asking('ab|', { ft = 'make' })
  c:lua('vim.bo.tabstop, vim.bo.expandtab = 4, false')
  c:lua("Fake.emit('\\tc\\td\\n\\te\\n\\t\\tf') Fake.done()")
  shown(c)
  c:looks_like('tabs')
end)

test('rule 8: wide characters', function()
  local c = h.suggesting('local 名 = |', '"世界" .. 名前\n  größe()')
  shown(c)
  c:looks_like('wide')
end)

test("rule 8: a long line wraps where the buffer's own would", function()
  local c = h.suggesting('local value = compute(|', 'first_argument, second_argument, third_one)\n  x()', { cols = 40 })
  shown(c)
  c:looks_like('wrap')
end)

test('rule 8: a long line below the first is shown to its end', function()
  local answer = 'f(\n  first_argument, second_argument, third_one, the_last)\n'
  local c = h.suggesting('local value = |', answer, { cols = 40 })
  shown(c)
  c:shows('the_last)')
end)

test("rule 8: with 'nowrap' a long line runs out of the window", function()
  local c = h.suggesting('local value = compute(|', 'first_argument, second_argument, third_one)', { cols = 40 })
  c:cmd('set nowrap')
  shown(c)
  c:looks_like('nowrap')
end)

test('rule 8: between two texts it is inline, at the end of the line it is behind it', function()
  local c = h.suggesting('print(|) -- end', 'name')
  shown(c)
  c:looks_like('inline')
end)

test("rule 8: beside line numbers, a sign column and 'list'", function()
  local c = h.suggesting('local a = 1\nlocal t = |\nlocal b = 2', '{\n  1,\n}')
  c:cmd('set number signcolumn=yes list listchars=tab:>-,eol:$')
  shown(c)
  c:looks_like('gutter')
end)

test('rule 8: on the last line of the window the lines below it come into view', function()
  local text = {}
  for i = 1, 30 do
    text[i] = ('line %d'):format(i)
  end
  local c = h.suggesting(table.concat(text, '\n') .. '|', '\nmore\nlines', { lines = 12, ft = 'text' })
  shown(c)
  c:looks_like('last-line')
end)

test('rule 8: below a fold and below wrapped lines they come into view, and the text moves no further', function()
  local c = h.suggesting(('line\n'):rep(99) .. 'last|', '\nmore\nlines', { lines = 12, ft = 'text' })
  shown(c)
  c:feed('<Esc>')
  c:cmd('set foldmethod=manual | 1,93fold | normal! G')
  c:feed('A')
  c:feed('<M-Bslash>')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('\\nmore\\nand\\nthe\\nend') Fake.done()")
  shown(c)
  h.has(table.concat(c:screen(1, 12), '\n'), 'end')
  local prose = (('word '):rep(30) .. '\n'):rep(6) .. 'last|'
  c = h.suggesting(prose, '\nmore\nlines', { lines = 20, cols = 60, ft = 'text' })
  shown(c)
  local screen = table.concat(c:screen(1, 20), '\n')
  h.has(screen, 'lines')
  h.ok(c:lua('return vim.fn.winline()') >= 14, screen)
end)

-- ---- 9, 10: what it costs ---------------------------------------------------------------------

test('colours: groups come back after a colour scheme, what the user set stays', function()
  local c = h.suggesting('x = |', 'alpha', { colour = false })
  shown(c)
  local link = "return vim.api.nvim_get_hl(0, { name = ... }).link"
  local want = c:lua("return vim.fn.hlexists('ComplHint') == 1 and 'ComplHint' or 'NonText'")
  h.eq(c:lua(link, 'GemmaGhost'), want)
  c:cmd('highlight GemmaBusy guifg=#ff0000 | highlight clear | highlight GemmaSource guibg=#00ff00')
  c:cmd('colorscheme blue')
  h.eq({ c:lua(link, 'GemmaGhost'), c:lua(link, 'GemmaBusy') }, { want, 'DiagnosticInfo' })
  c:cmd('highlight! link GemmaGhost Comment | doautocmd ColorScheme')
  h.eq(c:lua(link, 'GemmaGhost'), 'Comment', 'a colour scheme may have its own')
  h.eq(c:ghost(), 'alpha', 'nothing goes from the screen')
end)

test('candidates: behind the text stands which one it is, where nothing else stands', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha') Fake.done()")
  shown(c)
  c:feed('<M-]>')
  c:looks_like('candidates-1')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('beta {\\n  one,\\n}') Fake.done()")
  c:wait("require('gemma.ghost').text():find('beta')")
  c:looks_like('candidates-2')
  c:type('beta ')
  c:looks_like('candidates-2-typed')
  c = h.asking('call(|)')
  c:lua("Fake.emit('alpha') Fake.done()")
  shown(c)
  c:feed('<M-]>')
  c:looks_like('candidates-inline')
end)

test('rule 10: text that streams in fast is painted at most every 33 ms', function()
  local c = h.asking('x = |', { config = 'vim.g.gemma = { completion = { max_lines = 90, max_tokens = 500 } }' })
  c:lua([[
    _G.paints = 0
    local set = vim.api.nvim_buf_set_extmark
    vim.api.nvim_buf_set_extmark = function(buf, ns, ...)
      if ns == vim.api.nvim_get_namespaces()['gemma.ghost'] then _G.paints = _G.paints + 1 end
      return set(buf, ns, ...)
    end
    -- Each line in a tick of its own.
    _G.begun = vim.uv.hrtime()
    local n = 0
    local function line()
      n = n + 1
      Fake.emit(('value_%d = %d\n'):format(n, n * 7))
      if n < 60 then vim.defer_fn(line, 1) else Fake.done() end
    end
    line()]])
  c:wait("(require('gemma.ghost').text() or ''):find('value_60')")
  local paints, ms = unpack(c:lua('return { _G.paints, (vim.uv.hrtime() - _G.begun) / 1e6 }'))
  h.ok(paints <= ms / 33 + 3, ('%d paints in %.0f ms'):format(paints, ms))
  h.ok(paints < 60, ('%d paints'):format(paints))
end)

return T
