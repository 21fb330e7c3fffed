--- context/diagnostics.lua: what is wrong at a place, as text for a prompt. Pure but for read().

local M = {}

local NAMES = { 'error', 'warning' } -- by vim.diagnostic.severity; hints say too little
local WIDTH = 160

---@param d vim.Diagnostic
---@param line string? the text it is about
---@return string
local function describe(d, line)
  local message = (d.message or ''):match('^[^\n]*'):sub(1, WIDTH)
  local at = line and vim.trim(line) or ''
  if at == '' or #at > WIDTH then
    return ('%s: %s'):format(NAMES[d.severity], message)
  end
  return ('%s at `%s`: %s'):format(NAMES[d.severity], at, message)
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
    if NAMES[d.severity] and d.lnum <= last and (d.end_lnum or d.lnum) >= first then
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
    local text = describe(e.d, get(e.d.lnum))
    if not seen[text] and #out < max then
      seen[text] = true
      out[#out + 1] = text
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
    return require('gemma.context.text').lines(buf, row, row + 1, WIDTH + 1)[1]
  end, max)
end

return M
