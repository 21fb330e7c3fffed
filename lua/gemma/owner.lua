--- owner.lua: which Neovim of this machine has the model in memory.
---
--- The first one to load takes a lock that names its pid and its server address; others find it
--- there and borrow (borrow.lua) instead of loading a second copy. Knows nothing of models.

local lock = require('gemma.lock')
local util = require('gemma.util')

local M = {}

--- One per machine: a state folder may be shared by several.
---@return string
function M.path()
  return util.state_path('owner-' .. util.host())
end

--- The address of this Neovim's own RPC pipe; never one that a network could reach, nor one that means
--- something else in another folder, nor one of a socket that is gone: the folder for temporary files is
--- swept while an editor is open.
---@return string? address nil when there is none and none can be made
local function server()
  for _, name in ipairs(vim.fn.serverlist()) do
    local socket = name:find('^/') and vim.uv.fs_stat(name)
    if socket or name:find('^%a:[/\\]') or name:find('^\\\\') then
      return name
    end
  end
  local ok, name = pcall(vim.fn.serverstart)
  return ok and name ~= '' and name or nil
end

---@param other gemma.Lock?
---@return gemma.Lock? other if it can be talked to
local function reachable(other)
  return other and type(other.server) == 'string' and other or nil
end

--- Another Neovim that has the model and can be talked to.
---@return gemma.Lock?
function M.other()
  return reachable(lock.holder(M.path()))
end

--- From now on this Neovim has the model; or tells who was faster.
---@return boolean
---@return gemma.Lock? other
function M.take()
  local taken, other = lock.take(M.path(), { server = server() })
  return taken, reachable(other)
end

function M.release()
  lock.release(M.path())
end

--- Nobody listens at that address.
---@param other gemma.Lock
function M.evict(other)
  lock.evict(M.path(), other)
end

return M
