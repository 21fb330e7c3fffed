--- context/heads.lua: in which functions and classes a line stands, when their heads are far above.
---
--- by_indent() is pure and looks at a bounded number of lines; by_tree() uses the syntax tree when
--- there is one that is kept up to date anyway. It never makes Neovim parse a file.

local M = {}

local filter = require('gemma.filter')
local text = require('gemma.context.text')

local MAX_LOOK = 2000 -- lines upwards
local MAX_HEADS = 5
local WIDTH = 160 -- bytes of a head

--- Parts of names of syntax nodes that have a head worth showing.
local NODES =
  { 'function', 'method', 'class', 'struct', 'impl', 'interface', 'module', 'namespace' }

--- Words that go on with a block; they do not name one.
local MIDDLE = {}
for _, w in ipairs({ 'else', 'elif', 'elseif', 'elsif', 'except', 'finally', 'catch', 'rescue' }) do
  MIDDLE[w] = true
end

--- Heads by indentation: going up, each line that stands further left than all before.
---@param get fun(row: integer): string? line of a row, cut where it is long; nil before the first
---@param row integer 0-based; its own line counts as inside
---@param tabstop integer
---@return string[] outermost first
function M.by_indent(get, row, tabstop)
  local heads, least = {}, nil
  for r = row, math.max(0, row - MAX_LOOK), -1 do
    local line = get(r)
    local n = line and line:find('%S') and filter.indent(line, tabstop)
    if n then
      if least == nil then
        least = n
      elseif n < least then
        least = n
        local word = line:match('^[%s}]*([%a_]*)')
        if line:find('%w') and not MIDDLE[word] then
          table.insert(heads, 1, text.to_char(line:sub(1, WIDTH)))
        end
      end
      if least == 0 then
        break
      end
    end
  end
  return vim.list_slice(heads, 1, MAX_HEADS)
end

---@param buf integer
---@param row integer 0-based
---@return string[]? heads outermost first; nil without a tree
local function by_tree(buf, row)
  if not vim.treesitter.highlighter.active[buf] then
    return nil
  end
  local ok, parser = pcall(vim.treesitter.get_parser, buf)
  local tree = ok and parser and parser:trees()[1]
  if not tree then
    return nil
  end
  local line = text.lines(buf, row, row + 1, 400)[1] or ''
  local col = #line:match('^%s*')
  local heads = {}
  local node = tree:root():named_descendant_for_range(row, col, row, col)
  while node do
    local kind = node:type()
    local first, _, last = node:range()
    local named = vim.iter(NODES):any(function(n)
      return kind:find(n, 1, true) ~= nil
    end)
    if named and not kind:find('call', 1, true) and first < row and last > first then
      local head = text.lines(buf, first, first + 1, WIDTH)[1]
      if head and head ~= heads[1] then
        table.insert(heads, 1, head)
      end
    end
    node = node:parent()
  end
  return vim.list_slice(heads, 1, MAX_HEADS)
end

--- The heads of what a line stands in, outermost first.
---@param buf integer
---@param row integer 0-based
---@return string[]
function M.heads(buf, row)
  local ok, heads = pcall(by_tree, buf, row)
  if ok and heads then
    return heads
  end
  return M.by_indent(function(r)
    return text.lines(buf, r, r + 1, 400)[1]
  end, row, vim.bo[buf].tabstop)
end

return M
