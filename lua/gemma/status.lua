--- status.lua: what goes on, for people: status(), the statusline, and why there is or is no ghost text.
---
--- A statusline asks all the time, so requiring this file costs nothing else, and line() loads nothing.

local M = {}

--- Why ghost text waits everywhere although the model is there: the battery, a slow machine, a terminal
--- in the background, or because the user wants it to be asked for. nil when it does not wait.
---@return string?
function M.paused()
  local pace = require('gemma.pace')
  if require('gemma.allow').is_on() and require('gemma.engine').is_loaded() then
    return pace.off_reason() or pace.manual_reason()
  end
end

--- What goes on at the cursor, in one sentence.
---@return string
function M.here()
  local ghost = require('gemma.ghost')
  if ghost.visible() then
    local n = #vim.split(ghost.text() --[[@as string]], '\n')
    return ('a suggestion of %s is shown.'):format(require('gemma.util').count(n, 'line'))
  end
  local ahead, completion = require('gemma.ahead'), require('gemma.completion')
  local why, last = require('gemma.allow').reason(false), require('gemma.offer').last
  local o = completion.current()
  local s = o and o:suggestion()
  if why then
    return 'no suggestion: ' .. why
  elseif (s and not s.over and s:is_empty()) or ahead.reads() then
    local share = ahead.share() or (o and o.reading)
    return share and ('the model reads (%d %%).'):format(share * 100) or 'the model reads.'
  elseif s and not s.over then
    return 'the model writes.'
  elseif completion.is_due() then
    return 'waiting for a pause in typing.'
  elseif not vim.api.nvim_get_mode().mode:find('i', 1, true) then -- niI, after CTRL-O, is Insert mode too
    local before = last and (' The last one: %s.'):format(last.what) or ''
    return 'suggestions come in Insert mode.' .. before
  elseif last then
    return ('no suggestion: %s.'):format(last.what)
  end
  return 'nothing was asked yet: type something.'
end

--- State as a table; see |gemma-status|.
---@return table
function M.all()
  local engine = require('gemma.engine')
  local lend = package.loaded['gemma.lend']
  return vim.tbl_extend('keep', {
    state = engine.state,
    reason = engine.reason,
    model_path = engine.model,
    lender = engine.lender and engine.lender.pid,
    lent_to = lend and lend.count() or nil,
    mmproj_path = engine.mmproj,
    enabled = require('gemma.allow').is_on(),
    paused = M.paused(),
    here = M.here(),
    progress = engine.load_progress(),
    version = engine.version(),
  }, engine.numbers() or {})
end

---@param share number? 0..1 of what is loaded or downloaded
---@return string
local function percent(share)
  return share and ('G %d%%'):format(share * 100) or 'G~'
end

--- A few characters for a statusline; makes no call into the library.
---   "G rec 0:07" a recording is under way · "G 2/3" the second of three candidates is shown
---   ""  not loaded · "G" ready · "G~" busy · "G 42%" loading · "G!" a problem · "G-" off
---@return string
function M.line()
  local record = package.loaded['gemma.record']
  local recording = record and record.statusline()
  if recording then
    return 'G ' .. recording
  end
  local engine = package.loaded['gemma.engine']
  if not engine or (engine.state == 'off' and not engine.reason) then
    return ''
  end
  local completion = package.loaded['gemma.completion']
  local at, of
  if completion then
    at, of = completion.position()
  end
  local state = engine.state
  if at then
    return ('G %d/%d'):format(at, of)
  elseif state == 'loading' then
    return percent(engine.load_progress())
  elseif state == 'installing' then
    return percent(require('gemma.install').fraction())
  elseif state == 'prefill' or state == 'generating' then
    return 'G~'
  elseif state ~= 'ready' and state ~= 'borrowed' then
    return 'G!'
  end
  return (not completion or completion.is_enabled()) and 'G' or 'G-'
end

return M
