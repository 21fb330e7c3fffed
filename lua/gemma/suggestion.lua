--- suggestion.lua: one answer of the model, as data: what came, what of it may be shown, and what
--- is left of it after somebody typed.
---
--- All text is measured from one fixed place in the buffer, where the first request was made. A
--- suggestion asked for later, when part of it had been typed, begins with what was typed. Knows
--- no buffer, no screen and no clock.

local filter = require('gemma.filter')

local M = {}

local AHEAD = 16 -- bytes a user may be ahead of a running answer

---@class gemma.Suggestion
---@field job gemma.Job? while the model writes
---@field raw string all of it
---@field clean string the part of it that may be in a buffer
---@field text string the part of that which may be shown; only grows while the model writes
---@field base integer bytes of raw that had been typed when it was asked for
---@field why string? why it ended
---@field failed string? the error it ended with
---@field over boolean nothing more will come
---@field asked number ms
---@field first number? ms at which the first token came
---@field info gemma.Done?
---@field kind 'auto'|'manual'|'next'|'kept' asked by itself, by key, by cycling; from the cache
local Suggestion = {}
Suggestion.__index = Suggestion

---@param kind 'auto'|'manual'|'next'|'kept'
---@param asked number ms
---@param typed string? typed since the place, when it is asked for later
---@return gemma.Suggestion
function M.new(kind, asked, typed)
  typed = typed or ''
  return setmetatable({
    raw = typed,
    clean = typed,
    text = typed,
    base = #typed,
    over = false,
    asked = asked,
    kind = kind,
  }, Suggestion)
end

--- One that is complete already.
---@param text string
---@param kind 'auto'|'manual'|'next'|'kept'
---@param now number ms
---@return gemma.Suggestion
function M.complete(text, kind, now)
  local s = M.new(kind, now)
  s.raw, s.clean, s.text, s.over, s.first = text, text, text, true, now
  return s
end

--- Judges what has come so far.
---@param ctx gemma.filter.Context
---@param partly boolean the words of an unfinished line may be shown
function Suggestion:judge(ctx, partly)
  local body, stop, why, tail = filter.body(self.raw, ctx, self.over)
  self.clean = filter.prepare(self.raw, ctx)
  if stop then
    self.over = true
    self.why = self.why or why
  end
  local text = body
  if tail ~= '' and partly then
    text = body .. filter.partial(tail, ctx)
  end
  -- What is painted only grows, except that the end of the answer has the last word about the
  -- line that was not complete.
  if #text >= #self.text or self.over then
    self.text = text
  end
end

--- The model wrote a piece. What comes after an unsure token is not wanted, nor is that token.
---@param piece string
---@param logprob number? of its last token
---@param ctx gemma.filter.Context
---@param o { now: number, first_paint: integer, min_confidence: number }
function Suggestion:add(piece, logprob, ctx, o)
  if self.over then
    return
  end
  self.first = self.first or o.now
  if not filter.sure(logprob, o.min_confidence) then
    self.over, self.why = true, 'the model is not sure'
  else
    self.raw = self.raw .. piece
  end
  -- A half line beside text that follows may have to be taken back: it waits.
  local partly = o.now - self.first >= o.first_paint and filter.weight_after(ctx.after) == 0
  self:judge(ctx, partly)
end

--- Nothing more will come.
---@param ctx gemma.filter.Context
---@param why string?
function Suggestion:finish(ctx, why)
  if not self.over then
    self.over = true
    self.why = why or self.why
    self:judge(ctx, true)
  end
end

--- Nothing has come from the model yet.
---@return boolean
function Suggestion:is_empty()
  return #self.raw <= self.base
end

--- What is left to show after typing; nil when what was typed contradicts it.
---@param typed string since the place
---@return string?
function Suggestion:rest(typed)
  if vim.startswith(self.text, typed) then
    return self.text:sub(#typed + 1)
  elseif vim.startswith(self.clean, typed) then
    return ''
  elseif not self.over and not self:is_empty() and vim.startswith(typed, self.clean) then
    return #typed - #self.clean <= AHEAD and '' or nil
  elseif not self.over and self:is_empty() and typed == self.raw then
    return ''
  end
end

--- Does it say something that none of the others says?
---@param others gemma.Suggestion[]
---@return boolean? nil: too early to tell
function Suggestion:differs(others)
  for _, o in ipairs(others) do
    if o.text == self.text then
      return not self.over and nil or false
    elseif not self.over and vim.startswith(o.text, self.text) then
      return nil
    end
  end
  return true
end

return M
