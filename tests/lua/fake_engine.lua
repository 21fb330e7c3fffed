--- fake_engine.lua: stands in for gemma.ffi in a child Neovim. No library, no model, no time.
---
--- Loaded by helper.lua before the plugin. Nothing is answered by itself except loading and
--- prefill-only jobs: a test looks at Fake.jobs and speaks for the engine with emit(), done() and
--- fail(). Events travel as the real ones do: a queue and a descriptor that becomes readable.

local uv = vim.uv

local Fake = {
  jobs = {}, -- every generate() that asks for tokens, oldest first: { id, req, live }
  warm = {}, -- those that only fill the cache
  loads = {}, -- options of every load()
  hashes = {}, -- { id, path } of every hash(); a test answers with Fake.hashed()
  cancelled = {}, -- ids
  sounds = {}, -- every sound: { rate, channels, data, over, gone }
  hold_load = false, -- true: a test ends the load itself with Fake.loaded()
  load_error = nil, -- text: loading fails with it
  load_error_if = nil, -- only when this field of the load's options is set
  open_error = nil, -- text: there is no library
  decode_tok_s = 50,
  refuse = nil, -- text: generate() takes nothing, as when the queue is full
  image_tokens = 280, -- of a model that was loaded
  destroyed = nil, -- timeout given to destroy()
  auto = nil, -- fn(req) -> list of pieces: answer at once
}

local queue, by_id, next_id = {}, {}, 0
local fds = uv.pipe({ nonblock = true }, { nonblock = true })

local function push(ev)
  queue[#queue + 1] = ev
  uv.fs_write(fds.write, 'x')
end

local function new_id()
  next_id = next_id + 1
  return next_id
end

--- The last job, or the one with this number in Fake.jobs.
local function pick(n)
  return Fake.jobs[n or #Fake.jobs]
end

--- Has the editor seen to everything that the model said?
function Fake.heard()
  return #queue == 0
end

--- The model writes.
function Fake.emit(text, n, logprob)
  local job = assert(pick(n), 'no job')
  if job.live then
    job.n = job.n + 1
    push({ kind = 'text', job = job.id, text = text, logprob = logprob or -0.1 })
  end
  return job.live
end

--- The model thinks.
function Fake.think(text, n)
  local job = assert(pick(n), 'no job')
  if job.live then
    job.n = job.n + 1
    push({ kind = 'thought', job = job.id, text = text })
  end
  return job.live
end

function Fake.done(n, reason, more)
  local job = assert(pick(n), 'no job')
  if job.live then
    job.live = false
    push(vim.tbl_extend('force', {
      kind = 'done',
      job = job.id,
      reason = reason or 'eog',
      n_prompt = 100,
      n_reused = 90,
      n_generated = job.n,
      n_media = 0,
      prefill_ms = 10,
      decode_ms = job.n * 1000 / Fake.decode_tok_s,
      logprob = -0.1,
    }, more or {}))
  end
end

function Fake.fail(code, text, n)
  local job = assert(pick(n), 'no job')
  if job.live then
    job.live = false
    push({ kind = 'error', job = job.id, code = code, text = text })
  end
end

--- The model reads its prompt.
function Fake.read(done, total, n)
  push({ kind = 'progress', job = assert(pick(n), 'no job').id, done = done, total = total })
end

--- Ends a held load.
function Fake.loaded()
  push({ kind = 'done', job = Fake.load_job })
end

function Fake.load_failed(code, text)
  push({ kind = 'error', job = Fake.load_job, code = code, text = text })
end

function Fake.progress(done, total)
  push({ kind = 'progress', job = Fake.load_job, done = done, total = total })
end

--- The hash of the n-th file is known.
function Fake.hashed(hex, n)
  push({ kind = 'done', job = Fake.hashes[n or #Fake.hashes].id, text = hex })
end

function Fake.log(level, text)
  push({ kind = 'log', job = 0, code = level, text = text })
end

-- luacheck: no self
local b = {}

function b:version()
  return '0.0.0-fake'
end
function b:cpu()
  return 'fake (none)'
end
function b:wake_fd()
  return fds.read
end
function b:wake_clear()
  uv.fs_read(fds.read, 4096)
end
function b:load(opts)
  Fake.loads[#Fake.loads + 1] = opts
  Fake.load_job = new_id()
  if Fake.load_error and (not Fake.load_error_if or opts[Fake.load_error_if]) then
    push({ kind = 'error', job = Fake.load_job, code = -5, text = Fake.load_error })
  elseif not Fake.hold_load then
    push({ kind = 'progress', job = Fake.load_job, done = 1, total = 1 })
    push({ kind = 'done', job = Fake.load_job })
  end
  return Fake.load_job
end
function b:unload()
  local id = new_id()
  push({ kind = 'done', job = id })
  return id
end
function b:generate(req)
  if Fake.refuse then
    return nil, Fake.refuse
  end
  local job = { id = new_id(), req = req, live = true, n = 0 }
  by_id[job.id] = job
  if req.max_tokens == 0 then
    Fake.warm[#Fake.warm + 1] = job
    job.live = false
    push({ kind = 'done', job = job.id, reason = 'length', n_prompt = 90, n_reused = 0,
      n_generated = 0, prefill_ms = 1, decode_ms = 0, logprob = 0 })
    return job.id
  end
  Fake.jobs[#Fake.jobs + 1] = job
  if Fake.auto then
    for _, piece in ipairs(Fake.auto(req)) do
      Fake.emit(piece)
    end
    Fake.done()
  end
  return job.id
end
function b:hash(path)
  local id = new_id()
  Fake.hashes[#Fake.hashes + 1] = { id = id, path = path }
  return id
end
function b:sound_create(rate, channels)
  Fake.sounds[#Fake.sounds + 1] = { rate = rate, channels = channels, data = '' }
  return #Fake.sounds
end
function b:sound_append(id, bytes)
  local sound = Fake.sounds[id]
  if not sound or sound.over or sound.gone then
    return -2
  end
  sound.data = sound.data .. bytes
  return 0
end
function b:sound_end(id)
  Fake.sounds[id].over = true
  return 0
end
function b:sound_destroy(id)
  Fake.sounds[id].gone = true
end
function b:cancel(id)
  local job = by_id[id]
  if job and job.live then
    job.live = false
    Fake.cancelled[#Fake.cancelled + 1] = id
    push({ kind = 'error', job = id, code = -7, text = 'cancelled' })
  elseif id == Fake.load_job and Fake.hold_load then
    Fake.load_failed(-7, 'cancelled')
  end
end
function b:next_event()
  return table.remove(queue, 1)
end
function b:status()
  return {
    state = 'ready',
    n_ctx = 8192,
    n_threads = 2,
    n_queued = 0,
    model_bytes = 7e9,
    cache_bytes = 1e8,
    n_param = 12e9,
    prefill_tok_s = 100,
    decode_tok_s = Fake.decode_tok_s,
    media_rows = 0,
    image_tokens = #Fake.loads > 0 and Fake.image_tokens or 0,
    name = 'Fake 12B',
    type = 'Q4_0',
    device = Fake.status_device or 'fake cpu',
    device_note = Fake.device_note,
    devices = Fake.devices,
  }
end
function b:destroy(timeout)
  Fake.destroyed = timeout
end

Fake.binding = b

package.preload['gemma.ffi'] = function()
  return {
    open = function()
      if Fake.open_error then
        return nil, Fake.open_error
      end
      return setmetatable({}, { __index = b }) -- another one each time, as the library's
    end,
    path = function()
      return '/nowhere/libgemma.so'
    end,
    root = function()
      return '/nowhere'
    end,
    file = function(path)
      return require('gemma.ffi').root() .. '/' .. path
    end,
    problem = function()
      return 'native library not found. Run make in /nowhere.'
    end,
    about = function()
      return nil, require('gemma.ffi').problem()
    end,
    media_missing = function() end,
  }
end

_G.Fake = Fake
return Fake
