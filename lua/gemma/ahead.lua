--- ahead.lua: what the model does before anybody waits for it: reading the buffer at the start of
--- Insert mode, reading a new key during the delay after it, and, on an idle GPU, the answer that
--- would follow an accept. All of it is given up as soon as somebody asks for something.

local config = require('gemma.config')
local context = require('gemma.context')
local engine = require('gemma.engine')
local pace = require('gemma.pace')
local place = require('gemma.place')
local recall = require('gemma.recall')
local request = require('gemma.request')
local sessions = require('gemma.sessions')
local suggestion = require('gemma.suggestion')

local M = {}

local api = vim.api

---@class gemma.ahead.Reading
---@field job gemma.Job?
---@field again boolean another key came meanwhile
---@field urgent boolean it reads the key that was just typed

local reading ---@type gemma.ahead.Reading?
local share ---@type number? of the prompt that is read
local answer ---@type gemma.Job? as if the shown suggestion were accepted

---@return boolean
function M.reads()
  return reading ~= nil
end

---@return number?
function M.share()
  return share
end

--- Ends it all, but (with `keep_urgent`) for the key that is being read: a request finds it in the
--- cache.
---@param keep_urgent boolean?
function M.cancel(keep_urgent)
  if reading and not (keep_urgent and reading.urgent) then
    if reading.job then
      reading.job:cancel()
    end
    reading, share = nil, nil
  end
  if answer then
    answer:cancel()
    answer = nil
  end
end

--- Reads the text around the cursor into the cache.
---@param urgent boolean
---@param wanted fun(): boolean asked before a second round
function M.read(urgent, wanted)
  if reading then
    reading.again = reading.again or urgent
    return
  end
  local pos = api.nvim_win_get_cursor(0)
  local buf = api.nvim_get_current_buf()
  local c = context.gather(buf, pos[1] - 1, pos[2], context.budget(buf))
  local mine = { again = false, urgent = urgent }
  local function over()
    if reading ~= mine then
      return
    end
    reading, share = nil, nil
    if mine.again and wanted() then
      M.read(true, wanted)
    end
  end
  reading = mine
  mine.job = engine.generate({
    parts = context.parts(c),
    session = sessions.GHOST,
    priority = urgent and 'typing' or 'background',
    heal = urgent,
    quiet = urgent,
    max_tokens = 0,
    on_progress = function(done, total)
      share = total > 0 and done / total or nil
    end,
    on_done = over,
    on_error = function(err)
      mine.again = mine.again or (err.name == 'ETOOLONG' and context.mark_dense(buf))
      over()
    end,
  })
  if not mine.job then
    reading = nil
  end
end

--- Works on the answer that would follow if this suggestion were accepted, for recall.lua. Only
--- where nobody pays for it: an idle GPU, with the editor in front.
---@param p gemma.Place of which nothing was typed yet
---@param text string the suggestion
---@param now number ms
function M.prefetch(p, text, now)
  if answer or reading or text == '' or not pace.may_prefetch(engine.is_gpu()) then
    return
  elseif p.right:find('%S') or p:typed() ~= '' then
    return
  end
  local c = context.gather(p.buf, p.row, p.col, context.budget(p.buf))
  local like = place.likeness(p.buf, p.row, p.col, text)
  local fctx = request.filter(p.buf, p.row, p.col, c)
  c.mouth = c.mouth .. text
  -- The scope was looked up for another place.
  fctx.before, fctx.floor, fctx.open = like.line, nil, nil
  local s = suggestion.new('kept', now)
  local opts = { now = now, first_paint = math.huge, min_confidence = 0 }
  local job
  local function over()
    if answer == job then
      answer = nil
    end
    s:finish(fctx)
    if s.text ~= '' then
      recall.put(like, s.text, now)
    end
  end
  job = engine.generate({
    parts = context.parts(c),
    session = sessions.GHOST,
    priority = 'background',
    heal = true,
    quiet = true,
    max_tokens = config.get().completion.max_tokens,
    stops = request.stops(c, fctx.single),
    on_text = function(piece, logprob)
      s:add(piece, logprob, fctx, opts)
      if s.over and answer == job and job then
        job:cancel()
      end
    end,
    on_done = over,
    on_error = function()
      if s.over then
        over()
      elseif answer == job then
        answer = nil
      end
    end,
  })
  answer = job
end

return M
