--- answer.lua: conversations with the model, and the one window in which they are read.
---
--- Owns the keys of the window and the last conversations, so that an earlier one can be opened
--- again and gone on with. How a window looks is chat/window.lua's, how a text grows
--- chat/buffer.lua's. Does not know what is being asked.

local Buffer = require('gemma.chat.buffer')
local Window = require('gemma.chat.window')
local fence = require('gemma.chat.fence')
local kept = require('gemma.chat.kept')
local notify = require('gemma.notify')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.answer')
-- Where the lines asked about are, for as long as the conversation is kept; not highlighted.
local places = api.nvim_create_namespace('gemma.answer.places')

local FLUSH_MS = 33 -- the screen need not be faster than the eye
local THINKING = 2 -- with thoughts an answer may have this many times as many tokens
local SEARCHED_LINES = 50000 -- of a file, when code looks for its place
local ASK_ON, CLOSE = '<CR> ask on · ', 'q close' -- of the footer

--- Something that a question is about besides text: a picture, a sound, the frames of a recording.
---@class (exact) gemma.Attachment
---@field parts gemma.Part[] what the model gets, before the question's text
---@field name string shown above the answer
---@field note string? shown too, such as "640x480" or "3.2 s"
---@field bytes integer? size of the file
---@field tokens integer? rows that it takes in the context, when known
---@field release fun()? called when its conversation is forgotten: nothing is asked about it any more

---@class gemma.Answer
---@field key string? what was asked, to tell a repetition; nil when that failed: it is asked anew
---@field view gemma.chat.Buffer
---@field buf integer
---@field win integer? nil while it is closed
---@field window gemma.chat.Window? the same
---@field source integer buffer that is asked about
---@field mark integer? extmark on the lines asked about, while the window is open
---@field place integer? the same for as long as the conversation is kept
---@field around boolean? those lines were not chosen: code of the answer does not stand for all of them
---@field system string
---@field title string
---@field turns gemma.chat.Turn[]
---@field attachments { [1]: gemma.Attachment, mark: integer }[] with the marks on their lines
---@field max_tokens integer
---@field handle gemma.Handle? while it runs
---@field pending { kind: 'text'|'thought', text: string }[] what is not on the screen yet
---@field flush fun() at most every FLUSH_MS
---@field flush_now fun()
---@field flush_no_more fun()
---@field stopped boolean? by the user
---@field hint { text: string, keys: string } what the footer says
---@field on_forget fun()?
local Answer = {}
Answer.__index = Answer

local thinking ---@type boolean? switched by hand; nil: as the option says

--- The line that stands for an attachment.
---@param a gemma.Attachment
---@return string
function M.attachment_line(a)
  local facts = { a.name, a.note }
  if a.bytes then
    facts[#facts + 1] = util.bytes(a.bytes)
  end
  if a.tokens then
    facts[#facts + 1] = util.count(a.tokens, 'token')
  end
  return transcript.one_line('[' .. table.concat(facts, ' · ') .. ']')
end

---@return boolean
function M.thinking()
  if thinking == nil then
    return require('gemma.config').get().explain.thinking
  end
  return thinking
end

---@param yes boolean
function M.set_thinking(yes)
  thinking = yes
  notify.info(yes and 'answers are thought over first.' or 'answers come without thinking.')
end

---@return boolean
function Answer:is_open()
  return self.window ~= nil and self.window:is_open()
end

--- What the lower border says, or the bar of a split.
---@param text string
---@param keys string? what they do in the window
function Answer:footer(text, keys)
  self.hint = { text = text, keys = keys or '' }
  self:show_footer(api.nvim_get_current_win() == self.win)
end

--- The keys are the user's own where the cursor is, until it is in the window: there q records a macro.
---@param inside boolean
function Answer:show_footer(inside)
  if not self:is_open() then
    return
  end
  local keys = self.hint.keys
  if keys ~= '' and not inside then
    keys = '<C-w>w, then ' .. keys
  end
  local both = self.hint.text ~= '' and keys ~= ''
  self.window:footer(self.hint.text .. (both and ' · ' or '') .. keys)
end

--- Puts what is pending at the end of the buffer; follows it unless the reader went up.
function Answer:write()
  if #self.pending == 0 or not self.view:is_valid() then
    return
  end
  local open = self:is_open()
  local last = api.nvim_buf_line_count(self.buf)
  local follow = open and api.nvim_win_get_cursor(self.win)[1] == last
  local pieces = self.pending
  self.pending = {}
  for _, p in ipairs(pieces) do
    self.view:write(p.kind, p.text)
  end
  if not open then
    return
  end
  self.window:fit()
  if follow then
    -- Its last column: a paragraph is one line, often longer than the window.
    local row = api.nvim_buf_line_count(self.buf)
    local line = api.nvim_buf_get_lines(self.buf, row - 1, row, false)[1]
    api.nvim_win_set_cursor(self.win, { row, #line })
  end
end

--- Colours by a parser, for a finished answer and once somebody is in its window. The parser for
--- markdown takes up to a tenth of a second to start and tens of milliseconds on odd text; whoever
--- goes on typing in another window must not pay for that. The filetype stays empty, because it
--- would start plugins that treat this as the user's own file.
function Answer:colour()
  if not self:running() then
    self.view:parse()
  end
end

---@param kind 'text'|'thought'
---@param text string
function Answer:add(kind, text)
  local last = self.pending[#self.pending]
  if last and last.kind == kind then
    last.text = last.text .. text
  else
    self.pending[#self.pending + 1] = { kind = kind, text = text }
  end
  self.flush()
end

---@return boolean
function Answer:running()
  return self.handle ~= nil
end

---@class gemma.answer.Question
---@field prompt string what the model gets
---@field shown string[]? what stands for it in a saved conversation
---@field attachments gemma.Attachment[]?

--- Puts the lines of attachments at the end of the window.
---@param list gemma.Attachment[]
function Answer:attach(list)
  self.flush_now()
  local row = self.view:note(vim.tbl_map(M.attachment_line, list))
  for i, a in ipairs(list) do
    local mark = api.nvim_buf_set_extmark(self.buf, ns, row + i - 1, 0, {
      end_row = row + i,
      hl_group = 'GemmaMedia',
    })
    self.attachments[#self.attachments + 1] = { a, mark = mark }
  end
end

--- Writes the number of tokens into the line of an attachment of which only decoding told it.
---@param info gemma.Done
function Answer:count(info)
  if #self.attachments == 0 then
    return
  end
  local list = vim.tbl_map(function(entry)
    return entry[1]
  end, self.attachments)
  local changed = require('gemma.media').learn(list, info.n_media)
  for _, entry in ipairs(self.attachments) do
    if entry[1] == changed then
      local row = api.nvim_buf_get_extmark_by_id(self.buf, ns, entry.mark, {})[1]
      self.view:set_line(row, M.attachment_line(entry[1]))
    end
  end
end

--- What has come of one answer.
---@class gemma.answer.Heard
---@field text string[]
---@field thought string[]
---@field handle table? of the request

---@param heard gemma.answer.Heard
---@param kind 'text'|'thought'
---@param piece string
function Answer:came(heard, kind, piece)
  if #heard.text + #heard.thought == 0 or (kind == 'text' and #heard.text == 0) then
    self:footer(kind == 'text' and 'writing' or 'thinking', '<C-c> stops')
  end
  table.insert(heard[kind], piece)
  self:add(kind, piece)
end

---@param heard gemma.answer.Heard
---@param whole string?
---@param info gemma.Done|string
function Answer:over(heard, whole, info)
  if util.locked() then
    return vim.defer_fn(function()
      self:over(heard, whole, info)
    end, FLUSH_MS)
  end
  if self.handle == heard.handle then
    self.handle = nil
  end
  self.stopped = self.stopped or info == 'cancelled'
  local said = whole or table.concat(heard.text)
  if whole or (self.stopped and said:find('%S')) then
    local thought = table.concat(heard.thought)
    self.turns[#self.turns + 1] = { role = 'model', text = said, thought = thought }
  end
  self:finished(whole ~= nil, info, said:find('%S') ~= nil)
end

--- The turn of a question, with its attachments on the screen.
---@param q gemma.answer.Question
---@return gemma.chat.Turn
function Answer:turn(q)
  local parts, names = {}, {}
  for _, a in ipairs(q.attachments or {}) do
    vim.list_extend(parts, a.parts)
    names[#names + 1] = M.attachment_line(a)
  end
  if #names > 0 then
    self:attach(q.attachments)
  end
  local shown = vim.list_extend(names, q.shown or vim.split(q.prompt, '\n', { plain = true }))
  return { role = 'user', text = q.prompt, parts = parts, shown = shown }
end

--- Asks the next question of this conversation.
---@param q gemma.answer.Question
function Answer:ask(q)
  self.view:unparse()
  self.turns[#self.turns + 1] = self:turn(q)
  local history, question = transcript.prompt(self.turns)
  local think = M.thinking()
  self:footer(require('gemma.engine').is_loaded() and 'reading' or 'loading the model')
  notify.event('GemmaAnswerStart', { buf = self.buf, source = self.source })
  local heard = { text = {}, thought = {} } ---@type gemma.answer.Heard
  heard.handle = require('gemma.ask').ask({
    system = self.system,
    history = history,
    parts = question.parts,
    prompt = question.text,
    session = require('gemma.sessions').ANSWERS,
    thinking = think,
    max_tokens = self.max_tokens * (think and THINKING or 1),
    on_progress = function(done, total)
      if #heard.text + #heard.thought == 0 and total > 0 then
        self:footer(('reading %d %%'):format(done * 100 / total))
      end
    end,
    on_thought = function(piece)
      self:came(heard, 'thought', piece)
    end,
    on_token = function(piece)
      self:came(heard, 'text', piece)
    end,
    on_done = function(whole, info)
      self:over(heard, whole, info)
    end,
  })
  self.handle = heard.handle
end

---@param ok boolean
---@param info gemma.Done|string
---@param said boolean there is some text
function Answer:finished(ok, info, said)
  local function tell()
    notify.event('GemmaAnswerDone', { buf = self.buf, source = self.source, ok = ok })
  end
  local stopped = self.stopped
  self.stopped = nil
  if not self.view:is_valid() then
    self:footer('stopped', ASK_ON .. CLOSE)
    return tell()
  end
  self.flush_now()
  if ok then
    self.view:trim()
    if self:is_open() then
      self.window:shrink()
    end
    self:count(info --[[@as gemma.Done]])
    local cut = info.reason == 'length' and 'cut at the limit'
      or info.reason == 'context' and 'the context is full'
      or not said and 'the model said nothing'
      or ''
    -- A footer that is too long loses its beginning.
    local keys = cut == '' and 'gy yank · ga apply · ' or ''
    self:footer(cut, ASK_ON .. keys .. CLOSE)
  else
    self:footer(stopped and 'stopped' or 'failed', stopped and ASK_ON .. CLOSE or CLOSE)
    if not stopped then
      if #self.turns == 1 then
        self.key = nil
      end
      self:add('text', ('gemma: %s'):format(info))
      self.flush_now()
    end
  end
  if api.nvim_get_current_buf() == self.buf then
    self:colour()
  end
  tell()
end

function Answer:stop()
  if self.handle then
    self.stopped = true
    self.handle.cancel()
  end
end

---@param space integer
---@param id integer?
---@param buf integer
local function unmark(space, id, buf)
  if id and api.nvim_buf_is_valid(buf) then
    api.nvim_buf_del_extmark(buf, space, id)
  end
end

--- The window goes; the conversation stays, see M.reopen.
function Answer:close()
  kept.set_closed(self)
  self:stop()
  unmark(ns, self.mark, self.source)
  self.mark = nil
  local window = self.window
  self.window, self.win = nil, nil
  if window then
    window:close()
  end
end

--- The conversation goes too, and what it was about.
function Answer:forget()
  self:close()
  for _, entry in ipairs(self.attachments) do
    if entry[1].release then
      entry[1].release()
      entry[1].release = nil
    end
  end
  unmark(places, self.place, self.source)
  kept.remove(self)
  self.view:delete()
  self.flush_no_more()
  if self.on_forget then
    self.on_forget()
    self.on_forget = nil
  end
end

--- The lines asked about, where they are now.
---@return integer? first 1-based
---@return integer? last
function Answer:lines_asked_about()
  if not self.place or not api.nvim_buf_is_valid(self.source) then
    return nil
  end
  local pos = api.nvim_buf_get_extmark_by_id(self.source, places, self.place, { details = true })
  if not pos[1] then
    return nil
  end
  local last = math.min(pos[3].end_row, api.nvim_buf_line_count(self.source))
  if last > pos[1] then
    return pos[1] + 1, last
  end
end

--- The code of the block at the cursor, or else of the last one; nil when there is none.
---@param lines string[]
---@return string[]?
local function code_at_cursor(lines)
  local block = fence.block_at(lines, api.nvim_win_get_cursor(0)[1])
  return block and block.code
end

--- Yanks the code block under the cursor, or the last one, or what the model said last, without the
--- questions and the lines of pictures that stand in the window too.
function Answer:yank()
  local lines = self.view:lines()
  local code = code_at_cursor(lines)
  local last = self.turns[#self.turns]
  if not code and last and last.role == 'model' then
    lines = vim.split(vim.trim(transcript.printable(last.text)), '\n', { plain = true })
  end
  vim.fn.setreg(vim.v.register, code or lines, 'l')
  notify.info(('yanked %s.'):format(code and 'the code' or 'the answer'))
end

--- Shows the code block under the cursor, or the last one, as a change of the lines asked about.
function Answer:apply()
  local code = code_at_cursor(self.view:lines())
  if not code then
    return notify.info('there is no code in this answer.')
  elseif not api.nvim_buf_is_loaded(self.source) then
    return notify.warn('the buffer that was asked about is gone. gy yanks the code.')
  end
  local file = {}
  if api.nvim_buf_line_count(self.source) <= SEARCHED_LINES then
    file = api.nvim_buf_get_lines(self.source, 0, -1, false)
  end
  local first, last = require('gemma.edit.hunks').locate(file, code)
  if not first and not self.around then
    first, last = self:lines_asked_about()
  end
  if not first then
    return notify.info('cannot tell where this code belongs. gy yanks it.')
  end
  local old = api.nvim_buf_get_lines(self.source, first - 1, last --[[@as integer]], false)
  local edit = require('gemma.edit')
  local shown = edit.preview({
    buf = self.source,
    first = first,
    last = last --[[@as integer]],
    new = edit.instead_of(old, code),
  })
  local win = vim.fn.bufwinid(self.source)
  if shown and win ~= -1 then
    if
      self.win
      and api.nvim_win_is_valid(self.win)
      and api.nvim_win_get_config(self.win).relative ~= ''
    then
      self:close() -- it stands where the change is shown; :Gemma answers brings it back
    end
    api.nvim_set_current_win(win)
    api.nvim_win_set_cursor(win, { math.min(first, api.nvim_buf_line_count(self.source)), 0 })
  elseif shown then
    local name = vim.fn.fnamemodify(api.nvim_buf_get_name(self.source), ':~:.')
    notify.info(('the change is shown in %s.'):format(name ~= '' and name or 'the other buffer'))
  end
end

--- The line of a later question.
---@param question string
function Answer:write_question(question)
  local lines = vim.split(question, '\n', { plain = true })
  self.view:note(vim.list_extend(
    { '', '---' },
    vim.tbl_map(function(line)
      return '> ' .. line
    end, lines)
  ))
end

--- Asks on, in the same conversation.
---@param question string
function Answer:follow(question)
  if self:running() then
    return notify.info('still writing; <C-c> stops it.')
  end
  self.flush_now()
  self.view:unparse()
  self:write_question(question)
  if self:is_open() then
    self.window:fit()
    api.nvim_win_set_cursor(self.win, { api.nvim_buf_line_count(self.buf), 0 })
  end
  self:ask({ prompt = question })
end

--- The same, with a question that is asked for.
function Answer:follow_up()
  if self:running() then
    return notify.info('still writing; <C-c> stops it.')
  end
  require('gemma.question').ask('Ask on: ', function(question)
    if self:is_open() then
      self:follow(question)
    end
  end)
end

--- Opens or closes the thought under the cursor, or the last one.
function Answer:toggle_thought()
  local row = api.nvim_win_get_cursor(0)[1] - 1
  if self.view:toggle_thought(row) then
    return
  end
  local last = self.view.thoughts[#self.view.thoughts]
  if not last then
    return notify.info('there is no thought in this answer.')
  end
  for r = api.nvim_buf_line_count(self.buf) - 1, 0, -1 do
    if self.view:thought_at(r) == last then
      self.view:toggle_thought(r)
      return
    end
  end
end

--- The conversation as a Markdown file.
---@return string[]
function Answer:markdown()
  return transcript.markdown(self.title, self.turns)
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
  map('ga', function()
    self:apply()
  end, 'apply code as a diff')
  map('<CR>', function()
    self:follow_up()
  end, 'ask on')
  map('gh', function()
    M.set_thinking(not M.thinking())
  end, 'think or do not')
  for _, lhs in ipairs({ 'za', 'zo', 'zc' }) do
    map(lhs, function()
      self:toggle_thought()
    end, 'open or close a thought')
  end
  map('[a', function()
    M.step(1)
  end, 'earlier answer')
  map(']a', function()
    M.step(-1)
  end, 'later answer')
end

---@param self gemma.Answer
local function open_window(self)
  local window
  window = Window.open(self.buf, self.title, function()
    if self.window ~= window then
      return -- it may have been opened again since
    elseif window:move() then
      self.win = window.win
      self:show_footer(api.nvim_get_current_win() == self.win)
    else
      self:close()
    end
  end)
  self.window, self.win = window, window.win
end

--- Shows the lines asked about while the window is open.
---@param self gemma.Answer
local function mark_source(self)
  local first, last = self:lines_asked_about()
  if first then
    self.mark = api.nvim_buf_set_extmark(self.source, ns, first - 1, 0, {
      end_row = last,
      hl_group = 'GemmaSource',
      hl_eol = true,
      strict = false,
    })
  end
end

--- Gives the conversation a buffer.
---@param self gemma.Answer
local function new_view(self)
  local view = Buffer.new()
  self.view, self.buf = view, view.buf
  map_keys(self)
  api.nvim_create_autocmd('BufEnter', {
    buffer = self.buf,
    callback = function()
      self:colour()
    end,
  })
  api.nvim_create_autocmd({ 'WinEnter', 'WinLeave' }, {
    buffer = self.buf,
    callback = function(ev)
      if api.nvim_get_current_win() == self.win then
        self:show_footer(ev.event == 'WinEnter')
      end
    end,
  })
  api.nvim_create_autocmd('BufUnload', {
    buffer = self.buf,
    callback = vim.schedule_wrap(function()
      if view:is_valid() then
        return -- :edit unloads too, and loads again
      elseif self.view == view then
        self:close()
      end
      view:delete()
    end),
  })
  api.nvim_create_autocmd('BufWipeout', {
    buffer = self.buf,
    once = true,
    callback = function()
      -- After :bdelete only a number goes, and the conversation stays.
      if view:is_valid() then
        vim.schedule(function()
          self:forget()
        end)
      end
    end,
  })
end

--- Writes the conversation into another buffer, after :bdelete took the text of its own.
---@param self gemma.Answer
local function rewrite(self)
  local attached = self.attachments
  new_view(self)
  self.pending, self.attachments = {}, {}
  if #attached > 0 then
    self:attach(vim.tbl_map(function(entry)
      return entry[1]
    end, attached))
  end
  for i, turn in ipairs(self.turns) do
    if turn.role == 'model' then
      self.view:write('thought', turn.thought or '')
      self.view:write('text', turn.text)
      self.view:trim()
    elseif i > 1 then
      self:write_question(turn.text)
    end
  end
end

---@class gemma.answer.Opts
---@field key string
---@field title string
---@field system string
---@field prompt string
---@field shown string[]? what stands for the prompt in a saved conversation
---@field max_tokens integer
---@field source integer buffer; 0 is the current one
---@field first integer? lines asked about, 1-based
---@field last integer?
---@field around boolean? the lines were not chosen: code of the answer does not stand for all of them
---@field attachments gemma.Attachment[]?
---@field on_forget fun()? when the conversation is dropped for good; nothing needs the files then

--- Opens the window and asks. The same question again gives the window the focus instead.
---@param o gemma.answer.Opts
function M.open(o)
  if vim.fn.getcmdwintype() ~= '' then
    return notify.warn('not in the command-line window. Close it and ask again.')
  end
  local current = kept.current()
  if current and current.key == o.key then
    api.nvim_set_current_win(current.win)
    return
  end
  local source = o.source == 0 and api.nvim_get_current_buf() or o.source
  M.close()
  require('gemma.highlight').ensure()
  local self = setmetatable({
    key = o.key,
    title = transcript.one_line(o.title),
    system = o.system,
    source = source,
    around = o.around,
    turns = {},
    attachments = {},
    max_tokens = o.max_tokens,
    pending = {},
    hint = { text = '', keys = '' },
    on_forget = o.on_forget,
  }, Answer)
  self.flush, self.flush_now, self.flush_no_more = util.throttle(FLUSH_MS, function()
    if util.locked() then
      return self.flush() -- again a little later
    end
    self:write()
  end)
  new_view(self)
  open_window(self)
  kept.set_shown(self)
  kept.add(self)
  if o.first and api.nvim_buf_is_valid(source) then
    local mark = { end_row = o.last, strict = false }
    self.place = api.nvim_buf_set_extmark(source, places, o.first - 1, 0, mark)
    mark_source(self)
  end
  self:ask({ prompt = o.prompt, shown = o.shown, attachments = o.attachments })
end

function M.close()
  local shown = kept.shown()
  if shown then
    shown:close()
  end
end

--- Opens an earlier conversation again and gives it the focus.
---@param self gemma.Answer
function M.reopen(self)
  if not self:is_open() then
    local hint = self.hint
    M.close()
    require('gemma.highlight').ensure()
    if not self.view:is_valid() then
      rewrite(self)
    end
    open_window(self)
    kept.set_shown(self)
    mark_source(self)
    self:footer(hint.text, hint.keys)
    self.window:fit()
  end
  api.nvim_set_current_win(self.win)
  api.nvim_win_set_cursor(self.win, { api.nvim_buf_line_count(self.buf), 0 })
end

--- To the next older (1) or newer (-1) conversation.
---@param by integer
function M.step(by)
  local all = kept.all()
  for i, a in ipairs(all) do
    if a == kept.shown() then
      local to = all[i + by]
      if not to then
        return notify.info(by > 0 and 'this is the oldest answer.' or 'this is the newest answer.')
      end
      return M.reopen(to)
    end
  end
end

return M
