--- source.lua: the lines that a conversation is about: where they are now, coloured while its window
--- is open.

local M = {}

local api = vim.api
local colours = api.nvim_create_namespace('gemma.chat.source')
-- Marks that only follow the lines, for as long as the conversation is kept.
local places = api.nvim_create_namespace('gemma.chat.places')

---@class gemma.chat.Source
---@field buf integer the buffer that is asked about
---@field private win integer? the window in which the question was asked
---@field around boolean? the lines were not chosen: code of the answer does not stand for all of them
---@field private place integer? extmark that follows the lines; nil when the question is about none
---@field private colour integer? extmark that colours them
local Source = {}
Source.__index = Source

---@param buf integer
---@param first integer? 1-based; nil when the question is about no lines
---@param last integer?
---@param around boolean?
---@return gemma.chat.Source
function M.new(buf, first, last, around)
  local here = api.nvim_get_current_win()
  local win = api.nvim_win_get_buf(here) == buf and here or nil
  local self = setmetatable({ buf = buf, around = around, win = win }, Source)
  if first and api.nvim_buf_is_valid(buf) then
    local mark = { end_row = last, strict = false }
    self.place = api.nvim_buf_set_extmark(buf, places, first - 1, 0, mark)
  end
  return self
end

--- Where the lines are now.
---@return integer? first 1-based; nil when they are gone
---@return integer? last
function Source:lines()
  if not self.place or not api.nvim_buf_is_valid(self.buf) then
    return nil
  end
  local pos = api.nvim_buf_get_extmark_by_id(self.buf, places, self.place, { details = true })
  if not pos[1] then
    return nil
  end
  local last = math.min(pos[3].end_row, api.nvim_buf_line_count(self.buf))
  if last > pos[1] then
    return pos[1] + 1, last
  end
end

--- The window in which they are looked at: where it was asked, or else any that shows them.
---@return integer?
function Source:window()
  local win = self.win
  if win and api.nvim_win_is_valid(win) and api.nvim_win_get_buf(win) == self.buf then
    return win
  end
  return require('gemma.util').window_of(self.buf)
end

--- The lines, if they were chosen and the current window shows their buffer.
---@return { first: integer, last: integer }?
function Source:in_sight()
  local first, last = self:lines()
  if first and last and not self.around and api.nvim_get_current_buf() == self.buf then
    return { first = first, last = last }
  end
end

--- Colours the lines.
function Source:show()
  local first, last = self:lines()
  if first then
    self.colour = api.nvim_buf_set_extmark(self.buf, colours, first - 1, 0, {
      end_row = last,
      hl_group = 'GemmaSource',
      hl_eol = true,
      strict = false,
    })
  end
end

--- Takes the colour away.
function Source:hide()
  if self.colour and api.nvim_buf_is_valid(self.buf) then
    api.nvim_buf_del_extmark(self.buf, colours, self.colour)
  end
  self.colour = nil
end

--- Follows the lines no more.
function Source:free()
  self:hide()
  if self.place and api.nvim_buf_is_valid(self.buf) then
    api.nvim_buf_del_extmark(self.buf, places, self.place)
  end
  self.place = nil
end

return M
