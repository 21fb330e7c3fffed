--- brackets.lua: which brackets are open, and which closers nothing has opened. Pure functions over
--- text in no particular language: quotes are skipped, comments are not known. So what is concluded
--- from them errs to the side of letting text through.

local M = {}

local OPEN = { ['('] = ')', ['['] = ']', ['{'] = '}' }
M.CLOSE = { [')'] = true, [']'] = true, ['}'] = true }
M.QUOTE = { ['"'] = true, ["'"] = true, ['`'] = true }

--- One walk over the text: what it leaves open, and what it closes without having opened it.
---@param s string
---@param quote string? a quote that is open where s begins
---@return string[] open the closers still to come, innermost last
---@return { pos: integer, char: string }[] foreign
local function walk(s, quote)
  local stack, foreign = {}, {}
  local i, n = 1, #s
  while i <= n do
    local c = s:sub(i, i)
    if c == '\\' then
      i = i + 1
    elseif quote then
      if c == quote then
        if stack[#stack] == c then
          stack[#stack] = nil
        else
          foreign[#foreign + 1] = { pos = i, char = c }
        end
        quote = nil
      elseif c == '\n' and quote ~= '`' and stack[#stack] == quote then
        -- Few languages have quotes over several lines; an apostrophe must not hide what follows.
        stack[#stack] = nil
        quote = nil
      end
    elseif M.QUOTE[c] and not (c == "'" and s:sub(i - 1, i - 1):find('%w')) then
      quote = c
      stack[#stack + 1] = c
    elseif OPEN[c] then
      stack[#stack + 1] = OPEN[c]
    elseif M.CLOSE[c] then
      if stack[#stack] == c then
        stack[#stack] = nil
      else
        foreign[#foreign + 1] = { pos = i, char = c }
      end
    end
    i = i + 1
  end
  return stack, foreign
end

--- Closing brackets and quotes of s that s itself does not open.
---@param s string
---@param quote string? a quote that is open where s begins
---@return { pos: integer, char: string }[]
function M.unpaired(s, quote)
  local _, foreign = walk(s, quote)
  return foreign
end

--- What the text before the cursor leaves open. It has to begin where nothing is open.
---@param s string
---@return string[] closers still to come, innermost last
function M.open(s)
  return (walk(s, nil))
end

--- The quote that the text before the cursor leaves open, so that a suggestion goes on within it.
---@param open string[] what M.open() gave
---@return string?
function M.within(open)
  return M.QUOTE[open[#open]] and open[#open] or nil
end

--- Where a suggestion closes a bracket that nothing has opened, neither itself nor the text before
--- it. A bracket of another kind in between is forgiven: it may stand in a comment.
---@param s string
---@param open string[] what M.open() gave
---@return integer? pos of the first such bracket
function M.surplus(s, open)
  local stack = vim.list_slice(open)
  for _, f in ipairs(M.unpaired(s, M.within(stack))) do
    local at = #stack
    while at > 0 and stack[at] ~= f.char do
      at = at - 1
    end
    if at > 0 then
      for i = #stack, at, -1 do
        stack[i] = nil
      end
    elseif M.CLOSE[f.char] then
      return f.pos
    end
  end
end

--- The quote that is open at the end of the text before the cursor, if the text after it
--- begins with the same one.
---@param before string
---@param after string
---@return string?
function M.open_quote(before, after)
  local q = after:sub(1, 1)
  if not M.QUOTE[q] then
    return nil
  end
  local plain = before:gsub('\\.', '')
  local _, count = plain:gsub(q, q)
  return count % 2 == 1 and q or nil
end

return M
