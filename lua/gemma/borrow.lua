--- borrow.lua: the model of another Neovim, behind the same interface as ffi.lua.
---
--- Speaks msgpack-RPC over the other one's own pipe, by hand on a uv pipe rather than through
--- sockconnect(): connecting never waits, only notifications of ours are accepted, and the end of
--- the other process is an end-of-file at once instead of an error at the next request. Everything
--- read becomes events in a queue; a descriptor becomes readable, as with the library, and
--- next_event() hands them out. Knows the wire format of lend.lua and nothing of requests.

local errors = require('gemma.errors')

local M = {}

local uv = vim.uv

local VERSION = 2 -- of lend.lua
M.ANSWER_MS = 5000 -- how long the other Neovim may be busy with something else, or stopped
local SOUND_SECONDS = 30
local CALL = "require('gemma.lend').receive(...)"
local CLOSED = 'the Neovim with the model closed'

local serial = 0

--- What of a request can be sent: everything but its functions.
---@param req gemma.Request
---@return table
local function plain(req)
  local out = {}
  for k, v in pairs(req) do
    if type(v) ~= 'function' then
      out[k] = v
    end
  end
  out.parts = vim.tbl_map(function(part)
    if part.kind == 'image' or part.kind == 'audio' or part.kind == 'video' then
      -- The other Neovim has a folder of its own.
      return { kind = part.kind, data = vim.fn.fnamemodify(part.data, ':p') }
    elseif part.kind == 'sound' then
      return { kind = part.kind, sound = { id = part.sound.id } }
    end
    return { kind = part.kind, data = part.data }
  end, req.parts)
  return out
end

---@class gemma.Borrowed: gemma.Binding
---@field package name string of the connection, in the other Neovim
---@field package pid integer of the other Neovim
---@field package pipe uv.uv_pipe_t
---@field package patience uv.uv_timer_t
---@field package fds { read: integer, write: integer } readable when there are events
---@field package unpack_message function
---@field package queue (gemma.Event|false)[] events, from `first` on
---@field package first integer
---@field package pending table<integer, 'job'|'load'|'hash'> those without an end
---@field package last_id integer
---@field package told gemma.LenderAbout what the other one told of itself
---@field package sounds table<integer, { left: integer, over: boolean }> bytes that fit
---@field package asked boolean whether it is still there
---@field package over boolean
---@field package left boolean destroyed by us; the connection lives until the other one has heard of it
local Borrowed = {}
Borrowed.__index = Borrowed

---@param ev gemma.Event
function Borrowed:push(ev)
  if #self.queue < self.first then
    self.queue, self.first = {}, 1
    uv.fs_write(self.fds.write, 'x')
  end
  self.queue[#self.queue + 1] = ev
end

--- The other one is gone, or never was there. Once.
---@param ev { why: string, stale: boolean? }
function Borrowed:lost(ev)
  if self.over then
    return
  end
  self.over = true
  self.patience:stop()
  for id, kind in pairs(self.pending) do
    if kind == 'job' then
      self:push({ kind = 'error', job = id, code = errors.code.EDEVICE, text = CLOSED })
    end
  end
  self.pending = {}
  ev.kind = 'lost'
  ev.pid = self.pid
  self:push(ev)
end

-- ---- what is sent --------------------------------------------------------------------------

---@param method string
---@param ... any
function Borrowed:notify(method, ...)
  if not self.over then
    self.pipe:write(vim.mpack.encode({ 2, method, { ... } }), function(err)
      if err then
        self:lost({ why = 'closed' })
      end
    end)
  end
end

--- While something is pending, silence is looked into: an answer may take its time, a sign of life
--- may not. With nothing pending no timer runs.
function Borrowed:watch()
  self.patience:start(M.ANSWER_MS, 0, function()
    if self.asked then
      self:lost({ why = 'silent' })
    elseif next(self.pending) then
      self.asked = true
      self:notify('nvim_exec_lua', CALL, { self.name, 'ping', 0 })
      self:watch()
    end
  end)
end

---@param what string
---@param id integer
---@param ... any
function Borrowed:call(what, id, ...)
  self:notify('nvim_exec_lua', CALL, { self.name, what, id, ... })
  if not self.over and next(self.pending) and not self.patience:is_active() then
    self:watch()
  end
end

---@param kind 'job'|'load'|'hash'|nil what an end is waited for
---@return integer
function Borrowed:new_id(kind)
  self.last_id = self.last_id + 1
  self.pending[self.last_id] = kind
  return self.last_id
end

-- ---- what is read --------------------------------------------------------------------------

---@param ev gemma.WireEvent
function Borrowed:on_event(ev)
  if ev.kind == 'gone' then
    return self:lost({ why = ev.why })
  end
  if ev.about then
    if ev.about.version and ev.about.version ~= VERSION then
      return self:lost({ why = 'differs' })
    end
    self.told = vim.tbl_extend('force', self.told, ev.about)
    ev.about = nil
  end
  if ev.kind == 'hello' or ev.kind == 'pong' then
    return
  end
  if ev.kind == 'done' or ev.kind == 'error' then
    self.pending[ev.job] = nil
    if next(self.pending) == nil then
      self.patience:stop()
    end
  end
  self:push(ev)
end

---@param chunk string
function Borrowed:on_read(chunk)
  local at = 1
  while at <= #chunk and not self.over do
    local message
    message, at = self.unpack_message(chunk, at)
    if type(message) == 'table' and message[1] == 2 then
      if message[2] == 'gemma' then
        self:on_event(message[3][1])
      elseif message[2] == 'nvim_error_event' then
        self:lost({ why = 'differs' }) -- it has no lend.lua, or another one
      end
    end
  end
end

function Borrowed:close()
  if not self.pipe:is_closing() then
    self.pipe:close()
    self.patience:close()
  end
end

---@param server string
function Borrowed:connect(server)
  self.pipe:connect(server, function(err)
    if err then
      -- Nobody listens there any more; or it is only too busy to take us.
      local stale = err:find('^ENOENT') or err:find('^ECONNREFUSED')
      return self:lost({ why = stale and 'closed' or 'silent', stale = stale ~= nil })
    end
    self.pipe:read_start(function(read_err, chunk)
      if self.left and not chunk then
        return self:close()
      elseif read_err or not chunk then
        return self:lost({ why = 'closed' })
      end
      self.asked = false
      local ok, why = pcall(self.on_read, self, chunk)
      if not ok then
        self:lost({ why = tostring(why) })
      end
    end)
  end)
end

-- ---- the interface of ffi.lua --------------------------------------------------------------

--- Returns at once; whether anybody answers shows in the end of the first load().
---@param other gemma.Lock
---@return gemma.Binding
function M.open(other)
  serial = serial + 1
  local self = setmetatable({
    borrowed = true,
    name = ('gemma-%d-%d'):format(uv.os_getpid(), serial),
    pid = other.pid,
    pipe = assert(uv.new_pipe(false)),
    patience = assert(uv.new_timer()),
    fds = assert(uv.pipe({ nonblock = true }, { nonblock = true })),
    unpack_message = vim.mpack.Unpacker(),
    queue = {},
    first = 1,
    pending = {},
    last_id = 0,
    told = {},
    sounds = {},
    asked = false,
    over = false,
    left = false,
  }, Borrowed)
  self:connect(other.server)
  -- Written before the connection stands; libuv keeps it until then.
  local none = vim.empty_dict()
  self:notify('nvim_set_client_info', self.name, none, 'plugin', none, none)
  return self
end

function Borrowed:version()
  return self.told.lib
end
function Borrowed:cpu()
  return self.told.cpu
end
function Borrowed:about()
  return self.told
end
function Borrowed:wake_fd()
  return self.fds.read
end
function Borrowed:wake_clear()
  uv.fs_read(self.fds.read, 64)
end

function Borrowed:load()
  local id = self:new_id('load')
  self:call('load', id)
  return id
end
function Borrowed:unload()
  return self:new_id()
end
-- One that is lost has told of the end of its jobs, and would never tell of another.
function Borrowed:generate(req)
  if self.over then
    return nil, CLOSED
  end
  local id = self:new_id('job')
  self:call('generate', id, plain(req))
  return id
end
function Borrowed:hash(path)
  if self.over then
    return nil, CLOSED
  end
  local id = self:new_id('hash')
  self:call('hash', id, path)
  return id
end
function Borrowed:cancel(id)
  if self.pending[id] then
    self:call('cancel', id)
  end
end

function Borrowed:sound_create(rate, channels)
  local id = self:new_id()
  self.sounds[id] = { left = SOUND_SECONDS * rate * channels * 2, over = false }
  self:call('sound_create', id, rate, channels)
  return id
end
function Borrowed:sound_append(id, bytes)
  local sound = self.sounds[id]
  if not sound or sound.over then
    return errors.code.EINVAL
  end
  bytes = bytes:sub(1, sound.left)
  sound.left = sound.left - #bytes
  self:call('sound_append', id, bytes)
  if sound.left == 0 then
    sound.over = true
    return errors.code.ETOOLONG
  end
  return 0
end
function Borrowed:sound_end(id)
  if self.sounds[id] then
    self.sounds[id].over = true
    self:call('sound_end', id)
  end
  return 0
end
function Borrowed:sound_destroy(id)
  if self.sounds[id] then
    self.sounds[id] = nil
    self:call('sound_destroy', id)
  end
end

function Borrowed:next_event()
  local ev = self.queue[self.first]
  if ev then
    self.queue[self.first] = false
    self.first = self.first + 1
  end
  return ev or nil
end
function Borrowed:status()
  return self.told.status or {}
end

function Borrowed:destroy()
  -- What is still on its way to a connection that we close, Neovim does not look at. So the other
  -- one closes it, or the timer does.
  if self.over then
    self:close()
  else
    self:call('bye', 0)
    self.over, self.left = true, true
    self.patience:start(M.ANSWER_MS, 0, function()
      self:close()
    end)
  end
  uv.fs_close(self.fds.read)
  uv.fs_close(self.fds.write)
end

return M
