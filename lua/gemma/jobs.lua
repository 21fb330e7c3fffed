--- jobs.lua: what the model is asked for, until it has ended.
---
--- Owns the binding (the library, or the model of another Neovim behind the same interface), the
--- watch on its descriptor, and the generations and checksums that are under way. Every call
--- returns at once. Results come through the callbacks of a request, always on the main loop and
--- always in order, with exactly one on_done or on_error at the end. Knows nothing of models:
--- engine.lua says when one may be asked, and hears (listen) what concerns it.

local errors = require('gemma.errors')
local log = require('gemma.log')
local notify = require('gemma.notify')

local M = {}

local LEVEL = { [0] = 'error', 'warn', 'info', 'debug', 'trace' } -- of the library

--- Errors of a generation after which the library has no model any more.
local LOSES_MODEL = { EDEVICE = true, ENOMODEL = true }

--- What engine.lua hears of.
---@class (exact) gemma.JobListener
---@field on_change fun(done: boolean) a generation began, began to write, or ended; done: well
---@field on_hashed fun() a checksum has ended
---@field on_model_lost fun(name: string) the model is gone since a generation failed with this error
---@field on_event fun(ev: gemma.Event) of no job of this file: of a load, of an unload, of a lender
---@field on_exit fun() the editor ends while something is open

local listener ---@type gemma.JobListener
local binding ---@type gemma.Binding?
local poll ---@type uv.uv_poll_t?
local drain_scheduled = false
local generations = {} ---@type table<integer, gemma.Job>
local hashes = {} ---@type table<integer, gemma.Job>

---@class gemma.Job
---@field id integer
---@field req gemma.Request|gemma.HashOpts
---@field started boolean a token has come
---@field over boolean
---@field cancelled boolean? its end is on the way
---@field path string? of a checksum
local Job = {}
Job.__index = Job

--- The job still ends by on_error with ECANCELLED, some milliseconds later.
function Job:cancel()
  if not self.over and binding then
    self.cancelled = true
    binding:cancel(self.id)
  end
end

-- Who clears package.loaded to get this file anew has lost what the one before it holds, the model with
-- all of its memory. Only its autocommand still knows.
pcall(vim.api.nvim_exec_autocmds, 'VimLeavePre', { group = 'gemma.jobs', modeline = false })

---@param l gemma.JobListener
function M.listen(l)
  listener = l
end

-- ---- events --------------------------------------------------------------------------------

---@param job gemma.Job
---@param name string
---@param ... any
local function call(job, name, ...)
  if job.req[name] then
    notify.guarded(name, job.req[name], ...)
  end
end

---@param job gemma.Job
---@param ev gemma.Event of kind error
local function failed(job, ev)
  local name = errors.name(ev.code)
  if name ~= 'ECANCELLED' then
    log.warn('job %d: %s', job.id, ev.text)
    notify.event('GemmaError', { code = ev.code, msg = ev.text })
  end
  local told = LOSES_MODEL[name] ~= nil -- by what the loss of the model says
  call(job, 'on_error', { code = ev.code, name = name, text = ev.text, told = told })
  if LOSES_MODEL[name] then
    listener.on_model_lost(name)
  end
end

---@param job gemma.Job
---@param ev gemma.Event
local function on_generation_event(job, ev)
  if ev.kind == 'text' or ev.kind == 'thought' then
    if not job.started then
      job.started = true
      listener.on_change(false)
    end
    call(job, 'on_' .. ev.kind, ev.text, ev.logprob)
  elseif ev.kind == 'progress' then
    call(job, 'on_progress', ev.done, ev.total)
  else
    generations[job.id] = nil
    job.over = true
    listener.on_change(ev.kind == 'done')
    if ev.kind == 'done' then
      call(job, 'on_done', ev)
    else
      failed(job, ev)
    end
  end
end

---@param job gemma.Job
---@param ev gemma.Event
local function on_hash_event(job, ev)
  if ev.kind == 'progress' then
    call(job, 'on_progress', ev.done, ev.total)
    return
  end
  hashes[job.id] = nil
  job.over = true
  listener.on_hashed()
  if ev.kind == 'done' then
    call(job, 'on_done', ev.text)
  else
    call(job, 'on_error', { code = ev.code, name = errors.name(ev.code), text = ev.text })
  end
end

--- Takes everything out of the ring: wakes coalesce, events do not.
local function drain()
  drain_scheduled = false
  if not binding then
    return
  end
  binding:wake_clear()
  while binding do -- a callback may close it
    local ev = binding:next_event()
    if not ev then
      break
    end
    if generations[ev.job] then
      on_generation_event(generations[ev.job], ev)
    elseif hashes[ev.job] then
      on_hash_event(hashes[ev.job], ev)
    elseif ev.kind == 'log' then
      log.write(LEVEL[ev.code] or 'info', '%s', ev.text)
    else
      listener.on_event(ev)
    end
  end
end

-- ---- the binding ---------------------------------------------------------------------------

--- From now on this answers.
---@param b gemma.Binding
local function use(b)
  binding = b
  poll = assert(vim.uv.new_poll(b:wake_fd()))
  poll:start('r', function()
    -- The descriptor stays readable until the scheduled drain clears it; one drain is enough.
    if not drain_scheduled then
      drain_scheduled = true
      vim.schedule(drain)
    end
  end)
  vim.api.nvim_create_autocmd('VimLeavePre', {
    group = vim.api.nvim_create_augroup('gemma.jobs', {}),
    callback = function()
      listener.on_exit()
    end,
  })
end

--- What answers now; nil when nothing is open.
---@return gemma.Binding?
function M.binding()
  return binding
end

--- What answers now; opens the library when nothing does.
---@return gemma.Binding?
---@return string? err
function M.open()
  if binding then
    return binding
  end
  local b, err = require('gemma.ffi').open()
  if not b then
    return nil, err
  end
  use(b)
  return b
end

--- Closes what answers. Jobs that were submitted to it and have not ended end as cancelled.
---@param timeout_ms integer to wait for the worker, at most
---@param leaving boolean? the editor ends, and nobody waits for an answer any more
function M.close(timeout_ms, leaving)
  local b = binding
  binding = nil
  if poll then
    poll:stop()
    poll:close()
    poll = nil
  end
  if b then
    b:destroy(timeout_ms)
  end
  local ended =
    vim.list_extend(vim.tbl_values(hashes), leaving and {} or vim.tbl_values(generations))
  generations, hashes = {}, {}
  for _, job in ipairs(ended) do
    job.over = true
  end
  local function tell()
    for _, job in ipairs(ended) do
      call(job, 'on_error', errors.new('ECANCELLED', 'cancelled'))
    end
  end
  if leaving then
    tell()
  else
    vim.schedule(tell) -- a callback may ask for something new
  end
end

---@param job gemma.Job
---@return boolean
---@return string? err
local function begin_hash(job)
  local b, err = M.open()
  local id
  if b then
    id, err = b:hash(job.path)
  end
  if not id then
    return false, err
  end
  job.id = id
  hashes[id] = job
  return true
end

--- Closes what answers, and goes on with what open_next returns. The checksums that were under way
--- begin again there, or in the library when it returns nothing: a file of gigabytes is not asked
--- for twice because of that.
---@param timeout_ms integer to wait for the worker, at most
---@param open_next fun(): gemma.Binding? called when the old one is closed
function M.switch(timeout_ms, open_next)
  local hashing = {}
  for id, job in pairs(hashes) do
    if not job.cancelled then
      hashes[id] = nil
      hashing[#hashing + 1] = job
    end
  end
  M.close(timeout_ms)
  local b = open_next()
  if b then
    use(b)
  end
  for _, job in ipairs(hashing) do
    local ok, err = begin_hash(job)
    if not ok then
      job.over = true
      call(job, 'on_error', errors.new('EINVAL', err --[[@as string]]))
    end
  end
end

-- ---- jobs ----------------------------------------------------------------------------------

---@param req gemma.Request|gemma.HashOpts
---@param path string? of a checksum
---@return gemma.Job
local function new_job(req, path)
  return setmetatable({ req = req, path = path, started = false, over = false }, Job)
end

--- Submits a generation to what is open. Returns nil and one line when it cannot even be queued.
---@param req gemma.Request
---@return gemma.Job?
---@return string? err
function M.generate(req)
  for _, part in ipairs(req.parts) do
    if part.kind == 'sound' and not (part.sound and part.sound:lives()) then
      return nil, 'the sound is gone'
    end
  end
  local id, err = (binding --[[@as gemma.Binding]]):generate(req)
  if not id then
    return nil, err
  end
  local job = new_job(req)
  job.id = id
  generations[id] = job
  listener.on_change(false)
  return job
end

---@class gemma.HashOpts
---@field lent boolean? for another Neovim
---@field on_progress fun(done: integer, total: integer)?
---@field on_done fun(hex: string)
---@field on_error fun(err: gemma.Error)

--- The SHA-256 of a file, computed when there is nothing else to do; opens the library when nothing
--- is open.
---@param path string
---@param o gemma.HashOpts
---@return gemma.Job?
---@return string? err
function M.hash(path, o)
  local job = new_job(o, path)
  local ok, err = begin_hash(job)
  return ok and job or nil, err
end

--- What is seen of the generations: nil when there is none, or only those ahead of time.
---@return 'prefill'|'generating'|nil
function M.activity()
  local found
  for _, job in pairs(generations) do
    if not job.req.quiet then
      found = (found == 'generating' or job.started) and 'generating' or 'prefill'
    end
  end
  return found
end

---@return boolean
function M.is_generating()
  return next(generations) ~= nil
end

---@return boolean
function M.is_hashing()
  return next(hashes) ~= nil
end

--- Ends every generation, also those for other Neovims.
function M.cancel_generations()
  for _, job in pairs(generations) do
    job:cancel()
  end
end

--- Ends what this Neovim asked for. What is computed for those that borrow goes on.
function M.cancel_own()
  for _, list in ipairs({ generations, hashes }) do
    for _, job in pairs(list) do
      if not job.req.lent then
        job:cancel()
      end
    end
  end
end

return M
