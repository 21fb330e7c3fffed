--- notify.lua: what the user is told. One line, a cause, one fix; always scheduled.

local M = {}

local said = {} ---@type table<string, true>

---@param msg string without the "gemma: " in front
---@param level integer
local function show(msg, level)
  vim.schedule(function()
    vim.notify('gemma: ' .. msg, level, { title = 'gemma.nvim' })
  end)
end

---@param msg string
function M.info(msg)
  show(msg, vim.log.levels.INFO)
end

---@param msg string
function M.warn(msg)
  require('gemma.log').warn(msg)
  show(msg, vim.log.levels.WARN)
end

---@param msg string
function M.error(msg)
  require('gemma.log').error(msg)
  show(msg, vim.log.levels.ERROR)
end

--- The same text is shown once in a session.
---@param msg string
function M.once(msg)
  if not said[msg] then
    said[msg] = true
    M.warn(msg)
  end
end

--- A User event with data, for statuslines and for people's own hooks.
---@param name string such as 'GemmaState'
---@param data table
function M.event(name, data)
  vim.api.nvim_exec_autocmds('User', { pattern = name, modeline = false, data = data })
end

return M
