--- fence.lua: blocks of code in Markdown: which line begins one, which ends it, and which hold a line.
--- Pure.

local M = {}

--- Reads a line that can begin or end a block.
---@param line string
---@return string? marks the run of ``` or ~~~; nil when the line is no fence
---@return string rest what stands behind them
---@return integer indent bytes before them
function M.read(line)
  local indent, marks, rest = line:match('^(%s*)(```+)([^`]*)$')
  if not marks then
    indent, marks, rest = line:match('^(%s*)(~~~+)(.*)$')
  end
  return marks, rest or '', #(indent or '')
end

--- Whether a fence ends the block that another one began: it is of the same kind, at least as long,
--- and nothing stands behind it. So a block may show a fence.
---@param marks string? of the line, as M.read() returns them
---@param rest string
---@param open string marks of the fence that began the block
---@return boolean
function M.ends(marks, rest, open)
  return marks ~= nil
    and marks:sub(1, 1) == open:sub(1, 1)
    and #marks >= #open
    and not rest:find('%S')
end

---@class (exact) gemma.CodeBlock
---@field first integer line of the opening fence, 1-based
---@field last integer line of the closing fence, or the last line while there is none
---@field open boolean there is none yet
---@field language string
---@field code string[]

--- The blocks of a text.
---@param lines string[]
---@return gemma.CodeBlock[]
function M.blocks(lines)
  local out, open, began = {}, nil, nil
  for i, line in ipairs(lines) do
    local marks, rest = M.read(line)
    if open and M.ends(marks, rest, began) then
      open.last, open.open = i, false
      open = nil
    elseif open then
      open.code[#open.code + 1] = line
    elseif marks then
      local language = vim.trim(rest):match('^[%w_+#.-]*')
      open = { first = i, last = #lines, open = true, language = language, code = {} }
      began = marks
      out[#out + 1] = open
    end
  end
  return out
end

--- The block around a line, or else the last complete one, or else one that is open still; nil when
--- there is none.
---@param lines string[]
---@param at integer 1-based
---@return gemma.CodeBlock?
function M.block_at(lines, at)
  local last
  for _, b in ipairs(M.blocks(lines)) do
    if at >= b.first and at <= b.last then
      return b
    end
    last = b.open and last or b
  end
  return last
end

--- A fence that nothing in these lines can close.
---@param lines string[]
---@param least integer? its length; 3
---@return string
function M.for_lines(lines, least)
  local longest = (least or 3) - 1
  for _, line in ipairs(lines) do
    local run = line:match('^%s*(```+)')
    longest = math.max(longest, run and #run or 0)
  end
  return ('`'):rep(longest + 1)
end

return M
