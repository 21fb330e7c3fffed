--- engine.lua: the one engine of this Neovim: load, jobs, events, state.
---
--- Owns the binding to the library, the descriptor watch and the table of running jobs. Every
--- call returns at once; results come through the callbacks of a request, always on the main
--- loop and always in order, with exactly one on_done or on_error at the end. Does not know what
--- completion or an explanation is.

local config = require('gemma.config')
local errors = require('gemma.errors')
local log = require('gemma.log')
local models = require('gemma.models')
local notify = require('gemma.notify')
local owner = require('gemma.owner')
local power = require('gemma.power')
local sentinel = require('gemma.sentinel')

local M = {}

local LEVEL = { [0] = 'error', 'warn', 'info', 'debug', 'trace' } -- of the library

---@alias gemma.State
---| 'off'|'nolib'|'nomodel'|'installing'|'loading'|'ready'|'borrowed'|'prefill'|'generating'|'error'

local binding ---@type gemma.Binding?
local poll ---@type uv.uv_poll_t?
local jobs = {} ---@type table<integer, gemma.Job>
local n_generating = 0
local loader ---@type gemma.Loader?
local waiters = {} ---@type fun(err: string?)[]
local drain_scheduled = false
local hashes = {} ---@type table<integer, gemma.Job>
local rest_timer ---@type uv.uv_timer_t?
local unloading ---@type integer? the job that gives the memory back
local last_use = 0 -- ms, of the loop's clock
local leave_hooks = {} ---@type fun(why: string)[]

--- What is known without asking the library; statuslines read this.
M.state = 'off' ---@type gemma.State
M.reason = nil ---@type string? why, in the states nolib, nomodel and error
M.model = nil ---@type string? path of the loaded model
M.mmproj = nil ---@type string? path of what was loaded with it for pictures and sounds
M.no_mmproj = nil ---@type string? why not, when the model is loaded without
M.kept_out = false -- unloaded by hand
M.QUIET_MS = 1000 -- loading that is over sooner is not worth a message
M.rested = false -- unloaded since nobody used it; comes back with the next use
M.beside = false -- loaded on the CPU since another Neovim has the device
M.lender = nil ---@type gemma.Lock? the Neovim whose model this one borrows
M.runs_on = nil ---@type string? where the loaded model computes, in the library's words
M.device = nil ---@type string? device given by :Gemma device; wins over the option

---@alias gemma.GoneWhy 'closed'|'unloaded'|'rested'|'device' why those that borrow have it no more

local model_lost ---@type fun(why: gemma.GoneWhy, text: string)
local drop ---@type fun(timeout_ms: integer, leaving: boolean?)
local change ---@type fun(timeout_ms: integer, use_next: fun()?)
local begin_hash ---@type fun(job: gemma.Job): boolean, string?

---@class (exact) gemma.Loader
---@field job integer
---@field path string
---@field mmproj string?
---@field no_mmproj string? why it is loaded without
---@field done integer
---@field total integer
---@field since number? ns, of the first progress
---@field told gemma.Progress? what the user sees of it

---@class gemma.Job
---@field id integer
---@field req gemma.Request
---@field started boolean a token has come
---@field over boolean
---@field cancelled boolean? its end is on the way
---@field path string? of a checksum
local Job = {}
Job.__index = Job

---@param to gemma.State
---@param reason string?
local function set_state(to, reason)
  M.reason = reason
  if M.state == to then
    return
  end
  local from = M.state
  M.state = to
  log.debug('state %s -> %s%s', from, to, reason and ': ' .. reason or '')
  notify.event('GemmaState', { from = from, to = to, reason = reason })
  -- A statusline that shows the state would otherwise wait for the next key.
  vim.schedule(function()
    vim.cmd.redrawstatus()
  end)
end

--- One timer, armed when the last job ends, so that an idle Neovim wakes up once and then never.
local function rest_later()
  if rest_timer then
    rest_timer:stop()
  end
  local seconds = config.get().unload_idle
  if not M.model or M.lender or seconds == 0 then
    return
  end
  local ms = seconds * (power.focused() and 1000 or 500) - (vim.uv.now() - last_use)
  rest_timer = rest_timer or assert(vim.uv.new_timer())
  rest_timer:start(
    math.max(ms, 1),
    0,
    vim.schedule_wrap(function()
      M.rest()
    end)
  )
end

--- The state follows from what is under way.
local function settle()
  if loader then
    set_state('loading')
  elseif M.model then
    local any, text = false, false
    for _, job in pairs(jobs) do
      if not job.req.quiet then
        any = true
        text = text or job.started
      end
    end
    if not any then
      vim.uv.update_time()
      last_use = vim.uv.now()
      rest_later()
    end
    local idle = M.lender and 'borrowed' or 'ready'
    set_state(text and 'generating' or any and 'prefill' or idle)
  end
end

---@return boolean
function M.is_loaded()
  return M.model ~= nil
end

---@return boolean
function M.is_gpu()
  if M.lender then
    return binding ~= nil and binding:about().gpu == true
  elseif M.beside then
    return false
  end
  local dev = M.model and M.runs_on or M.device or config.get().device
  return dev:match('^vulkan') ~= nil
end

--- Why pictures and sounds cannot be asked about; nil when they can, or when only loading will
--- tell.
---@return string?
function M.media_reason()
  if M.mmproj then
    return nil
  end
  local path, no_model
  if M.model then
    path = M.model
  else
    path, no_model = models.find()
    if not path then
      return no_model
    end
  end
  local mmproj, why = models.find_mmproj(path)
  if not mmproj then
    return why
  elseif M.model then
    return M.no_mmproj
      or ('%s came after the model was loaded. Run :Gemma unload and ask again.'):format(
        vim.fs.basename(mmproj)
      )
  end
end

--- One bad callback must not keep the others from their events.
---@param name string
---@param fn function
---@param ... any
local function guarded(name, fn, ...)
  local ok, err = xpcall(fn, debug.traceback, ...)
  if not ok then
    notify.error(('%s: %s'):format(name, tostring(err):gsub('\n.*', '')))
    log.error('%s', err)
  end
end

---@param job gemma.Job
---@param name string
---@param ... any
local function call(job, name, ...)
  if job.req[name] then
    guarded(name, job.req[name], ...)
  end
end

---@param err string?
local function loaded(err)
  local list = waiters
  waiters = {}
  for _, fn in ipairs(list) do
    guarded('load', fn, err)
  end
end

---@return string as in the option
local function device_now()
  return M.beside and 'cpu' or M.device or config.get().device
end

--- Hands a load to the library.
---@param path string
---@param mmproj string?
---@param no_mmproj string? why there is none, when there should be one
---@return boolean
---@return string? err
local function begin_load(path, mmproj, no_mmproj)
  local conf = config.get()
  local device = device_now()
  local job, err = (binding --[[@as gemma.Binding]]):load({
    model_path = path,
    mmproj_path = mmproj,
    device = device,
    n_threads = conf.threads,
    n_ctx = conf.n_ctx,
  })
  if not job then
    return false, err
  end
  loader = { job = job, path = path, mmproj = mmproj, no_mmproj = no_mmproj, done = 0, total = 0 }
  log.info('loading %s on %s', path, device)
  return true
end

--- Where the model went, which is not always where it was wished to be. With 'auto' a GPU is a bonus
--- and its absence no news; a GPU that was asked for by name is missed.
local function note_device()
  local s = binding and binding:status() or {}
  M.runs_on = s.device
  local note = s.device_note or ''
  if note == '' then
    return
  elseif device_now() ~= 'auto' or M.runs_on:match('^vulkan') then
    notify.once(('%s; computing on %s.'):format(note, M.runs_on))
  else
    log.info('%s; computing on %s', note, M.runs_on)
  end
end

--- Loading that takes long says how far it is; what is done in a moment says nothing.
local function tell_loading()
  loader.since = loader.since or vim.uv.hrtime()
  if not loader.told and vim.uv.hrtime() - loader.since >= M.QUIET_MS * 1e6 then
    loader.told = require('gemma.progress').start('loading the model')
  end
  if loader.told and loader.total > 0 then
    loader.told:report(loader.done * 100 / loader.total)
  end
end

---@param how 'done'|'fail'|'cancel'
---@param text string?
local function told_loading(how, text)
  if loader and loader.told then
    loader.told[how](loader.told, text)
  end
end

---@param ev table
local function on_load_event(ev)
  if ev.kind == 'progress' then
    loader.done, loader.total = ev.done, ev.total
    tell_loading()
  elseif ev.kind == 'done' then
    local path = loader.path
    M.model, M.mmproj, M.no_mmproj = path, loader.mmproj, loader.no_mmproj
    told_loading('done')
    loader = nil
    if not M.lender then
      note_device()
      if not M.is_gpu() then
        sentinel.disarm() -- nothing is left for a driver to do
      end
    end
    if M.lender then
      path = binding:about().model or path
      M.model, M.mmproj = path, binding:about().mmproj
      notify.info(('this Neovim borrows the model of pid %d.'):format(M.lender.pid))
    end
    log.info('loaded %s', path)
    if models.mark_embedded_told(path) then
      notify.info(('built-in toy model. :Gemma install model: %s.'):format(models.size_of_real()))
    end
    if M.no_mmproj then
      notify.warn(M.no_mmproj)
    end
    settle()
    loaded(nil)
  elseif ev.kind == 'error' then
    local cancelled = errors.name(ev.code) == 'ECANCELLED'
    told_loading(cancelled and 'cancel' or 'fail', ev.text)
    if loader.mmproj and not cancelled then
      -- A broken companion must not cost the user the model. If it is the model itself that is
      -- broken, it will say so again.
      local mmproj = vim.fs.basename(loader.mmproj)
      if
        begin_load(loader.path, nil, ('%s: %s; no pictures and sounds.'):format(mmproj, ev.text))
      then
        return
      end
    end
    loader = nil
    M.model, M.mmproj = nil, nil
    sentinel.disarm()
    owner.release()
    if M.lender then
      change(0) -- whoever has no model has nothing to lend
    end
    set_state(cancelled and 'off' or 'error', not cancelled and ev.text or nil)
    if not cancelled then
      notify.error(ev.text)
      notify.event('GemmaError', { code = ev.code, msg = ev.text })
    end
    loaded(cancelled and 'cancelled' or ev.text)
  end
end

-- Errors of a job after which the library has no model any more.
local LOST_BY = {
  EDEVICE = { 'device', 'GPU lost (driver reset), model unloaded. Try :Gemma load.' },
  ENOMODEL = { 'unloaded', 'out of memory, model unloaded. Try :Gemma load.' },
}

---@param job gemma.Job
---@param ev table
local function on_job_event(job, ev)
  if ev.kind == 'text' or ev.kind == 'thought' then
    if not job.started then
      job.started = true
      settle()
    end
    call(job, 'on_' .. ev.kind, ev.text, ev.logprob)
  elseif ev.kind == 'progress' then
    call(job, 'on_progress', ev.done, ev.total)
  else
    jobs[job.id] = nil
    job.over = true
    n_generating = n_generating - 1
    settle()
    if ev.kind == 'done' then
      sentinel.disarm()
      call(job, 'on_done', ev)
    else
      local name = errors.name(ev.code)
      if name ~= 'ECANCELLED' then
        log.warn('job %d: %s', job.id, ev.text)
        notify.event('GemmaError', { code = ev.code, msg = ev.text })
      end
      local told = LOST_BY[name] ~= nil -- by what the loss of the model says
      call(job, 'on_error', { code = ev.code, name = name, text = ev.text, told = told })
      if LOST_BY[name] and M.model and not M.lender then
        model_lost(unpack(LOST_BY[name]))
      end
    end
  end
end

---@param job gemma.Job
---@param ev table
local function on_hash_event(job, ev)
  if ev.kind == 'progress' then
    call(job, 'on_progress', ev.done, ev.total)
    return
  end
  hashes[job.id] = nil
  job.over = true
  if not M.busy() then
    rest_later()
  end
  if ev.kind == 'done' then
    call(job, 'on_done', ev.text)
  else
    local name = errors.name(ev.code)
    call(job, 'on_error', { code = ev.code, name = name, text = ev.text })
  end
end

--- Lets go of the binding. What was submitted to it and has not ended ends as cancelled.
---@param timeout_ms integer
---@param leaving boolean? the editor ends, and nobody waits for an answer any more
function drop(timeout_ms, leaving)
  local b = binding
  binding = nil
  if poll then
    poll:stop()
    poll:close()
    poll = nil
  end
  if b then
    b:destroy(timeout_ms)
    sentinel.disarm()
  end
  local ended = vim.list_extend(vim.tbl_values(hashes), leaving and {} or vim.tbl_values(jobs))
  jobs, hashes, loader, unloading, n_generating = {}, {}, nil, nil, 0
  M.model, M.mmproj, M.lender = nil, nil, nil
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
    vim.schedule(tell) -- whoever hears of it may ask for something new
  end
end

--- Drops the binding for another one, or for none. The checksums that it computes begin again there, or in
--- the library: a file of gigabytes is not asked for twice for that.
---@param timeout_ms integer
---@param use_next fun()?
function change(timeout_ms, use_next)
  local hashing = {}
  for id, job in pairs(hashes) do
    if not job.cancelled then
      hashes[id] = nil
      hashing[#hashing + 1] = job
    end
  end
  drop(timeout_ms)
  if use_next then
    use_next()
  end
  for _, job in ipairs(hashing) do
    local ok, err = begin_hash(job)
    if not ok then
      job.over = true
      call(job, 'on_error', errors.new('EINVAL', err --[[@as string]]))
    end
  end
end

-- They come while somebody types: longer ones would ask for a key in 80 columns.
local LOST = {
  closed = 'the owner (pid %d) closed; :Gemma load to take over.',
  unloaded = 'pid %d unloaded the model; :Gemma load to load it here.',
  silent = 'pid %d has the model and does not answer; trying later.',
  differs = 'pid %d runs another gemma.nvim; restart it.',
  device = 'pid %d lost its GPU; :Gemma load to load the model here.',
}

--- The Neovim that lent its model is gone, or has it no more. Its jobs have ended before.
---@param ev { why: string, stale: boolean?, pid: integer }
local function on_lost(ev)
  local lender = M.lender --[[@as gemma.Lock]]
  change(0)
  if ev.stale then
    -- Its lock was left behind. Whoever waits for the model gets it here.
    owner.evict(lender)
    local ok, err = M.load()
    if not ok then
      loaded(err)
    end
  elseif ev.why == 'rested' then
    M.rested = true
    set_state('off')
    loaded('cancelled')
  else
    local why = (LOST[ev.why] or ('pid %d: ' .. ev.why)):format(ev.pid)
    -- One that is only stopped or busy is asked again with the next use.
    M.rested = ev.why == 'silent'
    M.kept_out = not M.rested
    set_state('off', why)
    local tell = M.rested and notify.once or notify.warn
    tell(why)
    loaded(why)
  end
end

--- The model is unloaded: nothing of it is left, the worker's thread included. The next load starts
--- another one.
local function let_go()
  if not loader and not M.model and not M.lender and not next(hashes) and not next(jobs) then
    drop(100)
  end
end

--- Takes everything out of the ring: wakes coalesce, events do not.
local function drain()
  drain_scheduled = false
  if not binding then
    return
  end
  binding:wake_clear()
  while binding do -- a callback may shut the engine down
    local ev = binding:next_event()
    if not ev then
      break
    end
    local job = jobs[ev.job]
    if job then
      on_job_event(job, ev)
    elseif hashes[ev.job] then
      on_hash_event(hashes[ev.job], ev)
    elseif ev.kind == 'lost' then
      on_lost(ev)
    elseif loader and ev.job == loader.job then
      on_load_event(ev)
    elseif ev.job == unloading and (ev.kind == 'done' or ev.kind == 'error') then
      unloading = nil
      let_go()
    elseif ev.kind == 'log' then
      log.write(LEVEL[ev.code] or 'info', '%s', ev.text)
    end
  end
end

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
  local group = vim.api.nvim_create_augroup('gemma.engine', {})
  vim.api.nvim_create_autocmd('VimLeavePre', {
    group = group,
    callback = function()
      M.shutdown(200)
    end,
  })
end

--- The library, or the borrowed model, whatever answers now; opens the library when nothing does.
---@return gemma.Binding?
---@return string? err
function M.open()
  if binding then
    return binding
  end
  local b, err = require('gemma.ffi').open()
  if not b then
    set_state('nolib', err)
    return nil, err
  end
  use(b)
  return b
end

--- What answers now; nil when nothing is open.
---@return gemma.Binding?
function M.binding()
  return binding
end

---@param job gemma.Job
---@return boolean
---@return string? err
function begin_hash(job)
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

--- Another Neovim that has the model, when it matters. Otherwise it is ours from now on.
---@return gemma.Lock?
local function find_lender()
  if config.get().shared == 'own' then
    return nil
  end
  local other = owner.other()
  if not other and not M.lender then
    local taken, faster = owner.take()
    other = not taken and faster or nil
  end
  return other
end

---@param lender gemma.Lock
local function borrow(lender)
  change(100, function()
    M.lender = lender
    use(require('gemma.borrow').open(lender))
    loader = { job = binding:load({}), path = '', done = 0, total = 0 }
  end)
  log.info('borrowing the model of pid %d', lender.pid)
  settle()
end

--- Starts loading the model unless it is there. on_ready hears of the end, with an error text
--- when it failed. What cannot even be started is returned and not announced.
---@param on_ready fun(err: string?)?
---@return boolean started_or_loaded
---@return string? err
function M.load(on_ready)
  if M.model and not loader then
    if on_ready then
      on_ready(nil)
    end
    return true
  end
  M.kept_out, M.rested = false, false
  if on_ready then
    waiters[#waiters + 1] = on_ready
  end
  if loader then
    return true
  end
  local function failed(state, err)
    if on_ready then
      waiters[#waiters] = nil
    end
    owner.release()
    set_state(state, err)
    return false, err
  end
  local lender = find_lender()
  local shared = config.get().shared
  if lender and shared == 'borrow' then
    borrow(lender)
    return true
  elseif lender and shared == 'off' then
    return failed('off', ('pid %d has the model (shared is off).'):format(lender.pid))
  end
  local path, why = models.find()
  if not path and M.state == 'installing' then
    return failed('installing', 'a model is being downloaded.')
  elseif not path then
    return failed('nomodel', why)
  end
  local b, err = M.open()
  if not b then
    return failed('nolib', err)
  end
  M.beside = lender ~= nil
  local mmproj, why_not = models.find_mmproj(path)
  sentinel.arm(device_now())
  local ok, msg = begin_load(path, mmproj, config.get().mmproj_path and why_not or nil)
  if not ok then
    sentinel.disarm()
    return failed('error', msg)
  end
  settle()
  return true
end

--- Tells those who borrow, and lets another Neovim have it.
---@param why gemma.GoneWhy
local function leave(why)
  for _, fn in ipairs(leave_hooks) do
    fn(why)
  end
  owner.release()
  if rest_timer then
    rest_timer:stop()
  end
end

--- fn hears when this Neovim gives its model up.
---@param fn fun(why: gemma.GoneWhy)
function M.on_leave(fn)
  leave_hooks[#leave_hooks + 1] = fn
end

---@param why gemma.GoneWhy
local function give_up(why)
  if not binding then
    return
  end
  local b = binding --[[@as gemma.Binding]]
  leave(why)
  for _, job in pairs(jobs) do
    job:cancel()
  end
  if loader then
    b:cancel(loader.job)
  end
  unloading = b:unload()
  M.model, M.mmproj = nil, nil
  -- A load that was under way is not ours any more, however it ends.
  told_loading('cancel')
  loader = nil
  if M.lender then
    change(0)
  end
  set_state('off')
  loaded('cancelled')
end

--- Gives the memory back. Running jobs end as cancelled. Who unloads by hand wants the memory: the
--- next Insert mode does not load it again.
---@param anew boolean? it is loaded again at once, so that those who borrow may ask for it again
function M.unload(anew)
  M.kept_out = not anew
  give_up(anew and 'rested' or 'unloaded')
end

--- The library let go of the model under a job. Nothing loads it again unasked: it might fail again.
---@param why gemma.GoneWhy
---@param text string
function model_lost(why, text)
  M.kept_out = true
  sentinel.disarm()
  give_up(why)
  set_state('error', text)
  notify.error(text)
end

--- Gives the memory back when nobody has used it for a while; the next use loads it again.
function M.rest()
  if M.model and not M.lender and not M.busy() and next(hashes) == nil then
    log.info('unloaded: not used for %d seconds', config.get().unload_idle)
    M.rested = true
    give_up('rested')
  end
end

--- What was missing or broken may be there now: the next use tries again.
function M.forgive()
  if M.state == 'nomodel' or M.state == 'nolib' or M.state == 'error' then
    set_state('off')
  end
end

--- A model is being downloaded; shown where there is no other.
---@param yes boolean
function M.installing(yes)
  if yes and (M.state == 'off' or M.state == 'nomodel') then
    set_state('installing', 'a model is being downloaded.')
  elseif not yes and M.state == 'installing' then
    set_state('off')
  end
end

--- Submits a generation. Returns nil and one line when it cannot even be queued.
---@param req gemma.Request
---@return gemma.Job?
---@return string? err
function M.generate(req)
  if not binding or not M.model then
    return nil, M.reason or 'the model is not loaded. Run :Gemma load.'
  end
  for _, part in ipairs(req.parts) do
    if part.kind == 'sound' and not (part.sound and part.sound:lives()) then
      return nil, 'the sound is gone'
    end
  end
  local id, err = binding:generate(req)
  if not id then
    return nil, err
  end
  local job = setmetatable({ id = id, req = req, started = false, over = false }, Job)
  jobs[id] = job
  n_generating = n_generating + 1
  settle()
  return job
end

---@class gemma.HashOpts
---@field lent boolean? for another Neovim
---@field on_progress fun(done: integer, total: integer)?
---@field on_done fun(hex: string)
---@field on_error fun(err: gemma.Error)

--- The SHA-256 of a file, computed when there is nothing else to do; needs the library and no model.
---@param path string
---@param o gemma.HashOpts
---@return gemma.Job?
---@return string? err
function M.hash(path, o)
  local job = setmetatable({ path = path, req = o, started = false, over = false }, Job)
  local ok, err = begin_hash(job)
  return ok and job or nil, err
end

--- The job still ends by on_error with ECANCELLED, some milliseconds later.
function Job:cancel()
  if not self.over and binding then
    self.cancelled = true
    binding:cancel(self.id)
  end
end

--- Ends what this Neovim asked for. What it computes for those that borrow goes on.
function M.cancel_all()
  for _, list in ipairs({ jobs, hashes }) do
    for _, job in pairs(list) do
      if not job.req.lent then
        job:cancel()
      end
    end
  end
  if loader and M.lender then
    M.rested = true -- the other one loads for itself, and goes on
    give_up('rested')
  elseif loader and binding then
    binding:cancel(loader.job)
  end
end

--- Why neither model nor device are chosen in this Neovim; nil when they are.
---@return string?
function M.chosen_elsewhere()
  if M.lender then
    return ('pid %d has the model: choose there, or set shared to own.'):format(M.lender.pid)
  end
end

---@return boolean
function M.busy()
  return n_generating > 0 or loader ~= nil
end

power.on_focus(function()
  if not M.busy() then
    rest_later()
  end
end)

--- Share of the model file that is read, while loading.
---@return number? 0..1
function M.load_progress()
  if loader and loader.total > 0 then
    return loader.done / loader.total
  end
end

--- The library's own numbers; nil before it is loaded. One cheap call into it.
---@return table?
function M.numbers()
  return binding and binding:status() or nil
end

---@return string?
function M.version()
  return binding and binding:version() or nil
end

---@return string?
function M.cpu()
  return binding and binding:cpu() or nil
end

--- Leaves, waiting at most timeout_ms for the worker.
---@param timeout_ms integer
function M.shutdown(timeout_ms)
  if not binding then
    return
  end
  leave('closed')
  drop(timeout_ms, true)
  waiters = {}
  M.state = 'off'
end

return M
