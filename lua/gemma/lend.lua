--- lend.lua: other Neovims ask the model that this one has loaded.
---
--- They connect to this Neovim's own RPC pipe and call receive(); answers go back over the same
--- connection, as notifications, so that neither side ever waits. Each request carries a number
--- that its sender chose. A borrower that is gone shows when an answer cannot be sent, or when another
--- one comes; its jobs are cancelled then. The wire format is that of borrow.lua; both know VERSION.

local engine = require('gemma.engine')
local errors = require('gemma.errors')
local log = require('gemma.log')
local sessions = require('gemma.sessions')

local M = {}

M.VERSION = 2

---@class gemma.lend.Client
---@field chan integer
---@field jobs table<integer, gemma.Job> by the borrower's number
---@field sounds table<integer, gemma.Sound>
local clients = {} ---@type table<string, gemma.lend.Client>

---@param name string
local function forget(name)
  local client = clients[name]
  clients[name] = nil
  if client then
    log.info('%s does not borrow any more', name)
    for _, job in pairs(client.jobs) do
      job:cancel()
    end
    for _, sound in pairs(client.sounds) do
      sound:drop()
    end
  end
end

---@param name string
---@param ev gemma.WireEvent
local function send(name, ev)
  local client = clients[name]
  if client and not pcall(vim.rpcnotify, client.chan, 'gemma', ev) then
    forget(name)
  end
end

--- The connection on which that name was announced.
---@param name string
---@return integer?
local function channel_of(name)
  for _, chan in ipairs(vim.api.nvim_list_chans()) do
    if chan.client and chan.client.name == name then
      return chan.id
    end
  end
end

---@param id integer
---@param err gemma.Error
---@return gemma.WireEvent
local function error_event(id, err)
  return { kind = 'error', job = id, code = err.code, text = err.text }
end

--- How a job ended.
---@param name string
---@param id integer
---@param ev gemma.WireEvent
local function over(name, id, ev)
  local client = clients[name]
  if client then
    client.jobs[id] = nil
  end
  send(name, ev)
end

--- Those that ended while nothing was sent to them are not heard of otherwise.
local function forget_dead()
  local there = {}
  for _, chan in ipairs(vim.api.nvim_list_chans()) do
    there[chan.id] = true
  end
  for name, client in pairs(clients) do
    if not there[client.chan] then
      forget(name)
    end
  end
end

--- The model is not to be had here.
---@param name string
---@param why gemma.GoneWhy
local function dismiss(name, why)
  send(name, { kind = 'gone', why = why })
  forget(name)
end

---@return gemma.LenderAbout
local function description()
  return {
    version = M.VERSION,
    pid = vim.uv.os_getpid(),
    model = engine.model,
    mmproj = engine.mmproj,
    gpu = engine.is_gpu(),
    lib = engine.version(),
    cpu = engine.cpu(),
    status = engine.numbers(),
  }
end

local receive = {}

--- Answered when the model is there.
function receive.load(name, id)
  if not engine.is_loaded() and engine.state ~= 'loading' then
    return dismiss(name, engine.kept_out and 'unloaded' or 'rested')
  end
  engine.load(function(err)
    if err == 'cancelled' then
      dismiss(name, 'rested') -- whoever uses it next may load it
    elseif err then
      send(name, error_event(id, errors.new('EBUSY', err)))
    else
      send(name, { kind = 'done', job = id, about = description() })
    end
  end)
end

---@param client gemma.lend.Client
---@param parts gemma.Part[]
local function find_sounds(client, parts)
  for _, part in ipairs(parts) do
    if part.kind == 'sound' then
      part.sound = client.sounds[part.sound.id] -- one that is gone is refused by the engine
    end
  end
end

--- Every borrower uses two of the caches, whatever number it asked for, so that it never disturbs those
--- of this Neovim and their memory stays bounded.
---@param session integer?
---@return integer
local function session_for(session)
  local typing = not session or session == sessions.GHOST or session == sessions.CANDIDATES
  return typing and sessions.BORROWED_GHOST or sessions.BORROWED
end

---@param name string
---@param id integer
---@param req gemma.Request without its callbacks
function receive.generate(name, id, req)
  local client = clients[name]
  req.lent = true
  req.session = session_for(req.session)
  req.fork_from = req.fork_from and session_for(req.fork_from)
  find_sounds(client, req.parts)
  req.on_text = function(text, logprob)
    send(name, { kind = 'text', job = id, text = text, logprob = logprob })
  end
  req.on_thought = function(text, logprob)
    send(name, { kind = 'thought', job = id, text = text, logprob = logprob })
  end
  req.on_progress = function(done, total)
    send(name, { kind = 'progress', job = id, done = done, total = total })
  end
  req.on_done = function(info)
    local ev = vim.tbl_extend('force', {}, info)
    ev.kind, ev.job = 'done', id
    ev.about = { status = engine.numbers() }
    over(name, id, ev)
  end
  req.on_error = function(err)
    over(name, id, error_event(id, err))
  end
  local job, err = engine.generate(req)
  if job then
    client.jobs[id] = job
  else
    req.on_error(errors.new('EINVAL', err --[[@as string]]))
  end
end

---@param name string
---@param id integer
---@param path string
function receive.hash(name, id, path)
  local job, err = engine.hash(path, {
    lent = true,
    on_progress = function(done, total)
      send(name, { kind = 'progress', job = id, done = done, total = total })
    end,
    on_done = function(hex)
      over(name, id, { kind = 'done', job = id, text = hex })
    end,
    on_error = function(e)
      over(name, id, error_event(id, e))
    end,
  })
  if job then
    clients[name].jobs[id] = job
  else
    over(name, id, error_event(id, errors.new('EINVAL', err --[[@as string]])))
  end
end

function receive.cancel(name, id)
  local job = clients[name].jobs[id]
  if job then
    job:cancel()
  end
end

function receive.sound_create(name, id, rate, channels)
  clients[name].sounds[id] = require('gemma.sound').create(rate, channels)
end

function receive.sound_append(name, id, bytes)
  local sound = clients[name].sounds[id]
  if sound then
    sound:append(bytes)
  end
end

function receive.sound_end(name, id)
  local sound = clients[name].sounds[id]
  if sound then
    sound:finish()
  end
end

function receive.sound_destroy(name, id)
  local sound = clients[name].sounds[id]
  clients[name].sounds[id] = nil
  if sound then
    sound:drop()
  end
end

--- Answered by the main loop, which is what may be stopped or busy; the worker may compute.
function receive.ping(name)
  send(name, { kind = 'pong' })
end

function receive.bye(name)
  local chan = clients[name].chan
  forget(name)
  pcall(vim.fn.chanclose, chan)
end

--- A message of a borrower.
---@param name string under which it announced its connection
---@param what string
---@param id integer its own number for a job or a sound
---@param ... any
function M.receive(name, what, id, ...)
  if not clients[name] or what == 'sound_create' then
    forget_dead() -- the library holds a few sounds, and theirs count
  end
  if not clients[name] then
    local chan = channel_of(name)
    if not chan then
      return
    end
    log.info('%s borrows the model', name)
    clients[name] = { chan = chan, jobs = {}, sounds = {} }
    -- At once, since loading may take its time.
    send(name, { kind = 'hello', about = { version = M.VERSION } })
  end
  local handler = receive[what]
  local ok, err
  if handler then
    ok, err = pcall(handler, name, id, ...)
  else
    err = ('unknown message %s'):format(tostring(what))
  end
  if not ok then
    log.warn('%s: %s', name, err)
    send(name, error_event(id, errors.new('EINVAL', tostring(err))))
  end
end

--- How many Neovims borrow.
---@return integer
function M.count()
  forget_dead()
  return vim.tbl_count(clients)
end

--- The model is given up.
---@param why gemma.GoneWhy
local function farewell(why)
  for name in pairs(clients) do
    dismiss(name, why)
  end
end

engine.on_leave(farewell)

return M
