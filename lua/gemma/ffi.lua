--- ffi.lua: finds the library, checks its ABI number, and speaks to it in Lua values.
---
--- Owns every cdata object of the plugin; none leaves this file. Each call below returns at once:
--- the library copies what it is given and never waits for its worker. Only jobs.lua opens the
--- library; others ask this file where it is, what it is, and what is wrong with it.

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

local has_ffi, ffi = pcall(require, 'ffi') -- not every Neovim is built with LuaJIT

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

--- What comes with the plugin: in its own place below the checkout or, in a rock, beside the Lua
--- files.
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

local loaded ---@type ffi.namespace*?

--- Loads the library and checks its ABI number before any other call.
---@return ffi.namespace*? C
---@return string? err one line for the user
local function library()
  if loaded then
    return loaded
  end
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
  -- A reload after an update: LuaJIT keeps the old structs.
  if ffi.C.GEMMA_ABI ~= cdef.abi then
    return nil, 'the plugin was updated. Restart Neovim.'
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
  loaded = C
  return C
end

--- Why the library cannot be used, in one line for the user; nil when it can.
---@return string?
function M.problem()
  local _, err = library()
  return err
end

---@class (exact) gemma.LibraryAbout
---@field path string
---@field version string
---@field abi integer
---@field cpu string the CPU, and the instruction set that is used of it

--- What the library says of itself; nil when it cannot be used.
---@return gemma.LibraryAbout?
---@return string? err one line for the user
function M.about()
  local C, err = library()
  if not C then
    return nil, err
  end
  return {
    path = M.path(),
    version = ffi.string(C.gemma_version()),
    abi = tonumber(C.gemma_abi()),
    cpu = ffi.string(C.gemma_cpu()),
  }
end

--- Which of FFmpeg's libraries is missing, in the library's words; nil when none is, or when our
--- own cannot be used.
---@return string?
function M.media_missing()
  local C = library()
  local missing = C and C.gemma_media_missing()
  return missing ~= nil and ffi.string(missing) or nil -- a null pointer equals nil, and counts as true
end

---@param parts gemma.Part[]
---@return ffi.cdata* gemma_part array; valid while `parts` is referenced
local function pack_parts(parts)
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

---@param stops string[]
---@return ffi.cdata*?
local function pack_stops(stops)
  if #stops == 0 then
    return nil
  end
  local c = ffi.new('const char *[?]', #stops)
  for i, s in ipairs(stops) do
    c[i - 1] = s
  end
  return c
end

---@param ev ffi.cdata*
---@return gemma.Event
local function unpack_event(ev)
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

--- A worker of the library, with what its calls are given to write into.
---@class gemma.Library: gemma.Binding
---@field package C ffi.namespace*
---@field package handle ffi.cdata* gemma *[1]; the pointer in it is NULL after destroy()
---@field package err ffi.cdata* char[ERRLEN]
---@field package event ffi.cdata*
---@field package now ffi.cdata* gemma_status
---@field package parts ffi.cdata*? of the request that is being submitted
---@field package stops ffi.cdata*?
local Library = {}
Library.__index = Library

--- Starts the library's worker.
---@return gemma.Binding?
---@return string? err
function M.open()
  local C, why = library()
  if not C then
    return nil, why
  end
  local err = ffi.new('char[?]', ERRLEN)
  local handle = ffi.new('gemma *[1]')
  if C.gemma_create(handle, err, ERRLEN) ~= 0 then
    return nil, ffi.string(err)
  end
  return setmetatable({
    C = C,
    handle = handle,
    err = err,
    event = ffi.new('gemma_event'),
    now = ffi.new('gemma_status'),
  }, Library)
end

--- What a call that starts something returned: its number, or nil and why it has none.
---@param id ffi.cdata* int64_t
---@return integer? id
---@return string? err
function Library:started(id)
  local n = tonumber(id)
  if n > 0 then
    return n
  end
  local text = ffi.string(self.err)
  return nil, text ~= '' and text or ffi.string(self.C.gemma_err_text(n))
end

function Library:version()
  return ffi.string(self.C.gemma_version())
end
function Library:cpu()
  return ffi.string(self.C.gemma_cpu())
end
function Library:wake_fd()
  return tonumber(self.C.gemma_wake_fd(self.handle[0]))
end
function Library:wake_clear()
  self.C.gemma_wake_clear(self.handle[0])
end

function Library:load(opts)
  local o = ffi.new('gemma_load_opts')
  o.size = ffi.sizeof(o)
  o.n_ctx = opts.n_ctx or 0
  o.n_threads = opts.n_threads or 0
  o.model_path = opts.model_path
  o.mmproj_path = opts.mmproj_path
  o.device = opts.device
  self.err[0] = 0
  return self:started(self.C.gemma_load(self.handle[0], o, self.err, ERRLEN))
end

function Library:unload()
  return tonumber(self.C.gemma_unload(self.handle[0]))
end

function Library:generate(req)
  local stops = req.stops or {}
  -- The options point into these; a pointer alone does not keep them alive.
  self.parts, self.stops = pack_parts(req.parts), pack_stops(stops)
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
  o.n_part, o.parts = #req.parts, self.parts
  o.n_stop, o.stops = #stops, self.stops
  o.top_k = req.top_k or 0
  o.temperature = req.temperature or 0
  o.top_p, o.min_p = req.top_p or 0, req.min_p or 0
  o.repeat_penalty = req.repeat_penalty or 0
  o.seed = req.seed or 0
  o.fork_from = req.fork_from and req.fork_from + 1 or 0
  o.image_tokens = req.image_tokens or 0
  self.err[0] = 0
  local id, msg = self:started(self.C.gemma_generate(self.handle[0], o, self.err, ERRLEN))
  self.parts, self.stops = nil, nil
  return id, msg
end

function Library:sound_create(rate, channels)
  self.err[0] = 0
  return self:started(self.C.gemma_sound_create(self.handle[0], rate, channels, self.err, ERRLEN))
end
function Library:sound_append(sound, bytes)
  return self.C.gemma_sound_append(self.handle[0], sound, bytes, #bytes)
end
function Library:sound_end(sound)
  return self.C.gemma_sound_end(self.handle[0], sound)
end
function Library:sound_destroy(sound)
  self.C.gemma_sound_destroy(self.handle[0], sound)
end

function Library:hash(path)
  self.err[0] = 0
  return self:started(self.C.gemma_hash_file(self.handle[0], path, self.err, ERRLEN))
end

function Library:cancel(job)
  self.C.gemma_cancel(self.handle[0], job)
end

function Library:next_event()
  if self.C.gemma_next_event(self.handle[0], self.event) == 0 then
    return nil
  end
  return unpack_event(self.event)
end

function Library:status()
  local status = self.now
  status.size = ffi.sizeof(status)
  self.C.gemma_get_status(self.handle[0], status)
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

function Library:destroy(timeout_ms)
  if self.handle[0] ~= nil then
    self.C.gemma_destroy(self.handle, timeout_ms)
  end
end

return M
