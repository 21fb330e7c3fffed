--- recall.lua: suggestions that were complete once, for when the same text is there again.
---
--- A wrong key takes ghost text down, and deleting it brings the same suggestion back without
--- asking the model again. The key is the text around the cursor, so a place that looks the same
--- is the same. Holds a few dozen, the least recently used goes first, and none for long: the rest
--- of the file changes too.

local M = {}

local MOST = 64
local LIFE_MS = 5 * 60 * 1000

---@class gemma.Recall.Place
---@field buf integer
---@field above string the end of the lines above
---@field line string the cursor's line left of the cursor
---@field right string right of the cursor, and the line below

---@class gemma.Recall.Entry : gemma.Recall.Place
---@field text string
---@field at number ms

local list = {} ---@type gemma.Recall.Entry[] most recent first

---@param place gemma.Recall.Place
---@param text string
---@param now number ms
function M.put(place, text, now)
  M.drop(place)
  local e = { text = text, at = now }
  for k, v in pairs(place) do
    e[k] = v
  end
  table.insert(list, 1, e)
  list[MOST + 1] = nil
end

---@param a gemma.Recall.Place
---@param b gemma.Recall.Place
---@return boolean
local function same(a, b)
  return a.buf == b.buf and a.line == b.line and a.above == b.above and a.right == b.right
end

--- Forgets the suggestions for this place, and those for earlier places whose text was typed up to here.
---@param place gemma.Recall.Place
function M.drop(place)
  for i = #list, 1, -1 do
    if same(list[i], place) or M.rest(list[i], place) then
      table.remove(list, i)
    end
  end
end

--- What is left of an entry at a place that lies ahead of its own on the same line.
---@param e gemma.Recall.Entry
---@param place gemma.Recall.Place
---@return string?
function M.rest(e, place)
  if e.buf ~= place.buf or #e.line > #place.line or not vim.startswith(place.line, e.line) then
    return nil
  end
  local typed = place.line:sub(#e.line + 1)
  if #typed >= #e.text or not vim.startswith(e.text, typed) then
    return nil
  end
  if e.above == place.above and e.right == place.right then
    return e.text:sub(#typed + 1)
  end
end

--- Takes out what is too old. All of the list is looked at: a use moves an entry to the front, so the
--- entries behind an old one are not necessarily older.
---@param now number ms
local function drop_old(now)
  for i = #list, 1, -1 do
    if now - list[i].at > LIFE_MS then
      table.remove(list, i)
    end
  end
end

--- The suggestion for a place, or what is left of one from a little before it.
---@param place gemma.Recall.Place
---@param now number ms
---@return string?
function M.get(place, now)
  drop_old(now)
  for i, e in ipairs(list) do
    local rest = M.rest(e, place)
    if rest then
      table.insert(list, 1, table.remove(list, i))
      return rest
    end
  end
end

--- Is anything known about this buffer?
---@param buf integer
---@return boolean
function M.knows(buf)
  for _, e in ipairs(list) do
    if e.buf == buf then
      return true
    end
  end
  return false
end

---@param buf integer? all when not given
function M.forget(buf)
  for i = #list, 1, -1 do
    if not buf or list[i].buf == buf then
      table.remove(list, i)
    end
  end
end

return M
