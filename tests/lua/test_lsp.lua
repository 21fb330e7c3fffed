--- Interfaces of others: Neovim's LSP client, completion menus, operators.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

--- A child in Insert mode with the model loaded and the server attached.
local function child(text, o)
  o = o or {}
  local c = h.child({ config = o.config or 'vim.g.gemma = { lsp = true, completion = { auto = false } }' })
  c:insert_at(text, o)
  c:wait("require('gemma.engine').is_loaded()")
  if not o.config then
    c:wait("#vim.lsp.get_clients({ name = 'gemma', bufnr = 0 }) == 1")
  end
  return c
end

--- Asks the server as a client would.
local ASK = [[
  local kind = ...
  local client = vim.lsp.get_clients({ name = 'gemma' })[1]
  local cursor = vim.api.nvim_win_get_cursor(0)
  local head = vim.api.nvim_get_current_line():sub(1, cursor[2])
  local pos = { textDocument = vim.lsp.util.make_text_document_params(0), context = { triggerKind = kind },
    position = { line = cursor[1] - 1, character = vim.fn.strutf16len(head, true) } }
  _G.Answer = nil
  local function done(err, result) _G.Answer = { err = err, result = result or false } end
  local method = 'textDocument/inlineCompletion'
  if vim.fn.has('nvim-0.11') == 1 then
    return select(2, client:request(method, pos, done, 0))
  end
  return select(2, client.request(method, pos, done, 0))]]

test('lsp: nothing is attached unless it is asked for', function()
  local c = child('x = |', { config = 'vim.g.gemma = {}' })
  h.eq(c:lua('return #vim.lsp.get_clients()'), 0)
  h.eq(c:lua("return package.loaded['gemma.lsp'] == nil"), true)
end)

test('lsp: one server for all buffers; none for files that are excluded', function()
  local c = child('x = |')
  c:feed('<Esc>')
  c:lua([[
    vim.fn.writefile({ 'a = 1' }, 'a.lua')
    vim.fn.writefile({ 'A=1' }, '.env')
    vim.o.hidden = true
    vim.cmd('edit a.lua') vim.bo.filetype = 'lua'
    _G.A = vim.api.nvim_get_current_buf()
    vim.cmd('edit .env') vim.bo.filetype = 'sh'
    _G.Env = vim.api.nvim_get_current_buf()]])
  h.eq(c:lua('return #vim.lsp.get_clients()'), 1)
  h.eq(c:lua('return #vim.lsp.get_clients({ bufnr = A })'), 1)
  h.eq(c:lua('return #vim.lsp.get_clients({ bufnr = Env })'), 0)
end)

test('lsp: a server that was stopped by force makes room for the next', function()
  -- It stayed attached for the session: it was found again, and ghost text kept away.
  local c = child('x = |')
  local first, second = unpack(c:lua([[
    local client = vim.lsp.get_clients({ name = 'gemma' })[1]
    if vim.fn.has('nvim-0.11') == 1 then client:stop(true) else client.stop(true) end
    return { client.id, require('gemma.lsp').attach(0) }]]))
  h.ok(second and second ~= first, 'not the one that ends')
  c:wait(('vim.lsp.get_client_by_id(%d) == nil'):format(first), 'the first is gone')
  h.eq(c:lua("return vim.tbl_map(function(o) return o.id end, vim.lsp.get_clients({ bufnr = 0 }))"),
    { second })
  h.eq(c:lua('return vim.v.errmsg'), '')
end)

test('lsp: inlineCompletion answers with text and the range it replaces', function()
  local c = child('ä😀 = f(|)')
  c:lua(ASK, 2)
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('1, 2)') Fake.done()")
  c:wait('Answer')
  local item = c:lua('return Answer.result.items[1]')
  h.eq(item.insertText, '1, 2')
  -- The first character is one unit, the second two.
  h.eq(item.range.start, { line = 0, character = 8 })
end)

test('lsp: a cancelled or overtaken request stops the model and answers with nothing', function()
  local c = child('x = |')
  local first = c:lua(ASK, 2)
  c:wait('#Fake.jobs == 1')
  c:lua([[local client = vim.lsp.get_clients({ name = 'gemma' })[1]
    if vim.fn.has('nvim-0.11') == 1 then client:cancel_request(...) else client.cancel_request(...) end]], first)
  c:wait('#Fake.cancelled == 1')
  local function nothing()
    c:wait('Answer')
    h.eq(c:lua('return { Answer.err == nil, Answer.result }'), { true, false })
  end
  nothing()
  c:lua(ASK, 2)
  c:wait('#Fake.jobs == 2')
  c:lua(ASK, 2)
  c:wait('#Fake.cancelled == 2')
  nothing()
  c:wait('#Fake.jobs == 3')
  c:lua("Answer = nil Fake.emit('1') Fake.done()")
  c:wait('Answer')
  h.eq(c:lua('return Answer.result.items[1].insertText'), '1', 'the last one is answered')
end)

test('lsp: an answer for a text that changed meanwhile is dropped', function()
  local c = child('x = |')
  c:lua(ASK, 2)
  c:wait('#Fake.jobs == 1')
  c:type('y')
  c:lua("Fake.emit('1, 2') Fake.done(1)")
  c:wait('Answer')
  h.eq(c:lua('return Answer.result'), false)
end)

test('lsp: it answers nothing where ghost text is off, and does not load the model by itself', function()
  local c = child('x = |')
  c:lua('vim.b.gemma = false')
  c:lua(ASK, 2)
  c:wait('Answer')
  h.eq(c:lua('return Answer.result'), false)
  c:lua('vim.b.gemma = nil')
  c:cmd('Gemma unload')
  c:lua(ASK, 2)
  c:wait('Answer')
  h.eq(c:lua('return { Answer.result, #Fake.jobs, #Fake.loads }'), { false, 0, 1 })
end)

test("lsp: our ghost text keeps away from another server's inline completion too", function()
  local c = h.child()
  if not c:lua('return vim.lsp.inline_completion ~= nil') then
    h.skip('it came with Neovim 0.12')
  end
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:lua([[
    local function server()
      return {
        request = function(method, _, done)
          done(nil, method == 'initialize' and { capabilities = { inlineCompletionProvider = true } } or {})
          return true, 1
        end,
        notify = function() end, is_closing = function() return false end, terminate = function() end,
      }
    end
    _G.Client = vim.lsp.start({ name = 'copilot', cmd = server })]])
  c:wait('vim.lsp.get_client_by_id(Client).initialized')
  h.ok(not c:lua("return require('gemma').status().here"):find('inline'), 'it is not enabled')
  c:lua('vim.lsp.inline_completion.enable(true)')
  h.has(c:lua("return require('gemma').status().here"), "Neovim's own inline completion shows suggestions of copilot")
end)

test("lsp: Neovim's own inline completion shows it and takes it; our ghost text keeps away", function()
  local c = child('x = |')
  if not c:lua('return vim.lsp.inline_completion ~= nil') then
    h.skip('it came with Neovim 0.12')
  end
  c:lua([[vim.g.gemma = { lsp = true } require('gemma.config').reload()
    vim.lsp.inline_completion.enable(true)]])
  h.has(c:lua("return require('gemma').status().here"), "Neovim's own inline completion")
  c:type('f')
  c:wait('#Fake.jobs == 1', 'asked after its own delay')
  c:lua("Fake.emit('oo(bar)\\nreturn x') Fake.done()")
  c:wait([[#vim.api.nvim_buf_get_extmarks(0,
    vim.api.nvim_create_namespace('nvim.lsp.inline_completion'), 0, -1, {}) == 1]])
  h.eq(c:lua("return require('gemma').visible()"), false)
  h.has(table.concat(c:screen(1, 3), '\n'), 'x = foo(bar)\nreturn x')
  c:lua('vim.lsp.inline_completion.get()')
  c:wait("vim.api.nvim_buf_get_lines(0, 0, -1, false)[2] == 'return x'")
  h.eq(c:lines(), { 'x = foo(bar)', 'return x' })
  c:lua('vim.lsp.inline_completion.enable(false)')
  h.ok(not c:lua("return require('gemma').status().here"):find('own inline', 1, true))
end)

--- The titles of the actions that a user is offered at the cursor.
local ACTIONS = [[
  local only, titles = ..., nil
  local select = vim.ui.select
  vim.ui.select = function(items) titles = vim.tbl_map(function(i) return i.action.title end, items) end
  vim.lsp.buf.code_action({ context = only and { only = only, diagnostics = {} } or nil })
  vim.wait(1000, function() return titles ~= nil end, 5)
  vim.ui.select = select
  return titles]]

test('lsp: code actions explain, and fix where something is wrong', function()
  local c = child('local x = y\n  y = |1\nreturn x')
  c:feed('<Esc>')
  h.eq(c:lua(ACTIONS, nil), { 'Gemma: explain this' })
  -- Of another language server or linter, and over several lines.
  c:lua([[vim.diagnostic.set(vim.api.nvim_create_namespace('linter'), 0, {
    { lnum = 0, col = 0, end_lnum = 2, end_col = 0, message = 'bad', severity = 1 } })]])
  h.eq(c:lua(ACTIONS, nil), { 'Gemma: fix this', 'Gemma: explain this' })
  h.eq(c:lua(ACTIONS, { 'quickfix' }), { 'Gemma: fix this' })
  c:feed('G')
  h.eq(c:lua(ACTIONS, nil), { 'Gemma: explain this' }, 'its end is before the first column')
end)

test('lsp: choosing an action runs its command on its lines', function()
  local c = child('one\ntwo|\nthree')
  c:feed('<Esc>')
  c:lua([[
    _G.Ran = {}
    vim.api.nvim_create_user_command('GemmaExplain', function(a)
      table.insert(Ran, { 'explain', a.range, a.line1, a.line2 })
    end, { range = true, nargs = '*', force = true })
    vim.ui.select = function(items, _, on_choice) on_choice(items[1], 1) end
    vim.lsp.buf.code_action()]])
  c:wait('#Ran == 1')
  h.eq(c:lua('return Ran[1]'), { 'explain', 0, 2, 2 })
  c:lua([[require('gemma.lsp').commands['gemma.explain']({ arguments = { vim.api.nvim_get_current_buf(), 1, 3 } })]])
  h.eq(c:lua('return Ran[2]'), { 'explain', 2, 1, 3 })
end)

-- ---- completion menus ----------------------------------------------------------------------

local menu = require('gemma.menu')

test('menu: the word at the cursor is found at once, however long the line is', function()
  h.eq(menu.word_start('x = foo.bär'), 8)
  h.eq(menu.word_start(('x'):rep(1000) .. ' ' .. ('y'):rep(100)), 1001)
  local since = os.clock()
  h.eq(menu.word_start('"' .. ('0123456789abcdef'):rep(10000) .. '", foo'), 160004)
  h.ok(os.clock() - since < 1, 'it took more than a second, before more than 20')
end)

test('menu: an entry replaces the word at the cursor by itself and the text behind it', function()
  local items = menu.items({ line = 'ä = foo.ba)', row = 3, col = 11, text = 'r(1)\nreturn)', closers = { 12 },
    language = 'lua' })
  h.eq(#items, 2)
  h.eq(items[1].textEdit, { newText = 'bar(1)\nreturn)', range = {
    start = { line = 3, character = 9 }, ['end'] = { line = 3, character = 12 } } })
  h.eq(items[1].filterText, 'bar(1)', 'it matches while just that is typed')
  h.eq(items[2].textEdit.newText, 'bar(1)')
  h.eq(items[2].textEdit.range['end'], { line = 3, character = 11 }, 'the rest is not there yet')
  h.eq({ items[1].label, items[2].label }, { 'bar(1) …', 'bar(1)' })
  h.eq(items[1].documentation.value, '```lua\nbar(1)\nreturn)\n```')
  items = menu.items({ line = 'if (', row = 0, col = 4, text = 'a) {\n  x();\n}', closers = { 2 }, language = 'c' })
  h.eq(items[2].textEdit, { newText = 'a) {', range = {
    start = { line = 0, character = 4 }, ['end'] = { line = 0, character = 5 } } }, 'the bracket is in the first line')
end)

test('menu: a label is cut by cells, and only when it is too wide', function()
  local function label(text)
    return menu.items({ line = '', row = 0, col = 0, text = text, closers = {}, language = '' })[1].label
  end
  h.eq(label(('漢'):rep(30)), ('漢'):rep(30))
  h.eq(label(('漢'):rep(50)), ('漢'):rep(29) .. '…')
  h.eq(label(('x'):rep(61)), ('x'):rep(59) .. '…')
end)

test('menu: without a word at the cursor an entry matches what it begins with', function()
  local items = menu.items({ line = 'x = ', row = 0, col = 4, text = '  foo(1)', closers = {}, language = '' })
  h.eq(#items, 1)
  h.eq({ items[1].filterText, items[1].label }, { 'foo(1)', 'foo(1)' })
end)

test('menu: an entry matches the word of a menu that has its own idea of words', function()
  local items = menu.items({ line = 'a-fo', row = 0, col = 4, start = 0, text = 'o(1, 2)', closers = {},
    language = '' })
  h.eq(items[1].filterText, 'a-foo(1,')
  h.eq(items[1].textEdit.newText, 'foo(1, 2)')
  h.eq(items[1].textEdit.range.start.character, 2)
end)

test('menu: an entry replaces from where a menu compares', function()
  local items = menu.items({ line = 'x = back-gr', row = 0, col = 11, from = 4, text = 'ound: red', closers = {},
    language = 'css' })
  h.eq(items[1].textEdit, { newText = 'back-ground: red', range = {
    start = { line = 0, character = 4 }, ['end'] = { line = 0, character = 11 } } })
  h.eq(items[1].filterText, 'back-ground:')
end)

test('menu: a request ends when its place is left', function()
  local c = child('x = fo|', { config = 'vim.g.gemma = { completion = { auto = false } }' })
  c:lua([[
    _G.Got, _G.Left = {}, 0
    function _G.Ask()
      local at = vim.api.nvim_win_get_cursor(0)
      require('gemma.menu').request({ buf = vim.api.nvim_get_current_buf(), row = at[1] - 1, col = at[2],
        done = function(items) table.insert(Got, #items) end, left = function() Left = Left + 1 end })
    end]])
  for n, keys in ipairs({ '<Left>', '<Esc>', '<C-o>:enew<CR>' }) do
    c:lua('Ask()')
    c:wait('#Fake.jobs == ' .. n)
    c:feed(keys)
    c:wait('#Fake.cancelled == ' .. n)
    h.eq(c:lua('return Left'), n, keys)
    c:feed('A')
  end
  h.eq(c:lua('return Got'), {}, 'nobody hears of it')
  h.eq(c:lua("return #vim.api.nvim_get_autocmds({ event = 'BufLeave', buffer = 1 })"), 0)
end)

test('blink.cmp: the source answers once, with a cancel that stops the model', function()
  local c = child('x = fo|', { config = 'vim.g.gemma = { completion = { auto = false } }' })
  -- What blink.cmp does: new(), enabled(), get_completions(ctx, callback) -> cancel.
  c:lua([[
    _G.Source = require('gemma.blink').new({}, {})
    _G.Got = {}
    local ctx = { bufnr = vim.api.nvim_get_current_buf(), cursor = vim.api.nvim_win_get_cursor(0),
      line = vim.api.nvim_get_current_line() }
    _G.Enabled = Source:enabled()
    _G.Cancel = Source:get_completions(ctx, function(r) table.insert(Got, r) end)]])
  h.eq(c:lua('return Enabled'), true)
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('o(1)') Fake.done()")
  c:wait('#Got == 1')
  h.eq(c:lua('return { Got[1].items[1].textEdit.newText, Got[1].is_incomplete_forward }'), { 'foo(1)', true })
  c:lua([[
    -- The second major version has the place from 0, and gives up the other one some day.
    local at = vim.api.nvim_win_get_cursor(0)
    Cancel = Source:get_completions({ pos = { row = at[1] - 1, col = at[2] } },
      function(r) table.insert(Got, r) end)
    _G.Asked = #Fake.jobs
    Cancel()]])
  h.eq(c:lua('return Asked'), 2)
  c:wait('#Fake.cancelled == 1')
  h.eq(c:lua('return #Got'), 1, 'a cancelled question has no answer')
  c:lua('vim.b.gemma = false')
  h.eq(c:lua('return Source:enabled()'), false)
end)

test('nvim-cmp: the source registers, answers always, and a new question ends the old one', function()
  local c = child('x = fo|', { config = 'vim.g.gemma = { completion = { auto = false } }' })
  c:lua([[
    package.loaded['cmp'] = { register_source = function(name, s) _G.Name, _G.Source = name, s end }
    require('gemma.cmp').register()
    _G.Got = {}
    function _G.Complete()
      local pos = vim.api.nvim_win_get_cursor(0)
      Source:complete({ offset = 5, context = { bufnr = vim.api.nvim_get_current_buf(),
        cursor_before_line = vim.api.nvim_get_current_line():sub(1, pos[2]),
        cursor = { row = pos[1], col = pos[2] + 1 } } }, function(r) table.insert(Got, r) end)
    end
    Complete()]])
  h.eq(c:lua('return { Name, Source:is_available(), Source:get_debug_name(), Source:get_position_encoding_kind() }'),
    { 'gemma', true, 'gemma', 'utf-8' })
  c:wait('#Fake.jobs == 1')
  c:lua('Complete()')
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return { #Got, Got[1].items }'), { 1, {} })
  c:lua("Fake.emit('o(1)') Fake.done()")
  c:wait('#Got == 2')
  h.eq(c:lua('return { Got[2].isIncomplete, Got[2].items[1].label }'), { true, 'foo(1)' })
  c:cmd('Gemma unload')
  h.eq(c:lua('return Source:is_available()'), false)
end)

-- ---- operators -----------------------------------------------------------------------------

test('operators: a <Plug> map takes a motion, a text object, a selection, and repeats', function()
  local c = h.child()
  c:lua([[
    _G.Ran = {}
    vim.api.nvim_create_user_command('GemmaExplain', function(a)
      table.insert(Ran, { a.line1, a.line2, a.range })
    end, { range = true, nargs = '*', force = true })
    vim.keymap.set({ 'n', 'x' }, 'gh', '<Plug>(gemma-explain)')
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a', 'b', '', 'c', 'd', 'e' })]])
  c:feed('ggghip')
  c:feed('Ggh_')
  c:feed('ggVjgh')
  c:feed('4G.')
  h.eq(c:lua('return Ran'), { { 1, 2, 2 }, { 6, 6, 2 }, { 1, 2, 2 }, { 4, 5, 2 } })
end)

test('operators: those that need words ask for them, and nothing happens without', function()
  local c = h.child()
  c:lua([[
    _G.Asked, _G.Words = {}, 'why is this so'
    vim.ui.input = function(o, done) table.insert(Asked, o.prompt) done(Words) end
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a', 'b', '', 'c' })
    vim.keymap.set('n', 'gh', '<Plug>(gemma-ask)')]])
  c:feed('ggghip')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return Asked'), { 'Ask: ' })
  local prompt = c:lua('return Fake.jobs[1].req.parts[4].data')
  h.has(prompt, '<selection>\na\nb\n</selection>')
  h.has(prompt, '\nwhy is this so')
  c:cmd('only!')
  c:lua([[Words = 'one | two\n%delete\nthree']])
  c:feed('ggghip')
  c:wait('#Fake.jobs == 2')
  h.has(c:lua('return Fake.jobs[2].req.parts[4].data'), '\none | two\n%delete\nthree')
  h.eq(c:lua('return vim.api.nvim_buf_get_lines(1, 0, -1, false)'), { 'a', 'b', '', 'c' }, 'words are never a command')
  c:lua('Words = nil')
  c:feed('ggghip')
  h.eq(c:lua('return { #Asked, #Fake.jobs }'), { 3, 2 })
end)

test('operators: one without words takes the lines as its command does', function()
  local c = h.child()
  c:lua([[
    _G.Ran = {}
    vim.api.nvim_create_user_command('Gemma', function(a)
      table.insert(Ran, { a.args, a.line1, a.line2 })
    end, { range = true, nargs = '*', force = true })
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a', 'b', '', 'c' })
    vim.keymap.set('n', 'gy', '<Plug>(gemma-fix)')]])
  c:feed('gggyip')
  c:feed('gyip')
  h.eq(c:lua('return Ran'), { { 'fix', 1, 2 }, { 'fix', 1, 2 } })
end)

test('plug: every verb has a map, and none of them a default key', function()
  local c = h.child()
  local before = c:lua([[
    local out = {}
    for _, m in ipairs(vim.api.nvim_get_keymap('n')) do out[m.lhs] = true end
    return out]])
  for _, name in ipairs({ 'explain', 'explain-here', 'ask', 'edit', 'fix', 'image', 'shot', 'record',
    'stop', 'status', 'toggle' }) do
    h.ok(before[('<Plug>(gemma-%s)'):format(name)], name)
  end
  for lhs in pairs(before) do
    h.ok(lhs:match('^<Plug>%(gemma') or not c:lua([[
      local m = vim.fn.maparg(..., 'n', false, true)
      return (m.desc or ''):match('^Gemma') ~= nil ]], lhs), lhs)
  end
end)

test('plug: each map of Normal mode runs its command', function()
  local c = h.child()
  c:lua([[
    _G.Ran = {}
    for _, name in ipairs({ 'Gemma', 'GemmaExplain' }) do
      vim.api.nvim_create_user_command(name, function(a)
        table.insert(Ran, vim.trim(name .. ' ' .. a.args) .. (a.range > 0 and ', lines' or ''))
      end, { range = true, nargs = '*', force = true })
    end]])
  local commands = {
    explain = 'GemmaExplain, lines',
    ask = 'Gemma ask, lines',
    edit = 'Gemma edit, lines',
    fix = 'Gemma fix, lines',
    ['explain-here'] = 'GemmaExplain',
    image = 'Gemma image',
    shot = 'Gemma shot',
    record = 'Gemma record voice',
    dictate = 'Gemma dictate',
    stop = 'Gemma stop',
    status = 'Gemma status',
    toggle = 'Gemma toggle',
  }
  local function ran(mode, keys, plug)
    c:lua("Ran = {} vim.keymap.set(...)", mode, '<F9>', ('<Plug>(gemma-%s)'):format(plug))
    c:feed(keys)
    return c:lua('return Ran')
  end
  for _, plug in ipairs(require('gemma.operator').plugs) do
    local command = commands[plug.name]
    h.eq(ran('n', command:find(', lines', 1, true) and '<F9>_' or '<F9>', plug.name), { command }, plug.name)
  end
  h.eq(ran('i', 'i<F9><Esc>', 'dictate'), { 'Gemma dictate' })
  c:lua("package.loaded['gemma.record'] = { active = function() return {} end }")
  h.eq(ran('n', '<F9>', 'record'), { 'Gemma record stop' })
end)

test('plug: each map of Insert mode does what its default key does', function()
  local keys = require('gemma.keymap').keys
  local mapped, plain = h.child(), h.child()
  for i, k in ipairs(keys) do
    mapped:lua("vim.keymap.set('i', ...)", ('<F%d>'):format(i), k.plug)
  end
  local function state(c)
    return c:lua([[return { vim.api.nvim_buf_get_lines(0, 0, -1, false),
      require('gemma.ghost').text() or '', #Fake.jobs, require('gemma').statusline() }]])
  end
  for i, k in ipairs(keys) do
    local before, after = {}, {}
    for n, c in ipairs({ mapped, plain }) do
      c:feed('<Esc>')
      c:insert_at(('f%d(|'):format(i)) -- the same text again would have a suggestion at once
      c:wait("require('gemma.engine').is_loaded()")
      local jobs = c:lua('return #Fake.jobs')
      c:lua("require('gemma').request()")
      c:wait('#Fake.jobs > ' .. jobs)
      c:lua("Fake.emit('a, b,\\n  c)') Fake.done()")
      c:wait("require('gemma.ghost').text() == 'a, b,\\n  c)'")
      before[n] = state(c)
      c:feed(n == 1 and ('<F%d>'):format(i) or (k.key:gsub('\\', 'Bslash')))
      after[n] = state(c)
    end
    h.eq(after[1], after[2], k.plug)
    h.ok(not vim.deep_equal(before[1], after[1]), k.plug .. ' does nothing')
  end
end)

return T
