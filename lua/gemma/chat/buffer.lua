--- chat/buffer.lua: the buffer of an answer: text that grows at its end, thoughts folded away.
---
--- A thought is one line that says how long it is; opened, its text stands below that line. (It is
--- not a fold of Neovim's: those are not updated while somebody is in Insert mode elsewhere, and
--- 'foldlevel' and friends belong to the user.) Knows nothing of windows and questions.

local markdown = require('gemma.chat.markdown')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')

local M = {}

local api = vim.api
local colours = api.nvim_create_namespace('gemma.chat')
local marks = api.nvim_create_namespace('gemma.chat.thoughts')

---@class gemma.chat.Thought
---@field mark integer extmark on its line
---@field text string
---@field open boolean
---@field n integer lines of text in the buffer, while it is open

---@class gemma.chat.Buffer
---@field buf integer
---@field thoughts gemma.chat.Thought[]
---@field kind 'text'|'thought' of the last piece
---@field fresh boolean nothing of the answer has come yet
---@field row integer first row that is to be coloured again
---@field state string the code fence that is open before it
---@field parsed boolean a parser does the colours
local Buffer = {}
Buffer.__index = Buffer

---@return gemma.chat.Buffer
function M.new()
  local buf = api.nvim_create_buf(false, true)
  vim.bo[buf].bufhidden = 'hide'
  vim.bo[buf].modifiable = false
  vim.bo[buf].modeline = false
  vim.bo[buf].undolevels = -1
  return setmetatable({
    buf = buf,
    thoughts = {},
    kind = 'text',
    fresh = true,
    row = 0,
    state = '',
    parsed = false,
  }, Buffer)
end

--- After :bdelete there is still a buffer, without a line in it.
---@return boolean
function Buffer:is_valid()
  return api.nvim_buf_is_loaded(self.buf)
end

---@return string[]
function Buffer:lines()
  return api.nvim_buf_get_lines(self.buf, 0, -1, false)
end

--- The rows of thoughts. Each mark is asked for once: of a long conversation there are hundreds.
---@return table<integer, gemma.chat.Thought> by row
function Buffer:thought_rows()
  local rows = {}
  for _, t in ipairs(self.thoughts) do
    local at = self:row_of(t)
    if at then
      for row = at, at + (t.open and t.n or 0) do
        rows[row] = t
      end
    end
  end
  return rows
end

---@param t gemma.chat.Thought
---@return integer? row of its line
function Buffer:row_of(t)
  return api.nvim_buf_get_extmark_by_id(self.buf, marks, t.mark, {})[1]
end

--- Colours what has changed, line by line.
function Buffer:colour()
  if self.parsed then
    return
  end
  local last = api.nvim_buf_line_count(self.buf) - 1
  local lines = api.nvim_buf_get_lines(self.buf, self.row, -1, false)
  api.nvim_buf_clear_namespace(self.buf, colours, self.row, -1)
  local thoughts = self:thought_rows()
  for i, line in ipairs(lines) do
    local row = self.row + i - 1
    if thoughts[row] then
      api.nvim_buf_set_extmark(self.buf, colours, row, 0, {
        end_col = #line,
        hl_group = 'GemmaThought',
      })
    else
      local spans, state = markdown.spans(line, self.state)
      for _, s in ipairs(spans) do
        api.nvim_buf_set_extmark(self.buf, colours, row, s.first, {
          end_col = s.last,
          hl_group = s.group,
        })
      end
      -- The last line may still grow; it is looked at again.
      if row < last then
        self.state = state
      end
    end
  end
  self.row = last
end

--- From the first line on again.
function Buffer:recolour()
  self.row, self.state = 0, ''
  self:colour()
end

--- Colours by a real parser, for a finished answer that somebody reads.
function Buffer:parse()
  if not self.parsed then
    self.parsed = true
    api.nvim_buf_clear_namespace(self.buf, colours, 0, -1)
    if not pcall(vim.treesitter.start, self.buf, 'markdown') then
      vim.bo[self.buf].syntax = 'markdown'
    end
  end
end

function Buffer:unparse()
  if self.parsed then
    self.parsed = false
    pcall(vim.treesitter.stop, self.buf)
    vim.bo[self.buf].syntax = ''
    self:recolour()
  end
end

--- Text at the very end.
---@param text string
function Buffer:append(text)
  local last = api.nvim_buf_line_count(self.buf)
  local line = api.nvim_buf_get_lines(self.buf, last - 1, last, false)[1]
  local lines = vim.split(text, '\n', { plain = true })
  util.modify(self.buf, function()
    api.nvim_buf_set_text(self.buf, last - 1, #line, last - 1, #line, lines)
  end)
end

--- To the beginning of a line.
function Buffer:fresh_line()
  local last = api.nvim_buf_get_lines(self.buf, -2, -1, false)[1]
  if last ~= '' then
    self:append('\n')
  end
end

---@param t gemma.chat.Thought
---@return string
local function summary(t)
  local _, words = t.text:gsub('%S+', '')
  return ('%s thought, %s'):format(t.open and '▾' or '▸', util.count(words, 'word'))
end

---@param t gemma.chat.Thought
---@return string[]
local function body(t)
  return vim.split((t.text:gsub('%s+$', '')), '\n', { plain = true })
end

--- Puts a thought's line and, when it is open, its text where they belong.
---@param t gemma.chat.Thought
function Buffer:draw_thought(t)
  local at = self:row_of(t)
  if not at then
    return
  end
  local before = t.n
  local lines = t.open and body(t) or {}
  t.n = #lines
  table.insert(lines, 1, summary(t))
  -- Only the text of its line changes, so that the mark stays there.
  self:set_line(at, lines[1])
  util.modify(self.buf, function()
    api.nvim_buf_set_lines(self.buf, at + 1, at + 1 + before, false, vim.list_slice(lines, 2))
  end)
  if self.row > at then
    self.row = self.row + t.n - before
  end
  if not self.parsed then
    api.nvim_buf_clear_namespace(self.buf, colours, at, at + 1 + t.n)
    for i = 0, t.n do
      api.nvim_buf_set_extmark(self.buf, colours, at + i, 0, {
        end_col = #lines[i + 1],
        hl_group = 'GemmaThought',
      })
    end
  end
end

--- A piece of what the model writes, control characters and all.
---@param kind 'text'|'thought'
---@param piece string
function Buffer:write(kind, piece)
  local text = transcript.printable(piece)
  if kind == 'thought' then
    local t = self.thoughts[#self.thoughts]
    if self.kind ~= 'thought' or not t then
      if not text:find('%S') then
        return
      end
      self:fresh_line()
      local row = api.nvim_buf_line_count(self.buf) - 1
      local mark = api.nvim_buf_set_extmark(self.buf, marks, row, 0, { right_gravity = false })
      t = { mark = mark, text = '', open = false, n = 0 }
      self.thoughts[#self.thoughts + 1] = t
    end
    self.kind = 'thought'
    t.text = t.text .. text
    self:draw_thought(t)
    return
  end
  if self.kind == 'thought' then
    text = text:gsub('^%s+', '')
    if text == '' then
      return
    end
    self:append('\n\n')
  elseif self.fresh then
    text = text:gsub('^\n+', '')
  end
  self.kind = 'text'
  self.fresh = self.fresh and text == ''
  self:append(text)
  self:colour()
end

--- Blank lines at the end go: models like to leave some.
function Buffer:trim()
  local lines = self:lines()
  local last = #lines
  while last > 1 and not lines[last]:find('%S') do
    last = last - 1
  end
  if last < #lines and self.kind == 'text' then
    util.modify(self.buf, function()
      api.nvim_buf_set_lines(self.buf, last, -1, false, {})
    end)
    -- The fence that was open before the line that is the last one now is not known.
    self:recolour()
  end
end

--- A line of our own, such as a question; the answer to it begins below.
---@param lines string[]
---@return integer row of the first one
function Buffer:note(lines)
  local empty = api.nvim_buf_line_count(self.buf) == 1 and self:lines()[1] == ''
  if not empty then
    self:fresh_line()
  end
  local row = api.nvim_buf_line_count(self.buf) - 1
  self:append(table.concat(vim.tbl_map(transcript.one_line, lines), '\n') .. '\n\n')
  self.kind = 'text'
  self.fresh = true
  self:colour()
  return row
end

--- Another text for a line; marks on it stay.
---@param row integer
---@param line string
function Buffer:set_line(row, line)
  local old = api.nvim_buf_get_lines(self.buf, row, row + 1, true)[1]
  util.modify(self.buf, function()
    api.nvim_buf_set_text(self.buf, row, 0, row, #old, { line })
  end)
end

--- Opens or closes the thought at a row.
---@param row integer
---@param open boolean? what it is to be; nil: the other
---@return boolean there is one
function Buffer:toggle_thought(row, open)
  local t = self:thought_rows()[row]
  if not t then
    return false
  elseif t.open ~= open then
    t.open = not t.open
    self:draw_thought(t)
  end
  return true
end

function Buffer:delete()
  if api.nvim_buf_is_valid(self.buf) then
    api.nvim_buf_delete(self.buf, { force = true })
  end
end

return M
