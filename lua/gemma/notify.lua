--- notify.lua: what the user is told. One line, a cause, one fix; always scheduled.

local util = require('gemma.util')

local M = {}

local said = {} ---@type table<string, true>

--- The last message of this Insert mode: what show() was given, and as it is shown.
local unseen ---@type { msg: string, chunk: { [1]: string, [2]: string? } }?

--- Is it Neovim's own vim.notify(), which writes into the message area?
---@return boolean
local function is_plain()
  if type(vim.notify) ~= 'function' then -- a plugin's callable table, such as nvim-notify's
    return false
  end
  local info = debug.getinfo(vim.notify, 'Su')
  -- What vim.schedule_wrap() makes of a plugin's function, such as mini.notify's, is Neovim's code too,
  -- but takes any arguments.
  return not info.isvararg and (info.source == '?' or info.source:match('^@vim/') ~= nil)
end

local CUT = '… (:Gemma log)'

--- What fits the message line. A longer text would make Neovim ask for a key, which is then not typed
--- where its owner meant it; the log holds the whole of it.
---@param text string
---@return string
local function one_line(text)
  local room = vim.v.echospace
  if not is_plain() or vim.fn.strdisplaywidth(text) <= room then
    return text
  end
  local log = require('gemma.log')
  log.warn('%s', text)
  return util.fit(text, room, log.keeps('warn') and CUT or nil)
end

--- What is told in Insert mode Neovim covers with "-- INSERT --" at once. It is shown once more when
--- that is left.
---@param text string
---@param level integer
---@param msg string
local function show_again(text, level, msg)
  if not vim.api.nvim_get_mode().mode:match('^[iR]') or not vim.o.showmode or not is_plain() then
    return
  end
  local waiting = unseen ~= nil
  local hl = level == vim.log.levels.ERROR and 'ErrorMsg' or nil
  local chunk = { text, hl or level == vim.log.levels.WARN and 'WarningMsg' or nil }
  unseen = { msg = msg, chunk = chunk }
  if not waiting then
    vim.api.nvim_create_autocmd('ModeChanged', {
      pattern = '[iR]*:n*',
      once = true,
      callback = vim.schedule_wrap(function()
        local last = unseen
        unseen = nil
        if last then
          vim.api.nvim_echo({ last.chunk }, false, {})
        end
      end),
    })
  end
end

---@param msg string without the "gemma: " in front
---@param level integer
local function show(msg, level)
  vim.schedule(function()
    local text = one_line('gemma: ' .. msg)
    vim.notify(text, level, { title = 'gemma.nvim' })
    show_again(text, level, msg)
  end)
end

--- What was told is not so any more, and need not be seen when Insert mode is left.
---@param msg string
function M.past(msg)
  if unseen and unseen.msg == msg then
    unseen = nil
  end
end

---@param msg string
function M.info(msg)
  show(msg, vim.log.levels.INFO)
end

---@param msg string
function M.warn(msg)
  require('gemma.log').warn('%s', msg)
  show(msg, vim.log.levels.WARN)
end

---@param msg string
function M.error(msg)
  require('gemma.log').error('%s', msg)
  show(msg, vim.log.levels.ERROR)
end

--- Calls a function of somebody else. When it fails, that is told and the caller goes on: one bad
--- callback must not keep the others from their events.
---@param name string what it was called for
---@param fn function
---@param ... any its arguments
function M.guarded(name, fn, ...)
  local ok, err = xpcall(fn, debug.traceback, ...)
  if not ok then
    M.error(('%s: %s'):format(name, tostring(err):gsub('\n.*', '')))
    require('gemma.log').error('%s', err)
  end
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
