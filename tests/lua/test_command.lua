--- :Gemma, its status, keys, health, and what happens when something is missing.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function here(c)
  return c:lua("return require('gemma').status().here")
end

--- A child with the model loaded, in Normal mode in a lua buffer.
local function child(o)
  local c = h.child(o)
  c:insert_at('x = |')
  c:feed('<Esc>')
  c:wait("require('gemma.engine').is_loaded()")
  return c
end

test('completion of subcommands and their arguments', function()
  local c = h.child()
  local function complete(line)
    return c:lua('return vim.fn.getcompletion(..., "cmdline")', line)
  end
  h.eq(complete('Gemma '), require('gemma.command').names())
  h.ok(vim.tbl_contains(complete('Gemma '), 'status'))
  h.eq(complete('Gemma un'), { 'unload' })
  h.eq(complete('Gemma! disable '), { 'buffer' })
  h.eq(complete('Gemma device v'), { 'vulkan' })
  h.eq(complete('Gemma load x'), {})
end)

test('every subcommand has a description', function()
  for name, cmd in pairs(require('gemma.command').commands) do
    h.ok(cmd.desc and #cmd.desc > 10, name)
  end
end)

test('a wrong subcommand is one line', function()
  local c = h.child()
  c:cmd('Gemma frobnicate')
  c:wait('#Seen.messages > 0')
  h.has(c:messages()[1], 'gemma: unknown command frobnicate.')
end)

local REASONS = {
  { 'the global switch', "vim.cmd('Gemma disable')", 'ghost text is off. Run :Gemma enable.' },
  { 'the buffer', "vim.cmd('Gemma disable buffer')", 'this buffer is off (b:gemma)' },
  { 'b:gemma', 'vim.b.gemma = false', 'this buffer is off (b:gemma)' },
  { 'the filetype', "vim.bo.filetype = 'gitrebase'", 'filetype gitrebase is off' },
  { 'the kind of buffer', "vim.bo.buftype = 'nofile'", "'buftype' is nofile" },
  { "'modifiable'", 'vim.bo.modifiable = false', "'modifiable' is off" },
  { 'a secret', "vim.cmd('file .env')", '.env is excluded (exclude list).' },
  { 'a secret in capitals', "vim.cmd('file My_Secrets.yml')", 'is excluded' },
  { 'a folder', "vim.cmd('file /dev/shm/pass.txt')", 'pass.txt is excluded' },
  { 'enabled()', 'vim.g.gemma = { enabled = function() return false end }', 'enabled() says no' },
  { 'paste', 'vim.o.paste = true', "'paste' is on" },
  { 'manual', 'vim.g.gemma = { completion = { auto = false } }', 'ghost text is manual' },
  { 'size', 'vim.g.gemma = { context = { max_file = 1 } }', 'the buffer is large' },
  { 'unloading', "vim.cmd('Gemma unload')", 'the model was unloaded. Run :Gemma load.' },
}
for _, r in ipairs(REASONS) do
  test('the reason why nothing is suggested: ' .. r[1], function()
    local c = child()
    c:lua(r[2])
    c:lua("require('gemma.config').reload()")
    h.has(here(c), r[3])
    local n = c:lua('return #Fake.jobs')
    c:lua("require('gemma.completion').ask(false)")
    h.eq(c:lua('return #Fake.jobs'), n, 'and it is not asked')
  end)
end

test('a request in Replace mode, or by a script outside Insert mode, is refused with its reason', function()
  local c = child()
  local jobs = c:lua('return #Fake.jobs')
  c:feed('<Esc>R')
  h.eq(c:lua('return vim.api.nvim_get_mode().mode'), 'R')
  c:feed([[<M-Bslash>]])
  c:wait('#Seen.messages == 1')
  c:feed('<Esc>')
  c:lua("require('gemma').request()")
  c:wait('#Seen.messages == 2')
  h.has(c:messages()[1], 'this is Replace mode')
  h.has(c:messages()[2], 'this is not Insert mode.')
  h.eq(c:lua('return #Fake.jobs'), jobs)
end)

test('enabled = false begins without ghost text and without a model, until :Gemma enable', function()
  local c = h.child({ config = 'vim.g.gemma = { enabled = false }' })
  c:insert_at('x = |')
  c:type('y')
  h.has(here(c), 'ghost text is off. Run :Gemma enable.')
  h.eq(c:lua("return { #Fake.loads, require('gemma').status().enabled, Seen.messages }"), { 0, false, {} })
  c:feed('<Esc>')
  c:cmd('Gemma enable')
  c:feed('A')
  c:wait('#Fake.loads == 1')
  c:wait("require('gemma.engine').is_loaded()")
  c:type('z')
  c:wait('#Fake.jobs == 1')
end)

test('enabled = false comes before load = startup, until :Gemma enable', function()
  local c = h.child({ config = "vim.g.gemma = { enabled = false, load = 'startup' }" })
  c:insert_at('x = |')
  h.eq(c:lua('return #Fake.loads'), 0)
  c:cmd('Gemma enable')
  c:wait('#Fake.loads == 1')
end)

test('a buffer that is turned on is on whatever its filetype, but not where it is excluded', function()
  local c = child()
  c:lua("vim.bo.filetype = 'gitrebase'")
  h.has(here(c), 'filetype gitrebase is off')
  c:cmd('Gemma enable buffer')
  h.ok(not here(c):find('gitrebase'), here(c))
  h.eq(c:messages(), { 'gemma: ghost text is on in this buffer.' })
  c:cmd('Gemma toggle buffer')
  h.has(here(c), 'this buffer is off (b:gemma)')
  c:cmd('file .env')
  c:cmd('Gemma enable buffer')
  h.eq(c:messages()[3], 'gemma: on in this buffer, but .env is excluded (exclude list).')
  h.eq(c:lua("return { require('gemma').toggle(0), vim.b.gemma, require('gemma').toggle(0) }"), { false, false, true })
end)

test('an error in enabled() is told and counts as no', function()
  local c = child()
  c:lua("vim.g.gemma = { enabled = function() error('oops') end } require('gemma.config').reload()")
  h.has(here(c), 'enabled() failed')
end)

test('status is a page that names model, device and speed', function()
  local c = child()
  local text = c:lua([[return table.concat(vim.tbl_map(function(l)
    return l[1] .. ' ' .. l[2] end, require('gemma.command').status_lines()), '\n')]])
  for _, want in ipairs({ 'state ready', 'Fake 12B, Q4_0, 7.0 GB', 'fake cpu', '50.0 tokens per',
    'ghost on', 'here suggestions come in Insert mode' }) do
    h.has(text, want)
  end
end)

test('status in Normal mode tells of the last suggestion, not of the text at the cursor', function()
  local c = child()
  c:insert_at('a long line of text |behind the cursor')
  h.has(here(c), 'there is text to the right of the cursor')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
  c:lua('Fake.done()')
  c:wait("require('gemma.engine').state == 'ready'")
  c:feed('<Esc>0')
  h.eq(here(c), 'suggestions come in Insert mode. The last one: the model had nothing to add.')
end)

test('status says how far the model has read', function()
  local c = h.asking('x = |')
  h.eq(here(c), 'the model reads.')
  c:lua('Fake.read(30, 120)')
  c:wait("require('gemma').status().here == 'the model reads (25 %).'")
  c:lua("Fake.emit('alpha')")
  c:wait("require('gemma').status().here == 'the model writes.'")
end)

test('the statusline says what goes on, without a call into the library', function()
  local c = h.child()
  local line = function()
    return c:lua("return require('gemma').statusline()")
  end
  h.eq(line(), '')
  h.eq(c:lua("return package.loaded['gemma.engine'] == nil"), true)
  c:lua('Fake.hold_load = true')
  c:insert_at('x = |')
  c:lua('Fake.progress(42, 100)')
  c:wait("require('gemma').statusline() == 'G 42%'")
  h.has(here(c), 'the model is loading (42 %)')
  c:lua('Fake.loaded()')
  c:wait("require('gemma').statusline() == 'G'")
  c:feed([[<M-Bslash>]])
  c:wait("require('gemma').statusline() == 'G~'")
  c:lua('Fake.done()')
  c:cmd('Gemma disable')
  c:wait("require('gemma').statusline() == 'G-'")
end)

test('states are announced with from and to', function()
  local c = child()
  local steps = c:lua([[local out = {}
    for _, e in ipairs(Seen.events) do
      if e.name == 'GemmaState' then table.insert(out, e.data.from .. '>' .. e.data.to) end
    end return out]])
  h.eq({ steps[1], steps[2] }, { 'off>loading', 'loading>ready' })
end)

test('no model: one message that says where to put it', function()
  local c = h.child()
  c:lua("vim.fn.delete(vim.fn.stdpath('data') .. '/gemma/fake.gguf')")
  c:insert_at('x = |')
  c:feed('<Esc>a')
  c:wait('#Seen.messages > 0')
  local dir = c:lua("return vim.fn.stdpath('data') .. '/gemma'")
  h.eq(c:messages(), { ('gemma: no model. Run :Gemma install model (6.7 GB) or put it in %s.'):format(dir) })
  h.has(here(c), 'no model.')
  h.eq(c:lua("return require('gemma').statusline()"), 'G!')
end)

test('the newest model of the folder is taken, and no projector', function()
  local c = h.child()
  c:lua([[local d = vim.fn.stdpath('data') .. '/gemma/'
    for i, n in ipairs({ 'old.gguf', 'new.gguf', 'mmproj-x.gguf', 'split-00002-of-00002.gguf' }) do
      vim.fn.writefile({ 'GGUF' }, d .. n)
      vim.uv.fs_utime(d .. n, 2e9 + i, 2e9 + i)
    end]])
  h.has(c:lua("return (require('gemma.models').find())"), '/new.gguf')
end)

test('no library: one message, and the editor goes on', function()
  local c = h.child()
  c:lua("Fake.open_error = 'native library not found. Run make in /nowhere.'")
  c:insert_at('x = |')
  c:wait('#Seen.messages > 0')
  c:feed('<Esc>a')
  c:type('1')
  h.eq(c:messages(), { 'gemma: native library not found. Run make in /nowhere.' })
  h.eq(c:lines(), { 'x = 1' })
  h.eq(c:lua("return require('gemma.engine').state"), 'nolib')
end)

test('a broken model file is one message and is not tried at every Insert mode', function()
  local c = h.child()
  c:lua("Fake.load_error = 'x.gguf: not a GGUF file'")
  c:insert_at('x = |')
  c:wait('#Seen.messages > 0')
  c:feed('<Esc>a<Esc>a')
  h.eq(c:messages(), { 'gemma: x.gguf: not a GGUF file' })
  h.eq(c:lua('return #Fake.loads'), 1)
  c:lua('Fake.load_error = nil')
  c:cmd('Gemma load')
  c:wait("require('gemma.engine').is_loaded()", 'loading by hand tries again')
end)

test('the real boundary: a file that is no library, or another one, is one line', function()
  local c = h.child({ fake = false })
  c:lua("vim.fn.writefile({ 'garbage' }, 'libgemma.so')")
  c:lua([[vim.g.gemma = { lib_path = vim.fn.getcwd() .. '/libgemma.so' }]])
  h.has(c:lua("return require('gemma.ffi').problem()"), 'cannot load the library')
  c:lua([[vim.g.gemma = { lib_path = '/nowhere/libgemma.so' } require('gemma.config').reload()]])
  h.has(c:lua("return require('gemma.ffi').problem()"), 'native library not found')
end)

test('the real boundary: a reload after an update is told to restart, since the old structs stay', function()
  local c = h.child({ fake = false })
  c:lua('vim.g.gemma = { lib_path = ... }', h.need_library())
  h.eq(c:lua("return require('gemma.ffi').problem() == nil"), true)
  c:lua([[
    local next_version = vim.tbl_extend('force', require('gemma.cdef'), { abi = 4242 })
    package.loaded['gemma.ffi'], package.loaded['gemma.cdef'] = nil, next_version]])
  h.eq(c:lua("return require('gemma.ffi').problem()"), 'the plugin was updated. Restart Neovim.')
end)

test('load: manual loads nothing by itself; the ask key does', function()
  local c = h.child({ config = "vim.g.gemma = { load = 'manual' }" })
  c:insert_at('x = |')
  h.eq(c:lua('return #Fake.loads'), 0)
  h.has(here(c), 'load is manual')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1', 'loaded and asked')
end)

test("load: 'startup' loads without Insert mode", function()
  local c = h.child({ config = "vim.g.gemma = { load = 'startup' }" })
  c:wait("require('gemma.engine').is_loaded()")
end)

test("load: 'startup' works for a plugin that is sourced late, with setup() after it", function()
  local c = h.child({ config = 'vim.g.loaded_gemma = true' })
  c:lua([[vim.g.loaded_gemma = nil
    vim.cmd.runtime('plugin/gemma.lua')
    require('gemma').setup({ load = 'startup' })]])
  c:wait("require('gemma.engine').is_loaded()")
end)

test('a message longer than the line is cut, and asks for no key; the log has all of it', function()
  local c = h.child({ fake = true, cols = 60, lines = 20 })
  c:lua([[
    vim.notify = PlainNotify
    require('gemma.notify').warn(('word 漢字 '):rep(12) .. 'and the end.')]])
  c:wait([[vim.fn.execute('messages'):find('Gemma log', 1, true) ~= nil]], 'the message')
  h.eq(c:lua('return vim.api.nvim_get_mode()'), { mode = 'n', blocking = false })
  h.has(c:lua("return table.concat(require('gemma.log').tail(), '\\n')"), 'and the end.')
end)

test('what is told in Insert mode can be read after it', function()
  local c = h.child()
  c:insert_at('x = |')
  c:lua("vim.notify = PlainNotify require('gemma.notify').warn('the first thing.')")
  c:lua("require('gemma.notify').warn('something happened.')")
  c:type('1')
  c:feed('<Esc>')
  local function last()
    local rows = c:screen()
    return rows[#rows]
  end
  h.ok(vim.wait(3000, function()
    return last() == 'gemma: something happened.'
  end, 10), last())
  -- A plugin that shows messages elsewhere needs none of this.
  c:feed('i')
  c:lua("vim.notify = function() end require('gemma.notify').warn('a popup.')")
  c:type('2')
  c:feed('<Esc>')
  c:lua("vim.cmd.echo('\"\"')")
  h.eq(last(), '')
end)

-- mini.notify's make_notify() returns one: messages were cut to the width of a line that they do not
-- stand in, and shown a second time there.
test('messages reach a vim.notify made by vim.schedule_wrap() whole, and once', function()
  local c = h.child({ cols = 60, lines = 20, fake = true })
  c:lua('vim.notify = vim.schedule_wrap(function(msg) table.insert(Seen.messages, msg) end)')
  local long = ('word '):rep(20) .. 'and the end.'
  c:feed('i')
  c:lua("require('gemma.notify').warn(...)", long)
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: ' .. long })
  c:feed('<Esc>')
  h.eq(c:lua("return vim.api.nvim_get_autocmds({ event = 'ModeChanged', pattern = '[iR]*:n*' })"), {})
end)

-- nvim-notify puts a table that can be called in the place of the function: nothing was shown, and
-- every message was an error.
test('messages reach a vim.notify that is a table', function()
  local c = h.child({ cols = 60, lines = 20, fake = true })
  c:lua([[vim.notify = setmetatable({}, { __call = function(_, msg, _, o)
    table.insert(Seen.messages, { msg, o.title }) end })]])
  local long = ('word '):rep(20) .. 'and the end.'
  c:feed('i')
  c:lua("require('gemma.notify').warn(...)", long)
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { { 'gemma: ' .. long, 'gemma.nvim' } })
  h.eq(c:lua("return vim.fn.execute('messages')"), '')
end)

test('options reach the library', function()
  local c = h.child({ config = "vim.g.gemma = { threads = 3, n_ctx = 1024, device = 'cpu' }" })
  c:insert_at('|')
  c:wait('#Fake.loads == 1')
  h.eq(c:lua('local o = Fake.loads[1] return { o.n_threads, o.n_ctx, o.device }'),
    { 3, 1024, 'cpu' })
end)

--- What a session leaves that dies in GPU work.
local DIED = [[
  local path = require('gemma.sentinel').path()
  vim.fn.mkdir(vim.fs.dirname(path), 'p')
  vim.fn.writefile({ '999999999 vulkan' }, path)
]]

test('GPU work that killed the last session keeps ghost text off until told otherwise', function()
  local c = h.child({ config = DIED })
  c:insert_at('x = |')
  c:wait('#Seen.messages > 0')
  h.has(c:messages()[1], 'GPU work or a load ended Neovim. :Gemma enable or device cpu.')
  h.eq(c:lua('return #Fake.loads'), 0)
  c:cmd('Gemma enable')
  h.eq(c:lua("return require('gemma.sentinel').tripped()"), false)
  c:feed('<Esc>a')
  c:wait('#Fake.loads == 1')
end)

test("after GPU work that killed the last session load: 'startup' waits for a word, too", function()
  -- It loaded at every start, without a message, and died again.
  for _, cure in ipairs({ 'enable', 'device cpu' }) do
    local c = h.child({ config = DIED .. "vim.g.gemma = { load = 'startup' }" })
    c:wait('#Seen.messages > 0')
    c:insert_at('x = |')
    h.eq(c:messages(), { 'gemma: GPU work or a load ended Neovim. :Gemma enable or device cpu.' })
    h.eq(c:lua('return #Fake.loads'), 0)
    c:cmd('Gemma ' .. cure)
    c:wait('#Fake.loads == 1', 'what the start left out')
    h.eq(c:lua('return Fake.loads[1].device'), cure == 'enable' and 'auto' or 'cpu')
  end
end)

test('a command that loads before the first Insert mode does not hide how the last session ended', function()
  local c = h.child({ config = DIED })
  c:lua("require('gemma').load()")
  c:wait("require('gemma.engine').is_loaded()")
  c:insert_at('x = |')
  c:wait('#Seen.messages > 0')
  h.has(c:messages()[1], 'GPU work or a load ended Neovim. :Gemma enable or device cpu.')
  h.eq(c:lua("return require('gemma').status().enabled"), false)
  c:cmd('Gemma enable')
  h.eq(c:lua("return require('gemma.sentinel').tripped()"), false)
end)

test('on a GPU the sentinel stands until the first answer; on the CPU there is none', function()
  local c = h.child({ config = "vim.g.gemma = { device = 'vulkan' }" })
  c:lua("Fake.hold_load, Fake.status_device = true, 'vulkan:0 FAKE'")
  c:insert_at('x = |')
  c:wait('#Fake.loads == 1')
  local exists = "return vim.uv.fs_stat(require('gemma.sentinel').path()) ~= nil"
  h.eq(c:lua(exists), true)
  c:lua('Fake.loaded()')
  c:wait('#Fake.warm == 1')
  c:wait("not vim.uv.fs_stat(require('gemma.sentinel').path())")
  h.eq(child():lua(exists), false)
end)

test('a model that came up on the CPU needs no sentinel, though a GPU was asked for', function()
  local c = child()
  c:lua("require('gemma').load()")
  c:wait("require('gemma.engine').is_loaded()")
  h.eq(c:lua("return { require('gemma.engine').is_gpu(), vim.uv.fs_stat(require('gemma.sentinel').path()) ~= nil }"),
    { false, false })
end)

test('a model that was let go before its first answer leaves no sentinel', function()
  for _, how in ipairs({ 'loaded', 'loading', 'rested' }) do
    local c = h.child({ config = 'vim.g.gemma = { unload_idle = ' .. (how == 'rested' and 1 or 0) .. ' }' })
    c:lua("Fake.hold_load = ... == 'loading' Fake.status_device = 'vulkan:0 FAKE' require('gemma').load()", how)
    local exists = "return vim.uv.fs_stat(require('gemma.sentinel').path()) ~= nil"
    h.eq(c:lua(exists), true)
    if how ~= 'loading' then
      c:wait("require('gemma.engine').is_loaded()")
    end
    if how ~= 'rested' then
      c:cmd('Gemma unload')
    end
    c:wait("not vim.uv.fs_stat(require('gemma.sentinel').path())", how)
  end
end)

test('the sentinel of another Neovim that lives stays', function()
  local c = h.child()
  c:lua([[local path = require('gemma.sentinel').path()
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile({ ('%d vulkan'):format(...) }, path)
    require('gemma.sentinel').forget()]], vim.uv.os_getpid())
  h.eq(c:lua("return vim.uv.fs_stat(require('gemma.sentinel').path()) ~= nil"), true)
end)

test('a sentinel from before the machine was started counts, whoever has its pid now', function()
  local c = h.child()
  local function tripped(boot)
    return c:lua([[local path, pid, boot = require('gemma.sentinel').path(), ...
      vim.fn.mkdir(vim.fs.dirname(path), 'p')
      vim.fn.writefile({ ('%d vulkan'):format(pid), boot }, path)
      return require('gemma.sentinel').tripped()]], vim.uv.os_getpid(), boot)
  end
  local boot = require('gemma.util').boot()
  if not boot then
    h.skip('the system does not say which start this is')
  end
  h.eq(tripped(boot), false)
  h.eq(tripped('00000000-0000-0000-0000-000000000000'), true)
end)

-- Its pid is nobody's here, so that it was taken for a crash, and turning ghost text on took it away.
test('the sentinel of another machine that shares the folder is none of ours', function()
  local c = h.child({ config = [[
    local util = require('gemma.util')
    local host = util.host
    util.host = function() return 'elsewhere' end
    _G.There = require('gemma.sentinel').path()
    vim.fn.mkdir(vim.fs.dirname(There), 'p')
    vim.fn.writefile({ '999999999 vulkan', '00000000-0000-0000-0000-000000000000' }, There)
    util.host = host]] })
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:cmd('Gemma enable')
  h.eq(c:messages(), { 'gemma: ghost text is on.' })
  h.eq(c:lua('return vim.uv.fs_stat(There) ~= nil'), true)
end)

test('turning ghost text off does not forget that GPU work ended Neovim', function()
  local c = h.child()
  c:lua([[vim.fn.mkdir(vim.fs.dirname(require('gemma.sentinel').path()), 'p')
    vim.fn.writefile({ '999999999 vulkan' }, require('gemma.sentinel').path())]])
  c:cmd('Gemma disable')
  h.eq(c:lua("return require('gemma.sentinel').tripped()"), true)
  c:cmd('Gemma enable')
  h.eq(c:lua("return require('gemma.sentinel').tripped()"), false)
end)

test('one that waits for the model and fails does not keep the others waiting', function()
  local c = h.child()
  c:lua([[Fake.hold_load = true
    require('gemma').load(function() error('mine') end)
    require('gemma').ask({ prompt = 'why?', on_done = function() end })
    Fake.loaded()]])
  c:wait('#Fake.jobs == 1')
  h.has(table.concat(c:messages(), '\n'), 'mine')
end)

test('a model that the library let go for want of memory is not called loaded', function()
  local c = h.child()
  c:lua([[require('gemma').ask({ prompt = 'why?', on_done = function() end })]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.fail(-10, 'no model loaded')")
  c:wait("require('gemma.engine').state == 'error'")
  h.has(table.concat(c:messages(), '\n'), 'gemma: out of memory, model unloaded. Try :Gemma load.')
end)

test('paths in options are taken as they are written', function()
  local c = h.child({ fake = false })
  local dir = c.dir .. '/tmp'
  c:lua([[local dir = ...
    vim.fn.mkdir(dir)
    for _, name in ipairs({ 'a[1].gguf', 'a1.gguf' }) do vim.fn.writefile({ 'GGUF' }, dir .. '/' .. name) end
    vim.env.MODELS = dir
    vim.o.wildignore = '*/tmp/*,*.so'
    vim.g.gemma = { lib_path = dir .. '/libgemma.so', model_path = '$MODELS/a[1].gguf' }]], dir)
  h.eq(c:lua("return { require('gemma.ffi').path(), (require('gemma.models').find()) }"),
    { dir .. '/libgemma.so', dir .. '/a[1].gguf' })
  local home = vim.fn.expand('~root')
  for path, want in pairs({ ['~root/x'] = home .. '/x', ['${MODELS}/x'] = dir .. '/x', ['$NOPE/x'] = '$NOPE/x' }) do
    h.has(c:lua("return require('gemma.util').path(...)", path), want)
  end
end)

-- The sentinel raised an error at every Insert mode, so that nothing was loaded, and the log one in
-- the place of each message.
test('a state folder that cannot be made costs neither the model nor a message', function()
  local nowhere = { XDG_STATE_HOME = '/dev/null/state' }
  local c = h.child({ fake = true, cols = 70, lines = 20, env = nowhere,
    config = "vim.g.gemma = { device = 'vulkan' }" })
  c:lua("require('gemma').load()")
  c:wait("require('gemma.engine').is_loaded()")
  c:lua("require('gemma.notify').warn('something happened.')")
  c:wait('#Seen.messages > 0')
  h.eq(c:messages(), { 'gemma: something happened.' })
  h.has(c:lua("return table.concat(require('gemma.log').tail(), '\\n')"), 'something happened.')
end)

test('a GPU that fails takes the model with it: one message, nothing is loaded unasked', function()
  local c = h.child({ config = "vim.g.gemma = { device = 'vulkan' }" })
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
  c:lua("require('gemma').ask({ prompt = 'x', on_done = function(_, why) _G.Why = why end })")
  c:lua("Fake.fail(-11, 'the device failed; the model was unloaded', 1)")
  c:wait("Why == 'cancelled'", 'what else was under way ends')
  local lost = 'GPU lost (driver reset), model unloaded. Try :Gemma load.'
  c:wait('#Seen.messages > 0')
  h.eq(c:messages(), { 'gemma: ' .. lost })
  h.eq(c:lua("return vim.tbl_filter(function(e) return e.name == 'GemmaError' end, Seen.events)[1].data"),
    { code = -11, msg = 'the device failed; the model was unloaded' })
  h.eq(c:lua([[local s = require('gemma').status() return { s.state, s.reason, s.model_path == nil }]]),
    { 'error', lost, true })
  h.eq(c:lua("return require('gemma').statusline()"), 'G!')
  h.has(c:lua("return require('gemma').status().here"), lost)
  h.eq(c:lua("return require('gemma.sentinel').tripped()"), false, 'the editor lives')
  c:type('1')
  c:feed('<Esc>a2')
  h.eq(c:lua('return #Fake.loads'), 1)
  c:cmd('Gemma load')
  c:wait("require('gemma.engine').state == 'ready'")
end)

test(':Gemma device loads the model anew', function()
  local c = child()
  c:cmd('Gemma device vulkan:1')
  c:wait('#Fake.loads == 2')
  h.eq(c:lua('return Fake.loads[2].device'), 'vulkan:1')
end)

test(':Gemma device turns no ghost text on that was turned off', function()
  local c = child()
  c:cmd('Gemma disable')
  c:cmd('Gemma device cpu')
  c:wait('#Fake.loads == 2')
  h.eq(c:lua("return require('gemma.completion').is_enabled()"), false)
end)

test('who unloads by hand gets the memory, until asked for again', function()
  local c = child()
  c:cmd('Gemma unload')
  c:feed('a1<Esc>a')
  h.eq(c:lua('return #Fake.loads'), 1)
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs > 0', 'asking loads it')
end)

test('unloading with work under way ends all of it, each with one word', function()
  local c = h.asking('x = |')
  c:lua("Fake.emit('alpha\\nbeta')")
  c:wait("require('gemma').visible()")
  c:lua([[_G.Ends = {}
    for i = 1, 2 do
      require('gemma').ask({ prompt = 'x', on_done = function(_, why) table.insert(Ends, { i, why }) end })
    end
    vim.bo.filetype = 'lua'
    require('gemma.edit').start({ buf = 0, first = 1, last = 1, task = 'x' })
    vim.cmd('Gemma! disable')]])
  c:wait('#Ends == 2')
  h.eq(c:lua('return Ends'), { { 1, 'cancelled' }, { 2, 'cancelled' } })
  h.eq(c:lua([[return vim.tbl_filter(function(m) return m[4].virt_text or m[4].hl_group end,
    vim.api.nvim_buf_get_extmarks(0, -1, 0, -1, { details = true }))]]), {}, 'nothing stays drawn')
  h.eq(c:lua([[local e = require('gemma.engine') return { e.state, e.busy(), e.is_loaded(), #Fake.cancelled }]]),
    { 'off', false, false, 4 })
  h.eq(c:messages(), { 'gemma: ghost text is off.' })
  h.eq({ c:lines(), c:lua("return vim.fn.maparg('<C-e>', 'n')") }, { { 'x = ' }, '' })
end)

test('unloading in the middle of loading leaves nothing loaded', function()
  local c = h.child()
  c:lua('Fake.hold_load = true')
  c:insert_at('x = |')
  c:wait('#Fake.loads == 1')
  c:lua("_G.Err = 'none' require('gemma').load(function(err) Err = err end)")
  -- The load ends by itself at the same moment; its event is on the way.
  c:lua("Fake.loaded() vim.cmd('Gemma unload')")
  c:wait("Err == 'cancelled'")
  h.eq(c:lua("return { require('gemma.engine').state, require('gemma.engine').is_loaded() }"),
    { 'off', false })
end)

test(':Gemma stop ends every job', function()
  local c = child()
  c:lua("require('gemma').ask({ prompt = 'x' })")
  c:lua("require('gemma').ask({ prompt = 'y' })")
  c:wait('#Fake.jobs == 2')
  c:cmd('Gemma stop')
  c:wait('#Fake.cancelled == 2')
  c:wait("require('gemma.engine').state == 'ready'")
end)

test(':Gemma log shows what happened, without text of buffers', function()
  local c = h.child({ config = "vim.g.gemma = { log = 'trace' }" })
  c:insert_at('my_secret_name = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.log(1, 'from the library') Fake.emit('my_secret_value') Fake.done()")
  c:wait("require('gemma').visible()")
  c:feed('<Esc>')
  c:cmd('Gemma log')
  local text = table.concat(c:lines(), '\n')
  h.has(text, 'loading')
  h.has(text, 'warn  from the library')
  h.ok(not text:find('my_secret'), text)
end)

test("log = 'off' writes no file and keeps no line", function()
  local kept = {}
  for i, level in ipairs({ 'error', 'off' }) do
    local c = h.child({ config = ('vim.g.gemma = { log = %q }'):format(level) })
    c:lua("require('gemma').load()")
    c:wait("require('gemma.engine').is_loaded()")
    c:lua("Fake.log(0, 'from the library')")
    c:wait('Fake.heard()')
    kept[i] = c:lua("local log = require('gemma.log') return { #log.tail(), vim.uv.fs_stat(log.path()) ~= nil }")
  end
  h.eq(kept, { { 1, true }, { 0, false } })
end)

test('a log of more than 1 MB steps aside when a session begins to write, in place of the one before', function()
  local c = h.child()
  local path = c:lua("return require('gemma.log').path()")
  local long = ('x'):rep(1024 * 1024) .. '\n'
  vim.fn.mkdir(vim.fs.dirname(path), 'p')
  for name, text in pairs({ [path] = long, [path .. '.old'] = 'older\n' }) do
    local f = assert(io.open(name, 'wb'))
    f:write(text)
    f:close()
  end
  c:lua("local log = require('gemma.log') log.error('first') log.error('second')")
  local now = vim.fn.readfile(path)
  h.eq(#now, 2)
  h.has(now[1], 'first')
  h.eq(vim.uv.fs_stat(path .. '.old').size, #long)
end)

test('leaving with work under way waits at most 200 ms', function()
  local c = child()
  c:lua("require('gemma').ask({ prompt = 'x' })")
  c:wait('#Fake.jobs == 1')
  c:lua([[vim.api.nvim_create_autocmd('VimLeave', { callback = function()
    vim.fn.writefile({ tostring(Fake.destroyed) }, 'left') end })]])
  vim.rpcnotify(c.chan, 'nvim_command', 'qall!')
  h.eq(vim.fn.jobwait({ c.chan }, 3000)[1], 0)
  h.eq(vim.fn.readfile(c.dir .. '/left'), { '200' })
end)

test('an error in a callback does not keep other jobs from their events', function()
  local c = child()
  c:lua("require('gemma').ask({ prompt = 'x', on_token = function() error('mine') end })")
  c:lua("require('gemma').ask({ prompt = 'y', on_done = function(t) _G.Got = t end })")
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('a', 1) Fake.emit('b', 2) Fake.done(1) Fake.done(2)")
  c:wait("Got == 'b'")
end)

-- ---- keys ----------------------------------------------------------------------------------

test('keys are mapped on the first Insert mode, never Tab', function()
  local c = h.child()
  h.eq(c:lua("return vim.fn.maparg('<M-l>', 'i')"), '')
  local before = c:lua("return #vim.api.nvim_get_keymap('i')")
  local tab = c:lua("return vim.fn.maparg('<Tab>', 'i', false, true).desc or ''")
  c:insert_at('|')
  h.eq(c:lua("return #vim.api.nvim_get_keymap('i')") - before, 7)
  h.eq(c:lua("return vim.fn.maparg('<Tab>', 'i', false, true).desc or ''"), tab)
end)

test('a key that is taken stays with its owner; health says whose it is', function()
  local c = h.child({ config = [[
    vim.keymap.set('i', '<M-l>', 'mine', { desc = 'Gemma: my own' })
    vim.keymap.set('i', '<A-Right>', 'theirs')]] })
  c:insert_at('|')
  c:feed('<M-l><M-Right>')
  h.eq(c:lines(), { 'minetheirs' })
  h.eq(c:lua("return require('gemma.keymap').owner('<M-l>')"), 'Gemma: my own')
  h.eq(c:lua("return require('gemma.keymap').owner('<M-Right>')"), 'theirs')
end)

test('who maps a <Plug> of ours gets no default for it', function()
  local c = h.child({ config = "vim.keymap.set('i', '<C-j>', '<Plug>(gemma-accept)')" })
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  h.eq(c:lua("return vim.fn.maparg('<M-l>', 'i')"), '')
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('alpha') Fake.done()")
  c:wait("require('gemma').visible()")
  c:feed('<C-j>')
  h.eq(c:lines(), { 'x = alpha' })
  c:feed('<Esc>u')
  h.eq(c:lines(), { 'x = ' })
end)

test('keymaps = false maps nothing', function()
  local c = h.child({ config = 'vim.g.gemma = { keymaps = false }' })
  c:insert_at('|')
  for _, k in ipairs({ '<M-l>', '<M-Right>', '<M-Down>', '<C-]>', '<M-Bslash>' }) do
    h.eq(c:lua("return vim.fn.maparg(..., 'i')", k), '')
  end
end)

test('without ghost text a key does what it did without the plugin', function()
  -- Of two editors, one knows nothing of us.
  local plain = h.child({ config = "vim.g.loaded_gemma = true" })
  local c = h.child()
  for _, e in ipairs({ plain, c }) do
    e:cmd('iabbrev hw hello world')
  end
  for _, key in ipairs({ '<M-l>', '<M-Right>', '<M-Down>', 'hw<C-]>' }) do
    local got = {}
    for i, e in ipairs({ c, plain }) do
      e:feed('<Esc>')
      e:insert_at('ab|cd\nefgh')
      e:feed(key)
      got[i] = { e:lines(), e:cursor(), e:lua('return vim.api.nvim_get_mode().mode') }
    end
    h.eq(got[1], got[2], key)
  end
end)

test('a macro with these keys does the same with and without the plugin, recorded and replayed', function()
  -- The keys that an <M-x> stands for were recorded behind it, and the replay had both: Alt+l, which
  -- many type for <Esc>l, left an l in the text.
  local plain = h.child({ config = "vim.g.loaded_gemma = true" })
  local c = h.child()
  for _, e in ipairs({ plain, c }) do
    e:feed('i<Esc>')
    e:cmd('iabbrev hw hello world')
    e:cmd('nnoremap <Down> 2j')
  end
  for _, keys in ipairs({
    { 'Ix', '<M-l>', 'jrZ' },
    { 'Ix', '<M-Right>', 'jrZ' },
    { 'Ix', '<M-Down>', 'rZ' },
    { 'Ix', '<M-]>]', 'rZ' }, -- in one go: a lone ] waits for the other
    { 'Ix', '<M-[>[', 'rZ' },
    { 'A hw', '<M-l>', '0rZ' },
    { 'A hw', '<C-]>', 'x<Esc>0' },
    { 'Ax', '<C-]>', 'x<Esc>0' },
  }) do
    local got = {}
    for i, e in ipairs({ c, plain }) do
      got[i] = {}
      for _, macro in ipairs({ keys, { '2@q' } }) do
        e:lua([[
          vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'abcd', 'abcd', 'abcd', 'abcd', 'abcd' })
          vim.api.nvim_win_set_cursor(0, { 1, 1 })]])
        if macro == keys then
          e:feed('qq')
        end
        for _, k in ipairs(macro) do
          e:feed(k)
        end
        if macro == keys then
          e:feed('q')
        end
        table.insert(got[i], { e:lines(), e:cursor(), e:lua('return vim.api.nvim_get_mode().mode') })
      end
    end
    h.eq(got[1], got[2], table.concat(keys))
  end
end)

test('a key that is typed behind a macro leaves Insert mode', function()
  local c = h.child()
  c:insert_at('|')
  c:feed('<Esc>')
  c:lua("vim.fn.setreg('q', 'Ix')")
  c:feed('@q')
  c:feed('<M-l>')
  h.eq({ c:lua('return vim.api.nvim_get_mode().mode'), c:lines() }, { 'n', { 'x' } })
end)

test('who maps <Esc>x to <M-x> gets both as without the plugin', function()
  -- Mappings for terminals that send these two for Alt; ours must not come back to itself.
  local c = h.child({ config = "vim.cmd('imap <Esc>l <M-l>')" })
  c:insert_at('ab|c')
  c:feed('<M-l>')
  h.eq({ c:lua('return vim.api.nvim_get_mode().mode'), c:cursor() }, { 'n', { 1, 2 } })
end)

test('the API accepts as the keys do', function()
  local c = h.suggesting('x = |', 'foo bar')
  c:wait("require('gemma').visible()")
  -- The editor may answer a call before it takes the keys that one fed to it.
  c:lua("return require('gemma').accept_word()")
  c:wait("vim.api.nvim_get_current_line() == 'x = foo'")
  h.eq(c:lines(), { 'x = foo' })
  c:lua("return require('gemma').accept()")
  c:wait("vim.api.nvim_get_current_line() == 'x = foo bar'")
  h.eq(c:lines(), { 'x = foo bar' })
  h.eq(c:lua("return require('gemma').accept()"), false)
end)

-- ---- health, start-up ----------------------------------------------------------------------

test('checkhealth runs and names each problem with its cure', function()
  local c = h.child({ config = 'vim.g.gemma = { colour = 1 }' })
  c:cmd('checkhealth gemma')
  local text = table.concat(c:lines(), '\n')
  h.has(text, 'native library not found. Run make in')
  h.has(text, 'fake.gguf')
  h.has(text, 'colour: unknown option')
  h.has(text, '<M-l>')
  h.ok(not text:find('Failed to run'), text)
end)

test('start-up loads one small file', function()
  local c = h.child()
  h.eq(c:lua([[local n = {} for k in pairs(package.loaded) do
    if k:match('^gemma') then n[#n + 1] = k end end return n]]), {})
  h.eq(c:lua('return vim.g.loaded_gemma'), true)
end)

return T
