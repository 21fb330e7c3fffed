--- answer.lua: the window in which an answer streams. One at a time.
---
--- Owns a float beside the cursor that never takes the focus by itself, its buffer, and the
--- conversation so far, so that follow-up questions go on where the cache is warm. Does not know
--- what is being asked.

local notify = require('gemma.notify')
local util = require('gemma.util')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.answer')

local FLUSH_MS = 33 -- the screen need not be faster than the eye
local SESSION = 1 -- the chat cache

--- Something that a question is about besides text: a picture, a sound, the frames of a recording.
---@class (exact) gemma.Attachment
---@field parts gemma.Part[] what the model gets, before the question's text
---@field name string shown above the answer
---@field note string? shown too, such as "640x480" or "3.2 s"
---@field bytes integer? size of the file
---@field tokens integer? rows that it takes in the context, when known
---@field release fun()? called when the conversation is over

---@class gemma.Answer
---@field key string what was asked, to tell a repetition
---@field buf integer
---@field win integer
---@field source integer buffer that is asked about
---@field mark integer? extmark on the lines asked about
---@field system string
---@field title string
---@field history gemma.Turn[]
---@field attachments { [1]: gemma.Attachment, mark: integer }[] with the marks on their lines
---@field handle gemma.Handle? while it runs
---@field pending string[] text that is not on the screen yet
---@field flush fun() at most every FLUSH_MS
---@field flush_now fun()
---@field coloured boolean?
---@field stopped boolean? by the user
---@field room integer lines the window may have
local Answer = {}
Answer.__index = Answer

local current ---@type gemma.Answer?

--- Text for a buffer: no control characters, whatever the model wrote.
---@param s string
---@return string
function M.printable(s)
  return (s:gsub('[%z\1-\8\11-\31\127]', ''))
end

--- The line that stands for an attachment.
---@param a gemma.Attachment
---@return string
function M.attachment_line(a)
  local facts = { a.name, a.note }
  if a.bytes then
    facts[#facts + 1] = util.bytes(a.bytes)
  end
  if a.tokens then
    facts[#facts + 1] = ('%d token%s'):format(a.tokens, a.tokens == 1 and '' or 's')
  end
  return (M.printable('[' .. table.concat(facts, ' · ') .. ']'):gsub('[\n\t]', ' '))
end

---@return boolean
function Answer:is_open()
  return api.nvim_win_is_valid(self.win) and api.nvim_buf_is_valid(self.buf)
end

---@param text string
function Answer:footer(text)
  if self:is_open() then
    api.nvim_win_set_config(self.win, {
      footer = { { ' ' .. text .. ' ', 'GemmaTitle' } },
      footer_pos = 'right',
    })
  end
end

--- As high as the text, up to the room there is. Counting rows takes time in proportion to the
--- text, so it ends when the window is as high as it may be.
function Answer:fit()
  if api.nvim_win_get_height(self.win) >= self.room then
    return
  end
  local rows = api.nvim_win_text_height(self.win, {}).all
  local height = math.max(1, math.min(rows, self.room))
  if height ~= api.nvim_win_get_height(self.win) then
    api.nvim_win_set_height(self.win, height)
  end
end

--- Puts pending text at the end of the buffer; follows it unless the reader went up.
function Answer:write()
  if #self.pending == 0 or not self:is_open() then
    return
  end
  local text = M.printable(table.concat(self.pending))
  self.pending = {}
  local last = api.nvim_buf_line_count(self.buf)
  local follow = api.nvim_win_get_cursor(self.win)[1] == last
  local line = api.nvim_buf_get_lines(self.buf, last - 1, last, false)[1]
  vim.bo[self.buf].modifiable = true
  local lines = vim.split(text, '\n', { plain = true })
  api.nvim_buf_set_text(self.buf, last - 1, #line, last - 1, #line, lines)
  vim.bo[self.buf].modifiable = false
  self:fit()
  if follow then
    -- Its last column: a paragraph is one line, often longer than the window.
    local end_row = last + #lines - 1
    local end_col = (#lines == 1 and #line or 0) + #lines[#lines]
    api.nvim_win_set_cursor(self.win, { end_row, end_col })
  end
end

--- Colours, for a finished answer and once somebody is in its window. The parser for markdown
--- takes up to a tenth of a second to start and tens of milliseconds on odd text; whoever goes on
--- typing in another window must not pay for that. The filetype stays empty, because it would
--- start plugins that treat this as the user's own file.
function Answer:colour()
  if self:running() or self.coloured then
    return
  end
  self.coloured = true
  if not pcall(vim.treesitter.start, self.buf, 'markdown') then
    vim.bo[self.buf].syntax = 'markdown'
  end
end

---@param text string
function Answer:add(text)
  self.pending[#self.pending + 1] = text
  self.flush()
end

---@return boolean
function Answer:running()
  return self.handle ~= nil
end

--- Puts the line of an attachment at the end of the window.
---@param a gemma.Attachment
function Answer:attach(a)
  self.flush_now()
  local row = api.nvim_buf_line_count(self.buf) - 1
  self:add(M.attachment_line(a) .. '\n')
  self.flush_now()
  local mark = api.nvim_buf_set_extmark(self.buf, ns, row, 0, {
    end_row = row + 1,
    hl_group = 'GemmaMedia',
  })
  self.attachments[#self.attachments + 1] = { a, mark = mark }
end

--- Writes the number of tokens into the line of an attachment of which only decoding told it.
---@param info gemma.Done
function Answer:count(info)
  local list = vim.tbl_map(function(entry)
    return entry[1]
  end, self.attachments)
  local changed = require('gemma.media').learn(list, info.n_media)
  for _, entry in ipairs(self.attachments) do
    if entry[1] == changed then
      local row = api.nvim_buf_get_extmark_by_id(self.buf, ns, entry.mark, {})[1]
      local old = api.nvim_buf_get_lines(self.buf, row, row + 1, true)[1]
      vim.bo[self.buf].modifiable = true
      api.nvim_buf_set_text(self.buf, row, 0, row, #old, { M.attachment_line(entry[1]) })
      vim.bo[self.buf].modifiable = false
    end
  end
end

--- Asks the next question of this conversation.
---@param prompt string what the model gets
---@param max_tokens integer
---@param attachments gemma.Attachment[]? shown above the answer, and given to the model
function Answer:ask(prompt, max_tokens, attachments)
  local parts = {} ---@type gemma.Part[]
  for _, a in ipairs(attachments or {}) do
    vim.list_extend(parts, a.parts)
    self:attach(a)
  end
  if #parts > 0 then
    self:add('\n')
    self.flush_now()
  end
  if self.coloured then
    self.coloured = false
    vim.treesitter.stop(self.buf)
  end
  -- The turns themselves do not change, and what their parts point to cannot be copied.
  local history = vim.list_extend({}, self.history)
  self.history[#self.history + 1] = { role = 'user', text = prompt, parts = parts }
  self:footer(require('gemma.engine').is_loaded() and 'reading' or 'loading the model')
  notify.event('GemmaAnswerStart', { buf = self.buf, source = self.source })
  local answered = false
  local handle
  handle = require('gemma').ask({
    system = self.system,
    history = history,
    parts = parts,
    prompt = prompt,
    session = SESSION,
    max_tokens = max_tokens,
    on_progress = function(done, total)
      if not answered and total > 0 then
        self:footer(('reading %d %%'):format(done * 100 / total))
      end
    end,
    on_token = function(text)
      if not answered then
        answered = true
        self:footer('writing · <C-c> stops')
      end
      self:add(text)
    end,
    on_done = function(text, info)
      if self.handle == handle then
        self.handle = nil
      end
      self:finished(text, info)
    end,
  })
  self.handle = handle
end

---@param text string?
---@param info gemma.Done|string
function Answer:finished(text, info)
  if not self:is_open() then
    return
  end
  self.flush_now()
  if api.nvim_get_current_win() == self.win then
    self:colour()
  end
  if text then
    self:count(info --[[@as gemma.Done]])
    self.history[#self.history + 1] = { role = 'model', text = text }
    local cut = info.reason == 'length' and 'cut at the limit · ' or ''
    self:footer(cut .. '<CR> ask on · gy yank · q close')
  else
    -- An unanswered question must not stand in the next prompt.
    self.history[#self.history] = nil
    local stopped = self.stopped
    self.stopped = nil
    self:footer(stopped and 'stopped · q close' or 'failed · q close')
    if not stopped then
      self:add(('gemma: %s'):format(info))
      self.flush_now()
    end
  end
  notify.event('GemmaAnswerDone', { buf = self.buf, source = self.source, ok = text ~= nil })
end

function Answer:stop()
  if self.handle then
    self.stopped = true
    self.handle.cancel()
  end
end

--- Everything open() made goes.
function Answer:close()
  if current == self then
    current = nil
  end
  self:stop()
  if self.mark and api.nvim_buf_is_valid(self.source) then
    api.nvim_buf_del_extmark(self.source, ns, self.mark)
  end
  for _, entry in ipairs(self.attachments) do
    if entry[1].release then
      entry[1].release()
    end
  end
  self.attachments = {}
  if api.nvim_win_is_valid(self.win) then
    api.nvim_win_close(self.win, true)
  end
end

--- The fenced code block around a line, or else the last one; nil when there is none.
---@param lines string[]
---@param at integer 1-based
---@return string[]?
function M.code_block(lines, at)
  local found, start
  for i, l in ipairs(lines) do
    if l:match('^%s*```') then
      if start then
        found = vim.list_slice(lines, start + 1, i - 1)
        if at >= start and at <= i then
          return found
        end
        start = nil
      else
        start = i
      end
    end
  end
  -- While it streams, the last block may still be open.
  if start and (at >= start or not found) then
    return vim.list_slice(lines, start + 1)
  end
  return found
end

--- Yanks the code block under the cursor, or the last one, or all of the answer.
function Answer:yank()
  local lines = api.nvim_buf_get_lines(self.buf, 0, -1, false)
  local code = M.code_block(lines, api.nvim_win_get_cursor(0)[1])
  vim.fn.setreg(vim.v.register, code or lines, 'l')
  notify.info(('yanked %s.'):format(code and 'the code' or 'the answer'))
end

--- Asks on, in the same conversation.
function Answer:follow_up()
  if self:running() then
    return notify.info('still writing; <C-c> stops it.')
  end
  vim.ui.input({ prompt = 'Ask on: ' }, function(question)
    if question and question:find('%S') and self:is_open() then
      self:add(('\n\n---\n> %s\n\n'):format(question))
      self:ask(question, require('gemma.config').get().explain.max_tokens)
    end
  end)
end

---@param self gemma.Answer
local function map_keys(self)
  local function map(lhs, fn, desc)
    vim.keymap.set('n', lhs, fn, { buffer = self.buf, nowait = true, desc = 'Gemma: ' .. desc })
  end
  map('q', function()
    self:close()
  end, 'close')
  map('<C-c>', function()
    self:stop()
  end, 'stop')
  map('gy', function()
    self:yank()
  end, 'yank code')
  map('<CR>', function()
    self:follow_up()
  end, 'ask on')
end

--- Below the cursor's line when there is room, above it otherwise.
---@return table config
---@return integer room
local function placement()
  local row = vim.fn.screenrow()
  local below = vim.o.lines - vim.o.cmdheight - row - 3
  local above = row - 3
  local down = below >= math.min(10, above)
  local room = math.max(1, math.min(down and below or above, math.floor(vim.o.lines * 0.45)))
  return {
    relative = 'cursor',
    anchor = down and 'NW' or 'SW',
    row = down and 1 or 0,
    col = 0,
    width = math.max(10, math.min(80, vim.o.columns - 4)),
    height = 1,
    style = 'minimal',
    border = 'rounded',
    title_pos = 'left',
  }, room
end

---@param self gemma.Answer
local function open_window(self)
  local config, room = placement()
  self.room = room
  config.title = { { ' ' .. self.title .. ' ', 'GemmaTitle' } }
  self.buf = api.nvim_create_buf(false, true)
  vim.bo[self.buf].bufhidden = 'wipe'
  vim.bo[self.buf].modifiable = false
  self.win = api.nvim_open_win(self.buf, false, config)
  vim.wo[self.win].wrap = true
  vim.wo[self.win].linebreak = true
  -- No conceal: with it, every count of rows parses the markdown, tens of milliseconds a time.
  api.nvim_create_autocmd('WinClosed', {
    pattern = tostring(self.win),
    once = true,
    callback = vim.schedule_wrap(function()
      self:close()
    end),
  })
  api.nvim_create_autocmd('WinEnter', {
    buffer = self.buf,
    callback = function()
      self:colour()
    end,
  })
  map_keys(self)
end

---@class gemma.answer.Opts
---@field key string
---@field title string
---@field system string
---@field prompt string
---@field max_tokens integer
---@field source integer buffer
---@field first integer? lines asked about, 1-based
---@field last integer?
---@field attachments gemma.Attachment[]?

--- Opens the window and asks. The same question again gives the window the focus instead.
---@param o gemma.answer.Opts
function M.open(o)
  if current and current:is_open() and current.key == o.key then
    api.nvim_set_current_win(current.win)
    return
  end
  M.close()
  require('gemma.highlight').ensure()
  local self = setmetatable({
    key = o.key,
    title = o.title,
    system = o.system,
    source = o.source,
    history = {},
    attachments = {},
    pending = {},
  }, Answer)
  self.flush, self.flush_now = util.throttle(FLUSH_MS, function()
    self:write()
  end)
  open_window(self)
  current = self
  -- Asked from within the window itself, the source has just gone with it.
  if o.first and api.nvim_buf_is_valid(o.source) then
    self.mark = api.nvim_buf_set_extmark(o.source, ns, o.first - 1, 0, {
      end_row = o.last,
      hl_group = 'GemmaSource',
      hl_eol = true,
      strict = false,
    })
  end
  self:ask(o.prompt, o.max_tokens, o.attachments)
end

function M.close()
  if current then
    current:close()
  end
end

---@return gemma.Answer?
function M.current()
  return current and current:is_open() and current or nil
end

return M
