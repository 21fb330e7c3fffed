--- engine.lua: the one model of this Neovim: loaded here or borrowed, at rest, given up.
---
--- Owns the state that statuslines show, and everything that makes it change: loading and
--- unloading, the lock that says which Neovim has the model (owner.lua), the Neovim that lends it
--- (borrow.lua), and the mark of GPU work (sentinel.lua). What is asked of the model goes on to
--- jobs.lua. Does not know what completion or an explanation is.

local config = require('gemma.config')
local errors = require('gemma.errors')
local idle = require('gemma.idle')
local jobs = require('gemma.jobs')
local loading = require('gemma.loading')
local log = require('gemma.log')
local models = require('gemma.models')
local notify = require('gemma.notify')
local owner = require('gemma.owner')
local power = require('gemma.power')
local sentinel = require('gemma.sentinel')

local M = {}

---@alias gemma.State
---| 'off'|'nolib'|'nomodel'|'installing'|'loading'|'ready'|'borrowed'|'prefill'|'generating'|'error'

---@alias gemma.GoneWhy 'closed'|'unloaded'|'rested'|'device' why those that borrow have it no more

-- What is known without asking the library; others read it.
M.state = 'off' ---@type gemma.State
M.reason = nil ---@type string? why, in the states nolib, nomodel and error
M.model = nil ---@type string? path of the loaded model
M.mmproj = nil ---@type string? path of what was loaded with it for pictures and sounds
M.lender = nil ---@type gemma.Lock? the Neovim whose model this one borrows
M.runs_on = nil ---@type string? where the loaded model computes, in the library's words
M.kept_out = false -- unloaded by hand, or lost: nothing loads it unasked
M.rested = false -- unloaded since nobody used it: the next use loads it again
M.device = nil ---@type string? device given by :Gemma device; wins over the option

local no_mmproj ---@type string? why the model is loaded without a file for pictures and sounds
local beside = false -- loaded on the CPU since another Neovim has the device
local load_now ---@type gemma.Loading?
local unload_job ---@type integer? the job that gives the memory back
local waiters = {} ---@type fun(err: string?)[] they hear of the end of a load
local leave_hooks = {} ---@type fun(why: gemma.GoneWhy)[]

-- ---- state ---------------------------------------------------------------------------------

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

--- An unused model is unloaded after a while. A borrowed one is not ours to unload.
local function rest_later()
  if M.model and not M.lender then
    idle.start(M.rest)
  else
    idle.stop()
  end
end

local function rest_later_unless_busy()
  if not M.busy() then
    rest_later()
  end
end

--- The state follows from what is under way.
local function settle()
  if load_now then
    set_state('loading')
  elseif M.model then
    local activity = jobs.activity()
    if not activity then
      idle.used()
      rest_later()
    end
    set_state(activity or (M.lender and 'borrowed' or 'ready'))
  end
end

---@return boolean
function M.is_loaded()
  return M.model ~= nil
end

--- Is a model being loaded, or anything generated? Work ahead of time counts too.
---@return boolean
function M.busy()
  return jobs.is_generating() or load_now ~= nil
end

---@return boolean
function M.is_gpu()
  local binding = jobs.binding()
  if M.lender then
    return binding ~= nil and binding:about().gpu == true
  elseif beside then
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
    return no_mmproj
      or ('%s came after the model was loaded. Run :Gemma unload and ask again.'):format(
        vim.fs.basename(mmproj)
      )
  end
end

--- Why neither model nor device are chosen in this Neovim; nil when they are.
---@return string?
function M.chosen_elsewhere()
  if M.lender then
    return ('pid %d has the model: choose there, or set shared to own.'):format(M.lender.pid)
  end
end

--- Share of the model file that is read, while loading.
---@return number? 0..1
function M.load_progress()
  return load_now and load_now:share()
end

--- The library's own numbers; nil before it is loaded. One cheap call into it.
---@return gemma.Numbers?
function M.numbers()
  local binding = jobs.binding()
  return binding and binding:status()
end

---@return string?
function M.version()
  local binding = jobs.binding()
  return binding and binding:version()
end

---@return string?
function M.cpu()
  local binding = jobs.binding()
  return binding and binding:cpu()
end

-- ---- the end of a binding ------------------------------------------------------------------

--- Nothing of a model is left here.
local function forget()
  load_now, unload_job = nil, nil
  M.model, M.mmproj, M.lender = nil, nil, nil
end

---@param timeout_ms integer
---@param leaving boolean?
local function close(timeout_ms, leaving)
  forget()
  jobs.close(timeout_ms, leaving)
  sentinel.disarm()
end

--- Closes what answers; checksums that are under way go on in what open_next returns, or in the
--- library.
---@param timeout_ms integer
---@param open_next (fun(): gemma.Binding)?
local function switch(timeout_ms, open_next)
  forget()
  jobs.switch(timeout_ms, function()
    sentinel.disarm()
    return open_next and open_next()
  end)
end

--- The model is unloaded. When nothing else is under way either, nothing stays, the worker's thread
--- included; the next load starts another one.
local function close_when_idle()
  if not M.busy() and not M.model and not M.lender and not jobs.is_hashing() then
    close(100)
  end
end

--- Tells those who wait for the model.
---@param err string?
local function loaded(err)
  local list = waiters
  waiters = {}
  for _, fn in ipairs(list) do
    notify.guarded('load', fn, err)
  end
end

-- ---- giving the model up -------------------------------------------------------------------

--- Tells those who borrow, and lets another Neovim have it.
---@param why gemma.GoneWhy
local function leave(why)
  for _, fn in ipairs(leave_hooks) do
    fn(why)
  end
  owner.release()
  idle.stop()
end

--- fn hears when this Neovim gives its model up.
---@param fn fun(why: gemma.GoneWhy)
function M.on_leave(fn)
  leave_hooks[#leave_hooks + 1] = fn
end

---@param why gemma.GoneWhy
local function give_up(why)
  local binding = jobs.binding()
  if not binding then
    return
  end
  leave(why)
  jobs.cancel_generations()
  if load_now then
    binding:cancel(load_now.job)
  end
  unload_job = binding:unload()
  M.model, M.mmproj = nil, nil
  if load_now then
    -- A load that was under way is not ours any more, however it ends.
    load_now:finish('cancel')
    load_now = nil
  end
  if M.lender then
    switch(0)
  end
  set_state('off')
  loaded('cancelled')
end

--- Gives the memory back. Running jobs end as cancelled. A user who unloads by hand wants the
--- memory: the next Insert mode does not load it again.
---@param anew boolean? it is loaded again at once, so that those who borrow may ask for it again
function M.unload(anew)
  M.kept_out = not anew
  give_up(anew and 'rested' or 'unloaded')
end

--- Gives the memory back when nobody has used it for a while; the next use loads it again.
function M.rest()
  if M.model and not M.lender and not M.busy() and not jobs.is_hashing() then
    log.info('unloaded: not used for %d seconds', config.get().unload_idle)
    M.rested = true
    give_up('rested')
  end
end

--- Ends what this Neovim asked for. What it computes for those that borrow goes on.
function M.cancel_all()
  jobs.cancel_own()
  local binding = jobs.binding()
  if load_now and M.lender then
    M.rested = true -- the other one loads for itself, and goes on
    give_up('rested')
  elseif load_now and binding then
    binding:cancel(load_now.job)
  end
end

--- Leaves, waiting at most timeout_ms for the worker.
---@param timeout_ms integer
function M.shutdown(timeout_ms)
  if not jobs.binding() then
    return
  end
  leave('closed')
  close(timeout_ms, true)
  waiters = {}
  M.state = 'off'
end

-- ---- loading -------------------------------------------------------------------------------

---@return string as in the option
local function device_now()
  return beside and 'cpu' or M.device or config.get().device
end

--- Hands a load to the library.
---@param files gemma.LoadFiles
---@return boolean
---@return string? err
local function begin_load(files)
  local conf = config.get()
  local device = device_now()
  local job, err = (jobs.binding() --[[@as gemma.Binding]]):load({
    model_path = files.path,
    mmproj_path = files.mmproj,
    device = device,
    n_threads = conf.threads,
    n_ctx = conf.n_ctx,
  })
  if not job then
    return false, err
  end
  load_now = loading.new(job, files)
  log.info('loading %s on %s', files.path, device)
  return true
end

--- Says where the model went, which is not always where it was wished to be. With 'auto' a GPU is a
--- bonus and its absence no news; a GPU that was asked for by name is missed.
local function note_device()
  local s = M.numbers() or {}
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
  switch(100, function()
    local binding = require('gemma.borrow').open(lender)
    M.lender = lender
    load_now = loading.new(binding:load({}) --[[@as integer]], { path = '' })
    return binding
  end)
  log.info('borrowing the model of pid %d', lender.pid)
  settle()
end

--- Begins to load the model, or to borrow it.
---@return gemma.State? failed the state that it leads to when it cannot even begin
---@return string? err
local function begin()
  local lender = find_lender()
  local shared = config.get().shared
  if lender and shared == 'borrow' then
    borrow(lender)
    return nil
  elseif lender and shared == 'off' then
    return 'off', ('pid %d has the model (shared is off).'):format(lender.pid)
  end
  local path, why = models.find()
  if not path and M.state == 'installing' then
    return 'installing', 'a model is being downloaded.'
  elseif not path then
    return 'nomodel', why
  end
  local binding, no_library = jobs.open()
  if not binding then
    return 'nolib', no_library
  end
  beside = lender ~= nil
  local mmproj, why_not = models.find_mmproj(path)
  sentinel.arm(device_now())
  local missed = config.get().mmproj_path and why_not or nil
  local ok, err = begin_load({ path = path, mmproj = mmproj, no_mmproj = missed })
  if not ok then
    sentinel.disarm()
    return 'error', err
  end
  settle()
end

--- Starts loading the model unless it is there. on_ready hears of the end, with an error text
--- when it failed. What cannot even be started is returned and not announced.
---@param on_ready fun(err: string?)?
---@return boolean started_or_loaded
---@return string? err
function M.load(on_ready)
  if M.model and not load_now then
    if on_ready then
      on_ready(nil)
    end
    return true
  end
  M.kept_out, M.rested = false, false
  if on_ready then
    waiters[#waiters + 1] = on_ready
  end
  if load_now then
    return true
  end
  local failed, err = begin()
  if not failed then
    return true
  end
  if on_ready then
    waiters[#waiters] = nil
  end
  owner.release()
  set_state(failed, err)
  return false, err
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

-- ---- the end of a load ---------------------------------------------------------------------

--- The model is in memory here.
local function loaded_here()
  note_device()
  if not M.is_gpu() then
    sentinel.disarm() -- nothing is left for a driver to do
  end
end

--- The other Neovim has told what it lends.
local function borrowed()
  local about = (jobs.binding() --[[@as gemma.Binding]]):about()
  M.model, M.mmproj = about.model or M.model, about.mmproj
  notify.info(('this Neovim borrows the model of pid %d.'):format(M.lender.pid))
end

--- Without the file for pictures and sounds it may load: a broken companion must not cost the user
--- the model. If it is the model itself that is broken, it will say so again.
---@param files gemma.LoadFiles
---@param text string what was wrong
---@return boolean begun
local function load_without_mmproj(files, text)
  if not files.mmproj then
    return false
  end
  local why = ('%s: %s; no pictures and sounds.'):format(vim.fs.basename(files.mmproj), text)
  return (begin_load({ path = files.path, no_mmproj = why }))
end

--- Events of the load that is under way, by kind.
---@type table<string, fun(ev: gemma.Event, load: gemma.Loading)>
local on_load = {}

function on_load.progress(ev, load)
  load:report(ev.done, ev.total)
end

function on_load.done(_, load)
  M.model, M.mmproj, no_mmproj = load.files.path, load.files.mmproj, load.files.no_mmproj
  load:finish('done')
  load_now = nil
  if M.lender then
    borrowed()
  else
    loaded_here()
  end
  log.info('loaded %s', M.model)
  if models.mark_embedded_told(M.model) then
    notify.info(('built-in toy model. :Gemma install model: %s.'):format(models.size_of_real()))
  end
  if no_mmproj then
    notify.warn(no_mmproj)
  end
  settle()
  loaded(nil)
end

function on_load.error(ev, load)
  local cancelled = errors.name(ev.code) == 'ECANCELLED'
  load:finish(cancelled and 'cancel' or 'fail', ev.text)
  if not cancelled and load_without_mmproj(load.files, ev.text) then
    return
  end
  load_now = nil
  M.model, M.mmproj = nil, nil
  sentinel.disarm()
  owner.release()
  if M.lender then
    switch(0) -- one that has no model has nothing to lend
  end
  set_state(cancelled and 'off' or 'error', not cancelled and ev.text or nil)
  if not cancelled then
    notify.error(ev.text)
    notify.event('GemmaError', { code = ev.code, msg = ev.text })
  end
  loaded(cancelled and 'cancelled' or ev.text)
end

-- ---- the loss of the model -----------------------------------------------------------------

-- By the error of the job under which the library let go of it.
local LOST_HERE = {
  EDEVICE = { why = 'device', text = 'GPU lost (driver reset), model unloaded. Try :Gemma load.' },
  ENOMODEL = { why = 'unloaded', text = 'out of memory, model unloaded. Try :Gemma load.' },
}

--- The library let go of the model under a job. Nothing loads it again unasked: it might fail
--- again.
---@param name string of the error
local function on_model_lost(name)
  if not M.model or M.lender then
    return
  end
  local lost = LOST_HERE[name]
  M.kept_out = true
  sentinel.disarm()
  give_up(lost.why)
  set_state('error', lost.text)
  notify.error(lost.text)
end

-- They come while somebody types: longer ones would ask for a key in 80 columns.
local LOST_THERE = {
  closed = 'the owner (pid %d) closed; :Gemma load to take over.',
  unloaded = 'pid %d unloaded the model; :Gemma load to load it here.',
  silent = 'pid %d has the model and does not answer; trying later.',
  differs = 'pid %d runs another gemma.nvim; restart it.',
  device = 'pid %d lost its GPU; :Gemma load to load the model here.',
}

--- The Neovim that lent its model is gone, or has it no more. Its jobs have ended before.
---@param ev gemma.Event of kind lost
local function on_lender_lost(ev)
  local lender = M.lender --[[@as gemma.Lock]]
  switch(0)
  if ev.stale then
    -- Its lock was left behind. Those who wait for the model get it here.
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
    local why = (LOST_THERE[ev.why] or ('pid %d: ' .. ev.why)):format(ev.pid)
    -- One that is only stopped or busy is asked again with the next use.
    M.rested = ev.why == 'silent'
    M.kept_out = not M.rested
    set_state('off', why)
    local tell = M.rested and notify.once or notify.warn
    tell(why)
    loaded(why)
  end
end

-- ---- jobs ----------------------------------------------------------------------------------

--- Submits a generation. Returns nil and one line when it cannot even be queued.
---@param req gemma.Request
---@return gemma.Job?
---@return string? err
function M.generate(req)
  if not jobs.binding() or not M.model then
    return nil, M.reason or 'the model is not loaded. Run :Gemma load.'
  end
  return jobs.generate(req)
end

--- The SHA-256 of a file, computed when there is nothing else to do; needs the library and no
--- model.
---@param path string
---@param o gemma.HashOpts
---@return gemma.Job?
---@return string? err
function M.hash(path, o)
  local job, err = jobs.hash(path, o)
  if not job and not jobs.binding() then
    set_state('nolib', err)
  end
  return job, err
end

jobs.listen({
  on_change = function(done)
    settle()
    if done then
      sentinel.disarm()
    end
  end,
  on_hashed = rest_later_unless_busy,
  on_model_lost = on_model_lost,
  on_event = function(ev)
    if ev.kind == 'lost' then
      on_lender_lost(ev)
    elseif load_now and ev.job == load_now.job then
      local handler = on_load[ev.kind]
      if handler then
        handler(ev, load_now)
      end
    elseif ev.job == unload_job and (ev.kind == 'done' or ev.kind == 'error') then
      unload_job = nil
      close_when_idle()
    end
  end,
  on_exit = function()
    M.shutdown(200)
  end,
})

power.on_focus(rest_later_unless_busy)

return M
