--- complete.lua: code for one place, filtered like ghost text, without drawing anything: gemma.complete(),
--- and what completion menus and the language server show.

local context = require('gemma.context')
local filter = require('gemma.filter')
local ready = require('gemma.ready')
local request = require('gemma.request')
local sessions = require('gemma.sessions')

local M = {}

local api = vim.api

---@class (exact) gemma.CompleteOpts
---@field buf integer? with row and col: complete there; else prefix and suffix
---@field row integer? 0-based
---@field col integer? bytes
---@field prefix string?
---@field suffix string?
---@field language string?
---@field path string?
---@field max_tokens integer? 96
---@field max_lines integer? 8
--- swallow: bytes right of the place that the text replaces (closing brackets, mostly 0)
--- closers: where in the text those stand that replace them
---@field on_done fun(text: string?, info: gemma.Done|string, swallow: integer?, closers: integer[]?)

--- A call that is under way.
---@class gemma.complete.Call
---@field o gemma.CompleteOpts
---@field buf integer? nil: between two strings
---@field tick integer? of the buffer, when it was asked
---@field context gemma.Context
---@field filter gemma.filter.Context
---@field raw string what the model wrote
---@field over boolean on_done was called
---@field handle gemma.Handle?
local Call = {}
Call.__index = Call

--- Reads the text around the place.
---@return gemma.Context
function Call:read()
  local o = self.o
  if not self.buf then
    return context.from_strings(o.prefix, o.suffix or '', { language = o.language, path = o.path })
  end
  return context.gather(self.buf, o.row, o.col, context.budget(self.buf))
end

--- What the filters know about the place.
---@return gemma.filter.Context
function Call:place()
  local o, c = self.o, self.context
  local f = self.buf and request.filter(self.buf, o.row, o.col, c) or request.filter_between(c)
  f.single = filter.weight_after(c.after_line) > 0
  f.max_lines = o.max_lines or 8
  return f
end

---@param info gemma.Done|string
function Call:finish(info)
  if self.over then
    return
  end
  self.over = true
  local f = self.filter
  local text, closers = filter.fit_after(filter.body(self.raw, f, true), f.before, f.after)
  self.o.on_done(text, info, #closers, closers)
end

---@param piece string
function Call:heard(piece)
  self.raw = self.raw .. piece
  local _, stop = filter.body(self.raw, self.filter, false)
  if stop and not self.over then
    self.handle.cancel()
  end
end

--- Was the prompt too long because the buffer takes more tokens for its bytes than was thought? That
--- is known now, so a second prompt is shorter. One is made only for the text that was asked about.
---@param err gemma.Error
---@return boolean
function Call:can_read_less(err)
  return err.name == 'ETOOLONG'
    and self.buf ~= nil
    and context.mark_dense(self.buf)
    and api.nvim_buf_get_changedtick(self.buf) == self.tick
end

---@param err gemma.Error
function Call:failed(err)
  if self.raw ~= '' then
    self:finish(err.text)
  elseif self:can_read_less(err) then
    self.context = self:read()
    self:ask()
  elseif not self.over then
    self.over = true
    self.o.on_done(nil, err.text)
  end
end

function Call:ask()
  self.handle = ready.submit({
    parts = context.parts(self.context),
    session = sessions.GHOST,
    priority = 'ask',
    heal = true,
    max_tokens = self.o.max_tokens or 96,
    on_text = function(piece)
      self:heard(piece)
    end,
    on_done = function(info)
      self:finish(info)
    end,
    on_error = function(err)
      self:failed(err)
    end,
  })
end

--- Completes code at a place in a buffer or between two strings, filtered like ghost text.
---@param o gemma.CompleteOpts
---@return gemma.Handle
function M.complete(o)
  local buf = o.buf == 0 and api.nvim_get_current_buf() or o.buf
  if o.prefix then
    buf = nil
  end
  local excluded = buf and require('gemma.exclude').reason(buf)
  if excluded then
    vim.schedule(function()
      o.on_done(nil, excluded)
    end)
    return { cancel = function() end }
  end
  local call = setmetatable({ o = o, buf = buf, raw = '', over = false }, Call)
  call.tick = buf and api.nvim_buf_get_changedtick(buf)
  call.context = call:read()
  call.filter = call:place()
  call:ask()
  return {
    cancel = function()
      call.handle.cancel()
    end,
  }
end

return M
