--- test_media.lua: pictures, recordings and dictation, as someone in front of the terminal sees
--- them, with the library and a model of random weights. What it writes means nothing; what is
--- read, counted and shown does.

package.path = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h') .. '/?.lua;' .. package.path
local case = require('case')
local screen = require('screen')

local WAIT = 20000 -- ms; a busy machine may be slow, a failing test is the only one that waits
local SET = screen.top .. '/tests/golden/sets/nano/'
local RECORDER = screen.top .. '/tests/e2e/recorder.sh'

--- Films need FFmpeg's libraries, which need not be there.
local function need_ffmpeg()
  local done = vim.system({
    case.build .. '/gemma', 'embed', '-m', SET .. 'model-Q8_0.gguf',
    '--mmproj', SET .. 'mmproj-BF16.gguf',
    '--image', screen.top .. '/tests/golden/pictures/444.jpg', '--out', '/dev/null',
  }, { text = true }):wait(WAIT)
  if done.code ~= 0 then
    local why = vim.trim(done.stderr)
    case.ok(why:find("FFmpeg's libraries are missing", 1, true), why)
    case.skip("FFmpeg's libraries are missing")
  end
end

--- A folder with a document, a picture and a sound.
---@return string
local function folder()
  local dir = vim.fn.tempname()
  vim.fn.mkdir(dir .. '/out', 'p')
  assert(vim.uv.fs_copyfile(SET .. 'media/photo.png', dir .. '/out/my plot.png'))
  assert(vim.uv.fs_copyfile(SET .. 'media/tones.wav', dir .. '/tones.wav'))
  vim.fn.writefile({ '# Results', '', 'See ![the plot](<out/my plot.png>).', '' }, dir .. '/notes.md')
  vim.fn.writefile({ 'first line', 'second line' }, dir .. '/text.txt')
  return dir
end

---@param file string
---@param media table? of the options
---@return Screen
local function editor(file, media)
  local s = case.editor({
    file = file,
    options = { shared = 'own', media = vim.tbl_extend('force', { max_tokens = 40 }, media or {}) },
  })
  s:wait_loaded()
  return s
end

---@param s Screen
---@return integer
local function media_rows(s)
  return s:lua("return require('gemma').status().media_rows")
end

--- Sizes of the answer's text, as they come; answers that are over.
---@param s Screen
local function watch(s)
  s:lua([[
    _G.sizes, _G.answers = {}, 0
    vim.api.nvim_create_autocmd('User', { pattern = 'GemmaAnswerStart', callback = function(ev)
      vim.api.nvim_buf_attach(ev.data.buf, false, { on_lines = function(_, buf)
        table.insert(sizes, #table.concat(vim.api.nvim_buf_get_lines(buf, 0, -1, false), '\n'))
      end })
    end })
    vim.api.nvim_create_autocmd('User', { pattern = 'GemmaAnswerDone', callback = function(ev)
      answers = answers + (ev.data.ok and 1 or 0)
    end })]])
end

---@param s Screen
---@param n integer
local function wait_answers(s, n)
  s:wait(n .. ' answers', WAIT, function()
    return s:lua('return answers') >= n
  end)
end

---@param s Screen
---@param seconds string
local function wait_recording(s, seconds)
  s:wait('the statusline counts to ' .. seconds, WAIT, function()
    return s:find('G rec ' .. seconds)
  end)
end

case.run({
  {
    ':Gemma image on a link: its name, size and tokens on screen, the answer below',
    function()
      local s = editor(folder() .. '/notes.md')
      watch(s)
      s:keys('3G')
      s:ex('Gemma image what is wrong with this plot?')
      s:wait('the line of the picture', WAIT, function()
        return s:find('[my plot.png · 200x131 · 5 kB · 260 tokens]')
      end)
      wait_answers(s, 1)
      local sizes = s:lua('return sizes')
      -- How many steps depends on how busy the machine is: the screen is not painted for each token.
      case.ok(#sizes >= 2, 'the text came after the line of the picture')
      for n = 2, #sizes do
        case.ok(sizes[n] >= sizes[n - 1], 'the text only grows')
      end
      case.equal(media_rows(s), 260, 'rows of pictures that were computed')
      case.ok(s:find('ask on'), 'the footer says that one can go on')
    end,
  },
  {
    'a second and a third question about the same picture compute no row of it again',
    function()
      local s = editor(folder() .. '/notes.md')
      watch(s)
      s:keys('3G')
      s:ex('Gemma image what is this?')
      wait_answers(s, 1)
      case.equal(media_rows(s), 260, 'rows after the first question')
      s:ex('Gemma image and what is its colour?')
      wait_answers(s, 2)
      case.equal(media_rows(s), 260, 'rows after the second question')
      -- A follow-up in the window, as a person asks it.
      s:lua("vim.api.nvim_set_current_win(require('gemma.chat.kept').current().view.window.win)")
      s:keys('Enter')
      s:wait('the prompt for the next question', WAIT, function()
        return s:find('Ask on:')
      end)
      s:paste('and its shape?')
      s:keys('Enter')
      wait_answers(s, 3)
      case.equal(media_rows(s), 260, 'rows after the third question')
      case.ok(s:find('and its shape?'), 'the question stands in the window')
    end,
  },
  {
    'the buffer may be the picture itself; a sound works the same way',
    function()
      local dir = folder()
      local s = editor(dir .. '/out/my plot.png')
      watch(s)
      s:ex('Gemma image')
      s:wait('the line of the picture', WAIT, function()
        return s:find('[my plot.png · 200x131 · 5 kB · 260 tokens]')
      end)
      wait_answers(s, 1)
      s:ex('Gemma image ' .. dir .. '/tones.wav what is said?')
      s:wait('the line of the sound', WAIT, function()
        return s:find('[tones.wav · 0:01 · 43 kB · 34 tokens]')
      end)
      wait_answers(s, 2)
      case.equal(media_rows(s), 260 + 34, 'rows computed')
    end,
  },
  {
    'a screenshot and the picture of the clipboard, by programs that stand in for the real ones',
    function()
      local dir = folder()
      local photo = dir .. '/out/my plot.png'
      local s = editor(dir .. '/text.txt', { shot = { 'cp', photo, '{file}' } })
      watch(s)
      s:ex('Gemma shot what does it say?')
      s:wait('the line of the screenshot', WAIT, function()
        return s:find('[screenshot.png · 200x131 · 5 kB · 260 tokens]')
      end)
      wait_answers(s, 1)
      vim.fn.mkdir(dir .. '/bin')
      vim.fn.writefile({
        '#!/bin/sh',
        '[ "$1" = --list-types ] && echo image/png && exit',
        ("exec cat '%s'"):format(photo),
      }, dir .. '/bin/wl-paste')
      vim.uv.fs_chmod(dir .. '/bin/wl-paste', tonumber('755', 8))
      s:lua("vim.env.WAYLAND_DISPLAY, vim.env.PATH = 'wayland-9', ... .. ':' .. vim.env.PATH", dir .. '/bin')
      s:ex('Gemma image and this?')
      s:wait('the line of the picture', WAIT, function()
        return s:find('[clipboard.png · 200x131 · 5 kB · 260 tokens]')
      end)
      wait_answers(s, 2)
      -- The contents are the same, whatever the name of the file.
      case.equal(media_rows(s), 260, 'rows computed')
    end,
  },
  {
    ':Gemma record screen: a film is seen, its tokens are counted, its file is gone afterwards',
    function()
      need_ffmpeg()
      local dir = folder()
      local film = SET .. 'media/clip.webm' -- a recorder writes Matroska, and WebM is Matroska
      local s = editor(dir .. '/text.txt', {
        screen = { 'sh', '-c', 'cp "$1" "$0" && exec sleep 60', '{file}', film },
      })
      watch(s)
      s:ex('Gemma record screen what happens?')
      wait_recording(s, '0:01')
      s:ex('Gemma record stop')
      wait_answers(s, 1)
      local line = s:lua([[local a = require('gemma.chat.kept').current()
        return vim.api.nvim_buf_get_lines(a.view.buffer.buf, 0, 1, false)[1] ]])
      local tokens = tonumber(line:match('^%[screen%.mkv · [%d.]+ %a+ · (%d+) tokens%]$'))
      case.ok(tokens and tokens > 64, 'a line with the tokens: ' .. line)
      case.equal(media_rows(s), tokens, 'rows computed')
      local path = s:lua([[local a = require('gemma.chat.kept').current()
        return a.attachments[1].path]])
      case.ok(vim.uv.fs_stat(path), 'the file is there for more questions')
      s:lua("require('gemma.chat.kept').current():forget()")
      case.ok(not vim.uv.fs_stat(path), 'and gone with the answer')
    end,
  },
  {
    ':Gemma record voice: seconds in the statusline, heard before the stop, answered after it',
    function()
      local dir = folder()
      local s = editor(dir .. '/text.txt', { recorder = { 'sh', RECORDER, dir .. '/tones.wav' } })
      watch(s)
      s:ex('Gemma record voice')
      wait_recording(s, '0:01')
      wait_recording(s, '0:02')
      s:wait('the model has heard the first second', WAIT, function()
        return media_rows(s) >= 25
      end)
      local ahead = media_rows(s)
      s:ex('Gemma record stop')
      wait_answers(s, 1)
      local line = s:lua([[
        local a = require('gemma.chat.kept').current()
        return vim.api.nvim_buf_get_lines(a.view.buffer.buf, 0, 1, false)[1] ]])
      case.ok(vim.startswith(line, '[voice · 0:0'), 'the line of the recording: ' .. line)
      local tokens = tonumber(line:match('(%d+) tokens'))
      case.ok(tokens >= 50, 'two seconds are at least 50 tokens')
      -- Every frame was computed once; what was ahead was not computed again.
      case.equal(media_rows(s), tokens, 'rows computed')
      case.ok(ahead >= 25 and ahead <= tokens, 'rows computed before the stop')
      case.ok(not s:find('G rec'), 'the statusline is as before')
    end,
  },
  {
    ':Gemma dictate: a WAV in real time becomes text where it was called, one undo takes it back',
    function()
      local dir = folder()
      local s = editor(dir .. '/text.txt', { recorder = { 'sh', RECORDER, dir .. '/tones.wav' } })
      local before = s:lua('return vim.api.nvim_buf_get_lines(0, 0, -1, false)')
      s:keys('A')
      s:lua("vim.keymap.set('i', '<F9>', '<Cmd>Gemma dictate<CR>')")
      s:keys('F9')
      wait_recording(s, '0:01')
      s:keys('F9')
      s:wait('it is over', WAIT, function()
        return not s:lua("return require('gemma.dictate').active()")
      end)
      s:keys('Escape')
      local after = s:lua('return vim.api.nvim_buf_get_lines(0, 0, -1, false)')
      case.equal(after[2], before[2], 'the other line')
      case.equal(#after, #before, 'lines')
      case.ok(vim.startswith(after[1], before[1]), 'what stood before the cursor')
      -- A model of random weights may write nothing that can be seen; this one does not.
      case.ok(#after[1] > #before[1], 'something was typed')
      case.ok(s:find(after[1]:sub(1, 20)), 'and is on the screen')
      s:keys('u')
      s:wait('undo', WAIT, function()
        return vim.deep_equal(s:lua('return vim.api.nvim_buf_get_lines(0, 0, -1, false)'), before)
      end)
    end,
  },
  {
    'cancel, a recorder that vanishes, and one that was never there',
    function()
      local dir = folder()
      local s = editor(dir .. '/text.txt', { recorder = { 'sh', RECORDER, dir .. '/tones.wav', '6' } })
      watch(s)
      s:ex('Gemma record voice')
      s:wait('the recorder vanishes', WAIT, function()
        return s:find('sh ended by itself; going on with the 0:01')
      end)
      wait_answers(s, 1)
      case.equal(media_rows(s), 15, 'rows of 0.6 seconds')
      s:lua([[require('gemma').setup({ media = { recorder = { 'sh', ... } } })]], '/nothing.sh')
      s:ex('Gemma record voice')
      s:wait('one line says why', WAIT, function()
        return s:find('gemma: sh: ') and s:find('/nothing.sh')
      end)
      s:lua([[require('gemma').setup({ media = { recorder = { 'sh', ... } } })]], RECORDER)
      s:lua([[local o = vim.g.gemma; table.insert(o.media.recorder, ...) vim.g.gemma = o]], dir .. '/tones.wav')
      s:ex('Gemma record voice')
      wait_recording(s, '0:00')
      s:ex('Gemma record cancel')
      s:wait('the recording is over', WAIT, function()
        return not s:find('G rec')
      end)
      case.equal(s:lua('return answers'), 1, 'answers')
    end,
  },
})
