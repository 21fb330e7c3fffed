--- ffi.lua: finds the library, checks its ABI number, and speaks to it in Lua values.
---
--- Owns every cdata object of the plugin. Each call below returns at once: the library copies
--- what it is given and never waits for its worker. Only engine.lua requires this file.

local M = {}

local PART = {
  text = 0,
  markup = 1,
  system = 2,
  user = 3,
  model = 4,
  image = 5,
  audio = 6,
  sound = 7,
  video = 8,
}
local PRIO = { typing = 0, ask = 1, background = 2 }
local FLAG_THINK, FLAG_HEAL, FLAG_IGNORE_EOG, FLAG_MODEL_SAMPLING, FLAG_THOUGHTS = 1, 2, 4, 8, 16
local KIND = { 'progress', 'text', 'done', 'error', 'log', 'thought' }
local REASON = { [0] = 'none', 'eog', 'length', 'string', 'context' }
local STATE = { [0] = 'empty', 'loading', 'ready', 'prefill', 'decode' }
local MEDIA_IMAGE, MEDIA_AUDIO = 1, 2
local ERRLEN = 512

--- The folder of this file.
---@return string
local function here()
  return vim.fs.dirname(vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p'))
end

--- The plugin's own folder.
---@return string
function M.root()
  return vim.fs.dirname(vim.fs.dirname(here()))
end

--- What comes with the plugin: in its own place below the checkout or, in a rock, beside the Lua files.
---@param path string below the checkout
---@return string
function M.file(path)
  local own = vim.fs.joinpath(M.root(), path)
  local beside = vim.fs.joinpath(here(), vim.fs.basename(path))
  return not vim.uv.fs_stat(own) and vim.uv.fs_stat(beside) and beside or own
end

--- Where the library is expected: always absolute, so that no search path can bring another.
---@return string
function M.path()
  local path = require('gemma.config').get().lib_path
  if path then
    return require('gemma.util').path(path)
  end
  local ext = vim.fn.has('mac') == 1 and 'dylib' or vim.fn.has('win32') == 1 and 'dll' or 'so'
  return M.file('build/libgemma.' .. ext)
end

local loaded ---@type { C: ffi.namespace*, path: string }?

--- Loads the library and checks its ABI number before any other call.
---@return table? C
---@return string? err one line for the user
function M.library()
  if loaded then
    return loaded.C
  end
  local has_ffi, ffi = pcall(require, 'ffi')
  if not has_ffi then
    return nil, 'this Neovim has no LuaJIT; gemma.nvim needs its FFI.'
  end
  local path = M.path()
  if not vim.uv.fs_stat(path) then
    return nil, 'native library not found. Run :Gemma install lib.'
  end
  local cdef = require('gemma.cdef')
  -- A second cdef of the same names is an error; it happens when somebody reloads the plugin.
  local ok, err = pcall(ffi.cdef, cdef.text)
  if not ok and not tostring(err):find('redefine') then
    return nil, 'cannot read the C declarations: ' .. tostring(err)
  end
  local C
  ok, C = pcall(ffi.load, path)
  if not ok then
    return nil, ('cannot load the library: %s'):format(tostring(C):gsub('%c', ' '))
  end
  local has_abi, abi = pcall(function()
    return tonumber(C.gemma_abi())
  end)
  if not has_abi then
    return nil, ('%s is not a gemma library. Check lib_path.'):format(path)
  elseif abi ~= cdef.abi then
    local fmt = 'library has ABI %d, not %d. :Gemma install lib; restart.'
    return nil, fmt:format(abi, cdef.abi)
  end
  loaded = { C = C, path = path }
  return C
end

---@param ffi table
---@param parts gemma.Part[]
---@return ffi.cdata* gemma_part array; valid while `parts` is referenced
local function pack_parts(ffi, parts)
  local c = ffi.new('gemma_part[?]', #parts)
  for i, p in ipairs(parts) do
    local data = p.data or ''
    c[i - 1].kind = assert(PART[p.kind], p.kind)
    c[i - 1].data = data -- the string is held by the caller's table during the call
    c[i - 1].len = #data
    if p.kind == 'sound' then
      c[i - 1].id = p.sound.id
    end
  end
  return c
end

---@param ffi table
---@param stops string[]
---@return ffi.cdata*?
local function pack_stops(ffi, stops)
  if #stops == 0 then
    return nil
  end
  local c = ffi.new('const char *[?]', #stops)
  for i, s in ipairs(stops) do
    c[i - 1] = s
  end
  return c
end

---@param ffi table
---@param ev ffi.cdata*
---@return table
local function unpack_event(ffi, ev)
  local kind = KIND[tonumber(ev.kind)]
  local out = { kind = kind, job = tonumber(ev.job) }
  if kind == 'text' or kind == 'thought' then
    out.text = ffi.string(ev.text, ev.len)
    out.logprob = tonumber(ev.logprob)
  elseif kind == 'progress' then
    out.done, out.total = tonumber(ev.done), tonumber(ev.total)
  elseif kind == 'done' then
    out.reason = REASON[tonumber(ev.stop_reason)] or 'none'
    out.n_prompt, out.n_reused = tonumber(ev.n_prompt), tonumber(ev.n_reused)
    out.n_generated = tonumber(ev.n_generated)
    out.n_media = tonumber(ev.n_media)
    out.prefill_ms, out.decode_ms = tonumber(ev.prefill_ms), tonumber(ev.decode_ms)
    out.logprob = tonumber(ev.logprob)
    out.text = ev.len > 0 and ffi.string(ev.text, ev.len) or nil
  else
    out.code = tonumber(ev.code)
    out.text = ev.text ~= nil and ffi.string(ev.text, ev.len) or ''
  end
  return out
end

--- Starts the library's worker.
---@return gemma.Binding?
---@return string? err
function M.open()
  local C, why = M.library()
  if not C then
    return nil, why
  end
  local ffi = require('ffi')
  local err = ffi.new('char[?]', ERRLEN)
  local out = ffi.new('gemma *[1]')
  local rc = C.gemma_create(out, err, ERRLEN)
  if rc ~= 0 then
    return nil, ffi.string(err)
  end
  local g = out[0]
  local event = ffi.new('gemma_event')
  local status = ffi.new('gemma_status')
  -- Arrays that an options struct points into: a pointer alone does not keep them alive.
  local keep = {} ---@type table<string, ffi.cdata*?>

  ---@param job ffi.cdata* int64_t
  local function id_or_error(job)
    local id = tonumber(job)
    if id > 0 then
      return id
    end
    local text = ffi.string(err)
    return nil, text ~= '' and text or ffi.string(C.gemma_err_text(id))
  end

  ---@type gemma.Binding
  local b = {}

  function b.version()
    return ffi.string(C.gemma_version())
  end
  function b.cpu()
    return ffi.string(C.gemma_cpu())
  end
  function b.err_name(code)
    return ffi.string(C.gemma_err_name(code))
  end
  function b.wake_fd()
    return tonumber(C.gemma_wake_fd(g))
  end
  function b.wake_clear()
    C.gemma_wake_clear(g)
  end

  function b.load(opts)
    local o = ffi.new('gemma_load_opts')
    o.size = ffi.sizeof(o)
    o.n_ctx = opts.n_ctx or 0
    o.n_threads = opts.n_threads or 0
    o.model_path = opts.model_path
    o.mmproj_path = opts.mmproj_path
    o.device = opts.device
    err[0] = 0
    return id_or_error(C.gemma_load(g, o, err, ERRLEN))
  end

  function b.unload()
    return tonumber(C.gemma_unload(g))
  end

  function b.generate(req)
    local stops = req.stops or {}
    keep.parts, keep.stops = pack_parts(ffi, req.parts), pack_stops(ffi, stops)
    local o = ffi.new('gemma_generate_opts')
    o.size = ffi.sizeof(o)
    -- What no one listens to is dropped: a thought must never end up in somebody's code.
    o.flags = FLAG_THOUGHTS
      + (req.think and FLAG_THINK or 0)
      + (req.heal and FLAG_HEAL or 0)
      + (req.ignore_eog and FLAG_IGNORE_EOG or 0)
      + (req.model_sampling and FLAG_MODEL_SAMPLING or 0)
    o.session = req.session or 0
    o.priority = PRIO[req.priority or 'ask']
    o.max_tokens = req.max_tokens
    o.n_part, o.parts = #req.parts, keep.parts
    o.n_stop, o.stops = #stops, keep.stops
    o.top_k = req.top_k or 0
    o.temperature = req.temperature or 0
    o.top_p, o.min_p = req.top_p or 0, req.min_p or 0
    o.repeat_penalty = req.repeat_penalty or 0
    o.seed = req.seed or 0
    o.fork_from = req.fork_from and req.fork_from + 1 or 0
    o.image_tokens = req.image_tokens or 0
    err[0] = 0
    local id, msg = id_or_error(C.gemma_generate(g, o, err, ERRLEN))
    keep.parts, keep.stops = nil, nil
    return id, msg
  end

  function b.sound_create(rate, channels)
    err[0] = 0
    return id_or_error(C.gemma_sound_create(g, rate, channels, err, ERRLEN))
  end
  function b.sound_append(sound, bytes)
    return C.gemma_sound_append(g, sound, bytes, #bytes)
  end
  function b.sound_end(sound)
    return C.gemma_sound_end(g, sound)
  end
  function b.sound_destroy(sound)
    C.gemma_sound_destroy(g, sound)
  end

  function b.hash(path)
    err[0] = 0
    return id_or_error(C.gemma_hash_file(g, path, err, ERRLEN))
  end

  function b.cancel(job)
    C.gemma_cancel(g, job)
  end

  function b.next_event()
    if C.gemma_next_event(g, event) == 0 then
      return nil
    end
    return unpack_event(ffi, event)
  end

  function b.status()
    status.size = ffi.sizeof(status)
    C.gemma_get_status(g, status)
    return {
      state = STATE[tonumber(status.state)],
      n_ctx = tonumber(status.n_ctx),
      n_ctx_train = tonumber(status.n_ctx_train),
      n_threads = tonumber(status.n_threads),
      n_queued = tonumber(status.n_queued),
      model_bytes = tonumber(status.model_bytes),
      cache_bytes = tonumber(status.cache_bytes),
      n_param = tonumber(status.n_param),
      prefill_tok_s = tonumber(status.prefill_tok_s),
      decode_tok_s = tonumber(status.decode_tok_s),
      media_rows = tonumber(status.media_rows),
      images = bit.band(tonumber(status.media), MEDIA_IMAGE) ~= 0,
      sounds = bit.band(tonumber(status.media), MEDIA_AUDIO) ~= 0,
      image_tokens = tonumber(status.image_tokens),
      name = ffi.string(status.name),
      type = ffi.string(status.type),
      device = ffi.string(status.device),
      device_note = ffi.string(status.device_note),
      devices = ffi.string(status.devices),
    }
  end

  function b.destroy(timeout_ms)
    if g ~= nil then
      C.gemma_destroy(out, timeout_ms)
      g = nil
    end
  end

  return b
end

return M
