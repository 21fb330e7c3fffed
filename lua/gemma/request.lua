--- request.lua: what the requests for ghost text have in common: where they stop, and what the filters
--- know about the place.

local context = require('gemma.context')
local filter = require('gemma.filter')
local indent = require('gemma.context.indent')
local pace = require('gemma.pace')
local scope = require('gemma.scope')

local M = {}

--- Languages in which a bracket may close what none has opened: a pattern of `case`.
local LONE_CLOSERS = { sh = true, bash = true, zsh = true, ksh = true, dash = true }

--- What the filters need to know about a place.
---@param buf integer
---@param row integer
---@param col integer
---@param c gemma.context.Near
---@return gemma.filter.Context
function M.filter(buf, row, col, c)
  local bo = vim.bo[buf]
  local is = indent.of(buf)
  local prose = context.is_prose(bo.filetype)
  local around = prose and {} or scope.at(buf, row, col, c.before_line)
  local max_lines = pace.max_lines()
  return {
    before = c.before_line,
    after = c.after_line,
    below = c.below_lines,
    single = max_lines == 1 or filter.weight_after(c.after_line) > 0,
    prose = prose,
    fence = c.fence,
    tabstop = bo.tabstop,
    spaces = is.spaces,
    unit = is.unit,
    max_lines = max_lines,
    floor = around.floor,
    open = not LONE_CLOSERS[bo.filetype] and around.open or nil,
  }
end

--- The same for a place between two strings, of which less is known.
---@param c gemma.context.Near
---@return gemma.filter.Context
function M.filter_between(c)
  return {
    before = c.before_line,
    after = c.after_line,
    below = c.below_lines,
    single = filter.weight_after(c.after_line) > 0,
    prose = not c.fence,
    fence = c.fence,
    tabstop = 8,
    max_lines = pace.max_lines(),
  }
end

--- Where an answer ends: with the code, or where the model takes itself for the user and closes a part of the
--- prompt (unless the file has such a tag of its own).
---@param c gemma.Context
---@param single boolean
---@return string[]
function M.stops(c, single)
  local list = {}
  if single then
    list[#list + 1] = '\n'
  end
  if c.fence then
    list[#list + 1] = '\n```'
  end
  local file = table.concat({ c.below, c.above, c.next, c.mouth }, '\n')
  for _, part in ipairs(context.AROUND) do
    if not file:find(part .. '>', 1, true) then
      list[#list + 1] = '</' .. part .. '>'
    end
  end
  return list
end

return M
