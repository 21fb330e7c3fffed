--- Attachments: what a file is, how long it will be, how it is found, and the commands for it.

local h = require('helper')
local media = require('gemma.media')
local attach = require('gemma.attach')
local tools = require('gemma.tools')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local GOLDEN = h.root .. '/tests/golden/sets/nano/media/'

local be, le = h.be, h.le

local function wav(rate, channels, n)
  return 'RIFF' .. le(36 + n, 4) .. 'WAVEfmt ' .. le(16, 4) .. le(1, 2) .. le(channels, 2)
    .. le(rate, 4) .. le(rate * channels * 2, 4) .. le(channels * 2, 2) .. le(16, 2)
    .. 'data' .. le(n, 4)
end

test('a file is told by its first bytes', function()
  local pad = ('\0'):rep(64)
  local function is(bytes, size)
    local k = media.sniff(bytes .. pad, size or 1000)
    return k and { k.kind, k.format, k.w, k.h } or nil
  end
  h.eq(is('\137PNG\r\n\26\n\0\0\0\13IHDR' .. be(640, 4) .. be(480, 4)), { 'image', 'png', 640, 480 })
  h.eq(is('GIF89a' .. le(7, 2) .. le(5, 2)), { 'image', 'gif', 7, 5 })
  h.eq(is('\255\216\255\224'), { 'image', 'jpeg' })
  h.eq(is('RIFF\0\0\0\0WEBPVP8X\10\0\0\0\0\0\0\0' .. le(299, 3) .. le(199, 3)),
    { 'image', 'webp', 300, 200 })
  h.eq(is('RIFF\0\0\0\0WEBPVP8L\10\0\0\0\47' .. le(299 + 199 * 16384, 4)),
    { 'image', 'webp', 300, 200 })
  h.eq(is('RIFF\0\0\0\0WEBPVP8 \10\0\0\0\0\0\0\157\1\42' .. le(300, 2) .. le(200, 2)),
    { 'image', 'webp', 300, 200 })
  h.eq(is('BW64\255\255\255\255WAVEds64'), { 'audio', 'wav' })
  local bmp = 'BM' .. le(99, 4) .. le(0, 4) .. le(54, 4) .. le(40, 4)
  h.eq(is(bmp .. le(30, 4) .. le(20, 4)), { 'image', 'bmp', 30, 20 })
  h.eq(is(bmp .. le(30, 4) .. le(2 ^ 32 - 20, 4)), { 'image', 'bmp', 30, 20 }, 'from the top')
  h.eq(is('II*\0'), { 'image', 'tiff' })
  h.eq(is('<svg xmlns="x">'), { 'image', 'svg' })
  h.eq(is('<?xml version="1.0"?>\n<svg >'), { 'image', 'svg' })
  h.eq(is('\0\0\0\28ftypavif'), { 'image', 'avif' })
  h.eq(is('fLaC'), { 'audio', 'flac' })
  h.eq(is('OggS'), { 'audio', 'ogg' })
  h.eq(is('ID3\4'), { 'audio', 'mp3' })
  h.eq(is('\255\251\144\100'), { 'audio', 'mp3' })
  h.eq(is('\255\241\80\128'), { 'audio', 'aac' })
  h.eq(is('\0\0\0\28ftypM4A '), { 'audio', 'm4a' })
  h.eq(is('\0\0\0\28ftypisom'), { 'video', 'mp4' })
  h.eq(is('\26\69\223\163\1\0\0\0\0\0\0\31\66\134\129\1\66\130\132webm'), { 'video', 'webm' })
  for _, text in ipairs({
    'plain text, whatever its name', 'BMW is no bitmap', '\255\254p\0l\0', '\239\187\191text', '', 'GIF',
    '<?xml version="1.0"?><html>', '%PDF-1.7', 'RIFF', '\137PNG',
  }) do
    h.eq(media.sniff(text, #text), nil, text)
  end
end)

test('the size of a JPEG is found behind its other segments', function()
  local jpeg = '\255\216' .. '\255\225' .. be(5002, 2) .. ('x'):rep(5000) .. '\255\255\255\196' .. be(4, 2)
    .. 'hu' .. '\255\194' .. be(17, 2) .. '\8' .. be(480, 2) .. be(640, 2) .. '\3'
  local function read(at, n)
    return jpeg:sub(at + 1, at + n)
  end
  h.eq({ media.jpeg_size(read) }, { 640, 480 })
  jpeg = jpeg:sub(1, 5010)
  h.eq({ media.jpeg_size(read) }, {})
  jpeg = '\255\216' .. ('\255'):rep(100000)
  h.eq({ media.jpeg_size(read) }, {})
end)

test('tokens of a picture are those of the size rule', function()
  for _, c in ipairs({
    { 600, 400, 280, 260 }, { 600, 400, 70, 60 }, { 48, 48, 280, 256 }, { 5, 7, 280, 266 },
    { 2000, 900, 280, 264 }, { 10, 10000, 280, 280 }, { 100000, 1, 70, 70 }, { 192, 720, 280, 256 },
  }) do
    local w, hh, budget, want = unpack(c)
    local got = media.image_tokens(w, hh, budget)
    h.ok(got <= budget, 'within the budget')
    h.eq(got, want, ('%dx%d, %d'):format(w, hh, budget))
  end
  h.eq(media.image_tokens(0, 5, 280), nil)
end)

test('tokens of a sound are frames of 40 ms', function()
  h.eq(media.sound_tokens(0.28), 7)
  h.eq(media.sound_tokens(0.281), 8)
  h.eq(media.sound_tokens(30), 750)
  h.eq(media.sound_tokens(0.00001), 1)
  local k = media.sniff(wav(8000, 2, 32000), 44 + 32000)
  h.eq(k.seconds, 1)
  h.eq(media.sniff(wav(8000, 2, 2 ^ 32 - 1), 44 + 32000).seconds, 1, 'a recorder left its header open')
  h.eq(media.sniff(wav(0, 2, 99), 143).seconds, nil)
end)

test('what is typed after :Gemma image is a path and a question', function()
  local files = { ['a.png'] = true, ['my plot.png'] = true, what = true, ["it's.png"] = true, pic = true }
  local function is_file(p)
    return files[p] == true
  end
  for _, c in ipairs({
    { '', nil, nil },
    { 'a.png', 'a.png', nil },
    { 'a.png what is it?', 'a.png', 'what is it?' },
    { 'my plot.png what is it?', 'my plot.png', 'what is it?' },
    { 'my\\ plot.png what is it?', 'my plot.png', 'what is it?' },
    { '"my plot.png" what is it?', 'my plot.png', 'what is it?' },
    { "'a.png'", 'a.png', nil },
    { "it's.png why", "it's.png", 'why' },
    { 'what is wrong with this plot?', nil, 'what is wrong with this plot?' },
    { '"what" does it say?', nil, '"what" does it say?', },
    { 'what', 'what', nil },
    { 'pic', 'pic', nil },
    { 'missing.png why?', 'missing.png', 'why?' },
    { '/tmp/x what', '/tmp/x', 'what' },
    { 'http://x.org/a.png what', 'http://x.org/a.png', 'what' },
    { '~/a.png', '~/a.png', nil },
    { 'is a.png good?', nil, 'is a.png good?' },
  }) do
    files.what = c[1] ~= '"what" does it say?'
    local path, question = attach.parse(c[1], is_file)
    h.eq({ path or '-', question or '-' }, { c[2] or '-', c[3] or '-' }, c[1])
  end
end)

local function env(o)
  local there = {}
  for _, p in ipairs(o.programs or {}) do
    there[p] = true
  end
  return {
    os = o.os or 'linux', wayland = o.wayland or false, x11 = o.x11 or false, display = o.x11 and ':0',
    has = function(p)
      return there[p] == true
    end,
  }
end

test('tools are chosen by what is there and by the kind of desktop', function()
  local function name(kind, option, e)
    local found, err = tools.choose(kind, option, e)
    return found[1] and found[1].name or err
  end
  local all = { 'grim', 'slurp', 'maim', 'spectacle', 'gnome-screenshot', 'pw-record', 'arecord', 'ffmpeg',
    'wf-recorder', 'sox' }
  h.eq(name('shot', 'auto', env({ wayland = true, programs = all })), 'grim')
  h.eq(name('shot', 'auto', env({ x11 = true, programs = all })), 'maim')
  h.eq(name('shot', 'auto', env({ wayland = true, programs = { 'grim', 'spectacle' } })), 'spectacle')
  h.eq(name('shot', 'auto', env({ os = 'mac', programs = { 'screencapture' } })), 'screencapture')
  h.eq(name('shot', 'auto', env({ os = 'wsl', wayland = true, programs = { 'powershell.exe' } })), 'powershell')
  h.eq(name('voice', 'auto', env({ programs = all })), 'pw-record')
  h.eq(name('voice', 'sox', env({ programs = all })), 'sox')
  h.eq(name('screen', 'auto', env({ wayland = true, programs = all })), 'wf-recorder')
  h.eq(name('screen', 'auto', env({ x11 = true, programs = all })), 'ffmpeg')
  h.eq(name('voice', { '/opt/mic', '-x' }, env({ programs = { '/opt/mic' } })), 'mic')
  -- Through a sound server sox got two seconds at a time, so the model heard nothing meanwhile.
  local sox = tools.choose('voice', 'sox', env({ programs = all }))[1]
  h.eq(vim.list_slice(sox.argv(env({})), 1, 3), { 'env', 'PULSE_LATENCY_MSEC=40', 'sox' })
  h.eq(sox.argv(env({ os = 'win' }))[1], 'sox')
  -- What is missing is said with its names.
  h.eq(name('voice', 'auto', env({})),
    'no recorder found (looked for pw-record, parecord, arecord, sox, ffmpeg).')
  h.eq(name('shot', 'auto', env({})), 'no screenshot program works here (no display).')
  h.eq(name('shot', 'auto', env({ wayland = true })),
    'no screenshot program found (looked for grim with slurp, spectacle, gnome-screenshot).')
  h.eq(name('voice', 'arecord', env({})), 'there is no program arecord. Install it or choose another.')
  h.has(name('voice', 'dictaphone', env({})), 'dictaphone is not known. There are: pw-record,')
  h.eq(name('voice', { 'nope' }, env({})), 'there is no program nope. Check the options.')
end)

test('every tool has a command of words, and advice where it can be missing', function()
  for _, e in ipairs({ env({ x11 = true }), env({ wayland = true }), env({ os = 'mac' }), env({ os = 'win' }) }) do
    for _, kind in ipairs({ 'shot', 'voice', 'screen' }) do
      for _, t in ipairs(tools[kind]) do
        if t.fits(e) then
          local argv = t.argv(e, '/tmp/a b.png')
          for _, word in ipairs(argv) do
            h.eq(type(word), 'string', t.name)
          end
          if not t.stdout then
            h.ok(table.concat(argv, '\1'):find('/tmp/a b.png', 1, true), t.name .. ' names the file')
          end
        end
      end
      h.eq(type(tools.advice(kind, e)), 'string')
    end
    h.eq(type(tools.advice('clipboard', e)), 'string')
  end
  local own = tools.choose('screen', { 'rec', '--to={file}' }, env({ programs = { 'rec' } }))[1]
  h.eq(own.argv(env({}), '/a%1.mkv'), { 'rec', '--to=/a%1.mkv' })
end)

test('of the types in a clipboard the best picture is asked for', function()
  h.eq(tools.clipboard_type('text/html\nimage/png\nimage/bmp\n'), 'image/png')
  h.eq(tools.clipboard_type('TARGETS\r\nimage/bmp\r\nimage/jpeg'), 'image/jpeg')
  h.eq(tools.clipboard_type('UTF8_STRING\ntext/plain\n'), nil)
  h.eq(tools.clipboard_type(''), nil)
end)

-- ---- in an editor --------------------------------------------------------------------------

--- A child with a model that has an mmproj file, in a folder with pictures.
local function child(o)
  o = o or {}
  local c = h.child(o)
  c:lua([[
    local dir, golden, own_mmproj = ...
    if own_mmproj then
      vim.fn.writefile({ 'GGUF' }, dir .. '/data/nvim/gemma/mmproj-F16.gguf')
    end
    vim.fn.mkdir(dir .. '/out', 'p')
    for _, name in ipairs({ 'plot.png', 'my plot.png', 'out/deep.png' }) do
      vim.uv.fs_copyfile(golden .. 'photo.png', dir .. '/' .. name)
    end
    vim.uv.fs_copyfile(golden .. 'tones.wav', dir .. '/tones.wav')
    vim.cmd.cd(dir)
    vim.env.WAYLAND_DISPLAY, vim.env.DISPLAY = '', ''
    vim.ui.select = function(items, opts, fn)
      _G.Select = { prompt = opts.prompt, items = vim.tbl_map(opts.format_item, items) }
      _G.Choose = function(i) fn(items[i], i) end
    end]], c.dir, GOLDEN, o.mmproj ~= false)
  return c
end

local function parts(c, n)
  return c:lua([[return vim.tbl_map(function(p)
    return { p.kind, p.data } end, Fake.jobs[... or #Fake.jobs].req.parts)]], n)
end

local function answer_lines(c)
  return c:lua("return vim.api.nvim_buf_get_lines(require('gemma.chat.kept').current().view.buffer.buf, 0, -1, false)")
end

local function asked(c, n)
  c:wait(('#Fake.jobs == %d'):format(n or 1))
  return parts(c, n or 1)
end

test(':Gemma image with a path asks in the answer window, with the file on a line', function()
  local c = child()
  c:cmd('Gemma image my plot.png what is wrong here?')
  local p = asked(c)
  h.eq(vim.tbl_map(function(x) return x[1] end, p), { 'system', 'text', 'user', 'image', 'text' })
  h.eq(p[4][2], c:lua("return vim.uv.fs_realpath('my plot.png')"))
  h.eq(p[5][2], 'what is wrong here?')
  h.eq(c:lua('return Fake.jobs[1].req.image_tokens == nil'), true, "the model's own")
  h.eq(c:lua('return vim.fs.basename(Fake.loads[1].mmproj_path)'), 'mmproj-F16.gguf')
  h.eq(answer_lines(c)[1], '[my plot.png · 200x131 · 5 kB]', 'only a loaded model knows how many')
  c:lua("Fake.emit('The axis.') Fake.done(nil, nil, { n_media = 260 })")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(answer_lines(c), { '[my plot.png · 200x131 · 5 kB · 260 tokens]', '', 'The axis.' })
  c:shows('[my plot.png · 200x131 · 5 kB · 260 tokens]')
end)

test('a loaded model says how many tokens a picture has; the option says more', function()
  local c = child()
  c:cmd('Gemma image my plot.png')
  asked(c)
  c:lua("Fake.image_tokens = 25 Fake.emit('.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat').close()")
  c:cmd('Gemma image my plot.png')
  asked(c, 2)
  h.eq(answer_lines(c)[1], '[my plot.png · 200x131 · 5 kB · 24 tokens]')
  c:lua("Fake.emit('.') Fake.done() require('gemma.chat').close()")
  c:lua("require('gemma').setup({ media = { image_tokens = 560 } })")
  c:cmd('Gemma image my plot.png')
  asked(c, 3)
  h.eq(c:lua('return Fake.jobs[3].req.image_tokens'), 560)
  h.eq(answer_lines(c)[1], '[my plot.png · 200x131 · 5 kB · 551 tokens]')
end)

test('without a path: the link under the cursor, with its line marked', function()
  local c = child()
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'x', '![p](out/deep.png)', 'y' })
    vim.bo.filetype = 'markdown'
    vim.api.nvim_win_set_cursor(0, { 2, 3 })]])
  c:cmd('Gemma image')
  local p = asked(c)
  h.has(p[4][2], 'out/deep.png')
  h.has(p[5][2], 'What does this picture show?')
  local marks = c:lua([[local ns = vim.api.nvim_get_namespaces()['gemma.chat.source']
    return vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {})]])
  h.eq({ #marks, marks[1][2] }, { 1, 1 })
end)

test('a link to the network is never followed, a link to nothing says so', function()
  local c = child()
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false, { '![p](https://x.org/a.png)', '![p](gone.png)' })
    vim.bo.filetype = 'markdown']])
  c:cmd('Gemma image')
  c:wait('#Seen.messages == 1')
  c:cmd('2')
  c:cmd('Gemma image why?')
  c:wait('#Seen.messages == 2')
  c:cmd('Gemma image https://x.org/a.png')
  c:wait('#Seen.messages == 3')
  local m = c:messages()
  h.eq(m[1], 'gemma: http images are not fetched (no network). Save the file first.')
  h.has(m[2], 'there is no file ')
  h.has(m[2], 'gone.png')
  h.eq(m[3], m[1])
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('without a link: the file of the buffer itself', function()
  local c = child()
  c:cmd('edit plot.png')
  c:cmd('Gemma image and the legend?')
  local p = asked(c)
  h.has(p[4][2], '/plot.png')
  h.eq(p[5][2], 'and the legend?')
end)

--- Puts a program of the test's own first into the child's $PATH.
local function program(c, name, script)
  local dir = c.dir .. '/bin'
  vim.fn.mkdir(dir, 'p')
  vim.fn.writefile(vim.split('#!/bin/sh\n' .. script, '\n'), dir .. '/' .. name)
  vim.uv.fs_chmod(dir .. '/' .. name, tonumber('755', 8))
  c:lua("vim.env.PATH = ... .. ':' .. vim.env.PATH", dir)
end

test('then the picture of the clipboard, in a private file that goes with the answer', function()
  local c = child()
  c:lua("vim.env.WAYLAND_DISPLAY = 'wayland-0'")
  program(c, 'wl-paste', ([[
case "$1" in
--list-types) printf 'text/html\nimage/png\n' ;;
*) [ "$*" = '--no-newline --type image/png' ] && cat '%sphoto.png' ;;
esac]]):format(GOLDEN))
  c:cmd('Gemma image what is this?')
  local path = asked(c)[4][2]
  c:lua("Fake.emit('A cat.') Fake.done()")
  h.eq(answer_lines(c)[1], '[clipboard.png · 200x131 · 5 kB]')
  h.eq(vim.uv.fs_stat(path).mode % 512, tonumber('600', 8), 'for nobody else')
  h.eq(vim.uv.fs_stat(path).size, vim.uv.fs_stat(GOLDEN .. 'photo.png').size)
  -- It can be opened again and asked about, until it is forgotten.
  c:lua("require('gemma.chat').close()")
  c:cmd('Gemma answers')
  c:wait("not require('gemma.chat.kept').current():running()")
  c:lua("require('gemma.chat.kept').current():follow('its colour?')")
  h.eq(asked(c, 2)[4][2], path)
  h.eq(vim.uv.fs_stat(path).type, 'file')
  c:cmd('bwipeout')
  c:wait("#require('gemma.chat.kept').all() == 0")
  h.eq(vim.uv.fs_stat(path), nil, 'the file is gone with the answer')
end)

test('and at last a list of the pictures near the file', function()
  local c = child()
  c:cmd('edit notes.md')
  c:lua([[vim.uv.fs_utime('out/deep.png', 2e9, 2e9)]])
  c:cmd('Gemma image why?')
  c:wait('Select ~= nil')
  h.eq(c:lua('return Select.items[1]'), 'out/deep.png', 'the newest first')
  h.eq(c:lua('return #Select.items'), 3)
  c:lua('Choose(1)')
  h.has(asked(c)[4][2], 'out/deep.png')
  c:lua('Choose(nil)')
  h.eq(c:lua('return #Fake.jobs'), 1)
end)

test('a buffer that goes while the clipboard is asked is no error', function()
  local c = child()
  c:lua("vim.env.WAYLAND_DISPLAY = 'wayland-0'")
  program(c, 'wl-paste', 'while [ ! -e "$OLDPWD/go" ] && [ ! -e go ]; do sleep 0.02; done')
  c:cmd('new')
  c:lua("vim.bo.bufhidden = 'wipe'")
  c:cmd('Gemma image why?')
  c:cmd('close')
  c:lua("vim.fn.writefile({}, 'go')")
  c:wait('Select ~= nil')
  h.eq(c:lua('return #Select.items'), 3)
end)

test('a program that never answers is ended with what it has started', function()
  local c = child()
  c:lua([[_G.Argv = { 'sh', '-c', 'sleep 60 & echo $! > pid; wait' }
    require('gemma.child').start(Argv, { timeout = 200 }, function(done) _G.Signal = done.signal end)]])
  c:wait('Signal == 15')
  local pid = tonumber(vim.fn.readfile(c:lua('return vim.uv.cwd()') .. '/pid')[1])
  h.ok(vim.wait(5000, function()
    return vim.uv.kill(pid, 0) ~= 0
  end, 5), 'it is gone as well')
end)

test('where there is none at all, one line says what to do', function()
  local c = child()
  c:lua("vim.fn.mkdir('empty')")
  c:cmd('cd empty')
  c:cmd('Gemma image')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: no program for pictures in the clipboard works here (no display).' })
  c:lua("vim.env.WAYLAND_DISPLAY = 'wayland-0'")
  program(c, 'wl-paste', 'echo text/plain')
  c:cmd('Gemma image')
  c:wait('#Seen.messages == 2')
  h.has(c:messages()[2], 'no picture here or in the clipboard. Name one: :Gemma image {path}.')
end)

test('what is no picture, empty, a folder, excluded or a device is one line', function()
  local c = child()
  c:lua([[
    vim.fn.writefile({ 'text' }, 'text.png')
    vim.uv.fs_close(vim.uv.fs_open('empty.png', 'w', 420))
    vim.fn.mkdir('folder.png')
    vim.uv.fs_copyfile('plot.png', 'my-secret.png')
    vim.uv.spawn('mkfifo', { args = { 'pipe.png' } }, function() _G.Fifo = true end)]])
  c:wait('Fifo')
  local n = 0
  for name, want in pairs({
    ['text.png'] = 'text.png is no picture, sound or video. Name one.',
    ['empty.png'] = 'empty.png is empty.',
    ['folder.png'] = ' is a folder. Name a file.',
    ['my-secret.png'] = 'my-secret.png is excluded (exclude list).',
    ['gone.png why'] = 'there is no file ',
    ['pipe.png'] = 'pipe.png is not a regular file. Copy it into one first.',
  }) do
    n = n + 1
    c:cmd('Gemma image ' .. name)
    c:wait('#Seen.messages == ' .. n)
    h.has(c:messages()[n], want)
  end
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('without an mmproj file the message names the folder, before anything is taken', function()
  local c = child({ mmproj = false })
  c:cmd('Gemma image plot.png')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'no mmproj file. Put mmproj*.gguf beside the model: ')
  program(c, 'maim', 'touch ran')
  c:lua("vim.env.DISPLAY = ':0'")
  c:cmd('Gemma shot')
  c:wait('#Seen.messages == 2')
  h.eq(c:lua("return vim.fn.filereadable('ran')"), 0)
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('folders and dangling links are no mmproj files', function()
  local c = child()
  c:lua([[
    local models = vim.fs.dirname(...)
    vim.fn.mkdir(models .. '/mmproj-a.gguf')
    vim.uv.fs_symlink('nowhere', models .. '/mmproj-z.gguf')]], c.dir .. '/data/nvim/gemma/x')
  c:cmd('Gemma image plot.png')
  asked(c)
  h.eq(c:lua('return vim.fs.basename(Fake.loads[1].mmproj_path)'), 'mmproj-F16.gguf')
end)

test('an mmproj file that cannot be loaded costs the pictures, not the model', function()
  local c = child()
  c:lua("Fake.load_error = 'not a projector' Fake.load_error_if = 'mmproj_path'")
  c:lua("require('gemma').load()")
  c:wait("require('gemma.engine').is_loaded()")
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: mmproj-F16.gguf: not a projector; no pictures and sounds.' })
  h.eq(c:lua('return { #Fake.loads, Fake.loads[2].mmproj_path }'), { 2 })
  c:cmd('Gemma image plot.png')
  c:wait('#Seen.messages == 2')
  h.eq(c:messages()[2], c:messages()[1])
end)

test('of several mmproj files the one named like the model is taken, or mmproj_path', function()
  local c = child({ mmproj = false })
  local find = [[return vim.fs.basename(require('gemma.models').find_mmproj(... .. '/gemma-4-12b-it-Q4_0.gguf'))]]
  local dir = c.dir .. '/models'
  vim.fn.mkdir(dir)
  for _, name in ipairs({ 'mmproj-qwen.gguf', 'mmproj-gemma-4-12b-F16.gguf', 'mmproj-F16.gguf' }) do
    vim.fn.writefile({ 'GGUF' }, dir .. '/' .. name)
  end
  h.eq(c:lua(find, dir), 'mmproj-gemma-4-12b-F16.gguf')
  c:lua("require('gemma').setup({ mmproj_path = ... .. '/mmproj-qwen.gguf' })", dir)
  h.eq(c:lua(find, dir), 'mmproj-qwen.gguf')
  c:lua("require('gemma').setup({ mmproj_path = '/nowhere.gguf' })")
  h.eq(c:lua("return select(2, require('gemma.models').find_mmproj('x'))"),
    'no file at /nowhere.gguf. Check mmproj_path.')
end)

test('a sound whose length only decoding tells gets its tokens into its line afterwards', function()
  local c = child()
  c:lua([[local f = io.open('talk.mp3', 'wb') f:write('ID3\4' .. ('\0'):rep(2000)) f:close()]])
  c:cmd('Gemma image talk.mp3')
  local p = asked(c)
  h.eq(p[4][1], 'audio')
  h.has(p[5][2], 'What is said in this recording?')
  h.eq(answer_lines(c)[1], '[talk.mp3 · 2 kB]')
  c:lua("Fake.emit('Hello.') Fake.done(nil, nil, { n_media = 75 })")
  c:wait("not require('gemma.chat.kept').current():running()")
  h.eq(answer_lines(c), { '[talk.mp3 · 2 kB · 75 tokens]', '', 'Hello.' })
end)

test('completion offers pictures and folders, blanks escaped', function()
  local c = child()
  c:lua("vim.fn.writefile({ 'x' }, 'plot.txt')")
  local function complete(line)
    return c:lua('return vim.fn.getcompletion(..., "cmdline")', line)
  end
  h.eq(complete('Gemma image pl'), { 'plot.png' })
  h.eq(complete('Gemma image my\\ p'), { 'my\\ plot.png' })
  h.eq(complete('Gemma image ou'), { 'out/' })
  h.eq(complete('Gemma image out/'), { 'out/deep.png' })
end)

test(':Gemma shot asks about what the program took; giving up asks nothing', function()
  local c = child()
  c:lua("vim.env.DISPLAY = ':0'")
  local go = c.dir .. '/go'
  local take = [[for file; do :; done; until [ -e '%s' ]; do :; done; cp '%sphoto.png' "$file"]]
  program(c, 'maim', take:format(go, GOLDEN))
  c:lua("vim.api.nvim_create_autocmd('User', { pattern = 'GemmaAnswerStart', once = true, "
    .. 'callback = function(ev) Source = ev.data.source end })')
  c:cmd('Gemma shot what does the error say?')
  local asked_in = c:lua('return vim.api.nvim_get_current_buf()')
  c:cmd('new') -- where the screenshot finds the user is not what is asked about
  io.open(go, 'w'):close()
  local p = asked(c)
  h.eq(c:lua('return Source'), asked_in)
  h.eq(p[5][2], 'what does the error say?')
  h.eq(answer_lines(c)[1], '[screenshot.png · 200x131 · 5 kB]')
  h.eq(vim.uv.fs_stat(p[4][2]).mode % 512, tonumber('600', 8))
  program(c, 'maim', 'echo "Selection was cancelled" >&2; exit 1')
  c:cmd('Gemma shot')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: maim: Selection was cancelled.' })
  h.eq(c:lua('return #Fake.jobs'), 1)
  c:lua("require('gemma.chat.kept').all()[1]:forget()")
  h.eq(vim.uv.fs_stat(p[4][2]), nil)
end)

-- wl-paste that waited for the owner of the selection, and slurp, whose cross stayed on the screen.
test('leaving ends the programs of the clipboard and the screenshot, and what they run', function()
  local c = child()
  c:lua("vim.env.WAYLAND_DISPLAY = 'wayland-0'")
  for _, name in ipairs({ 'wl-paste', 'slurp', 'grim' }) do
    local file = c.dir .. '/' .. name
    program(c, name, ([[echo $$ >'%s.tmp'; mv '%s.tmp' '%s.pid'; exec sleep 60]]):format(file, file, file))
  end
  c:lua("require('gemma.grab').clipboard(print) require('gemma.grab').shot(print)")
  local pids = {}
  for i, name in ipairs({ 'wl-paste', 'slurp' }) do
    local path = ('%s/%s.pid'):format(c.dir, name)
    c:wait(('vim.uv.fs_stat(%q)'):format(path))
    pids[i] = tonumber(vim.fn.readfile(path)[1])
  end
  vim.rpcnotify(c.chan, 'nvim_command', 'qall!')
  h.eq(vim.fn.jobwait({ c.chan }, 3000)[1], 0)
  for i, name in ipairs({ 'wl-paste', 'slurp' }) do
    h.ok(vim.wait(10000, function()
      return vim.uv.kill(pids[i], 0) ~= 0
    end, 5), name .. ' is gone')
  end
end)

test('what does not fit on the disk is a message and no file', function()
  -- Half a picture was taken for all of it.
  local c = child()
  c:lua([[local write = vim.uv.fs_write
    vim.uv.fs_write = function(fd, data, at) return write(fd, data:sub(1, 100), at) end]])
  local path = c.dir .. '/out.wav'
  h.eq(c:lua("return require('gemma.grab').write(...)", path, ('x'):rep(1000)),
    'only 100 of 1000 bytes fit on the disk')
  h.eq(vim.uv.fs_stat(path), nil)
  -- A program that writes to its standard output.
  c:lua([[local tools = require('gemma.tools')
    local env = tools.env()
    env.os = 'win'
    tools.env = function() return env end]])
  program(c, 'powershell.exe', ("cat '%sphoto.png'"):format(GOLDEN))
  c:cmd('Gemma shot')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'gemma: cannot write ')
  h.has(c:messages()[1], ' bytes fit on the disk.')
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('media.keep keeps the file where it says', function()
  local c = child()
  c:lua("vim.env.DISPLAY = ':0' require('gemma').setup({ media = { keep = vim.uv.cwd() .. '/kept' } })")
  program(c, 'maim', ([[for file; do :; done; cp '%sphoto.png' "$file"]]):format(GOLDEN))
  c:cmd('Gemma shot')
  local path = asked(c)[4][2]
  h.has(path, '/kept/shot-')
  c:lua("require('gemma.chat.kept').current():forget()")
  h.eq(vim.uv.fs_stat(path).type, 'file')
end)

test('the folder of media.keep is what was written, with ~ and variables, and nothing else is done to it', function()
  -- 'wildignore' made it the current directory, and a[1] became a1.
  local c = child()
  c:cmd('set wildignore=*/kept/*')
  for keep, dir in pairs({
    [c.dir .. '/kept/x'] = c.dir .. '/kept/x',
    [c.dir .. '/a[1]'] = c.dir .. '/a[1]',
    ['$GEMMA_KEPT/y'] = c.dir .. '/y',
  }) do
    c:lua('local keep, dir = ... vim.env.GEMMA_KEPT = dir require("gemma").setup({ media = { keep = keep } })',
      keep, c.dir)
    local path = c:lua("return (require('gemma.grab').place('shot', 'png'))")
    h.eq(vim.fs.dirname(path), dir)
    h.eq(vim.fn.isdirectory(dir), 1, dir)
  end
end)

test('status and health name the mmproj file, the programs, and what to install', function()
  local c = child()
  program(c, 'maim', 'exit 0')
  c:lua("vim.env.PATH, vim.env.DISPLAY = ..., ':0' require('gemma').load()", c.dir .. '/bin')
  c:wait("require('gemma.engine').is_loaded()")
  local media_line = c:lua([[return vim.iter(require('gemma.command').status_lines()):find(function(l)
    return l[1] == 'media' end)[2] ]])
  h.eq(media_line, 'mmproj-F16.gguf; 0 rows of pictures and sounds read so far')
  c:cmd('checkhealth gemma')
  local text = table.concat(c:lines(), '\n')
  for _, want in ipairs({
    'mmproj-F16.gguf', 'screenshots: maim',
    'voice: no recorder found (looked for pw-record, parecord, arecord, sox, ffmpeg).',
    'install pipewire-bin or pulseaudio-utils or alsa-utils',
    'clipboard: no program for pictures in the clipboard found (looked for xclip).', 'install xclip',
    'screen recordings: no screen recorder found (looked for ffmpeg).', 'install ffmpeg',
  }) do
    h.has(text, want)
  end
  c = child({ mmproj = false })
  c:cmd('checkhealth gemma')
  h.has(table.concat(c:lines(), '\n'), 'no mmproj file. Put mmproj*.gguf beside the model: ')
end)

test('the API: ask takes paths of pictures, sounds and films', function()
  local c = child()
  c:lua([[require('gemma').ask({ prompt = 'compare', images = { 'plot.png', 'out/deep.png' },
    audio = { 'tones.wav' }, on_done = function() end })]])
  local p = asked(c)
  h.eq(vim.tbl_map(function(x) return x[1] end, p), { 'user', 'image', 'image', 'audio', 'text' })
  h.eq(p[2][2], c.dir .. '/plot.png')
  h.eq(c:lua("return require('gemma').status().mmproj_path ~= nil"), true)
end)

return T
