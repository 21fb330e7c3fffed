--- lock.lua: a file that says which process has something, and that a dead one no longer has it.
---
--- The file holds one JSON object with the pid. It appears whole (a link to a file that was written
--- before) and only where there is none, so that of two Neovims one gets it. The kernel forgets
--- pids of the dead; a lock that names one is taken away by whoever finds it, as is one from before the
--- machine was started, whose pid may be anybody's now.

local M = {}

local uv = vim.uv
local util = require('gemma.util')

---@class gemma.Lock
---@field pid integer
---@field boot string? see util.boot()
---@field [string] any what the holder told

---@param path string
---@return string?
local function read(path)
  local f = io.open(path, 'rb')
  local text = f and f:read('*a')
  if f then
    f:close()
  end
  return text
end

---@param text string?
---@return gemma.Lock?
local function parse(text)
  local ok, t = pcall(vim.json.decode, text or '')
  if ok and type(t) == 'table' and type(t.pid) == 'number' then
    return t
  end
end

--- Of whomever it is: a folder may be shared.
---@param lock gemma.Lock
---@return boolean
local function lives(lock)
  if util.rebooted(lock.boot) then
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
  local aside = ('%s.%d'):format(path, uv.os_getpid())
  if uv.fs_rename(path, aside) then
    if read(aside) ~= text then
      uv.fs_link(aside, path)
    end
    os.remove(aside)
  end
end

--- Who has it: another living process, or nil.
---@param path string
---@return gemma.Lock?
function M.holder(path)
  local text = read(path)
  if not text then
    return nil
  end
  local lock = parse(text)
  if not lock or not lives(lock) then
    remove(path, text)
    return nil
  end
  return lock.pid ~= uv.os_getpid() and lock or nil
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
  local text =
    vim.json.encode(vim.tbl_extend('force', info, { pid = uv.os_getpid(), boot = util.boot() }))
  local temp = ('%s.new.%d'):format(path, uv.os_getpid())
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
  local mine = parse(read(path))
  local taken = false
  if mine and mine.pid == uv.os_getpid() then
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

--- Gives it back, if it is ours.
---@param path string
function M.release(path)
  local lock = parse(read(path))
  if lock and lock.pid == uv.os_getpid() then
    os.remove(path)
  end
end

--- Its holder lives but does not have the thing any more, or the pid is another program's by now.
---@param path string
---@param lock gemma.Lock as holder() gave it
function M.evict(path, lock)
  local text = read(path)
  local now = parse(text)
  if now and now.pid == lock.pid and now.server == lock.server then
    remove(path, text --[[@as string]])
  end
end

return M
