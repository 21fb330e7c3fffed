--- How eager ghost text is, and what it has besides the first suggestion: candidates, recall,
--- rhythm, battery, focus, confidence.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local shown, hidden = h.shown, h.hidden

local function here(c)
  return c:lua("return require('gemma').status().here")
end

-- ---- candidates -------------------------------------------------------------------------------

test('candidates: the next one comes from a fork of the cache, sampled, when it is asked for', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  h.eq(c:lua('return #Fake.jobs'), 1, 'nothing is made ahead of time')
  c:feed('<M-]>')
  c:wait('#Fake.jobs == 2')
  local req = c:lua([[local r = Fake.jobs[2].req
    return { r.session, r.fork_from, r.temperature > 0, r.seed > 0, r.parts[#r.parts].data }]])
  h.eq(req, { 7, 0, true, true, '```lua\nx = ' })
  h.eq(c:ghost(), 'alpha', 'the first one stays until the second is there')
  c:lua("Fake.emit('beta') Fake.done()")
  c:wait("require('gemma.ghost').text() == 'beta'")
  h.eq(c:lua("return require('gemma').statusline()"), 'G 2/3')
  c:feed('<M-[>')
  h.eq(c:ghost(), 'alpha')
  h.eq(c:lua("return require('gemma').statusline()"), 'G 1/3')
  c:feed('<M-]>')
  h.eq(c:ghost(), 'beta')
  h.eq(c:lua('return #Fake.jobs'), 2, 'what is there is not made again')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'x = beta' })
end)

test('candidates: changing them never leaves the screen empty', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:feed('<M-]>')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('beta') Fake.done()")
  c:wait("require('gemma.ghost').text() == 'beta'")
  c:feed('<M-]>')
  c:wait('#Fake.jobs == 3')
  c:lua("Fake.emit('gamma') Fake.done()")
  c:wait("require('gemma.ghost').text() == 'gamma'")
  c:feed('<M-]>')
  h.eq(c:ghost(), 'alpha', 'after the last one comes the first')
  local clears = vim.tbl_filter(function(e)
    return e == 'GemmaGhostClear'
  end, c:events())
  h.eq(#clears, 0)
end)

test('candidates: one that says the same is not shown; after three tries there are no more', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:lua("Fake.auto = function() return { 'alpha' } end")
  c:feed('<M-]>')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'no other suggestion')
  h.eq(c:lua('return #Fake.jobs'), 4)
  local seeds = c:lua('return { Fake.jobs[2].req.seed, Fake.jobs[3].req.seed, Fake.jobs[4].req.seed }')
  h.ok(seeds[1] ~= seeds[2] and seeds[2] ~= seeds[3], 'other seeds')
  h.eq(c:lua("return require('gemma').statusline()"), 'G 1/1')
  c:feed('<M-]>')
  h.eq(c:lua('return #Fake.jobs'), 4)
  h.eq(c:ghost(), 'alpha')
end)

test('candidates: one that is not even taken is told', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:lua("Fake.refuse = 'busy'")
  c:feed('<M-]>')
  c:wait('#Seen.messages == 1')
  h.eq({ c:messages(), c:ghost() }, { { 'gemma: busy' }, 'alpha' })
end)

test('candidates: after typing part of it, others begin with what was typed', function()
  local c = h.suggesting('x = |', 'alpha one')
  shown(c)
  c:type('al')
  c:feed('<M-]>')
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return Fake.jobs[2].req.parts[#Fake.jobs[2].req.parts].data'), '```lua\nx = al')
  c:lua("Fake.emit('together') Fake.done()")
  c:wait("require('gemma.ghost').text() == 'together'")
  c:type('t')
  h.eq(c:ghost(), 'ogether')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'x = altogether' })
end)

test('candidates: what is typed decides between those that are there', function()
  local c = h.suggesting('x = |', 'alpha one')
  shown(c)
  c:feed('<M-]>')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('beta two') Fake.done()")
  c:wait("require('gemma.ghost').text() == 'beta two'")
  c:type('al')
  h.eq(c:ghost(), 'pha one')
end)

test('candidates: completion.candidates = 1 asks for no other', function()
  local c = h.suggesting('x = |', 'alpha', {
    config = 'vim.g.gemma = { completion = { candidates = 1 } }',
  })
  shown(c)
  c:feed('<M-]>')
  h.eq({ c:lua('return #Fake.jobs'), c:ghost() }, { 1, 'alpha' })
end)

test('candidates: the keys do what they always did when nothing is shown', function()
  local c = h.child()
  c:insert_at('ab|')
  c:feed('<M-]><Esc>') -- the Escape ends the command that `]` begins
  h.eq(c:lua('return vim.api.nvim_get_mode().mode'), 'n', 'an unmapped Meta key leaves Insert mode')
end)

-- ---- recall -----------------------------------------------------------------------------------

test('recall: deleting a wrong key brings the suggestion back, without the model', function()
  local c = h.suggesting('x = |', 'alpha beta')
  shown(c)
  c:type('alq')
  h.ok(hidden(c))
  c:feed('<BS>')
  h.eq(c:ghost(), 'pha beta')
  h.eq(c:lua('return #Fake.jobs'), 1)
  c:feed('<M-l>')
  h.eq(c:lines(), { 'x = alpha beta' })
end)

test('recall: what was typed before the answer ended belongs to it', function()
  local c = h.asking('x = |', { config = 'vim.g.gemma = { completion = { delay = 10000 } }' })
  c:lua("Fake.emit('alpha beta\\n')")
  shown(c)
  c:type('al')
  c:lua('Fake.done()')
  c:wait('Fake.heard()')
  c:type('q')
  h.ok(hidden(c))
  c:feed('<BS>')
  h.eq(c:ghost(), 'pha beta')
  c:feed('<Left><Left>z<BS>')
  h.ok(hidden(c), 'in front of it is another place')
end)

test('recall: where ghost text is manual, what had come so far is brought back too', function()
  local c = h.asking('x = |', { config = 'vim.g.gemma = { completion = { auto = false } }' })
  c:lua("Fake.emit('alpha beta\\n')")
  shown(c)
  c:type('alq')
  h.ok(hidden(c))
  c:feed('<BS>')
  h.eq({ c:ghost(), c:lua('return #Fake.jobs') }, { 'pha beta', 1 })
  c:feed('<Esc>a')
  c:wait("require('gemma').visible()")
  h.eq({ c:ghost(), c:lua('return #Fake.jobs') }, { 'pha beta', 1 })
  c:feed('<C-]>')
  c:type('q')
  c:feed('<BS>')
  h.ok(hidden(c), 'but not what was dismissed')
end)

test('recall: what was dismissed does not come back', function()
  local c = h.suggesting('x = |', 'alpha beta', { config = 'vim.g.gemma = { completion = { delay = 10000 } }' })
  shown(c)
  c:feed('<C-]>')
  c:type('q')
  c:feed('<BS>')
  h.ok(hidden(c))
end)

test('recall: the same place with other lines around it is another place', function()
  local c = h.suggesting('a\nx = |\nb', 'alpha beta', { config = 'vim.g.gemma = { completion = { delay = 10000 } }' })
  shown(c)
  c:type('q')
  c:lua("vim.api.nvim_buf_set_lines(0, 0, 1, false, { 'c' })")
  c:feed('<BS>')
  h.ok(hidden(c))
end)

test('recall: holds a few dozen for a few minutes, the least recently used goes first', function()
  package.loaded['gemma.recall'] = nil
  local recall = require('gemma.recall')
  local function place(i)
    return { buf = 1, above = '', line = 'line ' .. i .. ':', right = '' }
  end
  for i = 1, 64 do
    recall.put(place(i), 'text', i)
  end
  h.eq(recall.get(place(1), 64), 'text')
  recall.put(place(65), 'text', 65)
  h.eq(recall.get(place(1), 66), 'text', 'used a moment ago')
  h.eq(recall.get(place(2), 66), nil, 'the oldest')
  h.eq(recall.get(place(3), 6 * 60 * 1000), nil, 'too old')
  h.eq(recall.knows(place(3).buf), false, 'nothing that is too old is kept')
end)

-- ---- the pause --------------------------------------------------------------------------------

local function pace_with(options)
  package.loaded['gemma.pace'] = nil
  package.loaded['gemma.config'] = nil
  vim.g.gemma = options
  return require('gemma.pace')
end

test('delay: on a CPU a little more than the usual time between keys, from 100 to 400 ms', function()
  for gap, want in pairs({ [50] = 100, [120] = 156, [200] = 260, [600] = 400 }) do
    local pace = pace_with({})
    h.eq(pace.delay(false), 150, 'before enough is known')
    for i = 1, 10 do
      pace.key(i * gap)
    end
    h.eq(pace.delay(false), want, gap .. ' ms between keys')
    h.eq(pace.delay(true), 40, 'on a GPU')
    h.eq(pace.delay(false, 250), 40, 'with a model that costs next to nothing')
    h.eq(pace.delay(false, 199), want, 'with one that costs something')
  end
end)

test('delay: pauses for thinking and pasted text are not typing', function()
  local pace = pace_with({})
  local t = 0
  for i = 1, 40 do
    t = t + (i % 2 == 0 and 200 or 5000)
    pace.key(t)
    for _ = 1, 5 do
      t = t + 1
      pace.key(t)
    end
  end
  h.eq(pace.interval(), 200)
end)

test('delay: what the user sets is taken as it is', function()
  local pace = pace_with({ completion = { delay = 7 } })
  h.eq({ pace.delay(false), pace.delay(true) }, { 7, 7 })
end)

test('measured speed: manual below 2.9 tokens per second, told once, and back when it is faster', function()
  local pace = pace_with({})
  h.eq({ pace.measured(2), pace.measured(2) }, {}, 'too few answers')
  h.has(pace.measured(2.14), 'measured 2.1 tok/s, so ghost text is manual')
  h.has(pace.manual_reason(), 'slow here')
  h.eq(pace.measured(1.5), nil, 'told once')
  pace.measured(30)
  h.eq(pace.manual_reason(), nil)
  h.eq(pace.measured(2), nil, 'not even then')
  pace.forget_speed()
  h.eq(pace.manual_reason(), nil, 'another model')
end)

test('manual: completion.auto = false asks only by key', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { auto = false, delay = 0 } }' })
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('x = ')
  h.has(here(c), 'manual (completion.auto)')
  h.eq(c:lua('return #Fake.jobs'), 0)
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
end)

-- ---- battery and focus ------------------------------------------------------------------------

--- A folder like the kernel's, with a charger and a battery.
local function supply(dir, status)
  local files = {
    ['AC/type'] = 'Mains',
    ['BAT0/type'] = 'Battery',
    ['BAT0/status'] = status,
    ['mouse/type'] = 'Battery',
    ['mouse/scope'] = 'Device',
    ['mouse/status'] = 'Discharging',
  }
  for name, text in pairs(files) do
    vim.fn.mkdir(vim.fs.dirname(dir .. '/' .. name), 'p')
    vim.fn.writefile({ text }, dir .. '/' .. name)
  end
end

local function on_battery(battery, status, completion)
  local dir = vim.fn.tempname()
  supply(dir, status)
  local c = h.child({
    config = ('vim.g.gemma = { battery = %q, completion = { delay = 0, %s } }'):format(battery, completion or ''),
  })
  c:lua("local p = require('gemma.power') p.root = ...", dir)
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  local yes = status == 'Discharging' and battery ~= 'same'
  c:wait(("require('gemma.power').on_battery() == %s"):format(yes))
  return c
end

test('battery: the kernel is asked on Insert mode; chargers and mice are not batteries', function()
  local c = on_battery('manual', 'Charging')
  c:type('ab')
  c:wait('#Fake.jobs > 0')
end)

test("battery: 'slow' waits three times as long, shows one line and reads nothing ahead", function()
  local c = on_battery('slow', 'Discharging')
  h.eq(c:lua([[vim.g.gemma = { battery = 'slow', completion = { delay = 50 } }
    require('gemma.config').reload() return require('gemma.pace').delay(false)]]), 150)
  local warm = c:lua('return #Fake.warm')
  c:type('x = ')
  c:wait('#Fake.jobs > 0')
  c:lua("Fake.emit('alpha(\\nbeta)') Fake.done()")
  h.eq(shown(c), 'alpha(')
  h.eq(c:lua('return #Fake.warm'), warm)
end)

test("battery: 'manual' asks only by key", function()
  local c = on_battery('manual', 'Discharging')
  c:type('x = ')
  h.has(here(c), 'on battery, so ghost text is manual')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
end)

test("battery: 'off' does not even answer the key", function()
  local c = on_battery('off', 'Discharging')
  c:feed([[<M-Bslash>]])
  h.has(here(c), 'on battery, so ghost text is off')
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test("battery: 'same' never looks", function()
  local dir = vim.fn.tempname()
  supply(dir, 'Discharging')
  local c = h.child({ config = "vim.g.gemma = { battery = 'same', completion = { delay = 0 } }" })
  c:lua([[local p = require('gemma.power')
    p.root, Looked = ..., 0
    local refresh = p.refresh
    p.refresh = function(...) Looked = Looked + 1 return refresh(...) end]], dir)
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('x = ')
  c:wait('#Fake.jobs > 0')
  h.eq(c:lua('return Looked'), 0)
end)

test('paused: status says why ghost text waits; questions go on meanwhile', function()
  local c = on_battery('manual', 'Discharging')
  local why = 'the machine runs on battery, so ghost text is manual (battery).'
  h.eq(c:lua("local s = require('gemma').status() return { s.paused, s.state }"), { why, 'ready' })
  h.has(c:lua([[return table.concat(vim.tbl_map(function(l)
    return l[1] .. ' ' .. l[2] end, require('gemma.command').status_lines()), '\n')]]), 'ghost paused: ' .. why)
  h.ok(h.suggesting('x = |', 'alpha'):lua("return require('gemma').status().paused == nil"))
end)

test('focus: a terminal in the background has no work done for it; typing means it is in front', function()
  local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 10000 } }' })
  c:insert_at('|')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('x')
  c:cmd('doautocmd FocusLost')
  h.has(here(c), 'focus')
  h.ok(not c:lua("return require('gemma.pace').may_prefetch(true)"))
  c:type('y')
  h.ok(not here(c):find('focus'))
  c:cmd('doautocmd FocusLost')
  c:cmd('doautocmd FocusGained')
  h.ok(not here(c):find('focus'))
end)

test('prefetch: an idle GPU prepares what follows an accept, which then needs no model', function()
  local c = h.child({ config = "vim.g.gemma = { device = 'vulkan' }" })
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:lua("require('gemma.engine').runs_on = 'vulkan'")
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('alpha') Fake.done()")
  shown(c)
  c:wait('#Fake.jobs == 2', 'the answer as if it were accepted')
  local req = c:lua('local r = Fake.jobs[2].req return { r.priority, r.parts[#r.parts].data }')
  h.eq(req, { 'background', '```lua\nx = alpha' })
  c:lua("Fake.emit(' + beta') Fake.done()")
  c:wait('Fake.heard()')
  c:feed('<M-l>')
  h.eq(c:ghost(), ' + beta', 'in the same tick')
  h.eq(c:lua('return Fake.jobs[2].live'), false)
end)

test('prefetch: never on a CPU', function()
  local c = h.suggesting('x = |', 'alpha')
  shown(c)
  c:wait("require('gemma.engine').state == 'ready'")
  h.eq(c:lua('return #Fake.jobs'), 1)
end)

-- ---- options ----------------------------------------------------------------------------------

test('min_confidence: a suggestion ends before the first token the model is not sure of', function()
  local c = h.asking('x = |', { config = 'vim.g.gemma = { completion = { min_confidence = 0.5 } }' })
  c:lua([[Fake.emit('alpha + ', nil, -0.1) Fake.emit('beta', nil, -0.2) Fake.emit(' * noise', nil, -3)
    Fake.emit(' more', nil, -0.1)]])
  h.eq(shown(c), 'alpha + beta')
  h.eq(c:lua('return #Fake.cancelled'), 1)
end)

test('in_comments = false: nothing by itself in a comment, by treesitter, syntax or commentstring', function()
  for _, how in ipairs({ 'treesitter', 'syntax', 'neither' }) do
    local c = h.child({ config = 'vim.g.gemma = { completion = { in_comments = false, delay = 0 } }' })
    c:insert_at('-- a remark|\n')
    c:wait("require('gemma.engine').is_loaded()")
    c:lua([[local how = ...
      if how == 'treesitter' then vim.treesitter.start(0, 'lua') vim.treesitter.get_parser(0):parse()
      elseif how == 'syntax' then vim.cmd('syntax on | set syntax=lua')
      else vim.cmd('syntax off') vim.bo.commentstring = '-- %s' end]], how)
    c:type(' x')
    h.has(here(c), 'in a comment')
    h.eq(c:lua('return #Fake.jobs'), 0)
    c:feed('<Esc>o<C-u>')
    c:type('y = ')
    c:wait('#Fake.jobs > 0', 'a request outside of the comment, ' .. how)
  end
end)

test("menu: 'selected' hides beside a selected entry, true beside any menu, false never", function()
  local wants = { ["'selected'"] = { true, false }, ['true'] = { false, false }, ['false'] = { true, true } }
  for menu, want in pairs(wants) do
    local c = h.suggesting('x = |', 'alpha beta', {
      config = ('vim.g.gemma = { completion = { menu = %s } }'):format(menu),
    })
    shown(c)
    c:lua([[vim.o.completeopt = 'menuone,noselect'
      vim.fn.complete(vim.fn.col('.'), { 'alpha', 'another' })]])
    c:wait('vim.fn.pumvisible() == 1')
    h.eq(not hidden(c), want[1], menu .. ': open')
    c:feed('<Down>')
    h.eq(not hidden(c), want[2], menu .. ': selected')
    c:feed('<C-e>')
    c:wait("require('gemma').visible()", 'it is back')
  end
end)

-- ---- scope ------------------------------------------------------------------------------------

--- A suggestion in a table whose lines stand deeper than the model writes them.
local function in_table(parser, text)
  local c = h.child()
  c:insert_at(text)
  c:wait("require('gemma.engine').is_loaded()")
  -- Neovim's own filetype plugin starts one for Lua.
  c:lua(parser and "vim.treesitter.start(0, 'lua') vim.treesitter.get_parser(0):parse(true)"
    or 'vim.treesitter.stop(0)')
  return c
end

test('scope: where treesitter knows the block a suggestion goes on to its end, else to its indentation', function()
  for parser, want in pairs({ [true] = 'two = 2,\n  three = 3,', [false] = 'two = 2,' }) do
    local c = in_table(parser, 'local t = {\n          one = 1,\n          |\n}\n')
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs > 0')
    c:lua("Fake.emit('two = 2,\\n  three = 3,\\n}\\nprint(t)\\n') Fake.done()")
    h.eq(shown(c), want, parser and 'with a tree' or 'without')
  end
end)

test('scope: its floor is the indentation of the line that opens the block', function()
  local nested = 'local t = {\n    inner = {\n            one = 1,\n            |\n    },\n}\n'
  local function at(parser, text)
    return in_table(parser, text):lua([[local row, col = unpack(vim.api.nvim_win_get_cursor(0))
      local before = vim.api.nvim_get_current_line():sub(1, col)
      return require('gemma.scope').at(vim.api.nvim_get_current_buf(), row - 1, col, before)]])
  end
  h.eq(at(true, nested), { floor = 4, open = { '}', '}' } })
  h.eq(at(false, nested), { open = { '}', '}' } }, 'no tree is made for it')
  h.eq(at(true, 'local t = {\n    one = = ((1,\n      |\n').floor, nil, 'broken code has none')
  h.eq(at(true, '|\nlocal t = 1\n').floor, nil, 'nor has the left margin')
end)

test('state: a running answer is never called ready', function()
  local c = h.asking('x = |')
  local state = "return require('gemma').status().state"
  h.eq(c:lua(state), 'prefill')
  c:lua("Fake.emit('al')")
  c:wait("require('gemma').status().state == 'generating'")
  c:lua("require('gemma').ask({ prompt = 'why', on_done = function() end })")
  c:lua('Fake.done(1)')
  c:wait("require('gemma').status().state == 'prefill'")
  c:lua("Fake.emit('be', 2)")
  c:wait("require('gemma').status().state == 'generating'")
  c:lua('Fake.done(2)')
  c:wait("require('gemma').status().state == 'ready'")
end)

return T
