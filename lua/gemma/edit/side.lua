--- side.lua: the text as it would be, in a window beside the buffer, both in diff mode.

local util = require('gemma.util')

local M = {}

local api = vim.api

---@class gemma.Side
---@field buf integer scratch
---@field win integer? of the scratch buffer; nil until it is open
---@field source integer window of the real one
---@field was_diff boolean it was in diff mode before
---@field closing integer? autocmd that hears of the end of either window; nil until both are there
---@field closed boolean
local Side = {}
Side.__index = Side

--- nil when there can be no window beside the buffer: it is in none of this tab page, or in a float, or
--- there is no room. Then nothing is left behind.
---@param buf integer
---@param on_closed fun() somebody closed the window, or shows something else in it
---@return gemma.Side?
function M.open(buf, on_closed)
  local source = util.window_of(buf)
  if not source then
    return nil
  end
  local self =
    setmetatable({ source = source, was_diff = vim.wo[source].diff, closed = false }, Side)
  self.buf = api.nvim_create_buf(false, true)
  vim.bo[self.buf].bufhidden = 'wipe'
  vim.bo[self.buf].undolevels = -1
  vim.bo[self.buf].modifiable = false
  vim.bo[self.buf].syntax = vim.bo[buf].filetype
  vim.bo[self.buf].tabstop = vim.bo[buf].tabstop
  vim.bo[self.buf].vartabstop = vim.bo[buf].vartabstop
  local ok = pcall(function()
    self.win = api.nvim_open_win(self.buf, false, { split = 'right', win = source })
    for _, win in ipairs({ self.win, source }) do
      api.nvim_win_call(win, function()
        vim.cmd('diffthis') -- refused for a ninth buffer
      end)
    end
  end)
  if not ok then
    self:close()
    return nil
  end
  local gone = vim.schedule_wrap(function()
    if not self.closed then
      self:close()
      on_closed()
    end
  end)
  self.closing = api.nvim_create_autocmd('WinClosed', {
    pattern = { tostring(self.win), tostring(self.source) },
    once = true,
    callback = gone,
  })
  api.nvim_create_autocmd('BufWinLeave', { buffer = self.buf, once = true, callback = gone })
  return self
end

---@param lines string[]
function Side:update(lines)
  if api.nvim_buf_is_valid(self.buf) then
    util.modify(self.buf, function()
      api.nvim_buf_set_lines(self.buf, 0, -1, false, lines)
    end)
    vim.cmd('diffupdate')
  end
end

---@param win integer
local function diffoff(win)
  api.nvim_win_call(win, function()
    vim.cmd('diffoff')
  end)
end

--- A window in which something else is shown by now is the user's, and stays.
function Side:close()
  if self.closed then
    return
  end
  self.closed = true
  if self.closing then
    -- Of its two patterns `once` removes the one that came true; after both there is none.
    pcall(api.nvim_del_autocmd, self.closing)
  end
  if api.nvim_win_is_valid(self.source) and not self.was_diff then
    diffoff(self.source)
  end
  if self.win and api.nvim_win_is_valid(self.win) then
    if api.nvim_win_get_buf(self.win) == self.buf then
      pcall(api.nvim_win_close, self.win, true)
    else
      diffoff(self.win)
    end
  end
  pcall(api.nvim_buf_delete, self.buf, { force = true })
end

return M
