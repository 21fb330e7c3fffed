--- The answer window: what callers other than :GemmaExplain may rely on.

local h = require('helper')
local transcript = require('gemma.chat.transcript')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function kinds(c, n)
  return c:lua('return vim.tbl_map(function(p) return p.kind end, Fake.jobs[...].req.parts)', n)
end

test('a question carries attachments: parts before its text, a line above the answer', function()
  local c = h.child()
  c:lua([[require('gemma.chat').open({ key = 'k', title = 'Gemma: picture', system = 'Be brief.',
    source = 0, prompt = 'What is this?', max_tokens = 64, attachments = {
      { name = 'shot.png', note = '640x480', bytes = 214000, tokens = 266,
        parts = { { kind = 'image', data = '/tmp/shot.png' } } } } })]])
  c:wait('#Fake.jobs == 1')
  h.eq(kinds(c, 1), { 'system', 'text', 'user', 'image', 'text' })
  h.eq(c:lua('return Fake.jobs[1].req.parts[4].data'), '/tmp/shot.png')
  c:lua("Fake.emit('A cat.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(c:lua("return vim.api.nvim_buf_get_lines(require('gemma.chat.kept').current().view.buffer.buf, 0, -1, false)"),
    { '[shot.png · 640x480 · 214 kB · 266 tokens]', '', 'A cat.' })
  -- There is no code to yank, and what stands for the picture was not said.
  c:lua("vim.api.nvim_set_current_win(require('gemma.chat.kept').current().view.window.win)")
  c:feed('gy')
  h.eq(c:lua('return vim.fn.getreg()'), 'A cat.\n')
  -- They stay in the conversation, or the next answer would know nothing of the picture.
  c:lua([[local a = require('gemma.chat.kept').current()
    vim.ui.input = function(_, fn) fn('its colour?') end
    a:follow_up()]])
  c:wait('#Fake.jobs == 2')
  h.eq(kinds(c, 2), { 'system', 'text', 'user', 'image', 'text', 'model', 'text', 'user', 'text' })
end)

test('the line of an attachment is one line without control characters', function()
  h.eq(transcript.attachment({ name = 'a\nb\27[0m.png', parts = {} }), '[a b[0m.png]')
  h.eq(transcript.attachment({ name = 'x', tokens = 1, parts = {} }), '[x · 1 token]')
end)

--- A child with two lines of code and an answer about them that is complete.
local function answered(text, o)
  local c = h.child(o)
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false,
      { 'local M = {}', '', 'function M.add(a, b)', '  return a + b', 'end', '', 'return M' })
    vim.bo.filetype = 'lua']])
  c:cmd('3,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua('Fake.emit(...) Fake.done()', text)
  c:wait("not require('gemma.chat.kept').current():running()")
  return c
end

local function text(c)
  return c:lua("return vim.api.nvim_buf_get_lines(require('gemma.chat.kept').current().view.buffer.buf, 0, -1, false)")
end

test('the window has the border of the user, and fits after the terminal changed its size', function()
  local c = h.child({ cols = 90, lines = 30 })
  if c:lua("return vim.fn.exists('+winborder')") == 1 then
    c:lua("vim.o.winborder = 'double'")
  end
  c:lua([[require('gemma.chat').open({ key = 'k', title = 'Gemma', system = 'S', source = 0,
    prompt = 'P', max_tokens = 64 })]])
  c:wait('#Fake.jobs == 1')
  c:lua('Fake.emit(...) Fake.done()', ('many words in one line '):rep(40))
  c:wait("not require('gemma.chat.kept').current():running()")
  local size = [[local w = require('gemma.chat.kept').current().view.window.win
    local conf = vim.api.nvim_win_get_config(w)
    return { vim.api.nvim_win_get_width(w), vim.api.nvim_win_get_height(w), conf.border[1] }]]
  local corner = c:lua("return vim.fn.exists('+winborder')") == 1 and '╔' or '╭'
  h.eq(c:lua(size), { 80, 12, corner })
  c:cmd('set columns=40 lines=20')
  c:lua("vim.api.nvim_exec_autocmds('VimResized', {})")
  h.eq(c:lua(size), { 36, 9, corner })
  c:cmd('set columns=120 lines=50')
  c:lua("vim.api.nvim_exec_autocmds('VimResized', {})")
  h.eq(c:lua(size), { 80, 12, corner })
  -- It does not grow over the line that was asked about.
  c:lua([[require('gemma.chat').close()
    vim.cmd('set columns=90 lines=40')
    vim.api.nvim_buf_set_lines(0, 0, -1, false, vim.split(('x\n'):rep(40), '\n'))
    vim.cmd('normal! gg23j')
    vim.cmd.redraw()
    require('gemma.chat').open({ key = 'l', title = 'Gemma', system = 'S', source = 0,
      prompt = 'P', max_tokens = 64 })]])
  c:wait('#Fake.jobs == 2')
  c:lua('Fake.emit(...) Fake.done()', ('many words in one line '):rep(90))
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(c:lua(size)[2], 12, 'as many as there are below the cursor')
  c:lua("vim.api.nvim_exec_autocmds('VimResized', {})")
  h.eq(c:lua(size)[2], 12)
end)

test('a float leaves the lines that were asked about in sight', function()
  local c = h.child()
  c:cmd('set columns=90 lines=40')
  c:lua([[vim.api.nvim_buf_set_lines(0, 0, -1, false, vim.split(('x\n'):rep(60), '\n')) vim.cmd.redraw()]])
  local function rows(range)
    c:cmd(range .. 'GemmaExplain')
    local out = c:lua([[vim.cmd.redraw()
      local w = require('gemma.chat.kept').current().view.window.win
      local at = vim.api.nvim_win_get_position(w)[1]
      require('gemma.chat').close()
      return at]])
    return out
  end
  c:cmd('5')
  h.eq(rows('5,12'), 12, 'below them: the border is in the row behind line 12')
  h.ok(rows('20,36') < 20 - 1, 'above them, when there is more room')
  h.eq(rows('2,37'), 5, 'below the cursor, when there is none')
  c:cmd('set wrap')
  c:lua("vim.api.nvim_buf_set_lines(0, 11, 12, false, { ('y'):rep(200) })")
  h.eq(rows('5,12'), 14, 'a line may take several rows')
end)

test('thoughts are one line, opened and closed by za; the history is without them', function()
  local c = h.child({ config = "vim.g.gemma = { explain = { thinking = true, max_tokens = 100 } }" })
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { Fake.jobs[1].req.think, Fake.jobs[1].req.max_tokens }'), { true, 200 })
  c:lua("Fake.think('Let me see.\\nTwo') Fake.think(' lines.\\n')")
  c:wait("#require('gemma.chat.kept').current().view.buffer.thoughts == 1")
  c:wait("require('gemma.chat.kept').current().view.buffer.thoughts[1].text:find('lines')")
  c:shows('thinking')
  c:lua("Fake.emit('\\n\\nSo.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(text(c), { '▸ thought, 5 words', '', 'So.' })
  c:cmd('Gemma ask how?')
  c:feed('za')
  h.eq(text(c), { '▾ thought, 5 words', 'Let me see.', 'Two lines.', '', 'So.' })
  c:feed('zo')
  h.eq(#text(c), 5, 'it is open')
  c:feed('zc')
  h.eq(text(c), { '▸ thought, 5 words', '', 'So.' })
  c:feed('zc')
  h.eq(#text(c), 3, 'it is closed')
  c:lua("require('gemma.chat.kept').current():follow('sure?')")
  c:wait('#Fake.jobs == 2')
  local parts = c:lua('return Fake.jobs[2].req.parts')
  h.eq(parts[6], { kind = 'text', data = '\n\nSo.' })
  h.ok(not vim.inspect(parts):find('Let me see', 1, true), 'no thought in the prompt')
end)

test('gy yanks nothing while there is neither code nor an answer', function()
  local c = h.child()
  c:lua("vim.fn.setreg('\"', 'mine')")
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('So')")
  c:cmd('Gemma ask how?')
  c:feed('gy')
  c:wait('#Seen.messages == 1')
  h.eq({ c:messages(), c:lua('return vim.fn.getreg()') },
    { { 'gemma: there is no code yet, and the answer is still being written.' }, 'mine' })
end)

-- Each line asked for the mark of each thought, which took half a second after a day of questions.
test('colouring a long conversation asks for the mark of each thought once', function()
  local c = h.child()
  local asked, rows = unpack(c:lua([[
    local b = require('gemma.chat.buffer').new()
    for i = 1, 30 do
      b:note({ '> question ' .. i })
      b:write('thought', 'Hm.')
      b:write('text', ('a line\n'):rep(10) .. 'the end')
    end
    local get, asked = vim.api.nvim_buf_get_extmark_by_id, 0
    vim.api.nvim_buf_get_extmark_by_id = function(...)
      asked = asked + 1
      return get(...)
    end
    b:recolour()
    vim.api.nvim_buf_get_extmark_by_id = get
    local rows, ns = {}, vim.api.nvim_get_namespaces()['gemma.chat']
    for _, m in ipairs(vim.api.nvim_buf_get_extmarks(b.buf, ns, 0, -1, { details = true })) do
      rows[#rows + 1] = m[4].hl_group == 'GemmaThought' and b:lines()[m[2] + 1] or nil
    end
    return { asked, rows }]]))
  h.eq(rows, vim.fn['repeat']({ '▸ thought, 1 word' }, 30))
  h.ok(asked <= 30, ('%d marks'):format(asked))
end)

test('za opens the last thought when the cursor is on none, also after an answer without one', function()
  local c = h.child({ config = "vim.g.gemma = { explain = { thinking = true } }" })
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.think('Hm.') Fake.emit('So.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat.kept').current():follow('sure?')")
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('Yes.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('Gemma answers')
  c:feed('G')
  c:feed('za')
  h.eq(vim.list_slice(text(c), 1, 4), { '▾ thought, 1 word', 'Hm.', '', 'So.' })
  c:feed('G')
  c:feed('za')
  h.eq(vim.list_slice(text(c), 1, 3), { '▸ thought, 1 word', '', 'So.' })
end)

test('an open thought grows where it is while the model thinks on', function()
  local c = h.child({ config = "vim.g.gemma = { explain = { thinking = true } }" })
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.think('One.')")
  c:wait("#require('gemma.chat.kept').current().view.buffer.thoughts == 1")
  c:cmd('Gemma ask how?')
  c:feed('za')
  c:lua("Fake.think('\\nTwo.')")
  c:wait("require('gemma.chat.kept').current().view.buffer.thoughts[1].n == 2")
  c:lua("Fake.emit('So.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(text(c), { '▾ thought, 2 words', 'One.', 'Two.', '', 'So.' })
end)

test('what comes while an <expr> mapping waits for a key is written when it has it', function()
  local c = h.child({ config = "vim.g.gemma = { explain = { thinking = true } }" })
  c:lua("vim.keymap.set('n', 'gz', function() return vim.fn.getcharstr() end, { expr = true })")
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.think('Hm.')")
  c:wait("#require('gemma.chat.kept').current().view.buffer.thoughts == 1")
  c:feed('gz')
  c:lua("Fake.think(' So it is.') Fake.emit('One ')")
  c:wait('Fake.heard()')
  c:lua('vim.defer_fn(function() _G.Later = true end, 100)')
  c:wait('Later', 'the turn of the screen, more than once')
  c:lua("Fake.emit('two.\\n\\n') Fake.done()")
  c:wait('Fake.heard()')
  h.eq(text(c), { '▸ thought, 1 word' })
  c:feed('l')
  c:wait("vim.tbl_contains(vim.tbl_map(function(e) return e.name end, Seen.events), 'GemmaAnswerDone')")
  h.eq(text(c), { '▸ thought, 4 words', '', 'One two.' })
  local a = "require('gemma.chat.kept').current()"
  h.eq(c:lua(('local a = %s return { a:running(), vim.bo[a.view.buffer.buf].modifiable, vim.v.errmsg }')
    :format(a)), { false, false, '' })
  c:shows('gy yank')
end)

test('an answer without a word says so', function()
  local c = answered('')
  c:shows('the model said nothing')
  h.eq(text(c), { '' })
end)

-- It began the next question, so that "send less" helped nobody.
test('a question that is too long for the context is not part of the next one', function()
  local c = h.child()
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('So.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat.kept').current():follow(('why? '):rep(100))")
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.fail(require('gemma.errors').code.ETOOLONG, 'n_ctx is 100; send less or raise it')")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:shows('gemma: n_ctx is 100; send less or raise it')
  c:lua("require('gemma.chat.kept').current():follow('sure?')")
  c:wait('#Fake.jobs == 3')
  h.eq(kinds(c, 3), { 'system', 'text', 'user', 'text', 'model', 'text', 'user', 'text' })
  h.eq(c:lua('return Fake.jobs[3].req.parts[8].data'), 'sure?')
end)

test('gh and :Gemma think switch thinking for the next question', function()
  local c = answered('Adds.')
  c:cmd('3,5GemmaExplain')
  c:feed('gh')
  c:lua("require('gemma.chat.kept').current():follow('sure?')")
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return { Fake.jobs[1].req.think, Fake.jobs[2].req.think }'), { false, true })
  c:cmd('Gemma think off')
  h.eq(c:lua("return require('gemma.chat.conversation').thinking()"), false)
  c:cmd('Gemma think maybe')
  c:wait('#Seen.messages == 3')
  h.has(c:messages()[3], 'unknown argument maybe')
end)

test(':Gemma ask is about the buffer, or the range; without code only the question is asked', function()
  local c = h.child()
  c:cmd('Gemma ask what is  a monad?')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return Fake.jobs[1].req.parts[4].data'), 'what is  a monad?')
  c:lua([[Fake.done() vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'one', 'two', 'three' })]])
  c:cmd('Gemma ask why?')
  c:wait('#Fake.jobs == 2')
  h.has(c:lua('return Fake.jobs[2].req.parts[4].data'), '<selection>\none\ntwo\nthree\n</selection>')
  c:cmd('2Gemma ask why?')
  c:wait('#Fake.jobs == 3')
  h.has(c:lua('return Fake.jobs[3].req.parts[4].data'), '<selection>\ntwo\n</selection>')
  h.has(c:lua('return Fake.jobs[3].req.parts[4].data'), '<above>\none\n</above>')
end)

test('of a long buffer :Gemma ask shows what is around the cursor', function()
  local c = h.child({ config = 'vim.g.gemma = { context = { tokens = 256 } }' })
  c:lua([[local l = {} for i = 1, 5000 do l[i] = 'line ' .. i end
    vim.api.nvim_buf_set_lines(0, 0, -1, false, l)
    vim.api.nvim_win_set_cursor(0, { 2500, 0 })]])
  c:cmd('Gemma ask why?')
  c:wait('#Fake.jobs == 1')
  local prompt = c:lua('return Fake.jobs[1].req.parts[4].data')
  local code = prompt:match('<selection>\n(.-)\n</selection>')
  h.ok(#code <= 768 and #code > 700, 'within the budget')
  h.has(code, 'line 2500\n')
end)

test('the same lines begin the prompt whatever is asked, so that the cache is of use', function()
  local c = answered('Adds.')
  c:cmd('3,5Gemma ask is it fast?')
  c:wait('#Fake.jobs == 2')
  local a, b = unpack(c:lua([[return { Fake.jobs[1].req.parts, Fake.jobs[2].req.parts }]]))
  h.eq(a[2], b[2], 'the system turn')
  local n = a[4].data:find('Explain the code', 1, true) - 1
  h.eq(a[4].data:sub(1, n), b[4].data:sub(1, n))
  h.eq(b[4].data:sub(n + 1), 'is it fast?')
end)

test('an earlier answer is opened again, and goes on from where it was', function()
  local c = answered('First.')
  c:cmd('3,5Gemma ask why?')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('Second.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('3,5Gemma ask why?')
  c:feed('q')
  h.eq(c:lua("return require('gemma.chat.kept').current() == nil"), true)
  c:cmd('Gemma answers 2')
  h.eq(text(c), { 'First.' })
  h.eq(c:lua("return vim.api.nvim_get_current_buf() == require('gemma.chat.kept').current().view.buffer.buf"), true)
  c:feed(']a')
  h.eq(text(c), { 'Second.' })
  c:feed('[a')
  h.eq(text(c), { 'First.' })
  c:shows('ask on')
  c:lua("require('gemma.chat.kept').current():follow('and?')")
  c:wait('#Fake.jobs == 3')
  h.eq(c:lua('return Fake.jobs[3].req.parts[6].data'), 'First.')
  h.eq(c:lua('return #vim.api.nvim_list_wins()'), 2, 'one float')
end)

test('closed and opened again at once, it stays open', function()
  local c = answered('First.')
  c:lua([[local chat = require('gemma.chat')
    local one = require('gemma.chat.kept').current()
    one:close()
    chat.reopen(one)]])
  c:lua('return 0')
  h.eq(text(c), { 'First.' })
end)

test(':Gemma answers lets choose among several', function()
  local c = answered('First.')
  c:cmd('3,5Gemma ask why?')
  c:wait('#Fake.jobs == 2')
  c:lua([[Fake.emit('Second.') Fake.done()
    vim.ui.select = function(items, o, fn)
      _G.Shown = vim.tbl_map(o.format_item, items)
      fn(items[2])
    end]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('Gemma answers')
  h.eq(c:lua('return Shown'), { '(no name):3-5 · why?', '(no name):3-5 · Explain.' })
  h.eq(text(c), { 'First.' })
end)

test(':bdelete closes the window as q does, also while the model writes', function()
  -- It leaves a buffer that is valid and has no line: the next piece of text was an error.
  local c = h.child()
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('So far.')")
  c:wait("require('gemma.chat.kept').current().view.buffer:lines()[1] == 'So far.'")
  c:cmd('Gemma ask how?')
  h.eq(c:lua([[vim.cmd.bdelete()
    Fake.emit(' More.')
    return #require('gemma.chat.kept').all()]]), 0, 'not offered before it has ended')
  c:wait('#Fake.cancelled == 1')
  c:wait("#require('gemma.chat.kept').all() == 1")
  h.eq(c:events()[#c:events()], 'GemmaAnswerDone')
  c:cmd('Gemma answers')
  h.eq(text(c), { 'So far. More.' })
  c:shows('stopped · <CR> ask on')
  h.eq(c:messages(), {})
  h.eq(c:lua('return vim.v.errmsg'), '')
end)

test('<C-c> stops an answer that waits for the model, which asks nothing when it is there', function()
  -- Until then it was said to be still writing, and nothing else could be asked.
  local c = h.child()
  c:lua('Fake.hold_load = true')
  c:cmd('Gemma ask how?')
  c:cmd('wincmd w')
  c:feed('<C-c>')
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(c:lua("return require('gemma.chat.kept').current().view.hint.text"), 'stopped')
  c:lua("Fake.loaded() require('gemma.chat.kept').current():follow('why?')")
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return Fake.jobs[1].req.parts[#Fake.jobs[1].req.parts].data'), 'how?\n\nwhy?')
  h.eq(vim.tbl_filter(function(e)
    return e == 'GemmaAnswerDone'
  end, c:events()), { 'GemmaAnswerDone' })
end)

test('a conversation whose buffer was deleted is written into another one', function()
  local c = h.child({ config = "vim.g.gemma = { explain = { thinking = true } }" })
  c:lua([[require('gemma.chat').open({ key = 'k', title = 'Gemma: talk', system = 's', source = 0,
    prompt = 'What is this?', max_tokens = 64, attachments = {
      { name = 'talk.mp3', parts = { { kind = 'audio', data = '/tmp/talk.mp3' } } } } })]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.think('Let me see.\\n') Fake.emit('\\n\\nA talk.\\n\\n') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat.kept').current():follow('about what?')")
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('Birds.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  local before = text(c)
  h.eq(before, { '[talk.mp3]', '', '▸ thought, 3 words', '', 'A talk.', '', '---', '> about what?', '',
    'Birds.' })
  c:lua("vim.cmd.bdelete(require('gemma.chat.kept').current().view.buffer.buf)")
  c:wait("require('gemma.chat.kept').current() == nil")
  c:cmd('Gemma answers')
  h.eq(text(c), before)
  c:shows('<CR> ask on · gy yank')
  c:feed('za')
  h.eq(text(c)[4], 'Let me see.')
  c:lua("require('gemma.chat.kept').current():follow('sure?')")
  c:wait('#Fake.jobs == 3')
  h.eq(kinds(c, 3), { 'system', 'text', 'user', 'audio', 'text', 'model', 'text', 'user', 'text', 'model',
    'text', 'user', 'text' })
  -- What decoding tells of the talk still finds its line.
  c:lua("Fake.emit('Yes.') Fake.done(nil, nil, { n_media = 75 })")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(text(c)[1], '[talk.mp3 · 75 tokens]')
  h.eq(c:lua('return #vim.api.nvim_list_bufs()'), 2, 'the old buffer is gone')
  c:lua("vim.cmd.bwipeout(require('gemma.chat.kept').current().view.buffer.buf)")
  c:wait("#require('gemma.chat.kept').all() == 0")
  h.eq(c:lua('return vim.v.errmsg'), '')
end)

test('an answer that is dropped for good says so, and its buffer goes', function()
  local c = h.child()
  c:lua([[_G.Gone = {}
    for i = 1, 22 do
      require('gemma.chat').open({ key = 'k' .. i, title = 't', system = 's', source = 0,
        prompt = 'q', max_tokens = 8, on_forget = function() table.insert(Gone, i) end })
    end]])
  h.eq(c:lua('return Gone'), { 1, 2 })
  h.eq(c:lua("return #require('gemma.chat.kept').all()"), 20)
  c:lua("vim.cmd.bwipeout(require('gemma.chat.kept').current().view.buffer.buf)")
  c:wait('#Gone == 3')
  h.eq(c:lua('return #vim.api.nvim_list_wins()'), 1)
end)

test('a conversation is saved as a file, never over another one unasked', function()
  local c = answered('Adds.')
  c:cmd('Gemma save talk with spaces.md')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages()[1], 'gemma: saved as talk with spaces.md.')
  local saved = vim.fn.readfile(c.dir .. '/talk with spaces.md')
  h.eq(saved, { '# Gemma: lines 3-5', '', '## Question', '', '(no name):3-5', '', 'Explain.', '',
    '```lua', 'function M.add(a, b)', '  return a + b', 'end', '```', '', '## Answer', '', 'Adds.' })
  c:cmd('Gemma save talk with spaces.md')
  c:wait('#Seen.messages == 2')
  h.has(c:messages()[2], 'exists. Add ! to replace it.')
  c:cmd('Gemma! save talk with spaces.md')
  c:wait('#Seen.messages == 3')
  c:cmd('Gemma save no/such/folder.md')
  c:wait('#Seen.messages == 4')
  h.has(c:messages()[4], 'cannot write no/such/folder.md')
  c:cmd([[Gemma save my\ talk.md]])
  c:wait('#Seen.messages == 5')
  h.eq(c:messages()[5], 'gemma: saved as my talk.md.')
  h.ok(vim.uv.fs_stat(c.dir .. '/my talk.md'))
  assert(vim.uv.fs_symlink(c.dir .. '/elsewhere', c.dir .. '/link.md'))
  c:cmd('Gemma! save link.md')
  c:wait('#Seen.messages == 6')
  h.has(c:messages()[6], 'link.md exists. Give another name.')
  h.eq(vim.uv.fs_stat(c.dir .. '/elsewhere'), nil)
end)

test(':w with a name saves what is in the window', function()
  local c = answered('Adds.')
  c:cmd('3,5GemmaExplain')
  c:cmd('write here.md')
  h.eq(vim.fn.readfile(c.dir .. '/here.md'), { 'Adds.' })
end)

test('an answer can be shown in a split', function()
  for _, win in ipairs({ 'split', 'vsplit' }) do
    local c = answered('Adds 100 % of them.', { config = ("vim.g.gemma = { explain = { win = '%s' } }"):format(win) })
    local a = c:lua([[local a = require('gemma.chat.kept').current()
      local conf = vim.api.nvim_win_get_config(a.view.window.win)
      return { conf.relative, vim.api.nvim_win_get_width(a.view.window.win), vim.wo[a.view.window.win].winbar }]])
    h.eq(a[1], '')
    h.eq(a[2] < 70, win == 'vsplit')
    h.has(a[3], 'ask on')
    c:shows('Adds 100 % of them.')
    h.eq(c:lua('return vim.wo.winbar'), '', 'the window of the code')
    c:cmd('3,5GemmaExplain')
    c:feed('q')
    h.eq(c:lua('return #vim.api.nvim_list_wins()'), 1)
  end
end)

test('a split is made beside a window, not beside a float; without room for it there is a float', function()
  -- Both were errors, the first in Neovim 0.10 only, and a buffer was left behind.
  local float = [[local o = { relative = 'editor', row = 1, col = 1, width = 20, height = 5 }
    vim.api.nvim_open_win(vim.api.nvim_create_buf(false, true), true, o)]]
  for _, case in ipairs({
    { 'split', float, '' },
    { 'vsplit', float, '' },
    { 'split', "vim.cmd('set winheight=12 winminheight=12')", 'win' },
    { 'vsplit', "vim.cmd('set winwidth=60 winminwidth=60')", 'win' },
  }) do
    local win, before, relative = unpack(case)
    local what = win .. ' after ' .. before
    local c = h.child({ config = ("vim.g.gemma = { explain = { win = '%s' } }"):format(win) })
    c:lua(before)
    local left = 'return { #vim.api.nvim_list_wins(), #vim.api.nvim_list_bufs() }'
    local there = c:lua(left)
    c:cmd('Gemma ask how?')
    c:wait('#Fake.jobs == 1', what)
    c:lua("Fake.emit('One.') Fake.done()")
    c:wait("not require('gemma.chat.kept').current():running()")
    h.eq(c:lua([[local win = require('gemma.chat.kept').current().view.window.win
      return vim.api.nvim_win_get_config(win).relative]]), relative, what)
    c:shows('One.')
    c:cmd('Gemma ask how?')
    c:feed('q')
    c:lua("require('gemma.chat.kept').all()[1]:forget()")
    h.eq({ c:lua(left), c:messages() }, { there, {} }, what)
  end
end)

test('a float that was made a split is one: it has a bar, and the height that the user gave it', function()
  -- In Neovim 0.10 each change of the window was an error, since a split has no border.
  local c = h.child({ cols = 100 })
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:cmd('wincmd w')
  c:feed('<C-w>J')
  c:cmd('resize 3')
  c:lua("Fake.emit('1\\n2\\n3\\n4\\n5\\n6') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.has(c:lua('return vim.wo.winbar'), 'ask on')
  c:cmd('wincmd p')
  c:cmd('wincmd p')
  h.eq(c:lua('return { vim.api.nvim_win_get_height(0), vim.fn.line("$"), vim.v.errmsg }'), { 3, 6, '' })
end)

test('<C-w>T takes an answer to a tab page of its own, where it goes on', function()
  -- The window that it had was closed by that: the answer was stopped, and the new one knew no keys.
  for _, win in ipairs({ 'float', 'split' }) do
    local c = h.child({ cols = 100, config = ("vim.g.gemma = { explain = { win = '%s' } }"):format(win) })
    c:cmd('Gemma ask how?')
    c:wait('#Fake.jobs == 1')
    c:cmd('wincmd w')
    c:feed('<C-w>T')
    c:wait("require('gemma.chat.kept').current() ~= nil")
    c:lua("Fake.emit('One.') Fake.done()")
    c:wait("not require('gemma.chat.kept').current():running()")
    h.eq({ c:lines(), c:lua('return Fake.cancelled') }, { { 'One.' }, {} }, win)
    h.has(c:lua('return vim.wo.winbar'), 'ask on')
    c:feed('q')
    h.eq(c:lua('return { #vim.api.nvim_list_tabpages(), #vim.api.nvim_list_wins() }'), { 1, 1 }, win)
    -- Closed as any other window it is closed.
    c:cmd('Gemma answers')
    c:cmd('close')
    c:wait("require('gemma.chat.kept').current() == nil")
  end
end)

test('a window in which something else is shown now belongs to the user, and stays', function()
  -- The next question closed it by force, a changed file and all; the last one got a new buffer.
  local c = answered('Adds.', { config = "vim.g.gemma = { explain = { win = 'split' } }" })
  c:cmd('3,5GemmaExplain')
  c:cmd('edit b.lua')
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'local b = 1' }) _G.Mine = vim.api.nvim_get_current_win()")
  c:cmd('GemmaExplain')
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return { Mine == vim.api.nvim_get_current_win(), #vim.api.nvim_list_wins() }'), { true, 3 })
  h.eq(c:lines(), { 'local b = 1' })
  c:lua("Fake.emit('One.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(text(c), { 'One.' })
  -- The same when an earlier answer is opened again, from the only window there is.
  c:cmd('GemmaExplain')
  c:cmd('edit c.lua | only')
  c:cmd('Gemma answers 1')
  h.eq(text(c), { 'One.' })
  h.eq(c:lua([[return vim.tbl_map(function(w)
    return vim.fs.basename(vim.api.nvim_buf_get_name(vim.api.nvim_win_get_buf(w)))
  end, vim.api.nvim_list_wins())]]), { 'c.lua', '' })
end)

test('the last window shows something else when its answer is closed, and a float above it stays', function()
  -- The float showed something else, if the cursor was there.
  local c = answered('Adds.', { config = "vim.g.gemma = { explain = { win = 'split' } }" })
  c:cmd('set hidden | close')
  c:lua([[_G.Float = vim.api.nvim_create_buf(false, true)
    vim.api.nvim_open_win(Float, true, { relative = 'editor', row = 1, col = 1, width = 20, height = 3 })
    require('gemma.chat').close()]])
  h.eq(c:lua('return vim.api.nvim_get_current_buf() == Float'), true)
  h.eq(c:lua("return require('gemma.chat.kept').current() == nil"), true)
  h.eq(c:lua("return vim.fn.win_findbuf(require('gemma.chat.kept').all()[1].view.buffer.buf)"), {})
end)

test('Markdown has colours while it streams, line by line', function()
  local c = h.child()
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  local function groups()
    return c:lua([[local a = require('gemma.chat.kept').current()
      local ns = vim.api.nvim_get_namespaces()['gemma.chat']
      return vim.tbl_map(function(m) return { m[2], m[4].hl_group } end,
        vim.api.nvim_buf_get_extmarks(a.view.buffer.buf, ns, 0, -1, { details = true }))]])
  end
  c:lua("Fake.emit('# He')")
  c:wait("#vim.api.nvim_buf_get_lines(require('gemma.chat.kept').current().view.buffer.buf, 0, 1, false)[1] > 0")
  h.eq(groups(), { { 0, 'GemmaHeading' } })
  c:lua("Fake.emit('ad\\n```lua\\n# code\\n```\\ntext `x`')")
  c:wait("vim.api.nvim_buf_line_count(require('gemma.chat.kept').current().view.buffer.buf) == 5")
  h.eq(groups(), { { 0, 'GemmaHeading' }, { 1, 'GemmaFence' }, { 2, 'GemmaCode' },
    { 3, 'GemmaFence' }, { 4, 'GemmaCode' } })
end)

test('what comes after a block of code at the end of an answer is no code', function()
  local c = answered('```lua\nx\n```\n\n')
  c:lua("require('gemma.chat.kept').current():follow('why?')")
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('Because.')")
  c:wait("require('gemma.chat.kept').current().view.buffer:lines()[8] == 'Because.'")
  h.eq(c:lua([[local a = require('gemma.chat.kept').current()
    local ns = vim.api.nvim_get_namespaces()['gemma.chat']
    return vim.tbl_map(function(m) return { m[2], m[4].hl_group } end,
      vim.api.nvim_buf_get_extmarks(a.view.buffer.buf, ns, 0, -1, { details = true }))]]),
    { { 0, 'GemmaFence' }, { 1, 'GemmaCode' }, { 2, 'GemmaFence' }, { 5, 'GemmaQuote' } })
end)

test('what the model writes is never obeyed: no modeline, no escape, no command', function()
  local c = h.child()
  c:cmd('set modeline modelines=5')
  c:cmd('Gemma ask how?')
  c:wait('#Fake.jobs == 1')
  c:lua([[Fake.emit('vim: set ts=3 ft=lua:\27]52;c;eA==\7\194\155m\r\n`:qall!`') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('Gemma ask how?')
  h.eq(text(c), { 'vim: set ts=3 ft=lua:]52;c;eA==m', '`:qall!`' })
  h.eq(c:lua('return { vim.bo.tabstop, vim.bo.filetype, vim.bo.modeline }'), { 8, '', false })
end)

return T
