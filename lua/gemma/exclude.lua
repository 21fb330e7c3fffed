--- exclude.lua: which files are never read: not completed, not taken as context, not logged.
---
--- matches() is pure; is_excluded() asks it with the patterns of the options, for the name under
--- which a file was opened and for the file that it really is; buffer_is_excluded() remembers that.

local M = {}

local config = require('gemma.config')
local util = require('gemma.util')

---@class gemma.exclude.Pattern
---@field pattern string
---@field whole boolean the whole path is meant, not the file's name

---@param globs string[]
---@return gemma.exclude.Pattern[]
function M.compile(globs)
  local out = {}
  for _, glob in ipairs(globs) do
    glob = glob:gsub('^~/', function()
      return vim.fs.normalize('~') .. '/'
    end)
    out[#out + 1] = { pattern = util.glob(glob), whole = glob:find('/', 1, true) ~= nil }
  end
  return out
end

---@param patterns gemma.exclude.Pattern[]
---@param path string full path
---@return boolean
function M.matches(patterns, path)
  path = vim.fs.normalize(path):lower()
  local base = vim.fs.basename(path)
  for _, p in ipairs(patterns) do
    if (p.whole and path or base):find(p.pattern) then
      return true
    end
  end
  return false
end

local compiled = { version = -1, list = {} }

--- Is the file one that is never read? A link is what it points to, too.
---@param name string full path; '' is no file
---@return boolean
function M.is_excluded(name)
  if name == '' then
    return false
  end
  if compiled.version ~= config.version then
    -- get() may read the options for the first time, which counts as a version.
    local list = M.compile(config.get().exclude)
    compiled = { version = config.version, list = list }
  end
  if M.matches(compiled.list, name) then
    return true
  end
  local real = vim.uv.fs_realpath(name)
  return real ~= nil and real ~= name and M.matches(compiled.list, real)
end

local verdicts = {} ---@type table<integer, { name: string, version: integer, yes: boolean }> by buffer
local listening = false

--- Is the file of a buffer one that is never read? The file system is asked once after the text came from
--- there or went there: asking each time would wait for a network that hangs, and a link that was changed
--- since then says nothing of the text.
---@param buf integer not 0
---@return boolean
function M.buffer_is_excluded(buf)
  local name = vim.api.nvim_buf_get_name(buf)
  local v = verdicts[buf]
  if v and v.name == name and v.version == config.version then
    return v.yes
  end
  if not listening then
    listening = true
    -- The events before reading and writing, so that those who listen for the events after it get the new
    -- verdict.
    vim.api.nvim_create_autocmd({ 'BufReadPre', 'BufWritePre', 'BufUnload' }, {
      group = vim.api.nvim_create_augroup('gemma.exclude', {}),
      callback = function(ev)
        verdicts[ev.buf] = nil
      end,
    })
  end
  local yes = M.is_excluded(name) -- it may read the options, which counts as a version
  verdicts[buf] = { name = name, version = config.version, yes = yes }
  return yes
end

--- Why nothing of a buffer is read, as a sentence; nil when it may be.
---@param buf integer not 0
---@return string?
function M.reason(buf)
  if M.buffer_is_excluded(buf) then
    local name = vim.fs.basename(vim.api.nvim_buf_get_name(buf))
    return ('%s is excluded (exclude list).'):format(name)
  end
end

return M
