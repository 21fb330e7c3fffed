--- What the public functions say about arguments that they cannot use, and about names that are gone.

local h = require('helper')
local check = require('gemma.check')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function none() end

--- Ten lines in the current buffer of this Neovim.
local function ten_lines()
  local lines = {}
  for i = 1, 10 do
    lines[i] = ('line %d'):format(i)
  end
  vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
end

test('a missing argument and a wrong type are named, with what is expected', function()
  local turn = { role = 'user', text = 'x' }
  for _, case in ipairs({
    { 'ask', nil, 'opts: expected a table, got nil' },
    { 'ask', {}, 'prompt: expected a string, got nil' },
    { 'ask', { prompt = 1 }, 'prompt: expected a string, got 1' },
    { 'ask', { prompt = 'x', max_tokens = 1.5 }, 'max_tokens: expected an integer, got 1.5' },
    { 'ask', { prompt = 'x', seed = math.huge }, 'seed: expected an integer, got inf' },
    { 'ask', { prompt = 'x', stops = 'end' }, 'stops: expected a list of strings, got string' },
    { 'ask', { prompt = 'x', images = { 1 } }, 'images: expected a path or a list of them, got table' },
    { 'ask', { prompt = 'x', on_done = 'x' }, 'on_done: expected a function, got string' },
    { 'ask', { prompt = 'x', history = { turn, 'x' } }, 'history: expected a list of tables, got table' },
    { 'ask', { prompt = 'x', history = { turn, { role = 'user' } } },
      'history[2].text: expected a string, got nil' },
    { 'ask', { prompt = 'x', history = { { role = 'system', text = 'x' } } },
      "history[1].role: expected 'user' or 'model', got string" },
    { 'complete', {}, 'on_done: expected a function, got nil' },
    { 'complete', { on_done = none }, 'buf: expected an integer, got nil' },
    { 'complete', { on_done = none, buf = 0, row = 1 }, 'col: expected an integer, got nil' },
    { 'edit', { first = 1, last = 2 }, 'instruction: expected a string, got nil' },
    { 'edit', { instruction = 'x', first = 1 }, 'last: expected an integer, got nil' },
    { 'fix', 'x', 'opts: expected a table, got string' },
    { 'fix', { first = 'x' }, 'first: expected an integer, got string' },
    { 'fix', { last = 3 }, 'first: expected an integer beside last, got nil' },
  }) do
    local wrong, refused = check[case[1]](case[2])
    h.eq({ wrong, refused }, { ('gemma.%s(): %s'):format(case[1], case[3]) })
  end
end)

test('a value that cannot be served is refused, with what is allowed', function()
  ten_lines()
  for _, case in ipairs({
    { 'ask', { prompt = 'x', session = 1 }, 'session: expected 2 or 4, got 1' },
    { 'ask', { prompt = 'x', fork_from = 8 }, 'fork_from: expected 0 to 7, got 8' },
    { 'ask', { prompt = 'x', max_tokens = -1 }, 'max_tokens: expected 0 or more, got -1' },
    { 'complete', { on_done = none, buf = 0, row = 99, col = 0 }, 'row: expected 0 to 9, got 99' },
    { 'complete', { on_done = none, buf = 0, row = 0, col = 7 }, 'col: expected 0 to 6, got 7' },
    { 'complete', { on_done = none, buf = 99, row = 0, col = 0 },
      'buf: expected a loaded buffer, got 99' },
    { 'complete', { on_done = none, prefix = 'x', max_lines = 0 }, 'max_lines: expected 1 or more, got 0' },
    { 'edit', { instruction = 'x', first = 50, last = 60 }, 'first: expected 1 to 10, got 50' },
    { 'edit', { instruction = 'x', first = 3, last = 2 }, 'last: expected 3 or more, got 2' },
    { 'fix', { first = 0 }, 'first: expected 1 to 10, got 0' },
    { 'fix', { buf = 99 }, 'buf: expected a loaded buffer, got 99' },
  }) do
    local wrong, refused = check[case[1]](case[2])
    h.eq({ wrong or 'right', refused }, { 'right', ('gemma.%s(): %s'):format(case[1], case[3]) })
  end
end)

test('what is allowed passes, and a last line behind the end is the end', function()
  ten_lines()
  h.eq({ check.ask({ prompt = 'x', session = 4, fork_from = 0, max_tokens = 0, images = 'a.png' }) }, {})
  h.eq({ check.complete({ on_done = none, buf = 0, row = 9, col = 7 }) }, {})
  h.eq({ check.complete({ on_done = none, prefix = '' }) }, {})
  h.eq({ check.fix() }, {})
  h.eq(select(3, check.edit({ instruction = 'x', first = 4, last = 99 })), 10)
  h.eq(select(3, check.fix({ first = 4 })), 4)
end)

test('a wrong type is an error at the line of the call, and nothing is loaded for it', function()
  local c = h.child()
  h.eq(c:lua([[
    local g, said = require('gemma'), {}
    for i, call in ipairs({
      function() g.ask({}) end,
      function() g.edit({ first = 1, last = 1 }) end,
      function() g.enable(99) end,
      function() g.setup(1) end,
      function() g.load(1) end,
      function() g.ask({ prompt = 'x', session = 3 }) end,
    }) do
      said[i] = select(2, pcall(call))
    end
    return { said, #Fake.loads }]]), { {
    '[string "<nvim>"]:3: gemma.ask(): prompt: expected a string, got nil',
    '[string "<nvim>"]:4: gemma.edit(): instruction: expected a string, got nil',
    '[string "<nvim>"]:5: gemma.enable(): buf: expected a buffer, got 99',
    '[string "<nvim>"]:6: gemma.setup(): opts: expected a table, got 1',
    '[string "<nvim>"]:7: gemma.load(): on_ready: expected a function, got 1',
    '[string "<nvim>"]:8: gemma.ask(): session: expected 2 or 4, got 3',
  }, 0 })
end)

test('what is refused comes to on_done like any failure', function()
  local c = h.child()
  c:lua([[
    _G.Got = {}
    local function on_done(text, why) table.insert(Got, { text == nil, why }) end
    _G.Handles = { require('gemma').ask({ prompt = 'x', session = 1, on_done = on_done }),
      require('gemma').complete({ buf = 0, row = 99, col = 0, on_done = on_done }) }
    _G.AtOnce = #Got
    for _, handle in ipairs(Handles) do handle.cancel() end]])
  c:wait('#Got == 2')
  h.eq(c:lua('return { AtOnce, Got, #Fake.jobs }'), { 0, {
    { true, 'gemma.ask(): session: expected 2 or 4, got 1.' },
    { true, 'gemma.complete(): row: expected 0 to 0, got 99.' },
  }, 0 })
end)

test('an edit of lines that are not there is a warning; one beyond the end goes to the end', function()
  local c = h.child()
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'a = 1', 'b = 2' })
    require('gemma').edit({ first = 9, last = 9, instruction = 'x' })
    require('gemma').fix({ first = 9 })]])
  c:wait('#Seen.messages == 2')
  h.eq(c:messages(), {
    'gemma: gemma.edit(): first: expected 1 to 2, got 9.',
    'gemma: gemma.fix(): first: expected 1 to 2, got 9.',
  })
  c:lua("require('gemma').edit({ first = 1, last = 99, instruction = 'x' })")
  c:wait('#Fake.jobs == 1')
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'), '<selection>\na = 1\nb = 2\n</selection>')
end)

test('a deprecated name of the API warns and works; a name that never was is nil', function()
  local c = h.child()
  h.eq(c:lua([[
    vim.deprecate = function(...) _G.Said = { ... } end
    local before = package.loaded['gemma.api'] == nil
    table.insert(require('gemma.api').functions, { name = 'is_shown', args = '', since = '0.1.0',
      desc = '', instead = 'visible', until_version = '0.3.0' })
    local g = require('gemma')
    return { before, g.is_shown(), Said[1], g.never_was == nil }]]),
    { true, false, "require('gemma').is_shown", true })
end)

return T
