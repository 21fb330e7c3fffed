--- conversation.lua: questions about one thing and their answers: asking, going on, and the end of
--- an answer.
---
--- Does not know what is being asked. What is seen of it is view.lua's.

local busy = require('gemma.busy')
local kept = require('gemma.chat.kept')
local notify = require('gemma.notify')
local sessions = require('gemma.sessions')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')
local views = require('gemma.chat.view')

local M = {}

local LOCKED_MS = 33 -- between two looks whether text can be changed
local THINKING = 2 -- with thoughts an answer may have this many times as many tokens

---@class gemma.chat.Conversation
---@field key string? what was asked, to tell a repetition; nil when that failed: it is asked anew
---@field title string
---@field system string
---@field source gemma.chat.Source what is asked about
---@field view gemma.chat.View
---@field turns gemma.chat.Turn[]
---@field attachments gemma.Attachment[] of all questions
---@field max_tokens integer
---@field handle gemma.Handle? while the model writes
---@field stopped boolean? by the user
---@field on_forget fun()?
local Conversation = {}
Conversation.__index = Conversation

---@class gemma.chat.Question
---@field prompt string what the model gets
---@field shown string[]? what stands for it in a saved conversation
---@field attachments gemma.Attachment[]?

--- What has come of one answer.
---@class gemma.chat.Heard
---@field text string[]
---@field thought string[]
---@field handle gemma.Handle? of the request

local thinking ---@type boolean? switched by hand; nil: as the option says

--- Whether answers are thought over first.
---@return boolean
function M.thinking()
  if thinking == nil then
    return require('gemma.config').get().explain.thinking
  end
  return thinking
end

--- Switches it until Neovim ends.
---@param yes boolean
function M.set_thinking(yes)
  thinking = yes
  notify.info(yes and 'answers are thought over first.' or 'answers come without thinking.')
end

--- Whether the model writes, or will.
---@return boolean
function Conversation:running()
  return self.handle ~= nil
end

--- The turn of a question, with its attachments on the screen.
---@param q gemma.chat.Question
---@return gemma.chat.Turn
function Conversation:turn(q)
  local attachments = q.attachments or {}
  local parts, names = {}, {}
  for _, a in ipairs(attachments) do
    vim.list_extend(parts, a.parts)
    names[#names + 1] = transcript.attachment(a)
  end
  if #attachments > 0 then
    self.view:attach(attachments)
    vim.list_extend(self.attachments, attachments)
  end
  local shown = vim.list_extend(names, q.shown or vim.split(q.prompt, '\n', { plain = true }))
  return { role = 'user', text = q.prompt, parts = parts, shown = shown }
end

--- Asks the next question of this conversation.
---@param q gemma.chat.Question
function Conversation:ask(q)
  self.view.buffer:unparse()
  self.turns[#self.turns + 1] = self:turn(q)
  local history, question = transcript.prompt(self.turns)
  local think = M.thinking()
  self.view:footer(busy.begins())
  notify.event('GemmaAnswerStart', { buf = self.view.buffer.buf, source = self.source.buf })
  local heard = { text = {}, thought = {} } ---@type gemma.chat.Heard
  heard.handle = require('gemma.ask').ask({
    system = self.system,
    history = history,
    parts = question.parts,
    prompt = question.text,
    session = sessions.ANSWERS,
    thinking = think,
    max_tokens = self.max_tokens * (think and THINKING or 1),
    on_progress = function(done, total)
      if #heard.text + #heard.thought == 0 and total > 0 then
        self.view:footer(busy.reading(done, total))
      end
    end,
    on_thought = function(piece)
      self:came(heard, 'thought', piece)
    end,
    on_token = function(piece)
      self:came(heard, 'text', piece)
    end,
    on_done = function(whole, info, err)
      self:over(heard, whole, info, err)
    end,
  })
  self.handle = heard.handle
end

---@param heard gemma.chat.Heard
---@param kind 'text'|'thought'
---@param piece string
function Conversation:came(heard, kind, piece)
  if #heard.text + #heard.thought == 0 or (kind == 'text' and #heard.text == 0) then
    self.view:footer(kind == 'text' and 'writing' or 'thinking', views.STOP)
  end
  table.insert(heard[kind], piece)
  self.view:add(kind, piece)
end

--- Takes what came as a turn, when it is complete or the user stopped it, and says how it ended.
---@param heard gemma.chat.Heard
---@param whole string? nil when it failed or was stopped
---@param info gemma.Done|string
---@param err string? the name of what failed
function Conversation:over(heard, whole, info, err)
  if util.locked() then
    return vim.defer_fn(function()
      self:over(heard, whole, info, err)
    end, LOCKED_MS)
  end
  local newest = self.handle == heard.handle
  if newest then
    self.handle = nil
  end
  local stopped = self.stopped or info == 'cancelled'
  self.stopped = nil
  local said = whole or table.concat(heard.text)
  if whole or (stopped and said:find('%S')) then
    local thought = table.concat(heard.thought)
    self.turns[#self.turns + 1] = { role = 'model', text = said, thought = thought }
  elseif newest and err == 'ETOOLONG' and #self.turns > 1 then
    -- It would begin the next question, which could then not be short enough.
    self.turns[#self.turns] = nil
  end
  local view = self.view
  if not view.buffer:is_valid() then
    view:footer('stopped', views.ASK_ON)
  else
    view.flush_now()
    if whole then
      self:complete(info --[[@as gemma.Done]], said:find('%S') ~= nil)
    elseif stopped then
      view:footer('stopped', views.ASK_ON)
    else
      self:failed(info --[[@as string]])
    end
    if vim.api.nvim_get_current_buf() == view.buffer.buf then
      self:colour()
    end
  end
  notify.event('GemmaAnswerDone', {
    buf = view.buffer.buf,
    source = self.source.buf,
    ok = whole ~= nil,
  })
end

---@param info gemma.Done
---@param said boolean there is some text
function Conversation:complete(info, said)
  self.view:trim()
  self:count(info)
  local cut = info.reason == 'length' and 'cut at the limit'
    or info.reason == 'context' and 'the context is full'
    or not said and 'the model said nothing'
    or ''
  self.view:footer(cut, cut == '' and views.APPLY or views.ASK_ON)
end

---@param why string
function Conversation:failed(why)
  self.view:footer('failed', views.CLOSE)
  if #self.turns == 1 then
    self.key = nil
  end
  self.view:add('text', ('gemma: %s'):format(why))
  self.view.flush_now()
end

--- Writes the number of tokens into the line of an attachment of which only decoding told it.
---@param info gemma.Done
function Conversation:count(info)
  if #self.attachments > 0 then
    local changed = require('gemma.media').learn(self.attachments, info.n_media)
    if changed then
      self.view:update(changed)
    end
  end
end

--- Colours by a parser, for a finished answer and once somebody is in its window. The parser for
--- markdown takes up to a tenth of a second to start and tens of milliseconds on odd text; whoever
--- goes on typing in another window must not pay for that. The filetype stays empty, because it
--- would start plugins that treat this as the user's own file.
function Conversation:colour()
  if not self:running() then
    self.view.buffer:parse()
  end
end

--- Asks on, in the same conversation.
---@param question string
function Conversation:follow(question)
  if self:running() then
    return notify.info('still writing; <C-c> stops it.')
  end
  local view = self.view
  view.flush_now()
  view.buffer:unparse()
  view:add_question(question)
  if view:is_open() then
    view.window:fit()
    view:go_to_end()
  end
  self:ask({ prompt = question })
end

--- The same, with a question that is asked for.
function Conversation:follow_up()
  if self:running() then
    return notify.info('still writing; <C-c> stops it.')
  end
  require('gemma.question').ask('Ask on: ', function(question)
    if self.view:is_open() then
      self:follow(question)
    end
  end)
end

--- Stops the model.
function Conversation:stop()
  if self.handle then
    self.stopped = true
    self.handle.cancel()
  end
end

--- Opens the window, in a buffer with the same text when :bdelete took that of its own.
function Conversation:open()
  if not self.view.buffer:is_valid() then
    self:rewrite()
  end
  self.view:open(self.title, self.source:in_sight())
  kept.set_shown(self)
  self.source:show()
end

--- The window goes; the conversation stays, and can be opened again.
function Conversation:close()
  kept.set_closed(self)
  self:stop()
  self.source:hide()
  self.view:close()
end

--- The conversation goes too, and what it was about.
function Conversation:forget()
  self:close()
  for _, a in ipairs(self.attachments) do
    if a.release then
      a.release()
      a.release = nil
    end
  end
  self.source:free()
  kept.remove(self)
  self.view:delete()
  if self.on_forget then
    self.on_forget()
    self.on_forget = nil
  end
end

--- Writes the text into a new buffer.
function Conversation:rewrite()
  local view = self.view
  view:renew()
  if #self.attachments > 0 then
    view:attach(self.attachments)
  end
  for i, turn in ipairs(self.turns) do
    if turn.role == 'model' then
      view.buffer:write('thought', turn.thought or '')
      view.buffer:write('text', turn.text)
      view.buffer:trim()
    elseif i > 1 then
      view:add_question(turn.text)
    end
  end
end

--- The conversation as a Markdown file.
---@return string[]
function Conversation:markdown()
  return transcript.markdown(self.title, self.turns)
end

---@param o gemma.chat.Opts what it is about; the question is not asked yet
---@param source gemma.chat.Source
---@param view gemma.chat.View
---@return gemma.chat.Conversation
function M.new(o, source, view)
  return setmetatable({
    key = o.key,
    title = transcript.one_line(o.title),
    system = o.system,
    max_tokens = o.max_tokens,
    source = source,
    view = view,
    on_forget = o.on_forget,
    turns = {},
    attachments = {},
  }, Conversation)
end

return M
