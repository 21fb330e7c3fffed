--- borrow.lua: the model of another Neovim, behind the same interface as ffi.lua.
---
--- Speaks msgpack-RPC over the other one's own pipe, by hand on a uv pipe rather than through
--- sockconnect(): connecting never waits, only notifications of ours are accepted, and the end of
--- the other process is an end-of-file at once instead of an error at the next request. Everything
--- read becomes events in a queue; a descriptor becomes readable, as with the library, and
--- next_event() hands them out. Knows the wire format of lend.lua and nothing of requests.

local M = {}

local uv = vim.uv

local VERSION = 1 -- of lend.lua
M.ANSWER_MS = 5000 -- how long the other Neovim may be busy with something else, or stopped
local CANCELLED, INVALID, TOO_LONG, DEVICE = -7, -2, -8, -11
local SOUND_SECONDS = 30
local CALL = "require('gemma.lend').receive(...)"

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

--- Returns at once; whether anybody answers shows in the end of the first load().
---@param other gemma.Lock
---@return gemma.Binding
function M.open(other)
  serial = serial + 1
  local name = ('gemma-%d-%d'):format(uv.os_getpid(), serial)
  local pipe = assert(uv.new_pipe(false))
  local patience = assert(uv.new_timer())
  local fds = assert(uv.pipe({ nonblock = true }, { nonblock = true }))
  local unpack_message = vim.mpack.Unpacker()
  local queue, first = {}, 1 -- events, from `first` on
  local pending = {} ---@type table<integer, 'job'|'load'> those without an end
  local next_id = 0
  local names = { [CANCELLED] = 'ECANCELLED', [INVALID] = 'EINVAL', [DEVICE] = 'EDEVICE' }
  local about = {} ---@type table what the other one told of itself
  local sounds = {} ---@type table<integer, { left: integer, over: boolean }> bytes that fit
  local asked = false -- whether it is still there
  local over = false
  local left = false -- destroyed by us; the connection lives until the other one has heard of it

  local function push(ev)
    if #queue < first then
      queue, first = {}, 1
      uv.fs_write(fds.write, 'x')
    end
    queue[#queue + 1] = ev
  end

  --- The other one is gone, or never was there. Once.
  ---@param ev { why: string, stale: boolean? }
  local function lost(ev)
    if over then
      return
    end
    over = true
    patience:stop()
    for id, kind in pairs(pending) do
      if kind == 'job' then
        push({ kind = 'error', job = id, code = DEVICE, text = 'the Neovim with the model closed' })
      end
    end
    pending = {}
    ev.kind = 'lost'
    ev.pid = other.pid
    push(ev)
  end

  ---@param method string
  ---@param ... any
  local function notify(method, ...)
    if not over then
      pipe:write(vim.mpack.encode({ 2, method, { ... } }), function(err)
        if err then
          lost({ why = 'closed' })
        end
      end)
    end
  end

  --- While something is pending, silence is looked into: an answer may take its time, a sign of life
  --- may not. With nothing pending no timer runs.
  local function watch()
    patience:start(M.ANSWER_MS, 0, function()
      if asked then
        lost({ why = 'silent' })
      elseif next(pending) then
        asked = true
        notify('nvim_exec_lua', CALL, { name, 'ping', 0 })
        watch()
      end
    end)
  end

  ---@param what string
  ---@param id integer
  ---@param ... any
  local function call(what, id, ...)
    notify('nvim_exec_lua', CALL, { name, what, id, ... })
    if not over and next(pending) and not patience:is_active() then
      watch()
    end
  end

  ---@return integer
  local function new_id()
    next_id = next_id + 1
    return next_id
  end

  ---@param ev table
  local function on_event(ev)
    if ev.kind == 'gone' then
      return lost({ why = ev.why })
    end
    if ev.about then
      if ev.about.version and ev.about.version ~= VERSION then
        return lost({ why = 'differs' })
      end
      about = vim.tbl_extend('force', about, ev.about)
      ev.about = nil
    end
    if ev.kind == 'hello' or ev.kind == 'pong' then
      return
    elseif ev.kind == 'error' then
      names[ev.code] = ev.name
    end
    if ev.kind == 'done' or ev.kind == 'error' then
      pending[ev.job] = nil
      if next(pending) == nil then
        patience:stop()
      end
    end
    push(ev)
  end

  local function close()
    if not pipe:is_closing() then
      pipe:close()
      patience:close()
    end
  end

  ---@param chunk string
  local function on_read(chunk)
    local at = 1
    while at <= #chunk and not over do
      local message
      message, at = unpack_message(chunk, at)
      if type(message) == 'table' and message[1] == 2 then
        if message[2] == 'gemma' then
          on_event(message[3][1])
        elseif message[2] == 'nvim_error_event' then
          lost({ why = 'differs' }) -- it has no lend.lua, or another one
        end
      end
    end
  end

  pipe:connect(other.server, function(err)
    if err then
      -- Nobody listens there any more; or it is only too busy to take us.
      local stale = err:find('^ENOENT') or err:find('^ECONNREFUSED')
      return lost({ why = stale and 'closed' or 'silent', stale = stale ~= nil })
    end
    pipe:read_start(function(read_err, chunk)
      if left and not chunk then
        return close()
      elseif read_err or not chunk then
        return lost({ why = 'closed' })
      end
      asked = false
      local ok, why = pcall(on_read, chunk)
      if not ok then
        lost({ why = tostring(why) })
      end
    end)
  end)
  -- Written before the connection stands; libuv keeps it until then.
  notify('nvim_set_client_info', name, vim.empty_dict(), 'plugin', vim.empty_dict(), vim.empty_dict())

  ---@type gemma.Binding
  local b = { borrowed = true }

  function b.version()
    return about.lib
  end
  function b.cpu()
    return about.cpu
  end
  function b.about()
    return about
  end
  function b.err_name(code)
    return names[code] or 'EINTERNAL'
  end
  function b.wake_fd()
    return fds.read
  end
  function b.wake_clear()
    uv.fs_read(fds.read, 64)
  end

  function b.load()
    local id = new_id()
    pending[id] = 'load'
    call('load', id)
    return id
  end
  function b.unload()
    return new_id()
  end
  function b.generate(req)
    local id = new_id()
    pending[id] = 'job'
    call('generate', id, plain(req))
    return id
  end
  function b.hash(path)
    local id = new_id()
    pending[id] = 'job'
    call('hash', id, path)
    return id
  end
  function b.cancel(id)
    if pending[id] then
      call('cancel', id)
    end
  end

  function b.sound_create(rate, channels)
    local id = new_id()
    sounds[id] = { left = SOUND_SECONDS * rate * channels * 2, over = false }
    call('sound_create', id, rate, channels)
    return id
  end
  function b.sound_append(id, bytes)
    local sound = sounds[id]
    if not sound or sound.over then
      return INVALID
    end
    bytes = bytes:sub(1, sound.left)
    sound.left = sound.left - #bytes
    call('sound_append', id, bytes)
    if sound.left == 0 then
      sound.over = true
      names[TOO_LONG] = 'ETOOLONG'
      return TOO_LONG
    end
    return 0
  end
  function b.sound_end(id)
    if sounds[id] then
      sounds[id].over = true
      call('sound_end', id)
    end
    return 0
  end
  function b.sound_destroy(id)
    if sounds[id] then
      sounds[id] = nil
      call('sound_destroy', id)
    end
  end

  function b.next_event()
    local ev = queue[first]
    if ev then
      queue[first] = false
      first = first + 1
    end
    return ev or nil
  end
  function b.status()
    return about.status or {}
  end

  function b.destroy()
    -- What is still on its way to a connection that we close, Neovim does not look at. So the other
    -- one closes it, or the timer does.
    if over then
      close()
    else
      call('bye', 0)
      over, left = true, true
      patience:start(M.ANSWER_MS, 0, close)
    end
    uv.fs_close(fds.read)
    uv.fs_close(fds.write)
  end

  return b
end

return M
