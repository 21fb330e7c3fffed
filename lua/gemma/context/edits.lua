--- context/edits.lua: what was changed in other files a moment ago, old and new lines side by side:
--- who renamed something there will go on here. Pure; project.lua keeps the old text of the buffer
--- that is open. No version control is asked: this sees unsaved text too, and starts no process.

local to_char = require('gemma.context.text').to_char

local M = {}

local MAX = 15 -- edits that are remembered
local HUNKS = 4 -- of one visit to a file
local LINES = 8 -- of each side
local WIDTH = 200 -- bytes of a line

---@class gemma.Edit
---@field path string
---@field old string[]
---@field new string[]

local diff = vim.text and vim.text.diff or vim.diff

---@param lines string[]
---@param first integer 1-based
---@param n integer
---@return string[]
local function slice(lines, first, n)
  local out = {}
  for i = first, first + math.min(n, LINES) - 1 do
    out[#out + 1] = to_char((lines[i] or ''):sub(1, WIDTH))
  end
  if n > LINES then
    out[#out + 1] = '...'
  end
  return out
end

---@param lines string[]
---@return boolean
local function blank(lines)
  return not table.concat(lines):find('%S')
end

--- The differences of two versions of a file, in the order of its lines; the last ones when there
--- are many. Where only blank lines differ there is none.
---@param path string
---@param old string
---@param new string
---@return gemma.Edit[]
function M.hunks(path, old, new)
  if old == new then
    return {}
  end
  local a = vim.split(old, '\n', { plain = true })
  local b = vim.split(new, '\n', { plain = true })
  local out = {}
  local found = diff(old .. '\n', new .. '\n', { result_type = 'indices' })
  for _, h in
    ipairs(found --[[@as integer[][] ]])
  do
    local e = { path = path, old = slice(a, h[1], h[2]), new = slice(b, h[3], h[4]) }
    if not (blank(e.old) and blank(e.new)) then
      out[#out + 1] = e
    end
  end
  return vim.list_slice(out, math.max(1, #out - HUNKS + 1), #out)
end

--- Appends edits to a list and forgets the oldest.
---@param list gemma.Edit[] changed in place
---@param more gemma.Edit[]
function M.push(list, more)
  vim.list_extend(list, more)
  while #list > MAX do
    table.remove(list, 1)
  end
end

--- As text for a prompt: the newest that fit, oldest of these first.
---@param list gemma.Edit[]
---@param skip string path of the file at the cursor: its text is in the prompt as it is now
---@param budget integer bytes
---@param name fun(path: string): string
---@return string
function M.format(list, skip, budget, name)
  local out, sum, last = {}, 0, nil
  for i = #list, 1, -1 do
    local e = list[i]
    if e.path ~= skip then
      local lines = { 'File: ' .. name(e.path) }
      for _, l in ipairs(e.old) do
        lines[#lines + 1] = '- ' .. l
      end
      for _, l in ipairs(e.new) do
        lines[#lines + 1] = '+ ' .. l
      end
      local text = table.concat(lines, '\n')
      sum = sum + #text + 1
      if sum > budget then
        break
      end
      -- The same change twice (undone and done again) says nothing new.
      if text ~= last then
        table.insert(out, 1, text)
      end
      last = text
    end
  end
  return table.concat(out, '\n')
end

return M
