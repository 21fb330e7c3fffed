--- test_sound.lua: sounds that are being recorded, through the real library and the nano model.

local h = require('helper')

local SET = h.root .. '/tests/golden/sets/nano'

--- A child with the nano model loaded.
local function loaded()
  local lib = h.need_library()
  local c = h.child({ fake = false, cols = 70, lines = 20 })
  c:lua(
    [[
    local model, mmproj, lib = ...
    require('gemma').setup({ model_path = model, lib_path = lib, load = 'manual', n_ctx = 1024,
      threads = 1 })
    _G.engine = require('gemma.engine')
    _G.create_sound = require('gemma.sound').create
    -- The engine finds mmproj files by itself elsewhere; here the binding is told.
    local ffi = require('gemma.ffi')
    local open = ffi.open
    ffi.open = function()
      local b, err = open()
      if b then
        local load = b.load
        b.load = function(self, o) o.mmproj_path = mmproj return load(self, o) end
      end
      return b, err
    end
    engine.load(function(err) _G.loaded = err or true end)
    _G.ask = function(parts, max)
      local r = { text = '' }
      local job, err = engine.generate({ parts = parts, max_tokens = max, session = 1,
        on_text = function(t) r.text = r.text .. t end,
        on_done = function(i) r.info = i end,
        on_error = function(e) r.err = e.text end })
      r.refused = not job and err or nil
      _G.r = r
      return r.refused
    end
    _G.parts = function(last)
      return { { kind = 'user' }, last, { kind = 'text', data = 'What is it?' } }
    end
  ]],
    SET .. '/model-F16.gguf',
    SET .. '/mmproj-BF16.gguf',
    lib
  )
  c:wait('_G.loaded ~= nil')
  h.eq(c:lua('return _G.loaded'), true)
  return c
end

local function wait_end(c)
  c:wait('(r.info or r.err or r.refused) ~= nil')
  return c:lua('return r')
end

return {
  {
    'a recording is heard while it grows, and the answer is that to its file',
    function()
      local c = loaded()
      c:lua(
        [[
        local f = assert(io.open((...), 'rb'))
        f:seek('set', 44)
        _G.pcm = f:read('*a')
        f:close()
        _G.s = assert(create_sound(16000, 1))
        assert(s:append(pcm:sub(1, 20481)))
      ]],
        SET .. '/media/tones.wav'
      )
      c:lua("ask(parts({ kind = 'sound', sound = s }), 0)")
      h.eq(wait_end(c).info.n_media, 16)
      h.has(c:lua("return ask(parts({ kind = 'sound', sound = s }), 4)"), 'not ended')
      c:lua('assert(s:append(pcm:sub(20482))); s:finish()')
      h.eq(c:lua("return { s:append('xx') }"), { false, 'the sound has ended' })
      c:lua("ask(parts({ kind = 'sound', sound = s }), 4); s:drop()")
      local heard = wait_end(c)
      h.eq(heard.info.n_media, 18)
      c:lua("ask(parts({ kind = 'audio', data = ... }), 4)", SET .. '/media/tones.wav')
      local file = wait_end(c)
      h.eq(file.text, heard.text)
      h.eq(file.info.n_prompt, heard.info.n_prompt)
      local n = c:lua('return engine.numbers()')
      h.eq({ n.media_rows, n.images, n.sounds }, { 34 + 34, true, true })
    end,
  },
  {
    'a recording that was asked about is heard anew when the model was unloaded',
    function()
      local c = loaded()
      c:lua(
        [[
        local f = assert(io.open((...), 'rb'))
        f:seek('set', 44)
        local pcm = f:read('*a')
        f:close()
        local s = assert(create_sound(16000, 1))
        assert(s:append(pcm))
        s:finish()
        _G.media = require('gemma.media').sound(s, 1, { pcm = pcm, rate = 16000, channels = 1 })
        _G.question = function()
          _G.r = {}
          require('gemma').ask({ prompt = 'What is it?', parts = media.parts, temperature = 0,
            max_tokens = 4, on_done = function(text, info) r = { text = text, info = info } end })
        end]],
        SET .. '/media/tones.wav'
      )
      c:lua('question()')
      local first = wait_end(c)
      h.eq(first.info.n_media, 34)
      c:lua('engine.unload()')
      c:wait("engine.state == 'off' and not media.parts[1].sound:lives()")
      c:lua('question()')
      local second = wait_end(c)
      h.eq({ second.text, second.info.n_media }, { first.text, 34 })
    end,
  },
  {
    'a sound that was dropped or is full says so',
    function()
      local c = loaded()
      c:lua('_G.s = assert(create_sound(1000, 1)); s:drop()')
      h.eq(c:lua("return { s:append('xx') }"), { false, 'the sound is gone' })
      h.eq(c:lua("return ask(parts({ kind = 'sound', sound = s }), 0)"), 'the sound is gone')
      c:lua('_G.s = assert(create_sound(1000, 1))')
      h.eq(c:lua("return { s:append(('x'):rep(60001)) }"), { false, 'full' })
      h.has(c:lua('return select(2, create_sound(5, 1))'), 'out of range')
    end,
  },
}
