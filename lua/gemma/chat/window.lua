--- chat/window.lua: where an answer is shown: a float beside the cursor, or a split.
---
--- It never takes the focus by itself. A float is as high as its text, up to a limit, and says in
--- its border what can be done; a split says it in its 'winbar'.

local M = {}

local api = vim.api

---@class gemma.chat.Window
---@field win integer
---@field buf integer
---@field title string
---@field on_closed fun()
---@field room integer lines a float may have
---@field beside integer lines that there were below or above the cursor when it was opened
local Window = {}
Window.__index = Window

---@return boolean
function Window:is_open()
  return api.nvim_win_is_valid(self.win)
    and api.nvim_buf_is_valid(self.buf)
    and api.nvim_win_get_buf(self.win) == self.buf
end

---@private
function Window:watch()
  local resized = api.nvim_create_autocmd('VimResized', {
    callback = function()
      self:squeeze()
    end,
  })
  api.nvim_create_autocmd('WinClosed', {
    pattern = tostring(self.win),
    once = true,
    callback = vim.schedule_wrap(function()
      api.nvim_del_autocmd(resized)
      self.on_closed()
    end),
  })
end

---@return integer columns of a float
local function float_width()
  return math.max(10, math.min(80, vim.o.columns - 4))
end

---@return integer lines that a float may have at most
local function most_lines()
  return math.floor(vim.o.lines * 0.45)
end

--- A float that fits into the editor as it is now.
---@private
function Window:squeeze()
  if self:is_open() and self:is_float() then
    api.nvim_win_set_width(self.win, float_width())
    self.room = math.max(1, math.min(self.beside, most_lines()))
    local rows = api.nvim_win_text_height(self.win, {}).all
    api.nvim_win_set_height(self.win, math.max(1, math.min(rows, self.room)))
  end
end

--- Goes on in another window that shows the buffer: <C-w>T makes one and closes the old one.
---@return boolean there is one
function Window:move()
  local win = vim.fn.win_findbuf(self.buf)[1]
  if win then
    self.win = win
    self:watch()
  end
  return win ~= nil
end

--- Asked each time: a float becomes a split by <C-w>L, whose height is the user's.
---@return boolean
function Window:is_float()
  return api.nvim_win_get_config(self.win).relative ~= ''
end

--- What the lower border says, or the bar of a split.
---@param text string
function Window:footer(text)
  if self:is_float() then
    api.nvim_win_set_config(self.win, {
      footer = { { ' ' .. text .. ' ', 'GemmaTitle' } },
      footer_pos = 'right',
    })
  else
    local function plain(s)
      return (s:gsub('%%', '%%%%'))
    end
    local bar = '%#GemmaTitle# ' .. plain(self.title) .. ' %*%=' .. plain(text) .. ' '
    api.nvim_set_option_value('winbar', bar, { win = self.win, scope = 'local' })
  end
end

--- As high as the text, up to the room there is. Counting rows takes time in proportion to the
--- text, so it ends when the window is as high as it may be.
function Window:fit()
  if not self:is_float() or api.nvim_win_get_height(self.win) >= self.room then
    return
  end
  local rows = api.nvim_win_text_height(self.win, {}).all
  local height = math.max(1, math.min(rows, self.room))
  if height ~= api.nvim_win_get_height(self.win) then
    api.nvim_win_set_height(self.win, height)
  end
end

--- The other way, for lines that went.
function Window:shrink()
  if self:is_float() then
    local rows = api.nvim_win_text_height(self.win, {}).all
    if rows < api.nvim_win_get_height(self.win) then
      api.nvim_win_set_height(self.win, math.max(1, rows))
    end
  end
end

--- A window in which something else is shown by now is the user's, and stays.
function Window:close()
  if self:is_open() then
    -- The last window cannot be closed; then it shows something else. The cursor may be in a float.
    if not pcall(api.nvim_win_close, self.win, true) then
      pcall(api.nvim_win_call, self.win, function()
        vim.cmd.enew()
      end)
    end
  end
end

--- The user's, where the version has one and it leaves room for a title.
---@return string?
local function border()
  local ok, users = pcall(function()
    return vim.o.winborder
  end)
  if ok and users ~= '' and users ~= 'none' then
    return nil -- which means 'winborder'
  end
  return 'rounded'
end

local ROOM = 5 -- lines; with less beside the lines that were asked about, a float goes over some of them

--- Rows of the screen, from 1, that lines of the current window take.
---@param lines { first: integer, last: integer }? 1-based; the cursor's line
---@return integer? top nil when one of the lines is not visible
---@return integer? bottom
local function rows_of(lines)
  if not lines then
    -- Not screenrow(), which after a command is still that of the command line.
    local row = vim.fn.win_screenpos(0)[1] + vim.fn.winline() - 1
    return row, row
  end
  local top = vim.fn.screenpos(0, lines.first, 1).row
  local last = vim.fn.screenpos(0, lines.last, 1).row
  if top > 0 and last > 0 then
    local at = lines.last - 1
    return top, last + api.nvim_win_text_height(0, { start_row = at, end_row = at }).all - 1
  end
end

--- Below some lines when there is room, above them otherwise.
---@param lines { first: integer, last: integer }? of the current window; the cursor's line
---@return table config
---@return integer beside lines that there are
local function placement(lines)
  local top, bottom = rows_of(lines)
  local below = bottom and vim.o.lines - vim.o.cmdheight - bottom - 3 or 0
  local above = top and top - 3 or 0
  if lines and math.max(below, above) < ROOM then
    return placement(nil)
  end
  local down = below >= math.min(10, above)
  local config = {
    relative = 'cursor',
    anchor = down and 'NW' or 'SW',
    row = down and 1 or 0,
    col = 0,
    width = float_width(),
    height = 2, -- the buffer remembers the bar of a split that it was in, which needs room
    style = 'minimal',
    border = border(),
    title_pos = 'left',
  }
  if lines then
    config.relative = 'editor'
    config.row = down and bottom or top - 1
    config.col = vim.fn.screenpos(0, lines.first, 1).col - 1
  end
  return config, down and below or above
end

--- What is split: the current window or, since a float cannot be in Neovim 0.10, an ordinary one.
---@return integer win
local function ordinary_window()
  local wins = { api.nvim_get_current_win(), vim.fn.win_getid(vim.fn.winnr('#')) }
  vim.list_extend(wins, api.nvim_tabpage_list_wins(0))
  return vim.iter(wins):find(function(win)
    return win ~= 0 and api.nvim_win_get_config(win).relative == ''
  end)
end

---@param buf integer
---@param title string
---@param lines { first: integer, last: integer }? of the current window, which a float leaves in sight
---@param on_closed fun() somebody closed it
---@return gemma.chat.Window
function M.open(buf, title, lines, on_closed)
  local self =
    setmetatable({ buf = buf, title = title, on_closed = on_closed, room = 0, beside = 0 }, Window)
  local kind = require('gemma.config').get().explain.win
  local split = false
  if kind ~= 'float' then
    local config = { split = kind == 'vsplit' and 'right' or 'below', win = ordinary_window() }
    split, self.win = pcall(api.nvim_open_win, self.buf, false, config)
  end
  if not split then -- or there was no room for it
    local config
    config, self.beside = placement(lines)
    self.room = math.max(1, math.min(self.beside, most_lines()))
    config.title = { { ' ' .. self.title .. ' ', 'GemmaTitle' } }
    self.win = api.nvim_open_win(self.buf, false, config)
  end
  local function set(name, value)
    api.nvim_set_option_value(name, value, { win = self.win, scope = 'local' })
  end
  if not split then
    set('winbar', '')
    api.nvim_win_set_height(self.win, 1)
  end
  set('wrap', true)
  set('linebreak', true)
  for _, name in ipairs({ 'number', 'relativenumber', 'spell', 'list', 'cursorline', 'foldenable' }) do
    set(name, false)
  end
  set('signcolumn', 'no')
  set('foldcolumn', '0')
  set('colorcolumn', '')
  -- No conceal: with it, every count of rows parses the markdown, tens of milliseconds a time.
  set('conceallevel', 0)
  self:watch()
  return self
end

return M
