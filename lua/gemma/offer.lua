--- offer.lua: one place in a buffer and the suggestions for it: which of them fits what was typed since,
--- and how it comes on the screen.
---
--- completion.lua has one offer at a time and drops it; asking.lua lets the model write into it;
--- candidates.lua goes through its suggestions.

local allow = require('gemma.allow')
local brackets = require('gemma.brackets')
local config = require('gemma.config')
local filter = require('gemma.filter')
local ghost = require('gemma.ghost')
local notify = require('gemma.notify')
local place = require('gemma.place')
local recall = require('gemma.recall')
local request = require('gemma.request')
local waiting = require('gemma.waiting')

local M = {}

local TRIES = 3 -- for one more candidate that differs
local NEAR = 128 -- bytes right of the cursor that a suggestion is compared with

--- What became of the last offer, or why there was none; for status.lua.
M.last = nil ---@type { what: string, ms_first: number? }?

--- Who hears what the model writes for an offer.
---@class (exact) gemma.offer.Listener
---@field text fun() a suggestion on the list has more text
---@field changed fun(o: gemma.Offer, s: gemma.Suggestion) one ended, or the coming one has more text
---@field again fun(manual: boolean) the prompt was too long, and a new one will be shorter

---@class gemma.Offer
---@field place gemma.Place
---@field likeness gemma.Recall.Place of the place before anything was typed there
---@field filter gemma.filter.Context
---@field listener gemma.offer.Listener
---@field list gemma.Suggestion[]
---@field at integer the one that is shown
---@field coming gemma.Suggestion? asked for by cycling, not yet known to differ
---@field tries integer how many of these came to nothing in a row
---@field cycled boolean
---@field manual boolean asked for by key
---@field shown boolean it has been on the screen
---@field dropped boolean it is not wanted any more
---@field reading number? share of the prompt that is in the cache, while it is read
local Offer = {}
Offer.__index = Offer

--- An offer without a suggestion yet.
---@param p gemma.Place the cursor
---@param near gemma.context.Near what stands there
---@param manual boolean
---@param listener gemma.offer.Listener
---@return gemma.Offer
function M.new(p, near, manual, listener)
  return setmetatable({
    place = p,
    likeness = place.likeness(p.buf, p.row, p.col),
    filter = request.filter(p.buf, p.row, p.col, near),
    listener = listener,
    list = {},
    at = 1,
    tries = 0,
    cycled = false,
    manual = manual,
    shown = false,
    dropped = false,
  }, Offer)
end

--- The suggestion that is shown, or would be.
---@return gemma.Suggestion
function Offer:suggestion()
  return self.list[self.at]
end

--- Keeps a suggestion for when the same text is there again, if it begins where the offer does.
---@private
---@param s gemma.Suggestion
function Offer:keep(s)
  if s.text ~= '' and s.base == 0 and s.kind ~= 'kept' then
    recall.put(self.likeness, s.text, vim.uv.hrtime() / 1e6)
  end
end

--- Stops its jobs; what they still tell is not heard any more. What came so far of a suggestion that was
--- asked for by key is kept: where that is how one asks, asking again takes long.
---@param why string
function Offer:drop(why)
  self.dropped = true
  for _, s in ipairs(self.list) do
    if s.job then
      s.job:cancel()
      if self.manual then
        self:keep(s)
      end
    end
    if not s.over then
      M.last = { what = why }
    end
  end
  if M.last and M.last.what == 'shown' then
    M.last = { what = why }
  end
  if self.coming and self.coming.job then
    self.coming.job:cancel()
  end
end

--- Is anybody still waiting for this suggestion?
---@param s gemma.Suggestion
---@return boolean
function Offer:wants(s)
  return not self.dropped and (vim.tbl_contains(self.list, s) or self.coming == s)
end

--- What the events tell about the suggestion that is shown.
---@return { ms_first: number?, ms_total: number, tokens: integer?, reused: integer? }
function Offer:numbers()
  local s = self:suggestion()
  return {
    ms_first = s.first and s.first - s.asked or nil,
    ms_total = vim.uv.hrtime() / 1e6 - s.asked,
    tokens = s.info and s.info.n_generated or nil,
    reused = s.info and s.info.n_reused or nil,
  }
end

--- Tells others that the user decided about the suggestion that is shown.
---@param name string of the event
---@param kind string
---@param text string that it is about
function Offer:event(name, kind, text)
  local data = self:numbers() --[[@as table]]
  data.buf, data.kind, data.chars = self.place.buf, kind, vim.fn.strchars(text)
  notify.event(name, data)
end

--- The suggestion that goes with what was typed: the one that is shown, or else another of the
--- candidates.
---@param typed string
---@return string? rest nil: none of them
function Offer:fitting(typed)
  local rest = self:suggestion():rest(typed)
  if rest then
    return rest
  end
  for i, s in ipairs(self.list) do
    rest = s:rest(typed)
    if rest and rest ~= '' then
      self.at = i
      return rest
    end
  end
end

--- Has the model nothing else to say here? It was asked often enough.
---@return boolean
function Offer:is_exhausted()
  return self.tries >= TRIES
end

--- How many candidates there can be at this place.
---@return integer
function Offer:most()
  local n = #self.list
  return self:is_exhausted() and n or math.max(n, config.get().completion.candidates)
end

--- Puts up the rest of the current suggestion, or takes it down where there is nothing worth showing.
---@param typed string
---@param rest string
---@param on_accept fun(piece: string, kind: gemma.ghost.Kind)
function Offer:show(typed, rest, on_accept)
  local s, p = self:suggestion(), self.place
  local before = self.filter.before .. typed
  local _, right = place.around(p.buf, p.cursor[1], p.cursor[2], 0, NEAR)
  local quote = brackets.within(brackets.open(typed))
  local text, closers = filter.fit_after(rest, before:match('[^\n]*$'), right, quote)
  local _, chars = text:gsub('[^%s\128-\191]', '') -- not counting the later bytes of a character
  local enough = self.shown or self.manual or chars >= config.get().completion.min_chars
  local hides = allow.menu_hides()
  if s.over or chars > 0 then
    waiting.stop()
  end
  if chars == 0 or not enough or hides then
    ghost.dismiss('hidden')
    if s.over and not hides then
      M.last = { what = chars == 0 and 'it is in the text already' or 'too short' }
    end
    return
  end
  self.shown = true
  ghost.present({
    row = p.cursor[1],
    col = p.cursor[2],
    text = text,
    right = right,
    closers = closers,
    on_accept = on_accept,
    kind = s.kind,
    more = self.cycled and ('%d/%d'):format(self.at, self:most()) or nil,
    numbers = function()
      return self:numbers()
    end,
  })
end

--- Keeps a suggestion that is complete for when the same text is there again.
---@param s gemma.Suggestion
function Offer:remember(s)
  local p = self.place
  if vim.api.nvim_buf_is_valid(p.buf) and p:typed() then
    self:keep(s)
  end
end

return M
