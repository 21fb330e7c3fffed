--- scope.lua: what encloses the cursor: the line that opens the block, and the brackets that are
--- still open.
---
--- Reads the tree that the highlighter has anyway and never parses: that could take long, and one
--- that is a few keys old is good enough to know the block. Without a tree the filters go by
--- indentation alone.

local brackets = require('gemma.brackets')
local filter = require('gemma.filter')

local M = {}

local api = vim.api

local BACK_LINES, BACK_BYTES = 100, 4096 -- how far brackets are looked for

--- Does a statement begin here, in front of which nothing is open? Lines of the preprocessor, labels,
--- `public:` and `else:` stand at the left margin of what is around them.
---@param line string
---@return boolean
local function begins_statement(line)
  local plain = line:gsub('%s*//.*', ''):gsub('^(%a+) slots', '%1')
  return line:find('^[%a_@]') ~= nil
    and not plain:find('^[%w_]+%s*:%s*$')
    and not plain:find('^case%s')
end

--- Lines from the start of the statement at the left margin that the cursor is in: nothing is
--- open there. nil when there is none near.
---@param buf integer
---@param row integer
---@param col integer
---@return string?
local function statement(buf, row, col)
  local first = math.max(0, row - BACK_LINES)
  local cursor = api.nvim_buf_get_offset(buf, row) + col
  while first < row and cursor - api.nvim_buf_get_offset(buf, first) > BACK_BYTES do
    first = math.ceil((first + row + 1) / 2)
  end
  if cursor - api.nvim_buf_get_offset(buf, first) > BACK_BYTES then
    return nil
  end
  local lines = api.nvim_buf_get_text(buf, first, 0, row, col, {})
  for i = #lines, 1, -1 do
    if begins_statement(lines[i]) or (first + i == 1 and lines[i]:find('^%S')) then
      return table.concat(lines, '\n', i)
    end
  end
end

---@param buf integer
---@param row integer
---@param tabstop integer
---@return integer
local function indent_of(buf, row, tabstop)
  local line = api.nvim_buf_get_lines(buf, row, row + 1, false)[1] or ''
  return filter.indent(line:sub(1, 512), tabstop)
end

--- Indentation of the line that opens the innermost block around a line of this indentation.
---@param buf integer
---@param row integer
---@param col integer
---@param base integer columns
---@param tabstop integer
---@return integer?
local function floor_of(buf, row, col, base, tabstop)
  if base == 0 or not vim.treesitter.highlighter.active[buf] then
    return nil
  end
  local ok, parser = pcall(vim.treesitter.get_parser, buf)
  if not ok or not parser then
    return nil
  end
  local at = math.max(0, col - 1)
  local found, node = pcall(parser.named_node_for_range, parser, { row, at, row, at }, {
    ignore_injections = false,
  })
  node = found and node or nil
  while node do
    local start = node:start()
    if node:type() == 'ERROR' then
      return nil
    elseif start < row then
      local indent = indent_of(buf, start, tabstop)
      if indent < base then
        return node:parent() and indent or nil
      end
    end
    node = node:parent()
  end
end

---@class gemma.Scope
---@field floor integer?
---@field open string[]?

--- Costs one look at a tree and a few hundred lines at most.
---@param buf integer
---@param row integer 0-based
---@param col integer bytes
---@param before string the line left of the cursor
---@return gemma.Scope
function M.at(buf, row, col, before)
  local tabstop = vim.bo[buf].tabstop
  local text = statement(buf, row, col)
  return {
    floor = floor_of(buf, row, col, filter.indent(before, tabstop), tabstop),
    open = text and brackets.open(text),
  }
end

return M
