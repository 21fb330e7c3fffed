--- view.lua: a conversation on the screen: its buffer, the window around it with a footer, and the keys
--- there.
---
--- How a window looks is window.lua's, how a text grows buffer.lua's. Knows neither turns nor requests:
--- the keys call what its owner gave it.

local buffers = require('gemma.chat.buffer')
local notify = require('gemma.notify')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')
local windows = require('gemma.chat.window')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.chat.attachments')

local FLUSH_MS = 33 -- the screen need not be faster than the eye

-- Keys as the footer names them. A footer that is too long loses its beginning.
M.STOP = '<C-c> stops'
M.CLOSE = 'q close'
M.ASK_ON = '<CR> ask on · q close'
M.APPLY = '<CR> ask on · gy yank · ga apply · q close'

--- What the view calls: one function for a key each, and the last two for what others do to its buffer.
---@class (exact) gemma.chat.Actions
---@field close fun() also called when the window or the text is gone
---@field stop fun()
---@field yank fun()
---@field apply fun()
---@field ask_on fun()
---@field think fun()
---@field earlier fun()
---@field later fun()
---@field entered fun() the cursor came into the buffer
---@field wiped fun() the buffer was wiped out by the user

---@class gemma.chat.View
---@field buffer gemma.chat.Buffer
---@field window gemma.chat.Window? nil while it is closed
---@field hint { text: string, keys: string } what the footer says
---@field on gemma.chat.Actions
---@field marks table<gemma.Attachment, integer> extmarks on their lines
---@field pending { kind: 'text'|'thought', text: string }[] what is not on the screen yet
---@field flush fun() at most every FLUSH_MS
---@field flush_now fun()
---@field flush_no_more fun()
local View = {}
View.__index = View

---@return boolean
function View:is_open()
  return self.window ~= nil and self.window:is_open()
end

--- Whether its window stands over the text of others.
---@return boolean
function View:is_float()
  local window = self.window
  return window ~= nil and api.nvim_win_is_valid(window.win) and window:is_float()
end

--- Whether the cursor is in its window.
---@return boolean
function View:has_cursor()
  return self.window ~= nil and api.nvim_get_current_win() == self.window.win
end

--- What the lower border says, or the bar of a split.
---@param text string
---@param keys string? what they do in the window
function View:footer(text, keys)
  self.hint = { text = text, keys = keys or '' }
  self:show_footer(self:has_cursor())
end

--- The keys that bring the cursor into the window from any other.
---@private
---@return string
function View:way_in()
  local there = vim.iter(api.nvim_tabpage_list_wins(0)):filter(function(win)
    local config = api.nvim_win_get_config(win)
    return config.relative == '' or config.focusable
  end)
  local others = #there:totable() - 1
  return others > 1 and ('%d<C-w>w'):format(api.nvim_win_get_number(self.window.win)) or '<C-w>w'
end

--- Draws the footer. Outside the window keys are the user's own, such as q, which records a macro there:
--- so it tells how to get in first.
---@param inside boolean the cursor is in the window
function View:show_footer(inside)
  if not self:is_open() then
    return
  end
  local keys = self.hint.keys
  if keys ~= '' and not inside then
    keys = self:way_in() .. ', then ' .. keys
  end
  local both = self.hint.text ~= '' and keys ~= ''
  self.window:footer(self.hint.text .. (both and ' · ' or '') .. keys)
end

--- Takes a piece of what the model writes; it is on the screen a little later.
---@param kind 'text'|'thought'
---@param text string
function View:add(kind, text)
  local last = self.pending[#self.pending]
  if last and last.kind == kind then
    last.text = last.text .. text
  else
    self.pending[#self.pending + 1] = { kind = kind, text = text }
  end
  self.flush()
end

--- Puts what is pending at the end of the buffer. The window follows unless the reader went up.
---@private
function View:write()
  if #self.pending == 0 or not self.buffer:is_valid() then
    return
  end
  local buf = self.buffer.buf
  local win = self:is_open() and self.window.win
  local last = api.nvim_buf_line_count(buf)
  local follow = win and api.nvim_win_get_cursor(win)[1] == last
  local pieces = self.pending
  self.pending = {}
  for _, p in ipairs(pieces) do
    self.buffer:write(p.kind, p.text)
  end
  if win then
    self.window:fit()
  end
  if follow then
    -- Its last column: a paragraph is one line, often longer than the window.
    local row = api.nvim_buf_line_count(buf)
    local line = api.nvim_buf_get_lines(buf, row - 1, row, false)[1]
    api.nvim_win_set_cursor(win, { row, #line })
  end
end

--- Tidies up when an answer is complete.
function View:trim()
  self.buffer:trim()
  if self:is_open() then
    self.window:shrink()
  end
end

--- Puts the lines of attachments at the end.
---@param list gemma.Attachment[]
function View:attach(list)
  self.flush_now()
  local row = self.buffer:note(vim.tbl_map(transcript.attachment, list))
  for i, a in ipairs(list) do
    self.marks[a] = api.nvim_buf_set_extmark(self.buffer.buf, ns, row + i - 1, 0, {
      end_row = row + i,
      hl_group = 'GemmaMedia',
    })
  end
end

--- Writes the line of an attachment anew.
---@param a gemma.Attachment
function View:update(a)
  local row = api.nvim_buf_get_extmark_by_id(self.buffer.buf, ns, self.marks[a], {})[1]
  self.buffer:set_line(row, transcript.attachment(a))
end

--- Puts the lines of a later question at the end.
---@param question string
function View:add_question(question)
  local lines = { '', '---' }
  for _, line in ipairs(vim.split(question, '\n', { plain = true })) do
    lines[#lines + 1] = '> ' .. line
  end
  self.buffer:note(lines)
end

--- Opens or closes the thought under the cursor, or the last one.
---@param open boolean? what it is to be; nil: the other
function View:toggle_thought(open)
  local row = api.nvim_win_get_cursor(0)[1] - 1
  if self.buffer:toggle_thought(row, open) then
    return
  end
  local last = self.buffer.thoughts[#self.buffer.thoughts]
  if not last then
    return notify.info('there is no thought in this answer.')
  end
  local at = self.buffer:row_of(last)
  if at then
    self.buffer:toggle_thought(at, open)
  end
end

---@private
function View:map_keys()
  local on, buf = self.on, self.buffer.buf
  local function map(lhs, fn, desc)
    vim.keymap.set('n', lhs, fn, { buffer = buf, nowait = true, desc = 'Gemma: ' .. desc })
  end
  map('q', on.close, 'close')
  map('<C-c>', on.stop, 'stop')
  map('gy', on.yank, 'yank code')
  map('ga', on.apply, 'apply code as a diff')
  map('<CR>', on.ask_on, 'ask on')
  map('gh', on.think, 'think or do not')
  -- stylua: ignore start
  map('za', function() self:toggle_thought() end, 'open or close a thought')
  map('zo', function() self:toggle_thought(true) end, 'open a thought')
  map('zc', function() self:toggle_thought(false) end, 'close a thought')
  -- stylua: ignore end
  map('[a', on.earlier, 'earlier answer')
  map(']a', on.later, 'later answer')
end

--- Listens to what happens to the buffer.
---@private
function View:watch()
  local buffer = self.buffer
  local function on(events, fn)
    api.nvim_create_autocmd(events, { buffer = buffer.buf, callback = fn })
  end
  on('BufEnter', function()
    self.on.entered()
  end)
  on({ 'WinEnter', 'WinLeave' }, function(ev)
    if self:has_cursor() then
      self:show_footer(ev.event == 'WinEnter')
    end
  end)
  -- Windows that come and go change the way in. Behind them: they have no number yet, or have it still.
  local layout = api.nvim_create_autocmd({ 'WinNew', 'WinClosed' }, {
    callback = vim.schedule_wrap(function()
      if self.buffer == buffer and self:is_open() and not self:has_cursor() then
        self:show_footer(false)
      end
    end),
  })
  on('BufWipeout', function()
    api.nvim_del_autocmd(layout)
  end)
  on(
    'BufUnload',
    vim.schedule_wrap(function()
      if buffer:is_valid() then
        return -- :edit unloads too, and loads again
      elseif self.buffer == buffer then
        self.on.close()
      end
      buffer:delete()
    end)
  )
  on('BufWipeout', function()
    -- After :bdelete only a number goes, and the conversation stays.
    if buffer:is_valid() then
      vim.schedule(self.on.wiped)
    end
  end)
end

--- Gives the view an empty buffer: its first one, or another after :bdelete took the text.
function View:renew()
  self.buffer = buffers.new()
  self.pending, self.marks = {}, {}
  self:map_keys()
  self:watch()
end

--- Opens the window, without the cursor.
---@param title string
---@param lines { first: integer, last: integer }? of the current window, which stay in sight
function View:open(title, lines)
  local window
  window = windows.open(self.buffer.buf, title, lines, function()
    if self.window ~= window then
      return -- it may have been opened again since
    elseif window:move() then
      self:show_footer(self:has_cursor())
    else
      self.on.close()
    end
  end)
  self.window = window
  self:show_footer(self:has_cursor())
  window:fit()
end

--- Closes the window; the text stays.
function View:close()
  local window = self.window
  self.window = nil
  if window then
    window:close()
  end
end

--- Moves the cursor into the window.
function View:enter()
  api.nvim_set_current_win(self.window.win)
end

--- Moves the window's own cursor to the last line.
function View:go_to_end()
  api.nvim_win_set_cursor(self.window.win, { api.nvim_buf_line_count(self.buffer.buf), 0 })
end

--- Nothing of the view is left.
function View:delete()
  self:close()
  self.buffer:delete()
  self.flush_no_more()
end

---@param on gemma.chat.Actions
---@return gemma.chat.View with an empty buffer and no window
function M.new(on)
  local self = setmetatable({ on = on, hint = { text = '', keys = '' } }, View)
  self.flush, self.flush_now, self.flush_no_more = util.throttle(FLUSH_MS, function()
    if util.locked() then
      return self.flush() -- again a little later
    end
    self:write()
  end)
  self:renew()
  return self
end

return M
