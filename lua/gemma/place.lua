--- place.lua: the place in a buffer that a suggestion was made for, and whether the buffer still
--- fits it.
---
--- What was typed at the place since then may make it grow; every other change ends it: an edit
--- elsewhere, a movement, an undo, another buffer, window or mode. Reads at most a few hundred
--- bytes around the cursor.

local M = {}

local api = vim.api
local line_len = require('gemma.context.text').line_len

local WINDOW = 128 -- bytes left and right of the cursor that must not change
local TYPED_LINES, TYPED_BYTES = 40, 4096 -- more than this was not typed through
local ABOVE_LINES = 2 -- that make two places the same, for recall.lua

---@class gemma.Place
---@field buf integer
---@field win integer
---@field row integer where the answer begins, 0-based
---@field col integer
---@field tick integer changedtick for which it was last found to fit
---@field cursor integer[] the cursor then
---@field change integer number of the undo step then
---@field left string bytes before the place
---@field right string bytes after it
---@field first_line integer first line changed since
---@field lines_after integer lines below all changes since
local Place = {}
Place.__index = Place

local current ---@type gemma.Place? changes are noted in it
local attached = {} ---@type table<integer, true>

--- Text on the cursor's line, whatever its length.
---@param buf integer
---@param row integer
---@param col integer
---@param from integer bytes left of col
---@param to integer bytes right of col
---@return string left
---@return string right
function M.around(buf, row, col, from, to)
  local len = line_len(buf, row)
  local left = api.nvim_buf_get_text(buf, row, math.max(0, col - from), row, col, {})[1]
  local right = ''
  if col < len then
    right = api.nvim_buf_get_text(buf, row, col, row, math.min(len, col + to), {})[1]
  end
  return left, right
end

--- Remembers which lines of the buffer change, so that an edit elsewhere (a formatter, another
--- plugin) is told from typing at the cursor.
---@param buf integer
local function attach(buf)
  if attached[buf] then
    return
  end
  attached[buf] = api.nvim_buf_attach(buf, false, {
    on_lines = function(_, b, _, first, _, new_last)
      local p = current
      if p and p.buf == b then
        p.first_line = math.min(p.first_line, first)
        p.lines_after = math.min(p.lines_after, api.nvim_buf_line_count(b) - new_last)
      end
    end,
    on_reload = function(_, b)
      if current and current.buf == b then
        current.first_line = -1
      end
    end,
    on_detach = function(_, b)
      attached[b] = nil
    end,
  }) or nil
end

--- How many columns behind the text of its line the cursor is, where 'virtualedit' allows that.
---@return integer
function M.beyond()
  return vim.fn.getcurpos()[4]
end

--- The cursor of the current window. It is the one place whose fate is followed from now on.
---@return gemma.Place
function M.here()
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  local row, col = pos[1] - 1, pos[2]
  local left, right = M.around(buf, row, col, WINDOW, WINDOW)
  attach(buf)
  current = setmetatable({
    buf = buf,
    win = api.nvim_get_current_win(),
    row = row,
    col = col,
    tick = api.nvim_buf_get_changedtick(buf),
    cursor = { row, col },
    change = vim.fn.changenr(),
    left = left,
    right = right,
    first_line = math.huge,
    lines_after = math.huge,
  }, Place)
  return current
end

--- May the right side differ from the one at the time of the request? Only by closers: autopairs
--- put them in, and typing over them takes them out.
---@param was string
---@param is string
---@return boolean
local function same_right(was, is)
  if was == is then
    return true
  end
  local long, short = was, is
  if #long < #short then
    long, short = short, long
  end
  local extra = #long - #short
  -- Both are windows of WINDOW bytes, so the longer text may be cut at its end.
  if extra == 0 then
    local n = is:match('^[%]%)}"\'`]+()') or was:match('^[%]%)}"\'`]+()')
    return n ~= nil
      and (is:sub(n) == was:sub(1, #is - n + 1) or was:sub(n) == is:sub(1, #was - n + 1))
  end
  local head = long:sub(1, extra)
  return head:find('^[%]%)}"\'`]+$') ~= nil and long:sub(extra + 1) == short
end

--- What was typed at the place since the request; nil when the buffer does not fit any more.
---@return string? typed
---@return string? why
function Place:typed()
  local mode = api.nvim_get_mode().mode
  if api.nvim_get_current_buf() ~= self.buf or api.nvim_get_current_win() ~= self.win then
    return nil, 'the window was left'
  elseif not mode:match('^i[cx]?$') then
    return nil, 'Insert mode was left'
  elseif M.beyond() > 0 then
    return nil, 'the cursor is behind the end of its line'
  end
  local pos = api.nvim_win_get_cursor(0)
  local row, col = pos[1] - 1, pos[2]
  local tick = api.nvim_buf_get_changedtick(self.buf)
  local moved = row ~= self.cursor[1] or col ~= self.cursor[2]
  local change = vim.fn.changenr()
  if tick == self.tick and moved then
    return nil, 'the cursor moved'
  elseif change < self.change then
    return nil, 'the text was undone'
  elseif row < self.row or (row == self.row and col < self.col) then
    return nil, 'text before it was deleted'
  elseif row - self.row > TYPED_LINES or col > self.col + TYPED_BYTES then
    return nil, 'the text changed'
  end
  local n_lines = api.nvim_buf_line_count(self.buf)
  if self.first_line < self.row or self.lines_after < n_lines - row - 1 then
    return nil, 'the text changed elsewhere'
  end
  local left = M.around(self.buf, self.row, self.col, WINDOW, 0)
  local _, right = M.around(self.buf, row, col, 0, WINDOW)
  if left ~= self.left or not same_right(self.right, right) then
    return nil, 'the text changed'
  end
  self.tick, self.cursor, self.change = tick, { row, col }, change
  local lines = api.nvim_buf_get_text(self.buf, self.row, self.col, row, col, {})
  return table.concat(lines, '\n')
end

---@param buf integer
---@param row integer
---@return string the end of a line
local function tail_of(buf, row)
  local len = line_len(buf, row)
  return api.nvim_buf_get_text(buf, row, math.max(0, len - WINDOW), row, len, {})[1]
end

--- The text around a place, by which recall.lua knows it again; with `added`, as if that text
--- stood at it.
---@param buf integer
---@param row integer
---@param col integer
---@param added string?
---@return gemma.Recall.Place
function M.likeness(buf, row, col, added)
  local lines = {}
  for r = math.max(0, row - ABOVE_LINES), row - 1 do
    lines[#lines + 1] = tail_of(buf, r)
  end
  local left, right = M.around(buf, row, col, 4 * WINDOW, WINDOW)
  local more = vim.split(added or '', '\n', { plain = true })
  more[1] = left .. more[1]
  vim.list_extend(lines, more)
  local line = table.remove(lines)
  local above = {}
  for i = math.max(1, #lines - ABOVE_LINES + 1), #lines do
    above[#above + 1] = lines[i]:sub(-WINDOW)
  end
  local below = row + 1 < api.nvim_buf_line_count(buf) and tail_of(buf, row + 1) or ''
  return {
    buf = buf,
    above = table.concat(above, '\n'),
    line = line,
    right = right .. '\n' .. below,
  }
end

return M
