--- Ghost text from asking to accepting, with an engine that says what the test wants.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local shown, hidden = h.shown, h.hidden

test('an answer is shown at the cursor and accepted as it is', function()
  local c = h.suggesting('local x = |', 'compute(1, 2)')
  h.eq(shown(c), 'compute(1, 2)')
  h.eq(c:screen(1, 1), { 'local x = compute(1, 2)' })
  h.eq(c:lines(), { 'local x = ' }, 'the buffer is untouched')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'local x = compute(1, 2)' })
  h.eq(c:cursor(), { 1, 23 })
  h.ok(hidden(c))
end)

test('typing asks by itself after a pause, with healing and the typing priority', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('local x = ')
  c:wait('#Fake.jobs > 0', 'a request')
  local req = c:lua([[local r = Fake.jobs[#Fake.jobs].req
    return { r.session, r.priority, r.heal, r.max_tokens, r.parts[#r.parts].data }]])
  h.eq(req, { 0, 'typing', true, 96, '```lua\nlocal x = ' })
  c:lua("Fake.emit('1 + 2') Fake.done()")
  h.eq(shown(c), '1 + 2')
end)

test('what was typed while the model was loaded is completed without another key', function()
  local c = h.child()
  c:lua('Fake.hold_load = true')
  c:insert_at('|')
  c:wait('#Fake.loads == 1')
  c:type('local x = ')
  h.eq(c:lua('return #Fake.jobs'), 0)
  c:lua('Fake.loaded()')
  c:wait('#Fake.jobs == 1', 'a request')
  h.eq(c:lua('local p = Fake.jobs[1].req.parts return p[#p].data'), '```lua\nlocal x = ')
end)

test('a model that comes into an Insert mode without a key waits for one', function()
  local c = h.child()
  c:lua('Fake.hold_load = true')
  c:insert_at('local x = |')
  c:wait('#Fake.loads == 1')
  c:type('1')
  c:feed('<Esc>A')
  c:lua('Fake.loaded()')
  c:wait('#Fake.warm == 1', 'the buffer is read ahead')
  h.eq(c:lua('vim.wait(300, function() return #Fake.jobs > 0 end) return #Fake.jobs'), 0)
end)

test('a NUL in the line breaks neither the question nor several lines of an answer', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:lua([[vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a\0 )\0' }) vim.api.nvim_win_set_cursor(0, { 1, 3 })]])
  c:type('x')
  c:wait('#Fake.jobs > 0', 'a request')
  c:lua("Fake.emit(' in y do\\n  z()\\nend') Fake.done()")
  h.has(shown(c), 'in y do')
  h.eq(c:lua('return vim.v.errmsg'), '')
end)

test('min_chars counts characters, not the bytes of one', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  for n, text in ipairs({ '漢', '漢字', '漢字x' }) do
    c:type('y')
    c:wait('#Fake.jobs == ' .. n)
    c:lua('Fake.emit(...) Fake.done()', text)
    c:wait("require('gemma.engine').state == 'ready'")
    h.eq(c:lua("return require('gemma').visible()"), n == 3, text)
  end
end)

test('a burst of keys makes one request, not one for each', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('local value = 1')
  c:wait('#Fake.jobs > 0', 'a request')
  h.eq(c:lua('return #Fake.jobs'), 1)
end)

test('several lines are drawn as several lines', function()
  local c = h.suggesting('local function add(|\n\nreturn 1', 'a, b)\n  return a + b\nend')
  shown(c)
  h.eq(c:screen(1, 4),
    { 'local function add(a, b)', '  return a + b', 'end', '' })
  c:feed('<M-l>')
  h.eq(c:lines(), { 'local function add(a, b)', '  return a + b', 'end', '', 'return 1' })
  h.eq(c:cursor(), { 3, 3 })
end)

test('text grows by whole lines and is never rewritten', function()
  local c = h.asking('local t = |', { config = 'vim.g.gemma = { completion = { first_paint = 10000 } }' })
  c:lua("Fake.emit('{\\n  a')")
  h.eq(shown(c), '{')
  c:lua("Fake.emit(' = 1,\\n')")
  c:wait("require('gemma.ghost').text() == '{\\n  a = 1,'")
  c:lua("Fake.emit('}') Fake.done()")
  c:wait("require('gemma.ghost').text() == '{\\n  a = 1,\\n}'")
  local clears = vim.tbl_filter(function(e)
    return e == 'GemmaGhostClear'
  end, c:events())
  h.eq(#clears, 0, 'it was never taken down')
end)

test('one extmark, the same from the first key to the last', function()
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  local marks = [[local ns = vim.api.nvim_get_namespaces()['gemma.ghost']
    return vim.tbl_map(function(m) return { m[1], m[3] } end,
      vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {}))]]
  h.eq(c:lua(marks), { { 1, 4 } })
  c:feed('a')
  h.eq(c:lua(marks), { { 1, 5 } })
  c:feed('<Esc>')
  h.eq(c:lua(marks), {})
end)

test('a slow line is shown by words', function()
  local c = h.asking('x = |', { config = 'vim.g.gemma = { completion = { first_paint = 0 } }' })
  c:lua("Fake.emit('alpha + be')")
  h.eq(shown(c), 'alpha')
  c:lua("Fake.emit('ta + ')")
  c:wait("require('gemma.ghost').text() == 'alpha + beta'")
end)

test('typing what it says keeps it, and generation goes on', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha\\n')")
  h.eq(shown(c), 'alpha')
  c:type('alp')
  h.eq(c:ghost(), 'ha')
  h.eq(c:screen(1, 1), { 'x = alpha' })
  h.eq(c:lua('return #Fake.jobs'), 1, 'no new request')
  h.eq(c:lua('return #Fake.cancelled'), 0, 'nothing was cancelled')
  c:lua("Fake.emit('y = 2') Fake.done()")
  c:wait("require('gemma.ghost').text() == 'ha\\ny = 2'")
end)

test('typing through a line break keeps the next lines', function()
  local c = h.suggesting('if x then|', '\nfoo()\nend')
  shown(c)
  c:lua('vim.bo.indentexpr = "" vim.bo.autoindent = true')
  c:feed('<CR>')
  h.eq(c:ghost(), 'foo()\nend')
  c:type('foo()')
  h.eq(c:ghost(), '\nend')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'if x then', 'foo()', 'end' })
end)

test('backspace puts a character back in front', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:type('al')
  h.eq(c:ghost(), 'pha')
  c:feed('<BS>')
  h.eq(c:ghost(), 'lpha')
  c:feed('<BS><BS>')
  h.ok(hidden(c), 'deleting what stood before it ends it')
end)

test('another key takes it down in the same tick and stops the model', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha\\n')")
  shown(c)
  c:lua([[vim.api.nvim_create_autocmd('TextChangedI', { once = true, callback = function()
    _G.after_key = require('gemma.ghost').text() or 'none' end })]])
  c:feed('q')
  h.eq(c:lua('return _G.after_key'), 'none')
  h.eq(c:lua('return #Fake.cancelled'), 1)
  c:wait('#Fake.jobs > 1', 'the next request')
end)

test('an answer that comes too late is dropped', function()
  local c = h.asking('x = |')
  c:type('q')
  c:lua("Fake.jobs[1].live = true Fake.emit('alpha', 1) Fake.done(1)")
  c:wait('Fake.heard()')
  h.ok(hidden(c))
end)

test('one who types ahead of the model and with it is not disturbed', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alp')")
  c:wait("require('gemma.engine').state == 'generating'")
  c:type('alpha')
  h.eq(c:lua('return #Fake.cancelled'), 0)
  c:lua("Fake.emit('ha + beta') Fake.done()")
  h.eq(shown(c), ' + beta')
end)

test('one who types ahead and away from the model gets a new answer', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('al')")
  c:wait("require('gemma.engine').state == 'generating'")
  c:type('alle')
  c:lua("Fake.emit('pha') Fake.done()")
  c:wait('#Fake.jobs > 1', 'the next request')
  h.ok(hidden(c))
end)

test('an edit elsewhere in the buffer makes it stale', function()
  local c = h.suggesting('a\nb\nx = |', 'alpha')
  shown(c)
  c:lua("vim.api.nvim_buf_set_lines(0, 0, 1, false, { 'changed' })")
  c:feed('a')
  h.ok(hidden(c))
end)

test('a movement without an edit takes it down and asks for nothing', function()
  local c = h.suggesting('x = |\nnext line', 'alpha')
  shown(c)
  c:feed('<Down>')
  h.ok(hidden(c))
  h.eq(c:lua('return #Fake.jobs'), 1)
end)

test("it goes where 'virtualedit' lets the cursor go behind the text", function()
  local c = h.suggesting('x = |', 'alpha')
  c:lua("vim.o.virtualedit = 'all'")
  shown(c)
  c:feed('<Right>')
  h.ok(hidden(c))
  h.eq(c:lua('return #Fake.jobs'), 1)
end)

for _, keys in ipairs({ '<Esc>', '<C-c>', '<C-o>' }) do
  test('it goes with ' .. keys, function()
    local c = h.suggesting('x = |', 'alpha')
    shown(c)
    c:feed(keys)
    h.ok(hidden(c))
    h.eq(c:lines(), { 'x = ' })
  end)
end

test('it goes when the buffer or the window is left', function()
  for _, cmd in ipairs({ 'enew!', 'new' }) do
    local c = h.suggesting('x = |', 'alpha')
    shown(c)
    c:cmd(cmd)
    h.ok(hidden(c), cmd)
  end
end)

test('nothing is left behind when the buffer is wiped under it', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha\\nbeta')")
  shown(c)
  c:cmd('bwipeout!')
  h.ok(hidden(c))
  c:lua("Fake.emit('more\\n') Fake.done()")
  c:insert_at('y = |')
  h.eq(c:messages(), {})
end)

test('accept and u: exactly the accepted text goes, then what was typed before', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('x = ')
  c:wait('#Fake.jobs > 0')
  c:lua("Fake.emit('alpha\\nbeta') Fake.done()")
  shown(c)
  c:feed('<M-l>')
  c:type('!?')
  h.eq(c:lines(), { 'x = alpha', 'beta!?' })
  c:feed('<Esc>u')
  h.eq(c:lines(), { 'x = alpha', 'beta' }, 'what was typed after it')
  c:feed('u')
  h.eq(c:lines(), { 'x = ' }, 'the accepted text')
  c:feed('u')
  h.eq(c:lines(), { '' })
  c:feed('<C-r><C-r>')
  h.eq(c:lines(), { 'x = alpha', 'beta' }, 'redo')
end)

test('a word at a time, as iskeyword has it, the rest stays in the same tick', function()
  local c = h.suggesting('x = |', 'foo_bar.baz(1)')
  shown(c)
  local want = { 'foo_bar', '.', 'baz', '(', '1', ')' }
  local line = 'x = '
  for i, w in ipairs(want) do
    c:feed('<M-Right>')
    line = line .. w
    h.eq(c:lines(), { line })
    if i < #want then
      h.eq(c:ghost(), table.concat(want, '', i + 1))
    end
  end
  h.ok(hidden(c))
end)

test('words of other scripts are words', function()
  local c = h.suggesting('x = |', 'größe + 世界')
  shown(c)
  c:feed('<M-Right>')
  h.eq(c:lines(), { 'x = größe' })
  c:feed('<M-Right>')
  h.eq(c:lines(), { 'x = größe +' })
end)

test('a line at a time', function()
  local c = h.suggesting('f(|', 'a,\n  b,\n  c)')
  shown(c)
  c:feed('<M-Down>')
  h.eq(c:lines(), { 'f(a,' })
  h.eq(c:ghost(), '\n  b,\n  c)')
  c:feed('<M-Down>')
  h.eq(c:lines(), { 'f(a,', '  b,' })
  h.eq(c:screen(1, 3), { 'f(a,', '  b,', '  c)' })
  c:feed('<M-Down>')
  h.eq(c:lines(), { 'f(a,', '  b,', '  c)' })
end)

test('each partial accept is one undo step', function()
  local c = h.suggesting('x = |', 'foo bar')
  shown(c)
  c:feed('<M-Right><M-Right>')
  h.eq(c:lines(), { 'x = foo bar' })
  c:feed('<Esc>u')
  h.eq(c:lines(), { 'x = foo' })
  c:feed('u')
  h.eq(c:lines(), { 'x = ' })
end)

test('accepting while the model still writes keeps the rest coming', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha\\nbeta')")
  h.eq(shown(c), 'alpha')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'x = alpha' })
  c:lua("Fake.emit(' = 2') Fake.done()")
  h.eq(shown(c), '\nbeta = 2')
end)

test('a closer that is there is not shown twice', function()
  local c = h.suggesting('print(|)', 'name)')
  h.eq(shown(c), 'name')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'print(name)' })
end)

test('closers that the text replaces are swallowed on accept', function()
  local c = h.suggesting('call(|)', 'function()\n  x()\nend)')
  h.eq(shown(c), 'function()\n  x()\nend')
  c:feed('<C-]><Esc>')
  c = h.suggesting('y = (a |)', '+ b) * c', { config = 'vim.g.gemma={completion={max_lines=2}}' })
  h.eq(shown(c), '+ b) * c')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'y = (a + b) * c' })
  h.eq(c:cursor(), { 1, 15 })
end)

test('closers that the text replaces are swallowed with the piece that has them', function()
  local c = h.suggesting('f(|)', 'a) + b')
  for _, want in ipairs({ 'f(a)', 'f(a)', 'f(a) +', 'f(a) + b' }) do
    shown(c)
    c:feed('<M-Right>')
    h.eq(c:lines(), { want })
  end
  c = h.suggesting('f(|)', '"a") + b')
  shown(c)
  while not h.hidden(c) do
    c:feed('<M-Right>')
  end
  h.eq(c:lines(), { 'f("a") + b' })
  c = h.suggesting('if (|)', 'a) {\n  x();\n}', { ft = 'c' })
  for _ = 1, 3 do
    shown(c)
    c:feed('<M-Down>')
  end
  h.eq(c:lines(), { 'if (a) {', '  x();', '}' })
end)

-- The rest began within the quote, so that its end was taken for a beginning that hides what follows.
test('a closer that is there is not shown again behind the quote that was typed', function()
  for _, key in ipairs({ '"', '<M-Right>' }) do
    local c = h.suggesting('print(|)', '"hello")')
    h.eq(shown(c), '"hello"')
    c:feed(key)
    h.eq(c:ghost(), 'hello"')
    c:feed('<M-l>')
    h.eq(c:lines(), { 'print("hello")' })
  end
end)

test('an accept key that comes in one read with what was predicted takes the rest', function()
  for keys, want in pairs({ ['al<M-l>'] = 'x = alpha beta', ['q<M-l>'] = 'x = q' }) do
    local c = h.suggesting('x = |', 'alpha beta')
    shown(c)
    c:feed(keys)
    h.eq(c:lines(), { want })
  end
  -- What comes back at once was not on the screen when the key was pressed.
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  c:type('q')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('uux zzz') Fake.done()")
  h.eq(shown(c), 'uux zzz')
  c:feed('<BS><M-l>')
  h.eq({ c:lines(), c:ghost() }, { { 'x = ' }, 'alpha beta' })
end)

-- They stand at the left margin, which was taken for the end of what is open.
test('lines of the preprocessor, labels and access specifiers do not close what is open', function()
  for text, answer in pairs({
    ['class A {\npublic:\n  int x;\n|'] = '};',
    ['int f(int x)\n{\n#ifdef D\n  g();\n#endif\n  |'] = 'return 0;\n}',
    ['int f(int x)\n{\n  g();\nout: // all of it\n  |'] = 'return 0;\n}',
    ['class D : public B {\n  int x;\n|'] = '};',
    ['class A {\npublic slots:\n  int x;\n|'] = '};',
  }) do
    local c = h.asking(text, { ft = 'cpp' })
    c:lua('Fake.emit(...) Fake.done()', answer)
    h.eq(shown(c), answer)
  end
end)

-- A pattern of `case` was taken for a bracket too many, and the suggestion ended before it.
test('in a shell a bracket may close what nothing has opened', function()
  local text = 'case $1 in\n  start) run ;;\n  sto|\nesac'
  local answer = 'p) halt ;;\n  *) usage ;;'
  for ft, want in pairs({ sh = answer, zsh = answer, lua = 'p' }) do
    local c = h.asking(text, { ft = ft })
    c:lua('Fake.emit(...) Fake.done()', answer)
    h.eq(shown(c), want, ft)
  end
end)

test('a closer put in by an autopairs plugin does not disturb', function()
  local c = h.suggesting('print|', '(name)')
  shown(c)
  c:lua([[vim.keymap.set('i', '(', '()<Left>')]])
  c:feed('(')
  h.eq(c:lines(), { 'print()' })
  h.eq(c:ghost(), 'name')
  c:type('name')
  h.ok(hidden(c))
end)

test('tabs are drawn as wide as the buffer draws them', function()
  local c = h.suggesting('a|', '\tb\n\tc')
  c:lua('vim.bo.tabstop, vim.bo.expandtab = 4, false')
  c:feed('<C-]>')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('\\tb\\n\\tc') Fake.done()")
  shown(c)
  h.eq(c:screen(1, 2), { 'a   b', '    c' })
  c:feed('<M-l>')
  h.eq(c:lines(), { 'a\tb', '\tc' }, 'tabs stay tabs')
end)

test('control characters never reach the screen or the buffer', function()
  local c = h.suggesting('x = |', 'alpha\27[2Jbeta')
  h.eq(shown(c), 'alpha')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'x = alpha' })
end)

test('garbage of any kind raises no error', function()
  local c = h.asking('x = |')
  c:lua([[
    math.randomseed(7)
    for i = 1, 300 do
      local n = {}
      for k = 1, math.random(1, 6) do n[k] = string.char(math.random(0, 255)) end
      Fake.emit(table.concat(n))
    end
    Fake.done()
  ]])
  c:wait("require('gemma.engine').state == 'ready'")
  c:feed('<M-l>')
  h.eq(c:messages(), {})
end)

test('buffers with NUL, broken UTF-8 and a huge line can be completed in', function()
  local c = h.child()
  c:lua([[
    local f = io.open('odd.txt', 'wb')
    f:write('a\0b\255\254\n', ('y'):rep(10 * 1024 * 1024), '\nend') f:close()
    vim.o.wrap = false
    vim.cmd('edit odd.txt')
    vim.g.gemma = { context = { max_file = 2 ^ 30 } }
    vim.api.nvim_win_set_cursor(0, { 1, 2 })
  ]])
  c:feed('i')
  c:wait("require('gemma.engine').is_loaded()")
  for _, pos in ipairs({ { 1, 2 }, { 2, 5000000 }, { 3, 1 } }) do
    c:lua('vim.api.nvim_win_set_cursor(0, ...)', pos)
    local n = c:lua('return #Fake.jobs')
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs > ' .. n)
    c:lua("Fake.emit('ok ok') Fake.done()")
    h.eq(shown(c), 'ok ok')
    c:feed('<C-]>')
  end
  h.eq(c:messages(), {})
end)

-- The offset behind the last line leaves out a line end that the file will not have. A length made
-- from it was one too small: errors at the end of the line, and closers that nobody saw before it.
test('on the last line of a file that keeps no final newline it is as on any other', function()
  for _, option in ipairs({ 'nofixendofline', 'binary' }) do
    local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 0 } }' })
    c:lua([[
      local f = io.open('a.lua', 'wb')
      f:write('local x = {\n}') f:close()
      vim.cmd('set ' .. ... .. ' | edit a.lua')
      require('gemma').load()]], option)
    c:wait("require('gemma.engine').is_loaded()")
    h.eq(c:lua("return require('gemma.place').likeness(0, 0, 11).right"), '\n}')
    -- First without autocommands, whose errors wait for a key, and this test for the child.
    c:cmd('set eventignore=all')
    c:feed('GA')
    h.eq(c:lua("return require('gemma.allow').reason(false)"), vim.NIL)
    c:cmd('set eventignore=')
    c:feed('<Esc>A')
    c:type(' f(')
    c:wait('#Fake.jobs > 0')
    c:feed(')<Left>')
    local n = c:lua('return #Fake.jobs')
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs > ' .. n)
    c:lua("Fake.emit('alpha)') Fake.done()")
    shown(c)
    c:feed('<M-l>')
    h.eq(c:lines(), { 'local x = {', '} f(alpha)' })
    h.eq(c:lua("return vim.trim(vim.fn.execute('messages'))"), '', option)
  end
end)

test('nothing comes by itself with text right of the cursor, but it can be asked for', function()
  local c = h.child()
  c:insert_at('x = | and then some more text')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('a')
  h.has(c:lua("return require('gemma').status().here"), 'right of the cursor')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs > 0')
  h.eq(c:lua('return Fake.jobs[1].req.stops[1]'), '\n')
  h.eq(c:lua('return Fake.jobs[1].req.max_tokens'), 256)
end)

test('an answer ends where it would close a part of the prompt, but for tags of the file', function()
  -- The embedded model said "</above>" at 3 of 1,600 places, and it was shown.
  local c = h.child()
  c:insert_at('x = <above>|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('a')
  c:wait('#Fake.jobs > 0')
  h.eq(c:lua('return Fake.jobs[1].req.stops'), { '\n```', '</next>', '</below>' })
end)

test('short suggestions do not come by themselves', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('x = ')
  c:wait('#Fake.jobs > 0')
  c:lua("Fake.emit('a') Fake.done()")
  c:wait("require('gemma.engine').state == 'ready'")
  h.ok(hidden(c))
  h.has(c:lua("return require('gemma').status().here"), 'too short')
end)

test('it hides beside a selected menu entry and comes back', function()
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  c:lua([[vim.o.completeopt = 'menuone,noinsert'
    vim.fn.complete(vim.fn.col('.'), { 'alpha', 'another' })]])
  c:wait("vim.fn.pumvisible() == 1")
  c:feed('<Up>')
  c:feed('<Down>')
  h.ok(hidden(c))
end)

--- What is read of the two, with an entry marked by nobody, by the user, and a menu that is closed.
local MENUS = {
  ['blink.cmp'] = {
    open = [[_G.List = { selected_item_idx = 1, is_explicitly_selected = false }
      _G.Open = true
      package.loaded['blink.cmp.completion.windows.menu'] =
        { win = { is_open = function() return Open end } }
      package.loaded['blink.cmp.completion.list'] = List
      vim.api.nvim_exec_autocmds('User', { pattern = 'BlinkCmpMenuOpen' })]],
    select = [[List.is_explicitly_selected = true
      vim.api.nvim_exec_autocmds('User', { pattern = 'BlinkCmpListSelect' })]],
    close = [[Open = false vim.api.nvim_exec_autocmds('User', { pattern = 'BlinkCmpMenuClose' })]],
  },
  ['nvim-cmp'] = {
    setup = [[_G.Told = {}
      package.loaded.cmp = { core = { view = { visible = function() return Open or false end,
        get_active_entry = function() return Active end } },
        event = { on = function(_, name, fn) Told[name] = fn end } }]],
    open = [[_G.Open = true Told.menu_opened()]],
    select = [[_G.Active = {} Told.menu_opened()]],
    close = [[_G.Open, _G.Active = false, nil Told.menu_closed()]],
  },
}
for name, menu in vim.spairs(MENUS) do
  test('it hides beside the menu of ' .. name .. ' as beside the native one', function()
    local c = h.child({ config = menu.setup })
    c:insert_at('x = |')
    c:wait("require('gemma.engine').is_loaded()")
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs > 0')
    c:lua("Fake.emit('alpha') Fake.done()")
    shown(c)
    c:lua(menu.open)
    h.ok(not hidden(c), 'nothing is selected')
    c:lua(menu.select)
    h.ok(hidden(c))
    c:lua(menu.close)
    h.eq(c:ghost(), 'alpha')
    c:lua("vim.g.gemma = { completion = { menu = true } } require('gemma.config').reload()")
    c:lua(menu.open)
    h.ok(hidden(c))
  end)
end

test('a menu plugin that is loaded with the first Insert mode is heard in it', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { menu = true } }' })
  c:lua([[local setup = ...
    vim.api.nvim_create_autocmd('InsertEnter', { once = true, callback = function()
      assert(loadstring(setup))()
    end })]], MENUS['nvim-cmp'].setup)
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs > 0')
  c:lua("Fake.emit('alpha') Fake.done()")
  shown(c)
  c:lua(MENUS['nvim-cmp'].open)
  h.ok(hidden(c))
end)

test('a menu plugin that is not what it was does no harm', function()
  local c = h.child({ config = [[
    package.loaded['blink.cmp.completion.windows.menu'] = { win = true }
    package.loaded.cmp = { core = 'no', event = {} }
    vim.g.gemma = { completion = { menu = true } }]] })
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('y')
  c:wait('#Fake.jobs > 0')
  c:lua("Fake.emit('alpha') Fake.done()")
  h.eq(shown(c), 'alpha')
end)

test('a macro that is executed neither shows nor asks', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<Esc>')
  c:lua([[vim.fn.setreg('q', 'ofoo()' .. vim.keycode('<Esc>'))]])
  c:feed('3@q')
  h.eq(c:lua('return #Fake.jobs'), 0)
  h.eq(#c:lines(), 4)
end)

test('recording a macro is told as the reason', function()
  local c = h.child()
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<Esc>qqi')
  c:type('abc')
  h.has(c:lua("return require('gemma').status().here"), 'macro is being recorded')
  c:feed('<Esc>q')
end)

test('the first Insert mode loads the model and reads the buffer ahead', function()
  local c = h.child()
  h.eq(c:lua("return package.loaded['gemma'] == nil"), true, 'nothing is loaded at start')
  c:insert_at('local a = 1\n|')
  c:wait('#Fake.warm > 0')
  h.eq(c:lua('return { #Fake.loads, Fake.warm[1].req.max_tokens }'), { 1, 0 })
  h.has(c:lua('return Fake.loads[1].model_path'), 'fake.gguf')
end)

test('every Insert mode reads the buffer ahead, and :normal on many lines does not', function()
  local c = h.child()
  c:insert_at('local a = 1\n|')
  c:wait('#Fake.warm == 1')
  c:feed('<Esc>')
  c:cmd('enew')
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'second = 2', 'third = 3' })")
  c:cmd('%normal Ax')
  c:feed('gga')
  c:wait('#Fake.warm == 2')
  h.has(c:lua('return Fake.warm[2].req.parts[4].data'), 'third = 3x')
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('options that did not change are not merged again in each Insert mode', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { max_tokens = 50 } }' })
  c:insert_at('x|')
  c:lua([[local config, merge = require('gemma.config'), require('gemma.config').merge
    _G.Merged = 0
    config.merge = function(...) Merged = Merged + 1 return merge(...) end]])
  c:feed('<Esc>a<Esc>a<Esc>')
  h.eq(c:lua('return Merged'), 0)
  c:lua('local g = vim.g.gemma g.completion.max_tokens = 60 vim.g.gemma = g')
  c:feed('a')
  h.eq(c:lua("return { Merged, require('gemma.config').get().completion.max_tokens }"), { 1, 60 })
end)

test('a new line is asked about before anything is typed in it, an old one is not', function()
  local c = h.child()
  c:insert_at('local a = 1\nlocal b = 2|')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<Esc>')
  for n, keys in ipairs({ 'o', 'O', 'cc' }) do
    c:feed(keys)
    c:wait('#Fake.jobs == ' .. n, keys)
    c:feed('<Esc>u')
  end
  for _, keys in ipairs({ 'A', 'i', 'I' }) do
    c:feed(keys)
    h.eq(c:lua('return vim.wait(200, function() return #Fake.jobs > 3 end)'), false, keys)
    c:feed('<Esc>')
  end
  c:cmd('normal onew')
  c:feed('qqo<Esc>q@q')
  h.eq(c:lua('return vim.wait(200, function() return #Fake.jobs > 3 end)'), false, ':normal and macros')
end)

test('what was dismissed on a new line is not asked for again by a command of one key', function()
  local c = h.child()
  c:insert_at('local a = 1|\nlocal b = 2')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<Esc>o')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('alpha') Fake.done()")
  shown(c)
  c:feed('<C-]>')
  c:feed('<C-o>zz')
  h.eq(c:lua('return vim.wait(200, function() return #Fake.jobs > 1 end)'), false)
  c:type('z')
  c:wait('#Fake.jobs == 2')
end)

test('how far a request is that was replaced says nothing of the next one', function()
  local c = h.asking('x = |')
  c:shows('x =  …')
  c:type('y')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs >= 2')
  c:shows('x = y …')
  c:lua('Fake.read(80, 100, 1) Fake.read(20, 100)')
  c:shows('x = y … 20 %')
end)

test('a suggestion that was left with <Esc> is there again with the next Insert mode', function()
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  c:feed('<Esc>')
  h.ok(hidden(c))
  local n = c:lua('return #Fake.jobs')
  c:feed('a')
  h.eq(shown(c), 'alpha beta')
  h.eq(c:lua('return #Fake.jobs'), n, 'nobody asked')
end)

test('a wrong key that is deleted brings it back, and no prompt is read for that', function()
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  c:lua([[_G.Gathered = 0
    local context = require('gemma.context')
    local gather = context.gather
    context.gather = function(...)
      Gathered = Gathered + 1
      return gather(...)
    end]])
  c:feed('q<BS>')
  h.eq(shown(c), 'alpha beta')
  h.eq(c:lua('return Gathered'), 0)
end)

test('who asks by key sees that the model reads, and asking again does not begin anew', function()
  local c = h.asking('x = |\ny = 1')
  c:shows('x =  …')
  c:lua('Fake.read(40, 100)')
  c:shows('x =  … 40 %')
  c:feed([[<M-Bslash>]])
  h.eq(c:lua('return { #Fake.jobs, #Fake.cancelled }'), { 1, 0 })
  c:lua("Fake.emit('alpha')")
  c:lua('Fake.done()')
  h.eq(shown(c), 'alpha')
  h.eq(c:screen(1, 1), { 'x = alpha' })
  for _, ended in ipairs({ "Fake.done()", "Fake.fail(-5, 'no')", "vim.api.nvim_input('<Esc>')",
    "vim.api.nvim_input('z')", "vim.api.nvim_input('<C-]>')", "vim.api.nvim_input('<Up><Down>')" }) do
    c:feed('<C-o>S<C-u>z = ')
    local n = c:lua('return #Fake.jobs')
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs > ' .. n)
    c:shows('z =  …')
    c:lua(ended)
    c:wait([[#vim.api.nvim_buf_get_extmarks(0,
      vim.api.nvim_create_namespace('gemma.ghost'), 0, -1, {}) == 0]], ended)
    c:feed('<Esc>a')
  end
end)

local TOO_LONG = "Fake.fail(-8, 'the prompt has 9265 tokens, n_ctx is 8192; send less or raise it')"

test('a prompt that has more tokens than its bytes make believe is sent again, shorter', function()
  local c = h.child()
  c:lua("require('gemma').load()")
  c:wait("require('gemma.engine').is_loaded()")
  c:lua("vim.bo.filetype = 'lua'")
  c:insert_at(('%s\n'):format(('{ 123.4567, 890.1234 },'):rep(3)):rep(200) .. 'x = |')
  c:feed('<M-Bslash>')
  c:wait('#Fake.jobs == 1')
  c:lua(TOO_LONG)
  c:wait('#Fake.jobs == 2')
  local bytes = c:lua([[return vim.tbl_map(function(job)
    return #require('gemma.context').flat(job.req.parts) end, Fake.jobs)]])
  h.ok(bytes[2] < bytes[1] * 0.7, vim.inspect(bytes))
  c:lua("Fake.emit('fits') Fake.done()")
  shown(c)
  h.eq(c:ghost(), 'fits')
  h.eq(c:messages(), {})
end)

test('no prompt is longer than the cache, byte by byte', function()
  local context = require('gemma.context')
  local config = require('gemma.config')
  local lines = {}
  for i = 1, 3000 do
    lines[i] = ('1'):rep(60)
  end
  for _, n_ctx in ipairs({ 4096, 8192 }) do
    vim.g.gemma = { n_ctx = n_ctx, context = { tokens = 30000, suffix_tokens = 20000, project_tokens = 4096 } }
    config.reload()
    local buf = vim.api.nvim_create_buf(false, true)
    vim.api.nvim_buf_set_lines(buf, 0, -1, false, lines)
    h.eq({ context.mark_dense(buf), context.mark_dense(buf) }, { true, false })
    for row = 0, 2999, 7 do
      local c = context.gather(buf, row, 10, context.budget(buf))
      local n = #context.flat(context.parts(c)) - #context.RULES + 512
      h.ok(n + 256 <= n_ctx, ('%d of %d in line %d'):format(n, n_ctx, row))
    end
  end
  vim.g.gemma = nil
  config.reload()
end)

test('why a request failed is said to who asked, and in the status', function()
  local c = h.child()
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<M-Bslash>')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.fail(-4, 'the file ended early')")
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: the file ended early' })
  h.has(c:lua("return require('gemma').status().here"), 'the file ended early')
end)

test('a key that cannot be answered says why at once, and loads nothing for it', function()
  for why, config in pairs({
    ['ghost text is off'] = 'vim.g.gemma = { enabled = false }',
    ["'paste' is on"] = 'vim.o.paste = true vim.g.gemma = { keymaps = false }',
  }) do
    local c = h.child({ config = config .. " vim.keymap.set('i', 'Q', function() require('gemma').request() end)" })
    c:insert_at('x = |')
    c:lua("require('gemma').request()")
    c:wait('#Seen.messages == 1')
    h.has(c:messages()[1], why)
    h.eq(c:lua('return #Fake.loads'), why:find('off') and 0 or 1) -- the latter by the first Insert mode
  end
end)

test('who asks while the model loads sees how far it is, and no old news afterwards', function()
  local c = h.child({ config = "vim.g.gemma = { load = 'manual' } vim.o.showmode = true" })
  c:lua('Fake.hold_load = true')
  c:insert_at('x = |')
  c:feed('<M-Bslash>')
  c:wait('#Fake.loads == 1')
  c:shows('x =  …')
  c:feed('<M-Bslash>')
  c:lua("Fake.loaded()")
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('1') Fake.done()")
  shown(c)
  c:feed('<M-l><Esc>')
  h.eq(c:lines(), { 'x = 1' })
  h.eq(#c:messages(), 1)
  c:lua("_G.Later = false vim.schedule(function() Later = true end)")
  c:wait('Later')
  h.ok(not table.concat(c:screen(), '\n'):find('loading the model', 1, true), table.concat(c:screen(), '\n'))
end)

test('Insert mode that nobody types in loads nothing', function()
  local c = h.child()
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a', 'b' })")
  c:cmd('%normal! A;')
  c:lua("_G.Later = false vim.schedule(function() Later = true end)")
  c:wait('Later')
  h.eq({ c:lines(), c:lua('return #Fake.loads') }, { { 'a;', 'b;' }, 0 })
  c:feed('A')
  c:wait('#Fake.loads == 1')
end)

test('status tells what became of a suggestion that was complete', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:feed('<C-]>')
  h.eq(c:lua("return require('gemma').status().here"), 'no suggestion: dismissed.')
  local d = h.suggesting('x = |', 'alpha')
  shown(d)
  d:feed('<Left>')
  h.ok(not d:lua("return require('gemma').status().here"):find('shown'), d:lua("return require('gemma').status().here"))
end)

test('what was due when the terminal lost the focus is asked when it is back', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 300 } }' })
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('local x = ')
  c:cmd('doautocmd FocusLost')
  h.eq(c:lua('return vim.wait(400, function() return #Fake.jobs > 0 end)'), false)
  c:cmd('doautocmd FocusGained')
  c:wait('#Fake.jobs == 1')
end)

test('the key that a message names is the one that is mapped', function()
  for keys, said in pairs({
    ["vim.keymap.set('i', '<C-l>', '<Plug>(gemma-ask)')"] = 'manual. Press <C-L>.',
    ["vim.g.gemma = { keymaps = false }"] = 'so ghost text is manual.',
  }) do
    local c = h.child({ config = keys })
    c:lua('Fake.decode_tok_s = 2.1')
    c:insert_at('|')
    c:wait("require('gemma.engine').is_loaded()")
    for i = 1, 3 do
      c:lua("require('gemma').request()")
      c:wait('#Fake.jobs == ' .. i)
      c:lua("Fake.emit('a') Fake.done()")
      c:wait("require('gemma.engine').state == 'ready'")
    end
    c:wait('#Seen.messages == 1')
    h.ok(vim.endswith(c:messages()[1], said), c:messages()[1])
  end
end)

test('a request that is not even taken is told to who asked, and nothing waits for it', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 0 } }' })
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:lua("Fake.refuse = 'busy'")
  c:feed('<M-Bslash>')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: busy' })
  local function idle()
    h.eq(c:lua([[local engine = require('gemma.engine')
      return { engine.state, engine.busy(), require('gemma.waiting').active(),
        require('gemma.completion').current() == nil, require('gemma').status().here }]]),
      { 'ready', false, false, true, 'no suggestion: busy.' })
  end
  idle()
  -- One that comes by itself is told to nobody.
  c:lua("require('gemma.offer').last = nil")
  c:type('f')
  c:wait("require('gemma.offer').last", 'it was asked for')
  idle()
  h.eq(#c:messages(), 1)
  c:lua('Fake.refuse = nil')
  c:feed('<M-Bslash>')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('oo()') Fake.done()")
  h.eq(shown(c), 'oo()')
end)

test('a model that writes two tokens per second makes ghost text manual, and says so once', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 0 } }' })
  c:lua('Fake.decode_tok_s = 2.1 Fake.auto = function() return { "al", "pha", " b", "eta" } end')
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  for i = 1, 3 do
    c:type(tostring(i))
    c:wait('#Fake.jobs >= ' .. i)
    c:wait("require('gemma.engine').state == 'ready'")
  end
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(),
    { 'gemma: measured 2.1 tok/s, so ghost text is manual. Press <M-\\>.' })
  c:type('q')
  h.has(c:lua("return require('gemma').status().here"), 'slow here')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs >= 4')
end)

-- Only answers were measured, and where nothing is asked there are none: it stayed slow for good.
test('another device is not slow because the last one was, and the same one still is', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 0 } }' })
  c:lua('Fake.decode_tok_s = 2.1 Fake.auto = function() return { "al", "pha", " b", "eta" } end')
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  for i = 1, 3 do
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs == ' .. i)
    c:wait("require('gemma.engine').state == 'ready'")
  end
  local slow = "(require('gemma.status').paused() or ''):find('slow here', 1, true)"
  c:wait(slow)
  c:cmd('Gemma device cpu')
  c:wait('#Fake.loads == 2')
  c:wait("require('gemma.engine').is_loaded()")
  h.ok(c:lua('return ' .. slow) ~= vim.NIL, 'the same one')
  c:lua("Fake.status_device = 'vulkan:0 FAKE'")
  c:cmd('Gemma device vulkan')
  c:wait('#Fake.loads == 3')
  c:wait("require('gemma.engine').is_loaded()")
  h.eq(c:lua("return require('gemma.status').paused()"), vim.NIL)
  c:type('q')
  c:wait('#Fake.jobs > 3')
end)

test('the events tell the story', function()
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  c:feed('<M-Right><C-]>')
  local names = vim.tbl_filter(function(e)
    return e:match('^GemmaGhost')
  end, c:events())
  h.eq(names,
    { 'GemmaGhostShow', 'GemmaGhostAccept', 'GemmaGhostDismiss', 'GemmaGhostClear' })
  local accept = c:lua([[for _, e in ipairs(Seen.events) do
    if e.name == 'GemmaGhostAccept' then return e.data end end]])
  h.eq({ accept.kind, accept.chars, accept.tokens, accept.reused }, { 'word', 5, 1, 90 })
end)

return T
