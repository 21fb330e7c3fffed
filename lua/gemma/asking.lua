--- asking.lua: lets the model write a suggestion into an offer (offer.lua), and measures how fast it is.

local config = require('gemma.config')
local context = require('gemma.context')
local engine = require('gemma.engine')
local notify = require('gemma.notify')
local pace = require('gemma.pace')
local request = require('gemma.request')
local sessions = require('gemma.sessions')
local waiting = require('gemma.waiting')

local M = {}

local speed_of ---@type string? the model and device that the measured speed belongs to

--- How fast the model writes.
---@return number? tokens per second; 0 or nil: not measured
function M.tok_s()
  local numbers = engine.numbers()
  return numbers and numbers.decode_tok_s
end

--- What was measured with one model and device says nothing about another. How many layers a GPU
--- holds is in the note.
function M.forget_other_speed()
  local n = engine.numbers() or {}
  local now_on = table.concat({ engine.model or '', n.device or '', n.device_note or '' }, '\n')
  if now_on ~= speed_of then
    speed_of = now_on
    pace.forget_speed()
  end
end

local function measure()
  local message = pace.measured(M.tok_s())
  if message then
    local key = require('gemma.keymap').key('request')
    notify.once(key and ('%s Press %s.'):format(message, key) or message)
  end
end

--- The model wrote a piece.
---@param o gemma.Offer
---@param s gemma.Suggestion
---@param text string
---@param logprob number
local function add(o, s, text, logprob)
  local conf = config.get().completion
  o.reading = nil
  if s.over or not o:wants(s) then
    return
  end
  s:add(text, logprob, o.filter, {
    now = vim.uv.hrtime() / 1e6,
    first_paint = conf.first_paint,
    min_confidence = conf.min_confidence,
  })
  if s.over and s.job then
    s.job:cancel()
  end
  if s.over or o.coming == s then
    o.listener.changed(o, s)
  else
    o.listener.text()
  end
end

--- Nothing more will come.
---@param o gemma.Offer
---@param s gemma.Suggestion
---@param why string?
local function finish(o, s, why)
  if o:wants(s) and not s.over then
    s:finish(o.filter, why)
    o.listener.changed(o, s)
  end
end

---@param o gemma.Offer
---@param s gemma.Suggestion
---@param err gemma.Error
local function fail(o, s, err)
  s.job = nil
  if s.first then
    measure()
  end
  local still = o:wants(s)
  if err.name == 'ETOOLONG' and still and context.mark_dense(o.place.buf) then
    return o.listener.again(o.manual)
  elseif err.name ~= 'ECANCELLED' then
    s.failed = err.text
    if still and o.manual and s:is_empty() and not err.told then
      notify.info(err.text)
    end
  end
  finish(o, s, s.failed)
end

--- Asks the model for a suggestion. What comes when the offer does not want it any more comes too late
--- and does nothing.
---@param o gemma.Offer
---@param s gemma.Suggestion of this offer
---@param c gemma.Context
---@param other table? fields of the request that differ from those of a first suggestion
---@return string? err why it cannot be asked; else s.job is under way
function M.ask(o, s, c, other)
  local conf = config.get().completion
  local err
  s.job, err = engine.generate(vim.tbl_extend('force', {
    parts = context.parts(c),
    session = sessions.GHOST,
    priority = 'typing',
    heal = true,
    max_tokens = o.manual and conf.manual_max_tokens or conf.max_tokens,
    stops = request.stops(c, o.filter.single),
    on_progress = function(done, total)
      if o:wants(s) then
        o.reading = total > 0 and done / total or nil
        waiting.update(o.reading)
      end
    end,
    on_text = function(text, logprob)
      add(o, s, text, logprob)
    end,
    on_done = function(info)
      s.info, s.job = info, nil
      measure()
      finish(o, s)
    end,
    on_error = function(e)
      fail(o, s, e)
    end,
  }, other or {}))
  return err
end

return M
