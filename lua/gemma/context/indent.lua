--- context/indent.lua: how a buffer is indented: as its first lines are, and where these do not tell, as its
--- options say. Many a file does not follow its options, of which Neovim's own are tabs for every language.
---
--- The prompt begins with it, so it must not change from key to key: the lines are looked at again only
--- when there are more or fewer of them.

local M = {}

local api = vim.api
local text_of = require('gemma.context.text')

local LINES, LINE_BYTES = 200, 64
local ENOUGH = 3 -- indented lines that tell
local CLEARLY = 4 -- times as many of one kind as of the other

---@class gemma.Indent
---@field spaces boolean
---@field unit integer columns of one level

---@class gemma.indent.Seen
---@field n_lines integer of the buffer, when it was looked at
---@field spaces boolean? nil: it does not tell
---@field unit integer? of spaces

local seen = {} ---@type table<integer, gemma.indent.Seen>

---@param buf integer
function M.forget(buf)
  seen[buf] = nil
end

--- How far lines step to the right, mostly; of two that are equal the smaller one.
---@param steps table<integer, integer> how often each
---@return integer?
local function usual(steps)
  local best
  for step, n in pairs(steps) do
    if not best or n > steps[best] or n == steps[best] and step < best then
      best = step
    end
  end
  return best
end

---@param buf integer
---@return gemma.indent.Seen
local function look(buf)
  local spaces, tabs, steps, before = 0, 0, {}, 0
  for _, line in ipairs(text_of.lines(buf, 0, LINES, LINE_BYTES)) do
    local white = line:match('^([ \t]*)[^ \t]')
    if white and white:find('^\t') then
      tabs = tabs + 1
    elseif white and #white ~= 1 then -- a single blank is that of a comment
      spaces = spaces + (white == '' and 0 or 1)
      local step = #white - before
      if step > 1 then
        steps[step] = (steps[step] or 0) + 1
      end
      before = #white
    end
  end
  local found = { n_lines = api.nvim_buf_line_count(buf) }
  if spaces + tabs >= ENOUGH and (spaces > CLEARLY * tabs or tabs > CLEARLY * spaces) then
    found.spaces = spaces > tabs
    found.unit = usual(steps)
  end
  return found
end

---@param buf integer
---@return gemma.Indent
function M.of(buf)
  local is = seen[buf]
  if not is or is.n_lines ~= api.nvim_buf_line_count(buf) then
    is = look(buf)
    seen[buf] = is
  end
  local bo = vim.bo[buf]
  local own = bo.shiftwidth > 0 and bo.shiftwidth or bo.tabstop
  if is.spaces == nil then
    return { spaces = bo.expandtab, unit = own }
  end
  return { spaces = is.spaces, unit = is.spaces and is.unit or own }
end

return M
