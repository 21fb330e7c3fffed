--- chat/init.lua: conversations with the model and the one window in which they are read: open, open
--- again, list, save.

local conversations = require('gemma.chat.conversation')
local kept = require('gemma.chat.kept')
local notify = require('gemma.notify')
local sources = require('gemma.chat.source')
local util = require('gemma.util')
local views = require('gemma.chat.view')

local M = {}

local api = vim.api

---@class gemma.chat.Opts
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
---@field on_forget fun()? called when the conversation is dropped for good: nothing needs the files then

--- What keys and events in the window of a conversation do.
---@param get fun(): gemma.chat.Conversation
---@return gemma.chat.Actions
local function actions(get)
  -- stylua: ignore
  return {
    close = function() get():close() end,
    stop = function() get():stop() end,
    yank = function() require('gemma.chat.apply').yank(get()) end,
    apply = function() require('gemma.chat.apply').apply(get()) end,
    ask_on = function() get():follow_up() end,
    think = function() conversations.set_thinking(not conversations.thinking()) end,
    earlier = function() M.step(1) end,
    later = function() M.step(-1) end,
    entered = function() get():colour() end,
    wiped = function() get():forget() end,
  }
end

--- Opens the window and asks. The same question again gives the window the focus instead.
---@param o gemma.chat.Opts
function M.open(o)
  if vim.fn.getcmdwintype() ~= '' then
    return notify.warn('not in the command-line window. Close it and ask again.')
  end
  local current = kept.current()
  if current and current.key == o.key then
    return current.view:enter()
  end
  local source = o.source == 0 and api.nvim_get_current_buf() or o.source
  M.close()
  require('gemma.highlight').ensure()
  local self ---@type gemma.chat.Conversation
  local view = views.new(actions(function()
    return self
  end))
  self = conversations.new(o, sources.new(source, o.first, o.last, o.around), view)
  self:open()
  kept.add(self)
  self:ask({ prompt = o.prompt, shown = o.shown, attachments = o.attachments })
end

--- Closes the window; the conversation in it can be opened again.
function M.close()
  local shown = kept.shown()
  if shown then
    shown:close()
  end
end

--- Opens a conversation again and gives it the focus.
---@param conversation gemma.chat.Conversation
function M.reopen(conversation)
  local view = conversation.view
  if not view:is_open() then
    M.close()
    require('gemma.highlight').ensure()
    conversation:open()
  end
  view:enter()
  view:go_to_end()
end

--- Goes to the next older (1) or newer (-1) conversation.
---@param by integer
function M.step(by)
  local all = kept.all()
  for i, one in ipairs(all) do
    if one == kept.shown() then
      local to = all[i + by]
      if not to then
        return notify.info(by > 0 and 'this is the oldest answer.' or 'this is the newest answer.')
      end
      return M.reopen(to)
    end
  end
end

--- :Gemma answers. Without a number it lets choose, unless there is only one.
---@param n string?
function M.answers(n)
  local all = kept.all()
  if #all == 0 then
    return notify.info('there is no answer yet. Ask with :Gemma ask.')
  elseif n then
    local number = tonumber(n)
    local one = number and all[number]
    if not one then
      return notify.warn(('there is no answer %s; the newest of %d is 1.'):format(n, #all))
    end
    return M.reopen(one)
  elseif #all == 1 then
    return M.reopen(all[1])
  end
  vim.ui.select(all, {
    prompt = 'Answers',
    format_item = function(a)
      local asked = a.turns[1] and a.turns[1].shown or {}
      local words = {}
      for i = 1, math.min(#asked, 3) do
        words[#words + 1] = asked[i] ~= '' and asked[i] or nil
      end
      local text = table.concat(words, ' · ')
      return util.fit(text ~= '' and text or a.title, 70)
    end,
  }, function(one)
    if one then
      M.reopen(one)
    end
  end)
end

--- :Gemma save. The conversation in the window, else the newest, as Markdown.
---@param path string? a new file in the current directory when not given
---@param force boolean over an existing file
function M.save(path, force)
  local a = kept.current() or kept.all()[1]
  if not a then
    return notify.info('there is no answer to save.')
  end
  if not path or path == '' then
    path = os.date('gemma-%Y%m%d-%H%M%S.md') --[[@as string]]
  end
  path = path:gsub('\\(%s)', '%1') -- as it is written for :write
  local file = util.path(path)
  local stat = vim.uv.fs_stat(file)
  local is_file = stat ~= nil and stat.type == 'file'
  -- A link to nothing exists too: writing would make a file at its other end.
  if vim.uv.fs_lstat(file) and not (is_file and force) then
    local how = is_file and 'Add ! to replace it.' or 'Give another name.'
    return notify.warn(('%s exists. %s'):format(path, how))
  end
  local text = table.concat(a:markdown(), '\n') .. '\n'
  local out, err = io.open(file, 'wb')
  local ok = out
  if out then
    ok, err = out:write(text)
    local closed, why = out:close()
    ok, err = ok and closed, err or why
  end
  if not ok then
    return notify.error(('cannot write %s: %s.'):format(path, err or 'unknown reason'))
  end
  notify.info(('saved as %s.'):format(path))
end

return M
