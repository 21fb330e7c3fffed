--- :GemmaExplain: what is asked, how it streams, and that it stays out of the way.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local CODE = { 'local M = {}', '', 'function M.add(a, b)', '  return a + b', 'end', '', 'return M' }

--- A child with the code in a lua buffer, in Normal mode on line 4.
local function child(o)
  local c = h.child(o)
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false, ...)
    vim.bo.filetype = 'lua'
    vim.bo.modified = false
    vim.api.nvim_win_set_cursor(0, { 4, 2 })
  ]], CODE)
  return c
end

local function text_is(c, text)
  c:wait(([[(function() local a = require('gemma.chat.kept').current()
    return a and table.concat(vim.api.nvim_buf_get_lines(a.view.buffer.buf, 0, -1, false), '\n') == %q end)()]])
    :format(text), 'the answer ' .. text)
end

test('of lines around that are too many for the prompt the nearest are shown', function()
  local c = h.child({ config = 'vim.g.gemma = { explain = { context_lines = 200 } }' })
  c:lua([[local lines = {}
    for i = 1, 401 do lines[i] = ('line %03d %s'):format(i, ('x'):rep(91)) end
    vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)]])
  c:cmd('201,201GemmaExplain')
  c:wait('#Fake.jobs == 1')
  local data = c:lua('return Fake.jobs[1].req.parts[4].data')
  local above, below = data:match('<above>\n(.-)\n</above>'), data:match('<below>\n(.-)\n</below>')
  h.eq({ above:match('^line %d+'), above:match('.*\n(line %d+)') }, { 'line 161', 'line 200' })
  h.eq({ below:match('^line %d+'), below:match('.*\n(line %d+)') }, { 'line 202', 'line 241' })
end)

test('a range streams into a float that does not take the focus', function()
  local c = child()
  local win = c:lua('return vim.api.nvim_get_current_win()')
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Adds ')")
  text_is(c, 'Adds ')
  c:lua("Fake.emit('two numbers.\\n\\nSimple.')")
  text_is(c, 'Adds two numbers.\n\nSimple.')
  c:lua('Fake.done()')
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(c:lua('return vim.api.nvim_get_current_win()'), win)
  h.eq(c:lines(), CODE)
  h.eq(c:lua('return vim.bo.modified'), false)
  c:shows('Adds two numbers.')
  c:shows('Gemma: lines 3-5')
end)

test('the prompt holds the lines, what is around them, and the question', function()
  local c = child()
  c:cmd('3,5GemmaExplain is this fast?')
  c:wait('#Fake.jobs == 1')
  local parts = c:lua('return Fake.jobs[1].req.parts')
  h.eq(vim.tbl_map(function(p) return p.kind end, parts), { 'system', 'text', 'user', 'text' })
  h.has(parts[4].data, '<selection>\n' .. table.concat(CODE, '\n', 3, 5) .. '\n</selection>')
  h.has(parts[4].data, '<above>\nlocal M = {}\n\n</above>')
  h.has(parts[4].data, 'is this fast?')
  local req = c:lua([[local r = Fake.jobs[1].req
    return { r.session, r.priority, r.max_tokens, r.model_sampling }]])
  h.eq(req, { 1, 'ask', 1024, true })
end)

test('without a range it is the function, or the paragraph, around the cursor', function()
  local c = child()
  h.eq(c:lua("return { require('gemma.subject').here(0, 3) }"), { 3, 5 })
  c:lua([[vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a', '', 'b', 'c', '', 'd' })
    vim.bo.filetype = 'nosuchlanguage']])
  h.eq(c:lua("return { require('gemma.subject').here(0, 3) }"), { 3, 4 })
end)

test('the function has its wrapped head, and a call or a chain in it is not one', function()
  -- A parameter list over two lines once was "the function", when the cursor was on the second.
  local c = child()
  for _, case in ipairs({
    { 'c', { 'int x;', '', 'static int add(struct thing *a,', '               int b)', '{', '  return b;', '}' } },
    { 'c', { 'int x;', '', 'static int *add(struct thing *a,', '                int b) {', '  return a;', '}' } },
    { 'vim', { 'let x = 1', '', 'function! Add(a,', '      \\ b)', '  return a:b', 'endfunction' } },
    { 'lua', { 'local x', '', 'function M.add(a,', '    b)', '  a:one()', '    :two()', '    :three(b)', 'end' } },
  }) do
    local ft, lines = case[1], case[2]
    local all = c:lua([[
      local ft, lines = ...
      vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
      vim.bo.filetype = ft
      local out = {}
      for row = 2, #lines - 1 do
        out[#out + 1] = { require('gemma.subject').here(0, row) }
      end
      return out]], ft, lines)
    for i, got in ipairs(all) do
      h.eq(got, { 3, #lines }, ('%s, line %d'):format(ft, i + 2))
    end
  end
end)

test('a declaration without a body is no function', function()
  local c = child()
  c:lua([[vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'int x;', 'int add(int a,', '        int b);' })
    vim.bo.filetype = 'c']])
  h.eq(c:lua("return { require('gemma.subject').here(0, 2) }"), { 1, 3 })
end)

test('in a huge file nothing is parsed: it is the paragraph, unless the highlighter has a tree', function()
  local c = child()
  c:lua([[
    local lines = {}
    for i = 1, 3000 do
      vim.list_extend(lines, { ('function M.f%d(a)'):format(i), '  local x = a', '', '  local y = x', 'end', '' })
    end
    vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
    vim.treesitter.stop(0)
    _G.parsed = 0
    local tree = vim.treesitter.get_parser(0, 'lua')
    local parse = getmetatable(tree).__index.parse
    getmetatable(tree).__index.parse = function(...)
      parsed = parsed + 1
      return parse(...)
    end]])
  local here = [[parsed = 0
    local first, last = require('gemma.subject').here(vim.api.nvim_get_current_buf(), 6003)
    return { first, last, parsed }]]
  h.eq(c:lua(here), { 6004, 6005, 0 })
  c:lua("vim.treesitter.get_parser(0):parse(true) vim.treesitter.start(0, 'lua')")
  h.eq(c:lua(here), { 6001, 6005, 0 })
end)

test('the same again gives the window the focus; another question replaces it', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('first') Fake.done()")
  text_is(c, 'first')
  c:cmd('3,5GemmaExplain')
  h.eq(c:lua([[return vim.api.nvim_get_current_win()
    == require('gemma.chat.kept').current().view.window.win]]), true)
  h.eq(c:lua('return #Fake.jobs'), 1, 'it is not asked again')
  c:cmd('wincmd p')
  c:cmd('3,5GemmaExplain why?')
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return #vim.api.nvim_list_wins()'), 2, 'one float')
end)

test('the same command about other code, or after a failure, asks anew', function()
  -- It gave the focus to the old answer: the key was the lines' numbers, and a failure kept it.
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Adds.') Fake.done()")
  text_is(c, 'Adds.')
  c:lua("vim.api.nvim_buf_set_lines(0, 3, 4, false, { '  return a - b' })")
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 2')
  h.has(c:lua('return Fake.jobs[2].req.parts[4].data'), '  return a - b\nend\n</selection>')
  c:lua("Fake.fail(-5, 'no luck')")
  text_is(c, 'gemma: no luck')
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 3')
  c:lua("Fake.emit('Subtracts.') Fake.done()")
  text_is(c, 'Subtracts.')
  -- A later question that fails takes nothing from the answer that is there.
  c:lua("require('gemma.chat.kept').current():follow('why?')")
  c:wait('#Fake.jobs == 4')
  c:lua("Fake.fail(-5, 'no luck')")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('3,5GemmaExplain')
  h.eq(c:lua('return #Fake.jobs'), 4)
end)

test('q closes it and stops the model', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('first')")
  c:cmd('3,5GemmaExplain')
  c:feed('q')
  h.eq(c:lua('return #vim.api.nvim_list_wins()'), 1)
  h.eq(c:lua('return #Fake.cancelled'), 1)
  h.eq(c:lua([[local ns = vim.api.nvim_get_namespaces()['gemma.chat.source']
    return #vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {})]]), 0, 'the mark on the source')
end)

test('its keys are offered for the window, not for the code, where q records a macro', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Adds.')")
  c:shows('writing · <C-w>w, then <C-c> stops')
  c:lua('Fake.done()')
  c:wait("not require('gemma.chat.kept').current():running()")
  c:shows('─ <C-w>w, then <CR> ask on')
  c:feed('<C-w>w')
  c:shows('─ <CR> ask on')
  c:feed('<C-w>w')
  c:shows('─ <C-w>w, then <CR> ask on')
end)

test('with several windows the key that is offered for it goes into it from any of them', function()
  local c = child()
  c:cmd('split | vsplit')
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Adds.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:shows('─ 4<C-w>w, then <CR> ask on')
  c:cmd('close | close')
  c:shows('─ <C-w>w, then <CR> ask on')
  c:cmd('split | vsplit')
  c:shows('─ 4<C-w>w, then <CR> ask on')
  c:feed('4<C-w>w')
  c:shows('─ <CR> ask on')
end)

test('closing the window in any other way stops the model too', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("vim.api.nvim_win_close(require('gemma.chat.kept').current().view.window.win, true)")
  c:wait('#Fake.cancelled == 1')
  c:lua("Fake.jobs[1].live = true Fake.emit('late') Fake.done()")
  c:wait("require('gemma.engine').state == 'ready'")
  h.eq(c:messages(), {})
end)

test('explaining the explanation replaces it', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('first') Fake.done()")
  text_is(c, 'first')
  c:cmd('3,5GemmaExplain')
  c:cmd('1GemmaExplain')
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return #vim.api.nvim_list_wins()'), 2)
end)

test('a paragraph longer than the window is followed to its end', function()
  -- It is one line of the buffer; a cursor in its first column showed its beginning for ever.
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit(('word '):rep(400)) Fake.emit('theend') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:shows('theend')
end)

test('<C-c> stops and keeps what is there', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('so far')")
  text_is(c, 'so far')
  c:cmd('3,5GemmaExplain')
  c:feed('<C-c>')
  c:wait("not require('gemma.chat.kept').current():running()")
  text_is(c, 'so far')
  c:shows('stopped')
end)

test('gy yanks the code', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Try:\\n```lua\\nreturn b + a\\n```\\nSame.') Fake.done()")
  text_is(c, 'Try:\n```lua\nreturn b + a\n```\nSame.')
  c:cmd('3,5GemmaExplain')
  c:feed('gy')
  h.eq(c:lua('return vim.fn.getreg()'), 'return b + a\n')
end)

--- One whose answer is complete and has the focus.
local function explained()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Adds.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('3,5GemmaExplain')
  return c
end

test('a follow-up goes on in the same conversation', function()
  local c = explained()
  c:lua("vim.ui.input = function(_, fn) fn('and floats?') end")
  c:feed('<CR>')
  c:wait('#Fake.jobs == 2')
  local kinds = c:lua('return vim.tbl_map(function(p) return p.kind end, Fake.jobs[2].req.parts)')
  h.eq(kinds, { 'system', 'text', 'user', 'text', 'model', 'text', 'user', 'text' })
  h.eq(c:lua('return { Fake.jobs[2].req.parts[6].data, Fake.jobs[2].req.parts[8].data }'),
    { 'Adds.', 'and floats?' })
  c:lua("Fake.emit('Yes.') Fake.done()")
  text_is(c, 'Adds.\n\n---\n> and floats?\n\nYes.')
end)

test('all lines that are pasted into a question are asked', function()
  local c = explained()
  c:lua('Plain = vim.paste')
  c:feed('<CR>')
  c:feed('why <C-r>=1<CR>')
  c:lua("vim.fn.setreg('a', { 'f', 'g' }, 'c')")
  c:feed('<C-r>a')
  vim.rpcrequest(c.chan, 'nvim_paste', 'a.lua:1: <x>\n\n  b.lua:2\n', true, 1)
  vim.rpcrequest(c.chan, 'nvim_paste', 'c.lua', true, 3)
  c:feed('?<Left><Left>')
  c:feed('<CR>')
  c:wait('#Fake.jobs == 2')
  local question = 'why 1f\nga.lua:1: <x>\n\n  b.lua:2\nc.lua?'
  h.eq(c:lua('return Fake.jobs[2].req.parts[8].data'), question)
  c:lua("Fake.emit('Because.') Fake.done()")
  text_is(c, 'Adds.\n\n---\n> ' .. question:gsub('\n', '\n> ') .. '\n\nBecause.')
  h.eq(c:lua('return vim.paste == Plain'), true, 'afterwards pasting is what it was')
end)

test('a question that got no answer is asked together with the next one', function()
  -- Stopped while it was still reading, the next prompt was the system text and "why 1?", no code.
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:cmd('3,5GemmaExplain')
  c:feed('<C-c>')
  c:wait("not require('gemma.chat.kept').current():running()")
  c:shows('<CR> ask on')
  c:lua("vim.ui.input = function(_, fn) fn('why 1?') end")
  c:feed('<CR>')
  c:wait('#Fake.jobs == 2')
  local first, second = unpack(c:lua('return { Fake.jobs[1].req.parts, Fake.jobs[2].req.parts }'))
  first[4].data = first[4].data .. '\n\nwhy 1?'
  h.eq(second, first)
  -- Answered once, both are the past; a failure is the same as a stop.
  c:lua("Fake.emit('Because.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  for n, question in ipairs({ 'why 2?', 'why 3?' }) do
    c:lua("require('gemma.chat.kept').current():follow(...)", question)
    c:wait('#Fake.jobs == ' .. n + 2)
    c:lua("Fake.fail(-5, 'no luck')")
    c:wait("not require('gemma.chat.kept').current():running()")
  end
  local data = c:lua('return vim.tbl_map(function(p) return p.data or p.kind end, Fake.jobs[4].req.parts)')
  h.eq(data, { 'system', first[2].data, 'user', first[4].data, 'model', 'Because.', 'user',
    'why 2?\n\nwhy 3?' })
end)

test('a failure is one line in the window', function()
  local c = child()
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.fail(-8, 'the prompt has 9000 tokens, the context 8192')")
  text_is(c, 'gemma: the prompt has 9000 tokens, the context 8192')
end)

test('a question that is not even taken is one line in the window, and can be asked again', function()
  local c = child()
  c:lua("Fake.refuse = 'busy'")
  c:cmd('3,5GemmaExplain')
  text_is(c, 'gemma: busy')
  c:lua("require('gemma').ask({ prompt = 'x', on_done = function(text, why) _G.Got = { text == nil, why } end })")
  c:wait('Got')
  h.eq(c:lua('return Got'), { true, 'busy' })
  h.eq(c:lua([[local engine = require('gemma.engine')
    return { engine.state, engine.busy(), require('gemma.chat.kept').current():running() }]]),
    { 'ready', false, false })
  c:lua('Fake.refuse = nil')
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
end)

test('an excluded file is not read, not even when asked', function()
  local c = child()
  c:cmd('file .env.local')
  c:cmd('1,2GemmaExplain')
  c:wait('#Seen.messages > 0')
  h.eq(c:messages(), { 'gemma: .env.local is excluded (exclude list).' })
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('a selection that cannot fit is told before it is read', function()
  local c = child()
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { ('x'):rep(100000) })")
  c:cmd('%GemmaExplain')
  c:wait('#Seen.messages > 0')
  h.has(c:messages()[1], 'the selection is too long')
end)

test('the API: ask streams and ends with the whole text; its handle cancels', function()
  local c = child()
  c:lua([[
    _G.Got = { pieces = {} }
    _G.Handle = require('gemma').ask({ prompt = 'hello',
      on_token = function(t) table.insert(Got.pieces, t) end,
      on_done = function(text, info) Got.text, Got.info = text or 'nil', info end })]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('a') Fake.emit('b') Fake.done()")
  c:wait('Got.text ~= nil')
  h.eq(c:lua('return { Got.pieces, Got.text, Got.info.reason }'), { { 'a', 'b' }, 'ab', 'eog' })
  c:lua([[Got = {} Handle = require('gemma').ask({ prompt = 'x',
    on_done = function(text, info) Got.text, Got.info = text, info end })]])
  c:wait('#Fake.jobs == 2')
  c:lua('Handle.cancel()')
  c:wait('Got.info ~= nil')
  h.eq(c:lua('return Got.info'), 'cancelled')
end)

test('the API: ask takes earlier turns and a seed, and tells of reading and of thoughts', function()
  local c = child()
  c:lua([[
    _G.Got = { read = {}, thoughts = {} }
    require('gemma').ask({ prompt = 'And then?', seed = 7, thinking = true,
      history = { { role = 'user', text = 'Begin.' }, { role = 'model', text = 'Once.' } },
      on_progress = function(done, total) table.insert(Got.read, { done, total }) end,
      on_thought = function(t) table.insert(Got.thoughts, t) end,
      on_done = function(text) Got.text = text end })]])
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua([[local r = Fake.jobs[1].req
    return { r.seed, r.think, vim.tbl_map(function(p) return p.data or p.kind end, r.parts) }]]),
    { 7, true, { 'user', 'Begin.', 'model', 'Once.', 'user', 'And then?' } })
  c:lua("Fake.read(50, 100) Fake.read(100, 100) Fake.think('Hm') Fake.think('.') Fake.emit('Twice.') Fake.done()")
  c:wait('Got.text')
  h.eq(c:lua('return Got'),
    { read = { { 50, 100 }, { 100, 100 } }, thoughts = { 'Hm', '.' }, text = 'Twice.' })
end)

test('the API: complete works between two strings, filtered', function()
  local c = child()
  c:lua([[require('gemma').complete({ prefix = 'print(', suffix = ')\n', language = 'lua',
    on_done = function(text, _, swallow) _G.Got = { text, swallow } end })]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('x)\\nprint(y)') Fake.done()")
  c:wait('Got ~= nil')
  h.eq(c:lua('return Got'), { 'x)\nprint(y)', 1 })
end)

test('the API: complete at a place in a buffer indents as the buffer does', function()
  local c = child()
  c:lua([[vim.bo.filetype, vim.bo.expandtab, vim.bo.tabstop, vim.bo.shiftwidth = 'lua', false, 4, 4
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'if x then', '\tz()', 'end', 'if y then' })
    require('gemma').complete({ buf = 0, row = 3, col = 9, on_done = function(text) _G.Got = text end })]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('\\n    y()\\nend') Fake.done()")
  c:wait('Got ~= nil')
  h.eq(c:lua('return Got'), '\n\ty()\nend')
end)

test('the API: the model has the end of a line that is very long in its mouth, not all of it', function()
  local c = child()
  c:lua([[require('gemma').complete({ prefix = 'a\n' .. ('x'):rep(5000), suffix = '', language = 'lua',
    on_done = function() end })]])
  c:wait('#Fake.jobs == 1')
  local mouth = c:lua('local p = Fake.jobs[1].req.parts return p[#p].data')
  h.eq({ #mouth < 500, mouth:match('x+$') ~= nil }, { true, true })
end)

return T
