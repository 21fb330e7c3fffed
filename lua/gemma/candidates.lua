--- candidates.lua: other suggestions for the place of an offer: going through them, and asking for one
--- more.

local allow = require('gemma.allow')
local asking = require('gemma.asking')
local context = require('gemma.context')
local notify = require('gemma.notify')
local sessions = require('gemma.sessions')
local suggestion = require('gemma.suggestion')

local M = {}

local TEMPERATURE, TOP_P = 0.8, 0.95 -- the first suggestion is the most likely one

--- Asks for one more candidate: from a fork of the cache, with another seed. The one on the screen
--- stays until the new one is known to say something else.
---@param o gemma.Offer
local function ask(o)
  local typed = o.place:typed()
  local why = allow.reason(true)
  if why then
    return notify.info(why)
  elseif not typed or o.coming then
    return
  end
  local buf, cursor = o.place.buf, o.place.cursor
  local s = suggestion.new('next', vim.uv.hrtime() / 1e6, typed)
  o.coming = s
  local err = asking.ask(o, s, context.gather(buf, cursor[1], cursor[2], context.budget(buf)), {
    session = sessions.CANDIDATES,
    fork_from = sessions.GHOST,
    temperature = TEMPERATURE,
    top_p = TOP_P,
    seed = #o.list + o.tries,
  })
  if not s.job then
    o.coming = nil
    notify.info(err --[[@as string]])
  end
end

--- Goes to the next or the previous candidate. Past the last one the model is asked for another, up to
--- completion.candidates of them.
---@param o gemma.Offer
---@param by 1|-1
function M.step(o, by)
  o.cycled = true
  local to = o.at + by
  if to > #o.list and #o.list < o:most() then
    return ask(o)
  end
  o.at = (to - 1) % #o.list + 1
  local typed = o.place:typed()
  -- One that does not go with what was typed since is passed over.
  for _ = 1, #o.list do
    local rest = typed and o:suggestion():rest(typed)
    if rest and rest ~= '' then
      break
    end
    o.at = (o.at + by - 1) % #o.list + 1
  end
end

--- The coming candidate has more text, or came to its end. It joins the list once it is known to say
--- something else than the others. One that says the same is asked for again, a few times.
---@param o gemma.Offer
---@return boolean news the screen has to follow
function M.judge(o)
  local s = o.coming --[[@as gemma.Suggestion]]
  if s.text:sub(s.base + 1):find('%S') and s:differs(o.list) then
    o.coming, o.tries = nil, 0
    o.list[#o.list + 1] = s
    o.at = #o.list
    return true
  elseif not s.over then
    return false
  end
  o.coming = nil
  o.tries = o.tries + 1
  if not o:is_exhausted() then
    ask(o)
    return false
  end
  notify.info('the model has no other suggestion here.')
  return true
end

return M
