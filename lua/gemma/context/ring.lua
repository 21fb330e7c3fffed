--- context/ring.lua: pieces of other buffers that may matter here: the last ones somebody looked at,
--- copied from or wrote. Pure; project.lua says when a piece is taken and where it is put.
---
--- What the model has read stays in its cache only up to the first byte that differs. So the order
--- never changes: new pieces go to the end, and what has to leave leaves in one big step.

local M = {}

local SAME = 0.9 -- more alike than this: the new piece replaces the old one
local LOCAL = 0.5 -- more of it stands at the cursor already: left out, the model would repeat it

local HEAD = 16 -- bytes that a piece needs beside its path and its lines
local LEAST = 300 -- bytes; a smaller piece tells nothing

---@class gemma.Chunk
---@field id integer grows with every piece
---@field path string
---@field lines string[]
---@field bytes integer

---@class gemma.Ring
---@field chunks gemma.Chunk[] oldest first
---@field max integer
---@field next_id integer
local Ring = {}
Ring.__index = Ring

---@param lines string[]
---@return table<string, integer> how often each line is there, without indentation and blank lines
---@return integer n
local function bag(lines)
  local set, n = {}, 0
  for _, l in ipairs(lines) do
    local key = vim.trim(l)
    if key ~= '' then
      set[key] = (set[key] or 0) + 1
      n = n + 1
    end
  end
  return set, n
end

--- How much of two texts is the same, by lines: 0 to 1.
---@param a string[]
---@param b string[]
---@return number
function M.similarity(a, b)
  local set, na = bag(a)
  local _, nb = bag(b)
  if na + nb == 0 then
    return 1
  end
  local common = 0
  for _, l in ipairs(b) do
    local key = vim.trim(l)
    if (set[key] or 0) > 0 then
      set[key] = set[key] - 1
      common = common + 1
    end
  end
  return 2 * common / (na + nb)
end

--- How much of a piece stands in another, larger text: 0 to 1.
---@param lines string[]
---@param text string[]
---@return number
function M.share(lines, text)
  local set = bag(text)
  local n, common = 0, 0
  for _, l in ipairs(lines) do
    local key = vim.trim(l)
    if key ~= '' then
      n = n + 1
      common = common + (set[key] and 1 or 0)
    end
  end
  return n == 0 and 1 or common / n
end

---@param max integer pieces; 0 keeps none
---@return gemma.Ring
function M.new(max)
  return setmetatable({ chunks = {}, max = max, next_id = 1 }, Ring)
end

--- Takes a piece in. The same text again changes nothing, so that what was read stays read.
---@param path string
---@param lines string[]
---@return boolean taken
function Ring:add(path, lines)
  if #lines < 3 or self.max == 0 then
    return false
  end
  local kept = {}
  for _, c in ipairs(self.chunks) do
    if vim.deep_equal(c.lines, lines) then
      return false
    elseif M.similarity(c.lines, lines) <= SAME then
      kept[#kept + 1] = c
    end
  end
  while #kept >= self.max do
    table.remove(kept, 1)
  end
  local bytes = #path + HEAD
  for _, l in ipairs(lines) do
    bytes = bytes + #l + 1
  end
  kept[#kept + 1] = { id = self.next_id, path = path, lines = lines, bytes = bytes }
  self.next_id = self.next_id + 1
  self.chunks = kept
  return true
end

--- The middle of a piece, where somebody was.
---@param c gemma.Chunk
---@param limit integer bytes
---@return gemma.Chunk
local function fit(c, limit)
  if c.bytes <= limit then
    return c
  end
  local mid = math.ceil(#c.lines / 2)
  local first, last, bytes = mid, mid, HEAD + #c.path + #c.lines[mid] + 1
  while true do
    local up, down = c.lines[first - 1], c.lines[last + 1]
    if up and bytes + #up + 1 <= limit then
      first, bytes = first - 1, bytes + #up + 1
    elseif down and bytes + #down + 1 <= limit then
      last, bytes = last + 1, bytes + #down + 1
    else
      break
    end
    down = c.lines[last + 1]
    if down and bytes + #down + 1 <= limit then
      last, bytes = last + 1, bytes + #down + 1
    end
  end
  return { id = c.id, path = c.path, bytes = bytes, lines = vim.list_slice(c.lines, first, last) }
end

--- The pieces for a prompt: from `first` on, none that repeats the text at the cursor, together at
--- most `budget` bytes, none more than a third of it. When they do not fit, the oldest go until
--- only half the budget is used, so that the next pieces can be appended again.
---@param first integer id of the first piece of the last prompt
---@param near string[] lines around the cursor
---@param budget integer bytes
---@return gemma.Chunk[]
---@return integer first for the next time
function Ring:select(first, near, budget)
  local list, sum = {}, 0
  local limit = math.floor(budget / 3)
  if limit < LEAST then
    return list, first
  end
  for _, whole in ipairs(self.chunks) do
    if whole.id >= first and M.share(whole.lines, near) <= LOCAL then
      local c = fit(whole, limit)
      list[#list + 1] = c
      sum = sum + c.bytes
    end
  end
  if sum > budget then
    while #list > 1 and sum > budget / 2 do
      sum = sum - list[1].bytes
      table.remove(list, 1)
    end
    first = list[1].id
  end
  return list, first
end

--- Forgets the pieces of a file.
---@param path string
function Ring:forget(path)
  self.chunks = vim.tbl_filter(function(c)
    return c.path ~= path
  end, self.chunks)
end

---@param chunks gemma.Chunk[]
---@param name fun(path: string): string
---@return string
function M.format(chunks, name)
  local out = {}
  for _, c in ipairs(chunks) do
    out[#out + 1] = ('File: %s\n%s'):format(name(c.path), table.concat(c.lines, '\n'))
  end
  return table.concat(out, '\n\n')
end

return M
