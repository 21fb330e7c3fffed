--- holes.lua: source files with holes, as the plugin's own code shows them to the model.
---
--- A hole is a stretch of text that is taken out of a buffer at the place of the cursor; what was
--- in it is the answer that the model ought to give. Used to make training prompts (prompts.lua)
--- and to judge the model (evaluate.lua), so that both see what a user's editor would send.

local M = {}

local api = vim.api

--- A small generator of its own, so that the same seed gives the same prompts in every Neovim.
---@param seed integer
---@return fun(n: integer): integer from 1 to n
function M.random(seed)
  local state = seed % 2147483647
  if state == 0 then
    state = 1
  end
  return function(n)
    state = state * 16807 % 2147483647
    return state % n + 1
  end
end

---@param path string
---@return string
function M.read(path)
  local f = assert(io.open(path, 'rb'))
  local text = f:read('*a')
  f:close()
  return text
end

---@param line string
---@return integer columns of white space; nil in a blank line
local function indent(line)
  local white = line:match('^(%s*)%S')
  if not white then
    return nil
  end
  return #white:gsub('\t', '    ')
end

--- A buffer with a file's text, named as in its own project.
---@param text string
---@param name string path as the model shall see it
---@param language string
---@return integer buf
---@return string[] lines
function M.open(text, name, language)
  local buf = api.nvim_create_buf(true, false)
  local lines = vim.split((text:gsub('\n$', '')), '\n', { plain = true })
  api.nvim_buf_set_lines(buf, 0, -1, false, lines)
  pcall(api.nvim_buf_set_name, buf, name)
  vim.bo[buf].filetype = language
  vim.bo[buf].undolevels = -1
  return buf, lines
end

---@class embedded.Hole
---@field row integer 0-based, where it begins
---@field col integer
---@field to_row integer
---@field to_col integer
---@field text string

---@param line string
---@return boolean
local function closes(line)
  return line:find('^%s*[%]%)}]') ~= nil or line:find('^%s*end%f[%W]') ~= nil
end

--- How many lines belong to what begins in a line: the block that it opens, if that is short.
---@param lines string[]
---@param row integer 1-based
---@param most integer
---@return integer
local function extent(lines, row, most)
  local base = indent(lines[row])
  if not base then
    return 1
  end
  for r = row + 1, math.min(#lines, row + most) do
    local n = indent(lines[r])
    if n and n < base then
      return 1
    elseif n and n == base then
      return closes(lines[r]) and r - row + 1 or 1
    end
  end
  return 1
end

--- A hole at a random place, or nil when the place that came up is not good for one.
---@param lines string[]
---@param rnd fun(n: integer): integer
---@return embedded.Hole?
function M.pick(lines, rnd)
  local row = rnd(#lines)
  local line = lines[row]
  local white = #line:match('^%s*')
  if #line - white < 2 or #line > 160 then
    return nil
  end
  local how = rnd(100)
  local col
  local to_row, to_col = row, #line
  if how <= 50 then
    -- The whole line, with the indentation there already or not.
    col = rnd(5) == 1 and 0 or white
  elseif how <= 92 then
    -- From somewhere in the line on, mostly the beginning of a word.
    col = white + rnd(#line - white) - 1
    if rnd(4) > 1 then
      col = (line:find('%f[%w_]', col + 1) or col + 1) - 1
    end
  else
    -- Something between two places of the line.
    col = white + rnd(#line - white) - 1
    to_col = math.min(#line, col + rnd(24))
    return { row = row - 1, col = col, to_row = row - 1, to_col = to_col,
      text = line:sub(col + 1, to_col) }
  end
  if col >= #line then
    return nil
  end
  if rnd(3) > 1 then
    to_row = row + extent(lines, row, 7) - 1
    to_col = #lines[to_row]
  end
  local text = { lines[row]:sub(col + 1) }
  for r = row + 1, to_row do
    text[#text + 1] = lines[r]
  end
  return { row = row - 1, col = col, to_row = to_row - 1, to_col = to_col,
    text = table.concat(text, '\n') }
end

--- What is missing where somebody writes a function: a hole from where this one begins to the end of the
--- function around it, if that is near.
---@param lines string[]
---@param hole embedded.Hole
---@return embedded.Hole
function M.rest(lines, hole)
  local row = hole.row + 1
  local last = hole.to_row + 1
  if indent(lines[row]) > 0 then
    for r = last + 1, math.min(#lines, row + 9) do
      if indent(lines[r]) == 0 then
        if closes(lines[r]) then
          last = r
        end
        break
      end
    end
  end
  local text = vim.list_slice(lines, row, last)
  text[1] = text[1]:sub(hole.col + 1)
  return { row = hole.row, col = hole.col, to_row = last - 1, to_col = #lines[last],
    text = table.concat(text, '\n') }
end

--- Calls fn while the hole is in the buffer. With `tail` everything after the hole is missing too.
---@param buf integer
---@param lines string[] its text
---@param hole embedded.Hole
---@param tail boolean
---@param fn fun()
function M.with(buf, lines, hole, tail, fn)
  local to_row, to_col = hole.to_row, hole.to_col
  if tail then
    to_row, to_col = #lines - 1, #lines[#lines]
  end
  require('gemma.context').forget(buf)
  api.nvim_buf_set_text(buf, hole.row, hole.col, to_row, to_col, { '' })
  fn()
  api.nvim_buf_set_lines(buf, 0, -1, false, lines)
end

--- The files of one split, in a fixed order.
---@param work string
---@param split 'train'|'held'
---@param language string
---@return { path: string, name: string, language: string, package: string }[]
function M.files(work, split, language)
  local out = {}
  for line in io.lines(work .. '/corpus/list.tsv') do
    local s, l, _, package, inside = line:match('^(.-)\t(.-)\t(.-)\t(.-)\t(.*)$')
    if s == split and l == language then
      local short = inside:gsub('^usr/share/', ''):gsub('^usr/', '')
      -- As in corpus.py.
      local file = (package .. '-' .. (inside:match('usr/share/(.*)') or inside)):gsub('[^%w_.-]+', '_')
      local parts = vim.split(short, '/')
      out[#out + 1] = {
        path = ('%s/corpus/%s/%s/%s'):format(work, split, language, file:sub(-120)),
        name = table.concat(vim.list_slice(parts, math.max(1, #parts - 2)), '/'),
        language = language,
        package = package,
      }
    end
  end
  return out
end

return M
