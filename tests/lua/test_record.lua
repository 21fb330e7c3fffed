--- Recording and dictation: recorders that behave and recorders that do not.

local h = require('helper')
local dictate = require('gemma.dictate')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

--- A child whose recorder is a shell script. Samples: one second of 16 kHz in "$PCM", a file.
local function child(script, o)
  o = o or {}
  local c = h.child(o)
  if o.mmproj ~= false then
    vim.fn.writefile({ 'GGUF' }, c.dir .. '/data/nvim/gemma/mmproj-F16.gguf')
  end
  local f = assert(io.open(c.dir .. '/second', 'wb'))
  f:write(('ab'):rep(16000))
  f:close()
  c:lua([[
    local dir, script, media = ...
    vim.cmd.cd(dir)
    vim.env.PCM = dir .. '/second'
    media.recorder = media.recorder or { 'sh', '-c', script }
    require('gemma').setup({ media = media, completion = { auto = false } })
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'one two', 'three' })
    vim.bo.modified = false]], c.dir, script or '', o.media or vim.empty_dict())
  return c
end

local STEADY = 'cat "$PCM"; exec sleep 60' -- a second at once, then silence until it is interrupted

local function heard(c)
  c:wait("require('gemma.record').statusline() == 'rec 0:01'", 'a second of sound')
end

local function events(c)
  return c:lua([[return vim.tbl_map(function(e)
    return { e.name, e.data.kind, e.data.reason } end,
    vim.tbl_filter(function(e) return e.name:find('Record') end, Seen.events))]])
end

local function said(c, n, text)
  c:wait('#Seen.messages >= ' .. n)
  h.has(table.concat(c:messages(), '\n'), text)
end

local function idle(c)
  c:wait("require('gemma.record').active() == nil", 'the recording is over')
end

-- ---- :Gemma record voice -------------------------------------------------------------------

test('voice: the model hears it while it is recorded, and answers after the stop', function()
  local c = child(STEADY)
  c:cmd('Gemma record voice and be brief')
  heard(c)
  h.eq(c:lua("return require('gemma').statusline()"), 'G rec 0:01')
  -- Read ahead, in the session of the answer: everything up to the sound.
  c:wait('#Fake.warm == 1', 'a job that reads ahead')
  local warm = c:lua([[local r = Fake.warm[1].req return { r.session, r.priority, r.max_tokens,
    vim.tbl_map(function(p) return p.kind end, r.parts) }]])
  h.eq(warm, { 1, 'background', 0, { 'system', 'text', 'user', 'sound' } })
  h.eq(c:lua('return #Fake.sounds[1].data'), 32000)
  h.ok(c:lua('return not Fake.sounds[1].over'))
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { Fake.sounds[1].over, Fake.sounds[1].rate, #Fake.sounds }'), { true, 16000, 1 })
  local req = c:lua([[local r = Fake.jobs[1].req return { r.session, r.parts[5].data,
    r.parts[2].data == Fake.warm[1].req.parts[2].data,
    vim.tbl_map(function(p) return p.kind end, r.parts) }]])
  h.eq(req, { 1, 'and be brief', true, { 'system', 'text', 'user', 'sound', 'text' } })
  c:lua("Fake.emit('Yes.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(c:lua("return vim.api.nvim_buf_get_lines(require('gemma.chat.kept').current().view.buffer.buf, 0, -1, false)"),
    { '[voice · 0:01 · 25 tokens]', '', 'Yes.' })
  h.eq(events(c), { { 'GemmaRecordStart', 'voice' }, { 'GemmaRecordStop', 'voice', 'stop' } })
  c:lua("require('gemma.chat').close()")
  h.ok(c:lua('return not Fake.sounds[1].gone'), 'it can be opened again')
  c:lua("require('gemma.chat.kept').all()[1]:forget()")
  h.eq(c:lua('return Fake.sounds[1].gone'), true)
end)

test('voice: its conversation goes on after the window was closed and the model unloaded', function()
  -- The sound went with either, the history kept its number, and each further question failed.
  local c = child(STEADY)
  c:cmd('Gemma record voice')
  heard(c)
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Yes.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat').close()")
  for n = 2, 3 do
    c:cmd('Gemma answers')
    c:lua("require('gemma.chat.kept').current():follow('sure?')")
    c:wait('#Fake.jobs == ' .. n)
    h.eq(c:lua([[local sounds = {}
      for i, s in ipairs(Fake.sounds) do sounds[i] = { #s.data, s.over } end
      return { Fake.jobs[#Fake.jobs].req.parts[4].sound.id, sounds }]]), n == 2 and { 1, { { 32000, true } } }
      or { 2, { { 32000, true }, { 32000, true } } })
    c:lua("Fake.emit('Yes.') Fake.done()")
    c:wait("not require('gemma.chat.kept').current():running()")
    c:cmd('Gemma unload')
    c:wait('Fake.destroyed ~= nil', 'the library is let go of')
  end
  h.eq(c:messages(), {})
end)

test('voice: the library has the sounds of a few conversations; all of them can be gone on with', function()
  -- Twenty are kept, and it counts sixteen sounds.
  local c = child()
  c:lua("require('gemma').load()")
  c:wait("require('gemma.engine').is_loaded()")
  c:lua([[for i = 1, 6 do
    local sound = require('gemma.sound').create(16000, 1)
    local pcm = ('ab'):rep(10000 + i)
    sound:append(pcm)
    sound:finish()
    local a = require('gemma.media').sound(sound, 1, { pcm = pcm, rate = 16000, channels = 1 })
    require('gemma.attach').ask(a, 'question ' .. i, { buf = 1 })
  end]])
  local function living()
    return c:lua([[local out = {}
      for i, s in ipairs(Fake.sounds) do
        if not s.gone then out[#out + 1] = i end
      end
      return out]])
  end
  h.eq(living(), { 3, 4, 5, 6 })
  c:cmd('Gemma answers 6')
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat.kept').current():follow('sure?')")
  h.eq(living(), { 4, 5, 6, 7 })
  h.eq(c:lua('return #Fake.sounds[7].data'), 20002, 'the first one again')
  c:lua([[for _, a in ipairs(require('gemma.chat.kept').all()) do a:forget() end]])
  h.eq(living(), {})
end)

test('voice: it is recorded while the model loads, and handed over when it is there', function()
  local c = child(STEADY)
  c:lua('Fake.hold_load = true')
  c:cmd('Gemma record voice')
  heard(c)
  h.eq(c:lua('return #Fake.sounds'), 0)
  c:cmd('Gemma record stop')
  idle(c)
  h.eq(c:lua('return #Fake.jobs'), 0)
  c:lua('Fake.loaded()')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { #Fake.sounds[1].data, Fake.sounds[1].over }'), { 32000, true })
end)

test('voice: a model that is unloaded meanwhile hears it again from the beginning', function()
  local c = child(STEADY)
  c:cmd('Gemma record voice')
  heard(c)
  c:wait('#Fake.sounds == 1 and #Fake.sounds[1].data == 32000')
  c:cmd('Gemma unload')
  c:wait('Fake.destroyed ~= nil', 'the library is let go of')
  c:cmd('Gemma load')
  c:wait("require('gemma').status().state == 'ready'")
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { #Fake.sounds, #Fake.sounds[2].data, Fake.sounds[2].over }'), { 2, 32000, true })
end)

test('voice: the same command again ends it, for people with one key', function()
  local c = child(STEADY)
  c:cmd('Gemma record voice')
  heard(c)
  c:cmd('Gemma record voice')
  c:wait('#Fake.jobs == 1')
  -- Not the dictation of somebody who forgot it.
  c:cmd('Gemma dictate')
  heard(c)
  c:cmd('Gemma record voice')
  said(c, 1, 'gemma: a recording is under way.')
  c:cmd('Gemma record cancel')
  idle(c)
end)

test('voice: cancel throws it away, and so does :Gemma stop', function()
  local c = child(STEADY)
  for i, command in ipairs({ 'Gemma record cancel', 'Gemma stop' }) do
    c:cmd('Gemma record voice')
    heard(c)
    c:wait(('#Fake.sounds == %d'):format(i))
    c:cmd(command)
    idle(c)
    h.eq(c:lua('return Fake.sounds[...].gone', i), true)
    h.eq(events(c)[2 * i], { 'GemmaRecordStop', 'voice', 'cancel' })
  end
  h.eq(c:lua('return #Fake.jobs'), 0)
  h.eq(c:messages(), {})
end)

test('voice: at the limit it ends by itself and says so', function()
  local c = child('cat "$PCM" "$PCM"; exec sleep 60', { media = { seconds = 1 } })
  c:cmd('Gemma record voice')
  c:wait('#Fake.jobs == 1')
  said(c, 1, 'gemma: the recording ended after 1 s, the limit.')
  h.eq(c:lua('return #Fake.sounds[1].data'), 32000, 'not a sample more')
  h.eq(events(c)[2], { 'GemmaRecordStop', 'voice', 'limit' })
end)

test('voice: a recorder that vanishes leaves what it had', function()
  local c = child('cat "$PCM"; echo "sh: the cable fell out" >&2; exit 1')
  c:cmd('Gemma record voice')
  c:wait('#Fake.jobs == 1')
  said(c, 1, 'gemma: sh ended by itself; going on with the 0:01 that there are.')
  h.eq(events(c)[2], { 'GemmaRecordStop', 'voice', 'vanished' })
end)

test('voice: a recorder that vanishes before it had anything is one line with its words', function()
  local c = child('echo "sh: audio open error: No such file or directory" >&2; exit 1')
  c:cmd('Gemma record voice')
  said(c, 1, 'gemma: sh: audio open error: No such file or directory.')
  idle(c)
  c:lua("require('gemma').setup({ media = { recorder = { 'sh', '-c', 'exit 0' } } })")
  c:cmd('Gemma record voice')
  said(c, 2, 'gemma: sh ended at once.')
  h.eq(c:lua('return { #Fake.jobs, #Seen.messages }'), { 0, 2 })
end)

test('voice: less than a moment is nothing', function()
  local c = child('head -c 3200 "$PCM"; exec sleep 60')
  c:cmd('Gemma record voice')
  c:wait("require('gemma.record').active().seconds > 0")
  c:cmd('Gemma record stop')
  said(c, 1, 'gemma: nothing was recorded.')
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('voice: a recorder that does not listen to its interrupt is ended the hard way', function()
  local c = child([[trap '' INT; cat "$PCM"; while :; do sleep 1; done]])
  c:cmd('Gemma record voice')
  heard(c)
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
  h.eq(c:messages(), {})
end)

test('voice: with auto the next recorder is tried when the first has no server', function()
  local c = child('', { media = { recorder = 'auto' } })
  vim.fn.mkdir(c.dir .. '/bin')
  for name, script in pairs({ ['pw-record'] = 'echo "no server" >&2; exit 1', parecord = STEADY }) do
    vim.fn.writefile({ '#!/bin/sh', script }, c.dir .. '/bin/' .. name)
    vim.uv.fs_chmod(c.dir .. '/bin/' .. name, tonumber('755', 8))
  end
  c:lua("vim.env.PATH = ... .. ':/usr/bin:/bin'", c.dir .. '/bin')
  c:cmd('Gemma record voice')
  heard(c)
  h.eq(c:messages(), {})
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
end)

test('voice: no recorder at all, no mmproj file, no two at a time: one line each', function()
  local c = child('', { media = { recorder = 'auto' } })
  c:lua("vim.env.PATH = ...", c.dir)
  c:cmd('Gemma record voice')
  said(c, 1, 'gemma: no recorder found (looked for pw-record, parecord, arecord, sox, ffmpeg).')
  c:lua("vim.env.PATH = '/usr/bin:/bin' require('gemma').setup({ media = { recorder = { 'sh', '-c', ... } } })",
    STEADY)
  c:cmd('Gemma record voice')
  c:cmd('Gemma dictate')
  said(c, 2, 'gemma: a recording is under way. :Gemma record stop ends it.')
  c:cmd('Gemma record cancel')
  idle(c)
  c:cmd('Gemma record stop')
  said(c, 3, 'gemma: nothing is being recorded.')
  c:cmd('Gemma record noise')
  said(c, 4, 'gemma: unknown argument noise. Try :Gemma record voice, screen, stop or cancel.')
  c = child(STEADY, { mmproj = false })
  c:cmd('Gemma record voice')
  said(c, 1, 'gemma: no mmproj file')
  h.eq(events(c), {})
end)

test('voice: an answer that cannot open now opens a moment later', function()
  for _, busy in ipairs({ 'gz', 'q:' }) do
    local c = child(STEADY)
    c:lua("vim.keymap.set('n', 'gz', function() return vim.fn.getcharstr() end, { expr = true })")
    c:cmd('Gemma record voice')
    heard(c)
    c:lua([[local load = require('gemma.ready').load
      require('gemma.ready').load = function(on_done) _G.Ready = function() load(on_done) end end]])
    c:cmd('Gemma record stop')
    c:wait('Ready ~= nil')
    c:feed(busy)
    c:lua('Ready()')
    c:lua("vim.defer_fn(function() _G.Later = true end, 150)")
    c:wait('Later')
    h.eq(c:lua('return #Fake.jobs'), 0, busy)
    c:feed(busy == 'gz' and '<Esc>' or '<C-c><C-c>')
    c:wait('#Fake.jobs == 1')
    h.eq(c:messages(), {})
  end
end)

test('voice: media.keep leaves a WAV file', function()
  local c = child(STEADY)
  c:lua("require('gemma').setup({ media = { keep = ... } })", c.dir .. '/kept')
  c:cmd('Gemma record voice')
  heard(c)
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
  local files = vim.fn.glob(c.dir .. '/kept/voice-*.wav', true, true)
  h.eq(#files, 1)
  h.eq(vim.uv.fs_stat(files[1]).size, 44 + 32000)
  h.eq(require('gemma.media').sniff(io.open(files[1], 'rb'):read(100), 32044).seconds, 1)
end)

test('no recorder stays behind when Neovim ends', function()
  local c = child('echo $$ > pid; cat "$PCM"; exec sleep 60')
  c:cmd('Gemma record voice')
  heard(c)
  local pid = tonumber(vim.fn.readfile(c.dir .. '/pid')[1])
  h.eq(vim.uv.kill(pid, 0), 0)
  pcall(c.cmd, c, 'qall!')
  h.ok(vim.wait(5000, function()
    return vim.uv.kill(pid, 0) ~= 0
  end, 5), 'the recorder is gone')
end)

test('the statusline counts, and the timer runs only meanwhile', function()
  local c = child('while :; do head -c 16000 "$PCM"; sleep 0.5; done')
  c:lua([[_G.Timers = {}
    local new_timer = vim.uv.new_timer
    vim.uv.new_timer = function()
      local timer = new_timer()
      table.insert(Timers, timer)
      return timer
    end
    vim.o.laststatus = 2
    vim.o.statusline = "%{v:lua.require'gemma'.statusline()}"]])
  h.eq(c:lua("return require('gemma').statusline()"), '')
  c:cmd('Gemma record voice')
  c:wait([[(function() vim.cmd.redraw()
    return vim.fn.screenstring(vim.o.lines - 1, 1) == 'G'
      and vim.fn.screenstring(vim.o.lines - 1, 10) == '1' end)()]], 'G rec 0:01 on the screen')
  local function timers()
    return c:lua([[local n = 0
      for _, timer in ipairs(Timers) do
        if not timer:is_closing() and timer:is_active() and timer:get_repeat() > 0 then
          n = n + 1
        end
      end
      return n]])
  end
  h.eq(timers(), 1)
  c:cmd('Gemma record cancel')
  idle(c)
  h.eq(timers(), 0)
  h.ok(c:lua("return not require('gemma').statusline():find('rec')"))
end)

test('voice: a Neovim that borrows the model lets the other one listen', function()
  local READY = "require('gemma.engine').is_loaded()"
  local a = child()
  a:lua("require('gemma').setup({ device = 'cpu' }) require('gemma').load()")
  a:wait(READY)
  local b = child(STEADY, { mmproj = false, env = { XDG_STATE_HOME = a.dir .. '/state' } })
  b:lua("require('gemma').load()")
  b:wait(READY)
  b:cmd('Gemma record voice')
  heard(b)
  a:wait('#Fake.warm == 1', 'the other one reads ahead')
  b:cmd('Gemma record stop')
  a:wait('#Fake.jobs == 1')
  h.eq(a:lua('return { #Fake.sounds[1].data, Fake.sounds[1].over }'), { 32000, true })
  h.eq(b:lua('return #Fake.sounds'), 0)
  a:lua("Fake.emit('Yes.') Fake.done()")
  b:wait("not require('gemma.chat.kept').current():running()")
  b:lua("require('gemma.chat.kept').current():forget()")
  a:wait('Fake.sounds[1].gone')
end)

-- ---- :Gemma record screen ------------------------------------------------------------------

test('screen: the file goes to the model as a film, and is deleted with the answer', function()
  local c = child('', { media = { screen = { 'sh', '-c',
    [[trap 'printf "\032\105\337\243 rest" > {file}; exit 0' INT
    while :; do sleep 0.05; done]] } } })
  c:cmd('Gemma record screen what went wrong?')
  c:wait("(require('gemma.record').active() or { seconds = 0 }).seconds > 0.4")
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 1')
  local part = c:lua('return Fake.jobs[1].req.parts[4]')
  h.eq(part.kind, 'video')
  h.eq(c:lua('return Fake.jobs[1].req.parts[5].data'), 'what went wrong?')
  c:lua("require('gemma.chat').close()")
  h.eq(vim.uv.fs_stat(part.data).type, 'file', 'it can be opened again')
  c:lua("require('gemma.chat.kept').all()[1]:forget()")
  h.eq(vim.uv.fs_stat(part.data), nil)
end)

test('screen: the film is for nobody else, and its recorder ends with a Neovim that is killed', function()
  local c = child('', { media = { keep = true, screen = { 'sh', '-c',
    'echo $$ > pid; : > {file}; echo {file} > name; exec sleep 60' } } })
  c:cmd('Gemma record screen')
  c:wait("vim.uv.fs_stat('name') and vim.fn.readfile('name')[1]")
  local film = vim.fn.readfile(c.dir .. '/name')[1]
  h.eq(vim.uv.fs_stat(film).mode % 512, tonumber('600', 8))
  local pid = tonumber(vim.fn.readfile(c.dir .. '/pid')[1])
  h.eq(vim.uv.kill(pid, 0), 0)
  vim.uv.kill(c:lua('return vim.uv.os_getpid()'), 'sigkill')
  h.ok(vim.wait(5000, function()
    return vim.uv.kill(pid, 0) ~= 0
  end, 5), 'the recorder is gone')
end)

test('screen: a recorder that wrote nothing is one line', function()
  local c = child('', { media = { screen = { 'sh', '-c', 'echo "no display" >&2; exit 1 # {file}' } } })
  c:cmd('Gemma record screen')
  said(c, 1, 'gemma: sh: no display.')
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

-- ---- :Gemma dictate ------------------------------------------------------------------------

local function dictated(c, text, where)
  c:cmd('Gemma dictate')
  heard(c)
  if where then
    where()
  end
  c:cmd('Gemma dictate')
  c:wait('#Fake.jobs > 0')
  c:lua('Fake.emit(...) Fake.done()', text)
  c:wait("not require('gemma.dictate').active()")
end

test('dictate: what was said is typed where it was called, one undo step, wherever the user is', function()
  local c = child(STEADY)
  c:lua('vim.api.nvim_win_set_cursor(0, { 1, 4 })')
  dictated(c, ' Hello,\nworld.\n', function()
    h.has(c:screen(1, 1)[1], 'one [rec 0:')
    h.eq(c:lines(), { 'one two', 'three' }, 'nothing is typed before it is known')
    c:feed('jA four<Esc>')
    c:cmd('new')
  end)
  h.eq(c:lua('return vim.api.nvim_buf_get_lines(1, 0, -1, false)'),
    { 'one Hello, world. two', 'three four' })
  c:cmd('close')
  c:cmd('undo')
  h.eq(c:lines(), { 'one two', 'three four' })
  c:cmd('undo')
  h.eq(c:lines(), { 'one two', 'three' })
  h.eq(c:screen(1, 1)[1], 'one two', 'nothing is drawn any more')
end)

test('dictate: while the user types on in Insert mode, one undo takes back only what was said', function()
  local c = child(STEADY)
  c:feed('A')
  c:feed('<Cmd>Gemma dictate<CR>')
  heard(c)
  c:type(' abc')
  c:feed('<Cmd>Gemma dictate<CR>')
  c:wait('#Fake.jobs > 0')
  c:type('def')
  c:lua("Fake.emit('Hello') Fake.done()")
  c:wait("not require('gemma.dictate').active()")
  c:type('ghi')
  h.eq(c:lines()[1], 'one two Hello abcdefghi')
  c:feed('<Esc>')
  c:cmd('undo')
  h.eq(c:lines()[1], 'one two Hello abcdef')
  c:cmd('undo')
  h.eq(c:lines()[1], 'one two abcdef')
end)

test('dictate: in Insert mode the cursor goes behind what was said', function()
  local c = child(STEADY)
  c:lua("vim.keymap.set('i', '<F9>', '<Plug>(gemma-dictate)')")
  c:feed('A<F9>')
  heard(c)
  c:feed('<F9>')
  c:wait('#Fake.jobs > 0')
  h.eq(c:lua('return { Fake.jobs[1].req.session, Fake.jobs[1].req.temperature }'), { 2, 0 })
  c:lua("Fake.emit('Hello')")
  c:wait("vim.fn.screenstring(1, 9) == 'H' or vim.cmd.redraw()", 'what is written so far is shown')
  h.eq(c:lines()[1], 'one two')
  c:lua('Fake.done()')
  c:wait("not require('gemma.dictate').active()")
  c:type('!')
  h.eq(c:lines()[1], 'one two Hello!')
end)

test('dictate: where nothing can be typed it is refused, and nothing said is lost', function()
  local c = child(STEADY)
  c:cmd('set nomodifiable')
  c:cmd('Gemma dictate')
  said(c, 1, "gemma: 'modifiable' is off in this buffer. Dictate into another.")
  h.eq(events(c), {})
  c:cmd('set modifiable')
  dictated(c, 'kept', function()
    c:cmd('set nomodifiable')
  end)
  said(c, 2, "gemma: 'modifiable' is off now; p puts what was said.")
  h.eq(c:lua("return vim.fn.getreg('\"')"), 'kept')
  h.eq(c:lines(), { 'one two', 'three' })
  c:cmd('set modifiable')
  c:lua('Fake.jobs = {}')
  dictated(c, 'also kept', function()
    c:cmd('enew | bwipeout! #')
  end)
  said(c, 3, 'the buffer is gone; p puts what was said.')
  h.eq(c:lua("return vim.fn.getreg('\"')"), 'also kept')
end)

test('dictate: while an <expr> mapping waits for a key nothing can be typed, and nothing said is lost', function()
  local c = child(STEADY)
  c:lua("vim.keymap.set('n', 'gz', function() return vim.fn.getcharstr() end, { expr = true })")
  dictated(c, 'kept', function()
    c:cmd('Gemma record stop')
    c:wait('#Fake.jobs > 0')
    c:feed('gz')
  end)
  said(c, 1, 'gemma: E565: Not allowed to change text or change window; p puts what was said.')
  c:feed('<Esc>')
  h.eq(c:lua("return vim.fn.getreg('\"')"), 'kept')
  h.eq(c:lines(), { 'one two', 'three' })
  c:lua('Fake.jobs = {}')
  dictated(c, 'again')
  h.eq(c:lines()[1], 'again one two')
end)

test('dictate: silence, failure and giving up leave the text as it is', function()
  local c = child(STEADY)
  dictated(c, ' \n ')
  said(c, 1, 'gemma: nothing was understood.')
  c:cmd('Gemma dictate')
  heard(c)
  c:cmd('Gemma record stop')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.fail(-8, 'the prompt is too long')")
  said(c, 2, 'gemma: the prompt is too long')
  c:wait("not require('gemma.dictate').active()")
  c:cmd('Gemma dictate')
  heard(c)
  c:cmd('Gemma dictate')
  c:wait('#Fake.jobs == 3')
  c:cmd('Gemma stop')
  c:wait("not require('gemma.dictate').active()")
  h.eq(c:lines(), { 'one two', 'three' })
  h.eq(c:lua('return vim.bo.modified'), false)
  h.eq(c:lua([[local ns = vim.api.nvim_get_namespaces()['gemma.dictate']
    return #vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {})]]), 0)
  h.eq(c:lua('return vim.tbl_count(vim.tbl_filter(function(s) return not s.gone end, Fake.sounds))'), 0,
    'no sound is kept')
end)

test('dictate: blanks as a typist would set them', function()
  for _, c in ipairs({
    { 'Hello.', '', '', 'Hello.' },
    { 'hello', 'say', '', ' hello' },
    { 'hello', 'say ', '', 'hello' },
    { 'hello', '(', ')', 'hello' },
    { 'hello', '-- ', 'there', 'hello ' },
    { ', too', 'me', '', ', too' },
    { 'été', 'café', '', ' été' },
    { '世界', '你好', '', '世界' },
    { 'x', 'a.', 'b', ' x ' },
  }) do
    h.eq(dictate.join(c[1], c[2], c[3]), c[4], vim.inspect(c))
  end
  h.eq(dictate.clean(' a\n b\tc\27[0m \0'), 'a b c[0m')
end)

return T
