--- progress.lua: how far a long task is, for the screen, for statuslines and for other plugins.
---
--- On Neovim 0.12 a task is a progress message (`Progress` event, vim.ui.progress_status(), the
--- terminal's own progress bar); before, it is a line in the message area that is written at most
--- twice a second. Each step is also a User event, GemmaProgress. Nothing is kept when a task ends.

local util = require('gemma.util')

local M = {}

local STEP_MS = 100 -- between two updates of a progress message
local ECHO_MS = 500 -- between two lines of the older kind

---@class gemma.Progress
---@field title string
---@field percent integer?
---@field text string
---@field status 'running'|'success'|'failed'|'cancel'
---@field private id (integer|string)?
---@field private told number? ms
local Progress = {}
Progress.__index = Progress

local has_messages = vim.fn.has('nvim-0.12') == 1

---@param text string
---@param cells integer
---@return string at most so wide, on one line
local function fit(text, cells)
  return util.fit((text:gsub('%c+', ' ')), cells, '...')
end

--- A line in the message area. A command line that is being typed, and a question that waits for a
--- key, are not written over.
---@param p gemma.Progress
local function echo(p)
  if vim.api.nvim_get_mode().mode:match('^[cr]') then
    return
  end
  local percent = p.percent and (' %d %%'):format(p.percent) or ''
  local line = ('gemma: %s%s%s'):format(p.title, percent, p.text ~= '' and ' ' .. p.text or '')
  vim.api.nvim_echo({ { fit(line, vim.v.echospace) } }, false, {})
end

---@param p gemma.Progress
local function message(p)
  local title = 'gemma: ' .. p.title
  -- Neovim writes "title: 100% text". What is longer than the line would ask for a key.
  local room = vim.v.echospace - vim.fn.strdisplaywidth(title .. ': 100% ')
  local ok, id = pcall(vim.api.nvim_echo, { { fit(p.text, room) } }, false, {
    kind = 'progress',
    source = 'gemma',
    title = title,
    id = p.id,
    percent = p.percent,
    status = p.status,
  })
  if ok then
    p.id = id ~= -1 and id or p.id
  else
    echo(p)
  end
end

---@param p gemma.Progress
---@param force boolean also when the last one was a moment ago
local function tell(p, force)
  local now = vim.uv.hrtime() / 1e6
  local gap = has_messages and STEP_MS or ECHO_MS
  if not force and p.told and now - p.told < gap then
    return
  end
  p.told = now
  local function show()
    (has_messages and message or echo)(p)
    require('gemma.notify').event('GemmaProgress', {
      title = p.title,
      text = p.text,
      percent = p.percent,
      status = p.status,
    })
  end
  if vim.in_fast_event() then
    vim.schedule(show)
  else
    show()
  end
end

--- Begins a task. Callable from everywhere, as are the methods; each costs nothing when it comes
--- sooner than the screen needs it.
---@param title string a few words: "loading the model"
---@param text string? what is being done right now
---@return gemma.Progress
function M.start(title, text)
  local p = setmetatable({ title = title, text = text or '', status = 'running' }, Progress)
  tell(p, true)
  return p
end

--- How far it is.
---@param percent number? 0..100; nil when nobody knows
---@param text string?
function Progress:report(percent, text)
  if self.status ~= 'running' then
    return
  end
  self.percent = percent and math.max(0, math.min(100, math.floor(percent))) or nil
  self.text = text or self.text
  tell(self, false)
end

---@param p gemma.Progress
---@param status 'success'|'failed'|'cancel'
---@param text string?
local function finish(p, status, text)
  if p.status ~= 'running' then
    return
  end
  p.status = status
  p.text = text or p.text
  if status == 'success' then
    p.percent = 100
  end
  tell(p, true)
end

--- It worked.
---@param text string?
function Progress:done(text)
  finish(self, 'success', text or 'done')
end

--- It did not.
---@param text string one line
function Progress:fail(text)
  finish(self, 'failed', text)
end

--- It was given up.
---@param text string?
function Progress:cancel(text)
  finish(self, 'cancel', text or 'cancelled')
end

return M
