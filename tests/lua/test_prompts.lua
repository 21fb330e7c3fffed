--- :Gemma prompt and :Gemma bench.

local bench = require('gemma.bench')
local h = require('helper')
local prompts = require('gemma.prompts')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local CODE = { 'local M = {}', '', 'function M.add(a, b)', '  return a + b', 'end', '', 'return M' }

local function child(o)
  local c = h.child(o)
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false, ...)
    vim.bo.filetype = 'lua'
    vim.api.nvim_win_set_cursor(0, { 4, 2 })]], CODE)
  return c
end

--- Prompt files of the user's own, before those of the plugin.
local function own(c, name, text)
  vim.fn.mkdir(c.dir .. '/own/prompts', 'p')
  vim.fn.writefile(vim.split(text, '\n'), c.dir .. '/own/prompts/' .. name .. '.md')
  c:cmd('set runtimepath^=' .. c.dir .. '/own')
end

test('a prompt file: a head of keys, and text', function()
  for _, row in ipairs({
    { 'Do it.\n', { desc = '', kind = 'ask', scope = 'function', text = 'Do it.' } },
    { '---\ndesc: a: b\nkind: edit\nscope: buffer\n---\n\nDo it.',
      { desc = 'a: b', kind = 'edit', scope = 'buffer', text = 'Do it.' } },
    { '---\r\ndesc: x\r\n---\r\nDo it.', { desc = 'x', kind = 'ask', scope = 'function', text = 'Do it.' } },
    { '---\n---\nDo it.', { desc = '', kind = 'ask', scope = 'function', text = 'Do it.' } },
    { '---\nkind: sing\n---\nDo it.', '"kind: sing" is not understood' },
    { '---\nDo it.', { desc = '', kind = 'ask', scope = 'function', text = '---\nDo it.' } },
    { '---\ndesc: x\n---\n', 'there is no text' },
  }) do
    local got, err = prompts.parse(row[1])
    h.eq(got or err, row[2], row[1])
  end
end)

test('placeholders are replaced once; what is put in is not looked at', function()
  local values = { a = '{{b}} %1', b = 'B' }
  for _, row in ipairs({
    { 'x {{a}} {{ b }} y', 'x {{b}} %1 B y' },
    { '{{c}} {a} {{a', '{{c}} {a} {{a' },
    { '{{b}}{{b}}', 'BB' },
    { '  {{b}}\n', 'B' },
  }) do
    h.eq({ (prompts.expand(row[1], values)) }, { row[2] }, row[1])
  end
end)

test('every prompt that comes with the plugin can be read, and is named in the help', function()
  local dir = h.root .. '/prompts'
  local names = {}
  for name in vim.fs.dir(dir) do
    local text = table.concat(vim.fn.readfile(dir .. '/' .. name), '\n')
    local p, err = prompts.parse(text)
    h.ok(p, ('%s: %s'):format(name, tostring(err)))
    h.ok(p.desc ~= '')
    names[#names + 1] = name:gsub('%.md$', '')
  end
  table.sort(names)
  h.eq(names, { 'docs', 'review', 'simplify', 'tests' })
  local help = table.concat(vim.fn.readfile(h.root .. '/doc/gemma.txt'), '\n')
  for _, name in ipairs(names) do
    h.ok(help:find('\n    ' .. name, 1, true), name .. ' is not in the help')
  end
end)

test('names are completed; those of the user come first', function()
  local c = child()
  h.eq(c:lua("return vim.fn.getcompletion('Gemma prompt ', 'cmdline')"), { 'docs', 'review', 'simplify', 'tests' })
  own(c, 'review', 'Mine.')
  own(c, 'relax', 'Mine.')
  h.eq(c:lua("return vim.fn.getcompletion('Gemma prompt re', 'cmdline')"), { 'relax', 'review' })
  c:cmd('Gemma prompt review')
  c:wait('#Fake.jobs == 1')
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'), '\nMine.')
end)

test('a question is asked in the answer window, about the function here', function()
  local c = child()
  c:cmd('Gemma prompt tests with busted')
  c:wait('#Fake.jobs == 1')
  local prompt = c:lua('return Fake.jobs[1].req.parts[4].data')
  h.has(prompt, '<selection>\n' .. table.concat(CODE, '\n', 3, 5) .. '\n</selection>')
  h.has(prompt, 'Write tests')
  h.has(prompt, 'with busted')
  c:shows('Gemma: tests, 3-5')
end)

test('an edit is shown as a change', function()
  local c = child()
  c:cmd('3,5Gemma prompt simplify')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return Fake.jobs[1].req.parts[6].data'), '```lua\n')
  c:lua([[Fake.emit('M.add = sum') Fake.done(nil, 'string')]])
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
end)

test('a prompt with its own place for the lines gets nothing else', function()
  local c = child()
  own(c, 'say', '---\nscope: buffer\n---\n{{language}} in {{file}}:\n{{selection}}\n{{diagnostics}}')
  c:lua([[vim.diagnostic.set(vim.api.nvim_create_namespace('t'), 0,
    { { lnum = 3, col = 0, message = 'odd' } })]])
  c:cmd('Gemma prompt say')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return Fake.jobs[1].req.parts[4].data'),
    'lua in (no name):\n' .. table.concat(CODE, '\n') .. '\n- `return a + b`: odd')
end)

test('code of an answer about the buffer does not stand for all of it; about a range it does', function()
  local c = child()
  own(c, 'say', '---\nscope: buffer\n---\nSay.')
  for n, range in ipairs({ '', '4' }) do
    c:cmd(range .. 'Gemma prompt say')
    c:wait('#Fake.jobs == ' .. n)
    c:lua([[Fake.emit('```lua\nreturn a - b\n```') Fake.done()]])
    c:wait("not require('gemma.chat.kept').current():running()")
    c:cmd('wincmd w')
    c:feed('ga')
    h.eq(c:lua("return require('gemma.edit.preview').get(1) ~= nil"), range ~= '')
    if range == '' then
      c:feed('q')
    end
  end
  h.eq(c:messages(), { 'gemma: cannot tell where this code belongs. gy yanks it.' })
end)

test('words that the prompt has no place for come at its end', function()
  local c = child()
  own(c, 'say', 'Say.')
  c:cmd('Gemma prompt say it twice')
  c:wait('#Fake.jobs == 1')
  h.ok(c:lua('return Fake.jobs[1].req.parts[4].data'):find('Say%.\nit twice$'))
end)

test('without a name one is picked; wrong names and broken files are told', function()
  local c = child()
  own(c, 'broken', '---\nkind: x\n---\ny')
  c:lua([[vim.ui.select = function(items, o, fn)
    _G.Shown = vim.tbl_map(o.format_item, items)
    fn('review')
  end]])
  c:cmd('Gemma prompt')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { Shown[1], Shown[2] }'), { 'broken', 'docs: write or renew the documentation comments' })
  c:cmd('Gemma prompt nosuch')
  c:wait('#Seen.messages == 1')
  c:cmd('Gemma prompt broken')
  c:wait('#Seen.messages == 2')
  h.eq(c:messages()[1], 'gemma: no prompt nosuch. There are: broken, docs, review, simplify, tests.'
    .. ' Yours go into prompts/nosuch.md.')
  h.has(c:messages()[2], 'broken.md: "kind: x" is not understood.')
end)

test('an excluded file is not read by a prompt', function()
  local c = child()
  c:cmd('file .env')
  c:cmd('Gemma prompt review')
  c:wait('#Seen.messages == 1')
  h.eq({ c:messages()[1], c:lua('return #Fake.jobs') }, { 'gemma: .env is excluded (exclude list).', 0 })
end)

-- ---- bench ----------------------------------------------------------------------------------

test('bench: the text is new each time, and the report counts what was computed', function()
  h.ok(bench.text(1, 20) ~= bench.text(2, 20))
  h.eq(#vim.split(bench.text(5, 20), ' '), 21)
  local info = { n_prompt = 520, n_reused = 20, n_generated = 33, prefill_ms = 5000, decode_ms = 16000 }
  h.eq(bench.report(info, 'cpu avx2'),
    'reads 100.0, writes 2.0 tokens per second (500 and 33 tokens, cpu avx2).')
  h.has(bench.report({ n_prompt = 1, n_reused = 0, n_generated = 1, prefill_ms = 0, decode_ms = 0 }, 'x'), 'reads ?')
end)

test(':Gemma bench measures once, with progress, and says the result', function()
  local c = h.child()
  c:cmd('Gemma bench')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua([[local r = Fake.jobs[1].req
    return { r.session, r.max_tokens, r.ignore_eog, r.parts[1].kind }]]), { 1, 32, true, 'user' })
  c:lua("Fake.read(50, 100) Fake.emit('a') Fake.emit('b')")
  c:wait("require('gemma.engine').state == 'generating'")
  c:cmd('Gemma bench')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'the model is busy')
  c:lua("Fake.done(nil, 'length')")
  c:wait('#Seen.messages == 2')
  h.eq(c:messages()[2], 'gemma: reads 1000.0, writes 25.0 tokens per second (10 and 2 tokens, fake cpu).')
end)

test(':Gemma bench without a model says what is missing', function()
  local c = h.child()
  c:lua("vim.fn.delete(vim.fn.stdpath('data') .. '/gemma', 'rf')")
  c:cmd('Gemma bench')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'no model')
end)

return T
