--- Two Neovims, one model: the second borrows what the first has loaded.
---
--- Both are real processes that talk over a real pipe. With the fake engine a test speaks for the
--- model in the first one; the last tests use the library and the smallest model.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local READY = "require('gemma.engine').is_loaded()"

--- The second Neovim: what the first one has in its state folder is its own, too.
local function second(a, o)
  return h.child(vim.tbl_extend('keep', {
    env = { XDG_STATE_HOME = a.dir .. '/state' },
  }, o or {}, { fake = true, cols = 70, lines = 20 }))
end

local function load(c)
  c:lua("require('gemma').load()")
  c:wait(READY)
end

--- One that has the model and one that borrows it.
local function pair(o)
  -- On the CPU there is no sentinel of GPU work, which a killed process would leave behind.
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  load(a)
  local b = second(a, o)
  load(b)
  return a, b
end

local function state(c)
  return c:lua("return require('gemma.engine').state")
end

local function kill(c)
  vim.uv.kill(c:lua('return vim.uv.os_getpid()'), 'sigkill')
  vim.fn.jobwait({ c.chan }, 3000)
  c.chan = nil
end

test('the second Neovim answers through the first and loads nothing', function()
  local a, b = pair()
  h.eq(state(b), 'borrowed')
  h.eq(b:lua('return #Fake.loads'), 0)
  local pid = a:lua('return vim.uv.os_getpid()')
  h.eq(b:messages(), { ('gemma: this Neovim borrows the model of pid %d.'):format(pid) })
  b:lua([[_G.Got = {}
    require('gemma').ask({ prompt = 'why?', max_tokens = 7, on_token = function(t)
      table.insert(Got, t) end, on_done = function(text, info) _G.Text, _G.Info = text, info end })]])
  a:wait('#Fake.jobs == 1')
  h.eq(a:lua([[local r = Fake.jobs[1].req
    return { r.max_tokens, r.priority, r.parts[2].data, r.session }]]), { 7, 'ask', 'why?', 6 })
  a:lua("Fake.emit('be\\0cause')")
  b:wait('#Got == 1', 'the text streams')
  h.eq(state(b), 'generating')
  a:lua("Fake.emit(' so') Fake.done()")
  b:wait('Text ~= nil')
  h.eq(b:lua('return { Text, Info.reason, Info.n_generated }'), { 'be\0cause so', 'eog', 2 })
  h.eq(state(b), 'borrowed')
  h.eq(b:lua("return require('gemma').statusline()"), 'G')
  h.eq(b:lua("return require('gemma').status().decode_tok_s"), 50, 'numbers of the other one')
end)

test('what was typed while the first was still loading is completed without another key', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  a:lua('Fake.hold_load = true')
  a:lua("require('gemma').load()")
  local b = second(a)
  b:insert_at('|')
  b:wait("require('gemma.engine').lender")
  b:type('local x = ')
  h.eq(state(b), 'loading')
  a:lua('Fake.loaded()')
  a:wait('#Fake.jobs == 1', 'a request')
  h.eq(a:lua('local p = Fake.jobs[1].req.parts return p[#p].data'), '```lua\nlocal x = ')
end)

test('status and health of both say whose model it is', function()
  local a, b = pair()
  local function page(c)
    return c:lua([[return table.concat(vim.tbl_map(function(l)
      return l[1] .. ' ' .. l[2] end, require('gemma.command').status_lines()), '\n')]])
  end
  h.has(page(a), 'owner this Neovim; 1 borrows its model')
  h.has(page(b), ('owner pid %d, whose model'):format(a:lua('return vim.uv.os_getpid()')))
  local function health(c)
    c:cmd('checkhealth gemma')
    return table.concat(c:lines(), '\n')
  end
  h.has(health(a), 'this Neovim has the model; 1 other borrows it')
  h.has(health(b), 'the model is borrowed from pid')
  local c = second(a)
  local text = health(c)
  h.has(text, 'has a model in memory (shared is borrow)')
  h.has(text, 'SHA-256: none is known. :Gemma verify records it.')
  h.has(text, 'free there')
end)

test('ghost text comes through the other Neovim, with the urgency of typing', function()
  local a, b = pair()
  b:insert_at('x = |')
  b:feed([[<M-Bslash>]])
  a:wait('#Fake.jobs == 1')
  h.eq(a:lua('return { Fake.jobs[1].req.priority, Fake.jobs[1].req.session }'), { 'typing', 5 })
  a:lua("Fake.emit('alpha + beta') Fake.done()")
  b:wait("require('gemma').visible()")
  h.eq(b:ghost(), 'alpha + beta')
  b:feed('<M-l>')
  h.eq(b:lines(), { 'x = alpha + beta' })
end)

test('stopping in the second Neovim stops in the first, and only its own', function()
  local a, b = pair()
  a:lua("require('gemma').ask({ prompt = 'mine' })")
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })")
  a:wait('#Fake.jobs == 2')
  b:cmd('Gemma stop')
  b:wait('Why ~= nil')
  h.eq(b:lua('return Why'), 'cancelled')
  h.eq(a:lua('return { #Fake.cancelled, Fake.jobs[1].live }'), { 1, true })
end)

test('stopping in the first Neovim spares what it computes for the second', function()
  local a, b = pair()
  a:lua("require('gemma').ask({ prompt = 'mine', on_done = function(_, why) _G.Why = why end })")
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(text) _G.Text = text end })")
  b:lua([[require('gemma.engine').hash('/some/file', {
    on_done = function(hex) _G.Hex = hex end, on_error = function(e) _G.Hex = e.text end })]])
  a:wait('#Fake.jobs == 2 and #Fake.hashes == 1')
  local theirs = a:lua("return Fake.jobs[1].req.parts[2].data == 'x' and 1 or 2")
  a:cmd('Gemma stop')
  a:wait("Why == 'cancelled'")
  a:lua("Fake.emit('still here', ...) Fake.done(...) Fake.hashed('abc')", theirs)
  b:wait('Text ~= nil and Hex ~= nil')
  h.eq(b:lua('return { Text, Hex }'), { 'still here', 'abc' })
  h.eq(a:lua('return #Fake.cancelled'), 1)
end)

test('a GPU that fails in the first Neovim is told in the second, which can load for itself', function()
  local a, b = pair()
  local pid = a:lua('return vim.uv.os_getpid()')
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })")
  a:wait('#Fake.jobs == 1')
  a:lua("Fake.fail(-11, 'the device failed; the model was unloaded')")
  b:wait("require('gemma.engine').state == 'off'")
  h.eq(b:lua('return Why'), 'the device failed; the model was unloaded')
  h.eq(b:messages()[2], ('gemma: pid %d lost its GPU; :Gemma load to load the model here.'):format(pid))
  b:cmd('Gemma load')
  b:wait(READY)
  h.eq({ state(a), state(b) }, { 'error', 'ready' })
end)

test('killing the first leaves the second alive, told, and able to take over', function()
  local a, b = pair()
  local pid = a:lua('return vim.uv.os_getpid()')
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })")
  a:wait('#Fake.jobs == 1')
  kill(a)
  b:wait('#Seen.messages == 2')
  h.eq(b:messages()[2],
    ('gemma: the owner (pid %d) closed; :Gemma load to take over.'):format(pid))
  h.eq(b:lua('return Why'), 'the Neovim with the model closed')
  h.eq(state(b), 'off')
  h.eq(b:lua("return require('gemma').statusline()"), 'G!')
  b:insert_at('still = |')
  b:type('1')
  h.eq(b:lines(), { 'still = 1' })
  h.has(b:lua("return require('gemma').status().here"), 'to take over')
  h.eq(b:lua('return #Fake.loads'), 0, 'nothing is loaded unasked')
  b:cmd('stopinsert')
  b:cmd('Gemma load')
  b:wait(READY)
  h.eq(b:lua('return #Fake.loads'), 1)
  h.eq(state(b), 'ready')
  local c = second(a)
  load(c)
  h.eq(state(c), 'borrowed', 'it lends now')
end)

-- It was never told: the end of all jobs stood in the queue already, and the next one was put behind.
test('a request in the moment between the end of the first and the word of it ends with an error', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  load(a)
  local b = second(a)
  b:lua([[local borrow = require('gemma.borrow')
    local open = borrow.open
    borrow.open = function(...) _G.Borrowed = open(...) return Borrowed end]])
  load(b)
  b:lua([[Borrowed:lost({ why = 'closed' })
    require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })
    _G.Hash = { require('gemma.engine').hash('/some/file', {}) }]])
  b:wait('Why ~= nil')
  h.eq(b:lua('return { Why, Hash[2] }'), { 'the Neovim with the model closed', 'the Neovim with the model closed' })
  b:wait("require('gemma.engine').state == 'off'")
end)

test('what this Neovim was computing when it begins to borrow ends as cancelled', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  load(a)
  local b = second(a, { config = "vim.g.gemma = { shared = 'own', device = 'cpu' }" })
  load(b)
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })")
  b:wait('#Fake.jobs == 1')
  b:lua([[vim.g.gemma = { device = 'cpu' }
    require('gemma.config').reload()
    require('gemma').unload()
    require('gemma').load()]])
  b:wait('Why ~= nil')
  b:wait(READY)
  h.eq({ b:lua('return Why'), state(b) }, { 'cancelled', 'borrowed' })
end)

-- It was cancelled, and with it a download of gigabytes that had only to be checked.
test('a checksum goes on when this Neovim begins to borrow, and when the first is gone', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  load(a)
  local b = second(a)
  b:lua([[local engine = require('gemma.engine')
    local function hash(path, name)
      return engine.hash(path, {
        on_done = function(hex) _G[name] = hex end, on_error = function(e) _G[name] = e.name end })
    end
    _G.Job = hash('/some/file', 'Hex')
    hash('/unwanted', 'Unwanted'):cancel()]])
  h.eq(b:lua('return #Fake.hashes'), 2)
  load(b)
  h.eq(state(b), 'borrowed')
  h.eq(b:lua('return Fake.destroyed'), 100, 'its own library is given time to end')
  b:wait("Unwanted == 'ECANCELLED'")
  a:wait('#Fake.hashes > 0')
  h.eq(a:lua('return { #Fake.hashes, Fake.hashes[1].path }'), { 1, '/some/file' })
  kill(a)
  b:wait('#Fake.hashes == 3', 'its own library begins again')
  h.eq(b:lua('return { Fake.hashes[3].path, Job.over, Hex == nil }'), { '/some/file', false, true })
  b:lua("Fake.hashed('abc')")
  b:wait("Hex == 'abc'")
  h.eq(state(b), 'off')
end)

test('a checksum goes on when the second gives the model back, and when the first cannot load it', function()
  local HASH = [[require('gemma.engine').hash('/some/file', {
    on_done = function(hex) _G.Hex = hex end, on_error = function(e) _G.Hex = e.name end })]]
  local a, b = pair()
  b:lua(HASH)
  a:wait('#Fake.hashes == 1')
  b:cmd('Gemma unload')
  b:wait('#Fake.hashes == 1', 'its own library begins')
  b:lua("Fake.hashed('abc')")
  b:wait("Hex == 'abc'")

  a:cmd('Gemma unload')
  a:lua('Fake.hold_load = true')
  a:lua("require('gemma').load()")
  b:lua("require('gemma').load()")
  b:wait("require('gemma.engine').state == 'loading'")
  a:wait("require('gemma.lend').count() == 1", 'it has heard that another one waits')
  b:lua('_G.Hex = nil ' .. HASH)
  a:lua("Fake.load_failed(-4, 'malformed file')")
  b:wait("require('gemma.engine').state == 'error'")
  b:wait('#Fake.hashes == 2')
  b:lua("Fake.hashed('def')")
  b:wait("Hex == 'def'")
end)

test('when the first quits or unloads, the second says so', function()
  local a, b = pair()
  local pid = a:lua('return vim.uv.os_getpid()')
  a:cmd('Gemma unload')
  b:wait("require('gemma.engine').state == 'off'")
  h.eq(b:messages()[2], ('gemma: pid %d unloaded the model; :Gemma load to load it here.')
    :format(pid))
  b:cmd('Gemma load')
  b:wait(READY)
  h.eq(state(b), 'ready')
  a:cmd('Gemma load')
  a:wait(READY)
  h.eq(state(a), 'borrowed', 'now the other way round')
  vim.rpcnotify(b.chan, 'nvim_command', 'qall!')
  a:wait("require('gemma.engine').state == 'off'")
  h.has(a:messages()[#a:messages()], 'closed; :Gemma load to take over.')
end)

-- It was told that the model is unloaded, and kept out until :Gemma load.
test('when the first loads the model anew, the second borrows it again with its next use', function()
  local a, b = pair()
  for i, command in ipairs({ 'Gemma device auto', 'Gemma model fake.gguf' }) do
    a:cmd(command)
    b:wait("require('gemma.engine').state == 'off'")
    a:wait(READY)
    h.eq(a:lua('return #Fake.loads'), i + 1)
    b:insert_at('x = |')
    b:wait(READY)
    b:cmd('stopinsert')
    h.ok(b:lua("return require('gemma.engine').lender ~= nil"))
    h.eq(#b:messages(), i + 1, 'nothing is told but that it borrows')
  end
end)

test('the device of a model that is borrowed is not chosen here', function()
  local a, b = pair()
  local n = #b:messages()
  b:cmd('Gemma device cpu')
  h.has(b:messages()[n + 1], 'has the model: choose there, or set shared to own.')
  h.eq({ state(b), b:lua("return require('gemma.engine').device == nil") }, { 'borrowed', true })
  h.eq(a:lua("return require('gemma.lend').count()"), 1)
end)

test('a second Neovim that dies leaves no work behind', function()
  local a, b = pair()
  b:lua("require('gemma').ask({ prompt = 'x' })")
  a:wait('#Fake.jobs == 1')
  kill(b)
  a:lua("Fake.emit('text for nobody')")
  a:wait('#Fake.cancelled == 1')
  h.eq(a:lua("return require('gemma.lend').count()"), 0)
end)

-- Until something was sent to it, which never was, it counted; its sounds were kept from all others.
test('a second Neovim that dies while nothing is asked is forgotten', function()
  local a, b = pair()
  b:lua("assert(require('gemma.sound').create(16000, 1))")
  a:wait('#Fake.sounds == 1')
  kill(b)
  a:wait("#vim.tbl_filter(function(chan) return chan.stream == 'socket' end, vim.api.nvim_list_chans()) == 0")
  load(second(a))
  h.eq(a:lua("return { Fake.sounds[1].gone, require('gemma.lend').count() }"), { true, 1 })
end)

test('what the second asks just before it hears that there is no model does not make it a borrower', function()
  local a, b = pair()
  a:lua([[local name
    for _, chan in ipairs(vim.api.nvim_list_chans()) do
      name = name or (chan.client and chan.client.name or ''):match('^gemma%-%d+%-%d+$')
    end
    require('gemma').unload()
    require('gemma.lend').receive(name, 'sound_create', 1, 16000, 1)
    _G.Name = name]])
  b:wait("require('gemma.engine').state == 'off'")
  a:wait("require('gemma.lend').count() == 0")
  h.ok(a:lua('return Name'))
end)

test('a first Neovim that is busy with something else does not make the second wait', function()
  local a = h.child()
  load(a)
  local b = second(a)
  vim.rpcnotify(a.chan, 'nvim_exec_lua', "while not vim.uv.fs_stat('go') do vim.uv.sleep(5) end", {})
  b:lua("require('gemma').load()")
  b:insert_at('x = |')
  b:type('12')
  h.eq(b:lines(), { 'x = 12' })
  h.eq(state(b), 'loading')
  vim.fn.writefile({}, a.dir .. '/go')
  b:wait(READY)
end)

test('a first Neovim that is stopped is noticed, and asked again when it goes on', function()
  local a, b = pair()
  local pid = a:lua('return vim.uv.os_getpid()')
  vim.uv.kill(pid, 'sigstop')
  local c = second(a)
  local ok, err = pcall(function()
    -- No patience is too short while it is stopped; afterwards a busy machine is no silence.
    b:lua([[Patience = require('gemma.borrow').ANSWER_MS
      require('gemma.borrow').ANSWER_MS = 150
      require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })]])
    b:wait('Why ~= nil')
    b:lua("require('gemma.borrow').ANSWER_MS = Patience")
    -- Nor does a new one get an answer.
    c:lua("require('gemma.borrow').ANSWER_MS = 150 require('gemma').load()")
    c:wait("require('gemma.engine').state == 'off'")
  end)
  vim.uv.kill(pid, 'sigcont')
  h.ok(ok, err)
  h.eq(b:messages()[2],
    ('gemma: pid %d has the model and does not answer; trying later.'):format(pid))
  h.has(c:messages()[1], 'does not answer')
  b:insert_at('x = |')
  b:type('1')
  b:wait("require('gemma.engine').state == 'borrowed'")
  h.eq(#b:messages(), 3, 'it borrows again')
  h.eq(a:lua('return #Fake.loads'), 1)
end)

test('a long answer is no silence', function()
  local a = h.child()
  load(a)
  local b = second(a)
  b:lua([[local borrow = require('gemma.borrow')
    borrow.ANSWER_MS = 500
    local open = borrow.open
    borrow.open = function(...) _G.Borrowed = open(...) return Borrowed end]])
  load(b)
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(text) _G.Text = text end })")
  a:wait('#Fake.jobs == 1')
  a:lua([[local lend = require('gemma.lend')
    local receive = lend.receive
    _G.Pings = 0
    lend.receive = function(name, what, ...)
      _G.Pings = Pings + (what == 'ping' and 1 or 0)
      return receive(name, what, ...)
    end]])
  a:wait('Pings >= 2', 'it asks whether it is still there')
  h.eq(b:lua('return Borrowed.patience:is_active()'), true)
  a:lua("Fake.emit('late') Fake.done()")
  b:wait("Text == 'late'")
  h.eq(b:lua('return Borrowed.patience:is_active()'), false, 'nothing is asked when nothing is pending')
end)

test('a lock from before the machine was started counts for nothing, whoever has its pid now', function()
  local lock, boot = require('gemma.lock'), require('gemma.util').boot()
  if not boot then
    h.skip('the system does not say which start this is')
  end
  local path = vim.fn.tempname()
  local function left(since)
    vim.fn.writefile({ vim.json.encode({ pid = 1, boot = since }) }, path)
  end
  left(boot)
  h.eq({ lock.take(path, {}) }, { false, { pid = 1, boot = boot } })
  left('00000000-0000-0000-0000-000000000000')
  h.eq({ lock.take(path, {}) }, { true })
  lock.release(path)
  h.eq(vim.uv.fs_stat(path), nil)
end)

-- Its pid is nobody's here and its start of the machine another one, so that it counted as dead.
test('a lock of another machine that shares the folder counts while it is young', function()
  local lock, util = require('gemma.lock'), require('gemma.util')
  local path = vim.fn.tempname()
  local there = { pid = vim.uv.os_getpid(), boot = '00000000-0000-0000-0000-000000000000', host = 'elsewhere' }
  vim.fn.writefile({ vim.json.encode(there) }, path)
  h.eq({ lock.take(path, {}) }, { false, there })
  h.eq(lock.who(there), ('pid %d on elsewhere'):format(there.pid))
  lock.release(path)
  h.ok(vim.uv.fs_stat(path), 'it is not ours')
  local old = os.time() - lock.QUIET_S - 1
  vim.uv.fs_utime(path, old, old)
  h.eq({ lock.take(path, {}) }, { true })
  h.eq(vim.json.decode(vim.fn.readfile(path)[1]).host, util.host())
  -- Ours is made young again and again.
  vim.uv.fs_utime(path, old, old)
  local beat = lock.BEAT_MS
  lock.BEAT_MS = 5
  lock.keep(path)
  lock.BEAT_MS = beat
  h.ok(vim.wait(3000, function() return vim.uv.fs_stat(path).mtime.sec > old end, 5))
  lock.release(path)
  h.eq(vim.uv.fs_stat(path), nil)
end)

test('a lock that was left behind counts for nothing', function()
  local a = h.child()
  a:lua([[local path = require('gemma.owner').path()
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile({ '{"pid":999999999,"server":"/nowhere"}' }, path)]])
  load(a)
  h.eq(state(a), 'ready', 'its process is dead')
  -- The pid belongs to another program by now: alive, but nobody listens.
  local b = h.child()
  b:lua([[local path = require('gemma.owner').path()
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile({ ('{"pid":%d,"server":"/nowhere/x"}'):format(...) }, path)]],
    vim.uv.os_getpid())
  load(b)
  h.eq(state(b), 'ready')
  h.eq(b:messages(), {})
  local c = h.child()
  c:lua([[local path = require('gemma.owner').path()
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile({ 'not { json' }, path)]])
  load(c)
  h.eq(state(c), 'ready')
end)

test('an address that means nothing elsewhere is not left in the lock', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }", fake = true, args = { '--listen', './my.sock' } })
  load(a)
  local b = second(a)
  load(b)
  h.eq(state(b), 'borrowed')
  h.eq(b:lua('return #Fake.loads'), 0)
end)

test('an owner whose socket was swept from the folder for temporary files can still be asked', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  a:lua('for _, name in ipairs(vim.fn.serverlist()) do vim.fn.delete(name) end')
  load(a)
  local b = second(a)
  load(b)
  h.eq(state(b), 'borrowed')
end)

test('an owner without an address leaves a second Neovim alone', function()
  local a = h.child()
  a:lua([[local path = require('gemma.owner').path()
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile({ ('{"pid":%d}'):format(...) }, path)]], vim.uv.os_getpid())
  load(a)
  h.eq(a:lua("return { #Fake.loads, require('gemma.engine').state }"), { 1, 'ready' })
end)

test('on a full disk there is no lock, rather than one of two', function()
  local a = h.child()
  local got = a:lua([[
    local lock, dir = require('gemma.lock'), ...
    local open, link, write = io.open, vim.uv.fs_link, vim.uv.fs_write
    local out = {}
    local function take(name)
      local path = dir .. '/full/' .. name
      table.insert(out, { lock.take(path, {}), vim.fn.readdir(dir .. '/full') })
    end
    io.open = function(path, mode)
      local f, err = open(path, mode)
      if not f or mode ~= 'wb' then return f, err end
      return {
        write = function(self) return self end, -- kept for later
        close = function() f:close() return nil, 'No space left on device', 28 end,
      }
    end
    take('a')
    io.open = open
    vim.uv.fs_link = function() return nil, 'EPERM: operation not permitted', 'EPERM' end
    vim.uv.fs_write = function(fd, text) return write(fd, text:sub(1, 3)) end
    take('b')
    vim.uv.fs_write = write
    take('c')
    return out]], a.dir)
  h.eq(got, { { false, {} }, { false, {} }, { true, { 'c' } } })
end)

test('when the first cannot load, the second is free to load for itself', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  a:lua("Fake.hold_load = true require('gemma').load()")
  local b = second(a)
  b:lua("require('gemma').load()")
  a:wait("require('gemma.lend').count() == 1", 'it has heard that another one waits')
  a:lua("Fake.load_failed(-5, 'broken file')")
  b:wait("require('gemma.engine').state == 'error'")
  h.eq(b:lua("return require('gemma.engine').lender == nil"), true)
  local told = b:lua("return vim.tbl_filter(function(e) return e.name == 'GemmaError' end, Seen.events)[1]")
  h.eq(told.data, { code = b:lua("return require('gemma.errors').code.EBUSY"), msg = 'broken file' })
  load(b)
  h.eq(b:lua("return { #Fake.loads, require('gemma.engine').state }"), { 1, 'ready' })
end)

-- It was an error there, whose text was 'cancelled'.
test('when loading is stopped in the first, the second loads with its next use', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  a:lua("Fake.hold_load = true require('gemma').load()")
  local b = second(a)
  b:lua("require('gemma').load(function(err) _G.Err = err end)")
  a:wait("require('gemma.lend').count() == 1", 'it has heard that another one waits')
  a:cmd('Gemma stop')
  b:wait('Err')
  h.eq({ state(a), state(b), b:lua('return Err'), b:messages() }, { 'off', 'off', 'cancelled', {} })
  h.eq(a:lua("return require('gemma.lend').count()"), 0)
  b:insert_at('x = |')
  b:wait(READY)
  h.eq(b:lua("return { #Fake.loads, require('gemma.engine').state }"), { 1, 'ready' })
end)

test('a second Neovim need not wait for what the first loads', function()
  local a = h.child({ config = "vim.g.gemma = { device = 'cpu' }" })
  a:lua("Fake.hold_load = true require('gemma').load()")
  local b = second(a)
  b:lua("require('gemma').load(function(err) _G.Err = err end)")
  a:wait("require('gemma.lend').count() == 1", 'it has heard that another one waits')
  b:cmd('Gemma stop')
  h.eq({ state(b), b:lua('return Err'), b:messages() }, { 'off', 'cancelled', {} })
  h.eq(b:lua("return require('gemma.engine').lender == nil"), true)
  a:wait("require('gemma.lend').count() == 0")
  a:lua('Fake.loaded()')
  a:wait(READY)
  b:insert_at('x = |')
  b:wait(READY)
  h.ok(b:lua("return require('gemma.engine').lender ~= nil"), 'it was not kept out')
end)

test('of several that want to take over one gets the model and the others borrow', function()
  local a, b = pair()
  local c = second(a)
  load(c)
  kill(a)
  for _, n in ipairs({ b, c }) do
    n:wait("require('gemma.engine').state == 'off'")
  end
  for _, n in ipairs({ b, c }) do
    vim.rpcnotify(n.chan, 'nvim_command', 'Gemma load')
  end
  b:wait(READY)
  c:wait(READY)
  local states = { state(b), state(c) }
  table.sort(states)
  h.eq(states, { 'borrowed', 'ready' })
end)

test("shared = 'own', 'cpu' and 'off'", function()
  local a = h.child()
  load(a)
  local own = second(a, { config = "vim.g.gemma = { shared = 'own', device = 'vulkan' }" })
  load(own)
  h.eq({ state(own), own:lua('return Fake.loads[1].device') }, { 'ready', 'vulkan' })
  local cpu = second(a, { config = "vim.g.gemma = { shared = 'cpu', device = 'vulkan' }" })
  load(cpu)
  h.eq({ state(cpu), cpu:lua('return Fake.loads[1].device') }, { 'ready', 'cpu' })
  h.eq(cpu:lua("return require('gemma.engine').is_gpu()"), false)
  local off = second(a, { config = "vim.g.gemma = { shared = 'off' }" })
  off:cmd('Gemma load')
  off:wait('#Seen.messages == 1')
  h.has(off:messages()[1], 'has the model (shared is off).')
  h.eq(off:lua('return #Fake.loads'), 0)
end)

test('another version of the plugin is refused with a reason', function()
  local a = h.child()
  load(a)
  a:lua("require('gemma.lend').VERSION = 99")
  local b = second(a)
  b:lua("require('gemma').load()")
  b:wait('#Seen.messages == 1')
  h.has(b:messages()[1], 'runs another gemma.nvim')
end)

test('who unloads in the second Neovim only lets go', function()
  local a, b = pair()
  b:lua("require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })")
  a:wait('#Fake.jobs == 1')
  b:cmd('Gemma unload')
  b:wait("Why == 'cancelled'")
  a:wait("#Fake.cancelled == 1 and require('gemma.engine').state == 'ready'")
  h.eq(state(b), 'off')
  b:cmd('Gemma load')
  b:wait(READY)
  h.eq(state(b), 'borrowed')
end)

-- ---- memory that nobody uses ---------------------------------------------------------------

-- Two models were in memory then, until the forgotten one was not used for unload_idle; its end took the
-- lock of the other.
test('a plugin that is loaded anew gives back what the one before it holds', function()
  local c = h.child({ config = 'vim.g.gemma = { unload_idle = 1 }' })
  load(c)
  c:lua([[
    for name in pairs(package.loaded) do
      if name:match('^gemma') then package.loaded[name] = nil end
    end
    vim.g.loaded_gemma = nil
    vim.cmd('runtime plugin/gemma.lua')
    vim.g.gemma = { unload_idle = 0 }]])
  load(c)
  h.eq(c:lua('return { #Fake.loads, Fake.destroyed }'), { 2, 200 })
  local lock = c:lua("return require('gemma.owner').path()")
  h.ok(vim.uv.fs_stat(lock), 'the new one has the lock')
  c:lua("_G.Later = false vim.defer_fn(function() Later = true end, 1200)")
  c:wait('Later')
  h.ok(vim.uv.fs_stat(lock), 'and keeps it')
end)

test('unload_idle gives the memory back, and the next use brings the model', function()
  local a = h.child({ config = 'vim.g.gemma = { unload_idle = 1 }' })
  a:insert_at('x = |')
  a:wait(READY)
  local b = second(a)
  load(b)
  a:wait("require('gemma.engine').state == 'off'")
  b:wait("require('gemma.engine').state == 'off'")
  h.eq({ a:messages(), #b:messages() }, { {}, 1 }, 'nothing to tell')
  h.eq(a:lua("return require('gemma').statusline()"), '')
  b:insert_at('y = |')
  b:type('1')
  b:wait(READY)
  h.eq(state(b), 'ready', 'who comes first has it')
  a:type('1') -- still in Insert mode: no new InsertEnter
  a:wait("require('gemma.engine').state == 'borrowed'")
end)

--- One with its model loaded, in which Armed holds the milliseconds of each start of a timer.
local function with_timers(config)
  local c = h.child({ config = config })
  c:lua([[local new = vim.uv.new_timer
    _G.Armed = {}
    vim.uv.new_timer = function()
      local t = new()
      return setmetatable({}, { __index = function(_, k)
        return function(_, ms, again, fn)
          if k == 'start' then table.insert(Armed, ms) return t:start(ms, again, fn) end
          return t[k](t)
        end
      end })
    end
    require('gemma').load()]])
  c:wait(READY)
  return c
end

test('unload_idle counts from the last use, is halved without focus, and 0 is never', function()
  local c = with_timers('vim.g.gemma = { unload_idle = 3 }')
  h.eq(c:lua('return Armed[#Armed]'), 3000)
  c:cmd('doautocmd FocusLost')
  local ms = c:lua('return Armed[#Armed]')
  h.ok(ms <= 1500 and ms > 500, ms)
  c:cmd('doautocmd FocusGained')
  ms = c:lua('return Armed[#Armed]')
  h.ok(ms <= 3000 and ms > 1500, ms)
  local n = c:lua('return #Armed')
  c:lua("vim.g.gemma = { unload_idle = 0 } require('gemma.config').reload()")
  c:cmd('doautocmd FocusLost')
  h.eq(c:lua('return #Armed'), n)
end)

-- It stayed halved where a terminal tells that the focus is lost and never that it is back.
test('unload_idle is whole again when somebody types, whatever the terminal says', function()
  local c = with_timers('vim.g.gemma = { unload_idle = 600, completion = { auto = false } }')
  c:insert_at('x = |')
  c:type('1')
  c:cmd('doautocmd FocusLost')
  local function last()
    return c:lua('return Armed[#Armed]')
  end
  h.ok(last() <= 300000, last())
  c:type('2')
  h.ok(last() > 300000, last())
  h.eq(c:lua('return #Fake.jobs'), 0, 'no use of the model began to count anew')
end)

-- ---- the real thing ------------------------------------------------------------------------

local REAL = [[vim.g.gemma = { lib_path = %q, model_path = %q, n_ctx = 512, threads = 1 }]]

--- The first words that the model writes after a prompt.
local function words(c)
  c:lua([[_G.Text = nil
    require('gemma').ask({ prompt = 'hello', max_tokens = 12, temperature = 0,
      on_done = function(text, info) _G.Text, _G.Info = text or false, info end })]])
  c:wait('Text ~= nil')
  h.ok(c:lua('return Text ~= false'), c:lua('return tostring(Info)'))
  return c:lua('return Text')
end

test('the real library: the second completes through the first and takes over from it', function()
  local config = REAL:format(h.need_library(), h.root .. '/tests/golden/sets/nano/model-Q8_0.gguf')
  local a = h.child({ fake = false, config = config, cols = 70, lines = 20 })
  load(a)
  local want = words(a)
  h.ok(#want > 0)
  local b = second(a, { fake = false, config = config })
  load(b)
  h.eq(state(b), 'borrowed')
  h.eq(words(b), want)
  h.eq(b:lua("return require('gemma').status().n_threads"), 1)
  local maps = ('/proc/%d/maps'):format(b:lua('return vim.uv.os_getpid()'))
  if vim.uv.fs_stat(maps) then
    local text = table.concat(vim.fn.readfile(maps), '\n')
    h.ok(not text:find('libgemma', 1, true), 'the second has no library in memory')
  end
  kill(a)
  b:wait("require('gemma.engine').state == 'off'")
  b:cmd('Gemma load')
  b:wait(READY)
  h.eq(state(b), 'ready')
  h.eq(words(b), want)
end)

test('the real library: pictures by name and sounds by their samples reach the first one', function()
  local set = h.root .. '/tests/golden/sets/nano/'
  local config = REAL:format(h.need_library(), set .. 'model-F16.gguf')
  local a = h.child({ fake = false, config = config, cols = 70, lines = 20 })
  load(a)
  local b = second(a, { fake = false, config = config })
  load(b)
  h.eq(state(b), 'borrowed')
  local got = {}
  for i, c in ipairs({ a, b }) do
    c:lua([[local set = ...
      -- A name that only this Neovim's folder makes sense of.
      vim.uv.fs_symlink(set .. 'media', 'here')
      local engine = require('gemma.engine')
      _G.Sound = assert(require('gemma.sound').create(16000, 1))
      for i = 0, 9 do
        assert(Sound:append(('\\1\\16\\2\\240'):rep(400)))
      end
      Sound:finish()
      assert(not Sound:append('xx'))
      local text = {}
      assert(engine.generate({
        parts = {
          { kind = 'user' },
          { kind = 'audio', data = 'here/tones.wav' },
          { kind = 'sound', sound = Sound },
          { kind = 'text', data = 'what?' },
        },
        session = 1,
        max_tokens = 6,
        on_text = function(t) text[#text + 1] = t end,
        on_done = function(info)
          _G.Got = { info.n_prompt, info.n_media, info.n_generated, table.concat(text) }
        end,
        on_error = function(e) _G.Got = { e.text } end,
      }))]], set)
    c:wait('Got ~= nil')
    c:lua('Sound:drop()')
    got[i] = c:lua('return Got')
  end
  h.ok(#got[1] == 4 and got[1][2] > 34, vim.inspect(got[1]))
  h.eq(got[2], got[1])
end)

return T
