--- kept.lua: the last conversations, and which of them is in the window. Only a list: it opens
--- nothing, so that everybody may ask it.

local sessions = require('gemma.sessions')

local M = {}

local LIMIT = 20 -- conversations that can be opened again

local list = {} ---@type gemma.chat.Conversation[] newest first
local shown ---@type gemma.chat.Conversation? has the window

--- Adds the newest conversation. The oldest one beyond the limit is forgotten.
---@param conversation gemma.chat.Conversation
function M.add(conversation)
  table.insert(list, 1, conversation)
  if list[LIMIT + 1] then
    list[LIMIT + 1]:forget()
  end
end

---@param conversation gemma.chat.Conversation
function M.remove(conversation)
  list = vim.tbl_filter(function(other)
    return other ~= conversation
  end, list)
end

--- Notes which conversation has the window.
---@param conversation gemma.chat.Conversation
function M.set_shown(conversation)
  shown = conversation
end

--- Notes that a conversation has the window no more.
---@param conversation gemma.chat.Conversation
function M.set_closed(conversation)
  if shown == conversation then
    shown = nil
  end
end

--- The conversation that was opened last and not closed since. Its window may just have gone.
---@return gemma.chat.Conversation?
function M.shown()
  return shown
end

--- The conversation in the window.
---@return gemma.chat.Conversation?
function M.current()
  return shown and shown.view:is_open() and shown or nil
end

--- The conversations that can be opened again, newest first. One whose buffer was deleted while the
--- model wrote is left out until the answer has ended: only then is it complete.
---@return gemma.chat.Conversation[]
function M.all()
  return vim.tbl_filter(function(c)
    return c.view.buffer:is_valid() or not c:running()
  end, list)
end

--- Which cache of the model an edit or a commit message works on. A conversation that is open keeps its
--- own, so that going on with it costs no second reading; the task then has another one, which begins
--- with what the two have in common. Otherwise they share one.
---@return integer session
---@return integer? fork_from
function M.task_session()
  if M.current() then
    return sessions.TASKS, sessions.ANSWERS
  end
  return sessions.ANSWERS
end

return M
