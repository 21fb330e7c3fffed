--- sentinel.lua: remembers across a crash that GPU work was under way.
---
--- A driver can take the whole process down, or the whole machine. A file is written before the first
--- GPU work of a session and removed once it succeeded; found at start, it means that the last session
--- died there. It holds the pid and which start of the machine that is of, so that a second Neovim that
--- is just loading is not mistaken for one that died. The CPU needs none of this. Without a folder to
--- write in nothing is remembered.

local M = {}

local util = require('gemma.util')

--- One per machine: a state folder may be shared by several, and pids of another one mean nothing.
---@return string
function M.path()
  return util.state_path('inflight-' .. util.host())
end

local armed = false
local died = false -- an earlier session, whose file this one has written over

---@param device string
function M.arm(device)
  died = M.tripped()
  if device == 'cpu' then
    return
  end
  pcall(vim.fn.mkdir, vim.fs.dirname(M.path()), 'p')
  local f = io.open(M.path(), 'w')
  if f then
    f:write(('%d %s\n%s\n'):format(vim.uv.os_getpid(), device, util.boot() or ''))
    f:close()
    armed = true
  end
end

--- Whose file is there?
---@return integer? pid 0 when it does not say; nil without a file
---@return boolean? lives
local function owner()
  local f = io.open(M.path(), 'r')
  if not f then
    return nil
  end
  local pid = f:read('*n') or 0
  f:read('*l') -- the device
  local since = f:read('*l')
  f:close()
  if util.rebooted(since) then
    return pid, false -- the machine went down with it
  end
  -- It was ours, so a process that may not be signalled is somebody else's with the same number.
  return pid, pid > 0 and vim.uv.kill(pid, 0) == 0
end

--- Another Neovim that lives may have written its own meanwhile.
local function remove()
  local pid, lives = owner()
  if pid and (pid == vim.uv.os_getpid() or not lives) then
    os.remove(M.path())
  end
end

function M.disarm()
  if armed then
    armed = false
    remove()
  end
end

--- Did an earlier session die during GPU work?
---@return boolean
function M.tripped()
  if died or armed then
    return died
  end
  local pid, lives = owner()
  return pid ~= nil and not lives
end

--- The user has seen the message and turned ghost text on again.
function M.forget()
  died = false
  if not armed then
    remove()
  end
end

return M
