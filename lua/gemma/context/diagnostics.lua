--- context/diagnostics.lua: what is wrong at a place, as text for a prompt. Pure but for here() and
--- read().

local M = {}

local NAMES = { 'error', 'warning' } -- by vim.diagnostic.severity; hints say too little
local WIDTH = 160 -- bytes

local text = require('gemma.context.text')

---@param d vim.Diagnostic
---@param line string? the text it is about
---@return string
local function describe(d, line)
  local message = text.to_char((d.message or ''):match('^[^\n]*'):sub(1, WIDTH))
  local at = line and vim.trim(line) or ''
  if at == '' or #at > WIDTH then
    return ('%s: %s'):format(NAMES[d.severity], message)
  end
  return ('%s at `%s`: %s'):format(NAMES[d.severity], at, message)
end

--- Does a diagnostic touch some lines?
---@param d vim.Diagnostic
---@param first integer 0-based
---@param last integer inclusive
---@return boolean
local function touches(d, first, last)
  local stop = d.end_lnum or d.lnum
  if stop > d.lnum and d.end_col == 0 then
    stop = stop - 1 -- an end is exclusive
  end
  return d.lnum <= last and stop >= first
end

--- Those that touch some lines.
---@param list vim.Diagnostic[]
---@param first integer 0-based
---@param last integer inclusive
---@return vim.Diagnostic[]
function M.within(list, first, last)
  return vim.tbl_filter(function(d)
    return touches(d, first, last)
  end, list)
end

--- All of a buffer that touch some lines, whoever reports them.
---@param buf integer
---@param first integer 0-based
---@param last integer inclusive
---@return vim.Diagnostic[]
function M.here(buf, first, last)
  return M.within(vim.diagnostic.get(buf), first, last)
end

--- The errors and warnings that touch some lines, the worst and then the nearest first.
---@param list vim.Diagnostic[]
---@param first integer 0-based
---@param last integer inclusive
---@param get fun(row: integer): string?
---@param max integer
---@return string one line each
function M.format(list, first, last, get, max)
  local mid = (first + last) / 2
  local near = {}
  for i, d in ipairs(list) do
    if NAMES[d.severity] and touches(d, first, last) then
      near[#near + 1] = { d = d, i = i }
    end
  end
  table.sort(near, function(a, b)
    local da, db = math.abs(a.d.lnum - mid), math.abs(b.d.lnum - mid)
    if a.d.severity ~= b.d.severity then
      return a.d.severity < b.d.severity
    elseif da ~= db then
      return da < db
    end
    return a.i < b.i
  end)
  local out, seen = {}, {}
  for _, e in ipairs(near) do
    local said = describe(e.d, get(e.d.lnum))
    if not seen[said] and #out < max then
      seen[said] = true
      out[#out + 1] = said
    end
  end
  return table.concat(out, '\n')
end

--- The same of a buffer.
---@param buf integer
---@param first integer 0-based
---@param last integer inclusive
---@param max integer
---@return string
function M.read(buf, first, last, max)
  local severity = { min = vim.diagnostic.severity.WARN }
  local list = vim.diagnostic.get(buf, { severity = severity })
  if #list == 0 then
    return ''
  end
  return M.format(list, first, last, function(row)
    return text.lines(buf, row, row + 1, WIDTH + 1)[1]
  end, max)
end

return M
