--- lock.lua: a file that says which process has something, and that a dead one no longer has it.
---
--- The file holds one JSON object with the pid. It appears whole (a link to a file that was written
--- before) and only where there is none, so that of two Neovims one gets it. The next process that looks at a
--- lock of a dead process removes it. The same goes for one from before the machine was started, since its
--- pid may belong to any program now. The folder may be shared with other machines, of whose processes this
--- kernel knows nothing: their lock counts while its file is young, and keep() keeps it young.

local M = {}

local uv = vim.uv
local util = require('gemma.util')

M.BEAT_MS = 60 * 1000 -- between two times that a file is made young
M.QUIET_S = 10 * 60 -- an older one was left behind; clocks may differ by less

---@class gemma.Lock
---@field pid integer
---@field host string? util.host() of the holder
---@field boot string? see util.boot()
---@field [string] any what the holder told

---@param text string?
---@return gemma.Lock?
local function parse(text)
  local ok, t = pcall(vim.json.decode, text or '')
  if ok and type(t) == 'table' and type(t.pid) == 'number' then
    return t
  end
end

---@param lock gemma.Lock
---@return boolean
local function is_here(lock)
  return not lock.host or lock.host == util.host()
end

---@param lock gemma.Lock?
---@return boolean
local function is_mine(lock)
  return lock ~= nil and lock.pid == uv.os_getpid() and is_here(lock)
end

--- A path in the same folder that no other process uses.
---@param path string
---@param what string
---@return string
local function beside(path, what)
  return ('%s.%s.%s.%d'):format(path, what, util.host(), uv.os_getpid())
end

--- Is the holder alive? It may be a process of another machine.
---@param path string
---@param lock gemma.Lock what stands there
---@return boolean
local function lives(path, lock)
  if not is_here(lock) then
    local stat = uv.fs_stat(path)
    return stat ~= nil and os.time() - stat.mtime.sec < M.QUIET_S
  elseif util.rebooted(lock.boot) then
    return false
  end
  local ok, _, name = uv.kill(lock.pid, 0)
  return ok == 0 or name == 'EPERM'
end

--- Takes away what is still the file that was read. Moved first and looked at again, since another
--- process may have replaced it in between; then it goes back.
---@param path string
---@param text string
local function remove(path, text)
  local aside = beside(path, 'old')
  if uv.fs_rename(path, aside) then
    if util.read_file(aside) ~= text then
      uv.fs_link(aside, path)
    end
    os.remove(aside)
  end
end

--- Returns the lock of another living process, or nil. Removes one that was left behind.
---@param path string
---@return gemma.Lock?
function M.holder(path)
  local text = util.read_file(path)
  if not text then
    return nil
  end
  local lock = parse(text)
  if not lock or not lives(path, lock) then
    remove(path, text)
    return nil
  end
  return not is_mine(lock) and lock or nil
end

--- The holder, for a message.
---@param lock gemma.Lock
---@return string
function M.who(lock)
  local pid = ('pid %d'):format(lock.pid)
  return is_here(lock) and pid or ('%s on %s'):format(pid, lock.host)
end

--- Puts the file in place unless there is one.
---@param temp string with the text
---@param path string
---@param text string
---@return boolean
local function place(temp, path, text)
  local ok, _, name = uv.fs_link(temp, path)
  if ok or name == 'EEXIST' then
    return ok == true
  end
  -- A file system without links. A reader may come before the text is there, and takes the empty
  -- file for a dead one; that is the price there.
  local fd = uv.fs_open(path, 'wx', 384)
  if not fd then
    return false
  end
  local n = uv.fs_write(fd, text) or 0
  local whole = uv.fs_close(fd) and n == #text
  if not whole then
    remove(path, text:sub(1, n))
  end
  return whole == true
end

--- Takes it, or tells who has it. Without a folder to write in there is no lock and no holder,
--- on a full disk no lock.
---@param path string
---@param info table what others should know
---@return boolean taken
---@return gemma.Lock? holder
function M.take(path, info)
  pcall(vim.fn.mkdir, vim.fs.dirname(path), 'p')
  local own = { pid = uv.os_getpid(), boot = util.boot(), host = util.host() }
  local text = vim.json.encode(vim.tbl_extend('force', info, own))
  local temp = beside(path, 'new')
  local f = io.open(temp, 'wb')
  if not f then
    return false, nil
  end
  local whole = f:write(text)
  whole = f:close() and whole -- only here a full disk shows
  if not whole then
    os.remove(temp)
    return false, M.holder(path)
  end
  local taken = false
  if is_mine(parse(util.read_file(path))) then
    taken = uv.fs_rename(temp, path) ~= nil -- what is told about it may have changed
  else
    for _ = 1, 2 do -- the second time after a dead one was taken away
      taken = taken or place(temp, path, text)
      if taken or M.holder(path) then
        break
      end
    end
  end
  os.remove(temp)
  return taken, not taken and M.holder(path) or nil
end

local kept = {} ---@type table<string, boolean> by path; false while it is touched
local timer ---@type uv.uv_timer_t?

local function touch()
  local now = os.time()
  for path, idle in pairs(kept) do
    if idle then -- or else the disk does not answer, and one thread that waits for it is enough
      kept[path] = false
      uv.fs_utime(path, now, now, function()
        if kept[path] == false then
          kept[path] = true
        end
      end)
    end
  end
end

--- Keeps a lock that was taken alive for other machines, until it is released.
---@param path string
function M.keep(path)
  kept[path] = true
  timer = timer or assert(uv.new_timer())
  if not timer:is_active() then
    timer:start(M.BEAT_MS, M.BEAT_MS, touch)
  end
end

--- Gives it back, if it is ours.
---@param path string
function M.release(path)
  kept[path] = nil
  if timer and not next(kept) then
    timer:stop()
  end
  if is_mine(parse(util.read_file(path))) then
    os.remove(path)
  end
end

--- Its holder lives but does not have the thing any more, or the pid is another program's by now.
---@param path string
---@param lock gemma.Lock as holder() gave it
function M.evict(path, lock)
  local text = util.read_file(path)
  local now = parse(text)
  if now and now.pid == lock.pid and now.server == lock.server then
    remove(path, text --[[@as string]])
  end
end

return M
