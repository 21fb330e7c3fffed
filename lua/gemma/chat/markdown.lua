--- markdown.lua: colours for Markdown while it streams. Pure, one line at a time.
---
--- A real parser looks at everything again with each word, and takes tens of milliseconds now and
--- then, while somebody types in another window. These few rules look at a line once; the parser
--- takes over when the answer is complete and someone goes there to read it.

local fence = require('gemma.chat.fence')

local M = {}

---@class (exact) gemma.md.Span
---@field first integer byte, 0-based
---@field last integer end, exclusive
---@field group string

---@param line string
---@param state string the fence that is open, or ''
---@return gemma.md.Span[] spans
---@return string state after the line
function M.spans(line, state)
  local out = {}
  local function add(first, last, group)
    out[#out + 1] = { first = first, last = last, group = group }
  end
  local marks, rest, indent = fence.read(line)
  if state ~= '' then
    if fence.ends(marks, rest, state) then
      add(indent, #line, 'GemmaFence')
      return out, ''
    end
    add(0, #line, 'GemmaCode')
    return out, state
  elseif marks then
    add(indent, #line, 'GemmaFence')
    return out, marks
  end
  if line:find('^#+ ') then
    add(0, #line, 'GemmaHeading')
    return out, ''
  end
  if line:find('^%s*> ') or line == '>' then
    add(0, #line, 'GemmaQuote')
    return out, ''
  end
  local bullet = line:match('^%s*[-*+] ') or line:match('^%s*%d+[.)] ')
  if bullet then
    add(#bullet:match('^%s*'), #bullet - 1, 'GemmaBullet')
  end
  for first, last in line:gmatch('()`[^`]+`()') do
    add(first - 1, last - 1, 'GemmaCode')
  end
  for first, last in line:gmatch('()%*%*[^*]+%*%*()') do
    add(first - 1, last - 1, 'GemmaBold')
  end
  return out, ''
end

return M
