--- log.lua: levels, a file, and the last lines in memory. Never holds text of a buffer.

local M = {}

M.levels = { off = 0, error = 1, warn = 2, info = 3, debug = 4, trace = 5 }

local RING = 200
local MOST = 1024 * 1024 -- bytes of a file that is written on
local ring, ring_at = {}, 0
local file ---@type file*?

---@return string
function M.path()
  return vim.fs.joinpath(vim.fn.stdpath('log') --[[@as string]], 'gemma.log')
end

--- Is a message of this level kept? See the option `log`.
---@param level string
---@return boolean
function M.keeps(level)
  local want = M.levels[require('gemma.config').get().log] or M.levels.warn
  return M.levels[level] <= want
end

--- The file of this session. One that has become large steps aside, in place of the one before it.
---@return file*?
local function open()
  local path = M.path()
  pcall(vim.fn.mkdir, vim.fs.dirname(path), 'p')
  local stat = vim.uv.fs_stat(path)
  if stat and stat.size > MOST then
    vim.uv.fs_rename(path, path .. '.old')
  end
  return (io.open(path, 'a'))
end

--- Safe to call from anywhere but a fast event. Without a file the lines in memory remain.
---@param level 'error'|'warn'|'info'|'debug'|'trace'
---@param fmt string
---@param ... any
function M.write(level, fmt, ...)
  if not M.keeps(level) then
    return
  end
  local text = select('#', ...) > 0 and fmt:format(...) or fmt
  local line = ('%s %-5s %s'):format(os.date('%Y-%m-%d %H:%M:%S'), level, text:gsub('%c', ' '))
  ring_at = ring_at % RING + 1
  ring[ring_at] = line
  file = file or open()
  if file then
    file:write(line, '\n')
    file:flush()
  end
end

for level in pairs(M.levels) do
  if level ~= 'off' then
    M[level] = function(fmt, ...)
      M.write(level, fmt, ...)
    end
  end
end

--- The last lines of this session, oldest first.
---@return string[]
function M.tail()
  local out = {}
  for i = 1, RING do
    local line = ring[(ring_at + i - 1) % RING + 1]
    if line then
      out[#out + 1] = line
    end
  end
  return out
end

return M
