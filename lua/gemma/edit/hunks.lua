--- hunks.lua: from old and new lines to hunks, and back. Pure.

local M = {}

---@class (exact) gemma.Hunk
---@field at integer first old line, 1-based; of a pure insertion the line it comes before
---@field old string[] lines that go
---@field new string[] lines that come

--- vim.diff became vim.text.diff.
local diff = vim.text and vim.text.diff or vim.diff

--- What has to happen to old to make it new, from top to bottom.
---@param old string[]
---@param new string[]
---@return gemma.Hunk[]
function M.diff(old, new)
  local out = {}
  -- Without a newline at the end an empty list and a list of one empty line were the same.
  local a = table.concat(old, '\n') .. (#old > 0 and '\n' or '')
  local b = table.concat(new, '\n') .. (#new > 0 and '\n' or '')
  local found = diff(a, b, { result_type = 'indices', algorithm = 'histogram' })
  ---@cast found integer[][]
  for _, h in ipairs(found) do
    local start_a, count_a, start_b, count_b = h[1], h[2], h[3], h[4]
    out[#out + 1] = {
      at = count_a == 0 and start_a + 1 or start_a,
      old = vim.list_slice(old, start_a, start_a + count_a - 1),
      new = vim.list_slice(new, start_b, start_b + count_b - 1),
    }
  end
  return out
end

--- The lines with one hunk done, and the other hunks where they are then.
---@param lines string[]
---@param hunks gemma.Hunk[]
---@param n integer which
---@return string[] lines
---@return gemma.Hunk[] rest
function M.apply(lines, hunks, n)
  local hunk = hunks[n]
  local out = vim.list_slice(lines, 1, hunk.at - 1)
  vim.list_extend(out, hunk.new)
  vim.list_extend(out, lines, hunk.at + #hunk.old, #lines)
  local rest = {}
  for i, h in ipairs(hunks) do
    if i ~= n then
      local moved = i > n and #hunk.new - #hunk.old or 0
      rest[#rest + 1] = { at = h.at + moved, old = h.old, new = h.new }
    end
  end
  return out, rest
end

--- The lines with all hunks done.
---@param lines string[]
---@param hunks gemma.Hunk[]
---@return string[]
function M.all(lines, hunks)
  for n = #hunks, 1, -1 do
    lines, hunks = M.apply(lines, hunks, n)
  end
  return lines
end

---@param s string
---@param i integer byte, 1-based
---@return boolean the byte is inside a character
local function inside(s, i)
  local b = s:byte(i)
  return b ~= nil and b >= 0x80 and b < 0xC0
end

--- What differs between two lines: all but the longest common beginning and end, by whole
--- characters. Byte positions, 0-based, ends exclusive; nil when nothing is common.
---@param old string
---@param new string
---@return { old: integer[], new: integer[] }?
function M.changed(old, new)
  local n = math.min(#old, #new)
  local head = 0
  while head < n and old:byte(head + 1) == new:byte(head + 1) do
    head = head + 1
  end
  while head > 0 and (inside(old, head + 1) or inside(new, head + 1)) do
    head = head - 1
  end
  local tail = 0
  while tail < n - head and old:byte(#old - tail) == new:byte(#new - tail) do
    tail = tail + 1
  end
  while tail > 0 and inside(old, #old - tail + 1) do
    tail = tail - 1
  end
  local common = old:sub(1, head) .. old:sub(#old - tail + 1)
  if not common:find('%S') then
    return nil
  end
  return { old = { head, #old - tail }, new = { head, #new - tail } }
end

---@param lines string[]
---@return string? the white space that all lines but blank ones begin with; nil without any
local function common_indent(lines)
  local common
  for _, line in ipairs(lines) do
    if line:find('%S') then
      local space = line:match('^%s*')
      if not common then
        common = space
      end
      while common ~= space:sub(1, #common) do
        common = common:sub(1, -2)
      end
    end
  end
  return common
end

--- Models like to begin at the left margin. When all of the old lines are indented and the new
--- ones are not, they get what they lack.
---@param old string[]
---@param new string[]
---@return string[]
function M.reindent(old, new)
  local want, have = common_indent(old), common_indent(new)
  if not want or not have or #have >= #want or want:sub(1, #have) ~= have then
    return new
  end
  -- Code that really moves to the left ends where it began; lines that stay show which it is.
  local there = {}
  for _, line in ipairs(old) do
    there[line] = true
  end
  for _, line in ipairs(new) do
    if line:find('%S') and there[line] then
      return new
    end
  end
  local add = want:sub(#have + 1)
  return vim.tbl_map(function(line)
    return line:find('%S') and add .. line or line
  end, new)
end

---@param line string
---@return string
local function bare(line)
  return vim.trim(line)
end

--- Where in a file a block of code belongs: the lines that it begins and ends with are there. nil
--- when that is not plain; then the caller has to know.
---@param lines string[] the file
---@param code string[]
---@return integer? first 1-based
---@return integer? last
function M.locate(lines, code)
  local head, foot
  for _, line in ipairs(code) do
    if line:find('%S') then
      head = head or bare(line)
      foot = bare(line)
    end
  end
  if not head or #head < 4 then
    return nil
  end
  local first
  for i, line in ipairs(lines) do
    if bare(line) == head then
      if first then
        return nil -- twice: either could be meant
      end
      first = i
    end
  end
  if not first then
    return nil
  end
  -- The end: the same last line, no deeper than the first one, and nearest to as long as the code.
  local indent = #lines[first]:match('^%s*')
  local best, distance
  for i = first, #lines do
    if bare(lines[i]) == foot and #lines[i]:match('^%s*') <= indent then
      local d = math.abs(i - first + 1 - #code)
      if not distance or d < distance then
        best, distance = i, d
      end
    end
    local deeper = #lines[i]:match('^%s*') >= indent
    if i > first and lines[i]:find('%S') and not deeper then
      break
    end
  end
  if best then
    return first, best
  end
end

return M
