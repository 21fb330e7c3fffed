--- completion.lua: when to ask the model, and whether its answer still fits.
---
--- Owns one offer (offer.lua): the place that a request was made for, with the suggestions for it that
--- are under way or on the screen. Every change of text or cursor is compared with it in the same tick:
--- what was typed as predicted only trims the ghost text, and generation goes on; anything else
--- drops it. allow.lua says whether, pace.lua how soon, filter.lua how much; context.lua reads,
--- asking.lua asks, ghost.lua draws, recall.lua remembers, ahead.lua works before anybody waits.

local ahead = require('gemma.ahead')
local allow = require('gemma.allow')
local asking = require('gemma.asking')
local candidates = require('gemma.candidates')
local config = require('gemma.config')
local context = require('gemma.context')
local engine = require('gemma.engine')
local ghost = require('gemma.ghost')
local indent = require('gemma.context.indent')
local log = require('gemma.log')
local notify = require('gemma.notify')
local offer = require('gemma.offer')
local pace = require('gemma.pace')
local place = require('gemma.place')
local popup = require('gemma.popup')
local power = require('gemma.power')
local recall = require('gemma.recall')
local suggestion = require('gemma.suggestion')
local util = require('gemma.util')
local waiting = require('gemma.waiting')

local M = {}

local api = vim.api

local LOADING = 'loading the model; the suggestion comes when it is there.'
local FLUSH_MS = 33 -- between two repaints while text streams in

local current ---@type gemma.Offer?
local typed_early = false -- in this Insert mode, while there was no model yet
local failed_version = -1 -- of the options, when loading failed
local unwanted = '' -- the buffer and its tick where the last suggestion was dismissed
local seen = { buf = -1, tick = -1, row = -1, col = -1, beyond = 0 } -- the last state that was looked at
local debounce = util.debounce(function()
  if api.nvim_get_mode().mode:match('^i') then
    M.ask(false)
  end
end)

---@return number
local function now()
  return vim.uv.hrtime() / 1e6
end

---@return boolean
local function in_insert()
  return api.nvim_get_mode().mode:match('^i') ~= nil
end

-- ---- the offer -----------------------------------------------------------------------------

--- The offer that is under way or on the screen.
---@return gemma.Offer?
function M.current()
  return current
end

--- Forgets the offer, stops its jobs and clears the screen.
---@param why string
local function drop(why)
  local o = current
  current = nil
  waiting.stop()
  if o then
    o:drop(why)
  end
  ghost.dismiss(why)
end

local schedule

---@param piece string
---@param kind gemma.ghost.Kind
local function on_accept(piece, kind)
  if current then
    current:event('GemmaGhostAccept', kind, piece)
  end
  M.on_change()
end

--- Brings the screen in line with the offer and the buffer.
---@return boolean alive the offer goes on
---@return boolean? contradicted something else was typed, for which nothing has been asked yet
local function sync()
  local o = current
  if not o then
    return false
  end
  local typed, why = o.place:typed()
  if not typed then
    drop(why --[[@as string]])
    return false
  end
  local rest = o:fitting(typed)
  if not rest then
    drop('something else was typed')
    return false, true
  elseif rest ~= '' then
    o:show(typed, rest, on_accept)
    return true
  end
  local s = o:suggestion()
  ghost.dismiss('typed')
  if not s.over then
    return true
  end
  local nothing = s.failed or s.raw:find('%S') and s.why or 'the model had nothing to add'
  offer.last = { what = s.text == '' and nothing or 'it was used up' }
  drop('typed')
  return false
end

--- Text streams in: the screen follows, but not more often than an eye can.
local repaint = util.throttle(FLUSH_MS, function()
  local _, contradicted = sync()
  if contradicted then
    schedule()
  end
end)

--- A suggestion ended, or the one that was asked for by cycling has more text.
---@param o gemma.Offer
---@param s gemma.Suggestion
local function changed(o, s)
  if o.coming == s then
    if candidates.judge(o) then
      sync()
      vim.cmd.redrawstatus()
    end
    return
  end
  o:remember(s)
  local alive, contradicted = sync()
  if alive and ghost.visible() then
    offer.last = { what = 'shown', ms_first = s.first and s.first - s.asked }
    ahead.prefetch(o.place, s.text, now())
  elseif contradicted then
    schedule()
  end
end

---@type gemma.offer.Listener
local listener = {
  text = repaint,
  changed = changed,
  again = function(manual)
    M.ask(manual)
  end,
}

-- ---- asking --------------------------------------------------------------------------------

--- Is what was asked for here by key still to come? Asking again would begin anew.
---@return boolean
local function under_way()
  local s = current and current.manual and current:suggestion()
  return s and s.job ~= nil and s:is_empty() and current.place:typed() == '' or false
end

--- Asks for a suggestion at the cursor.
---@param manual boolean
function M.ask(manual)
  if manual and under_way() then
    return
  end
  debounce.stop()
  drop('asked again')
  local why = allow.reason(manual)
  if why then
    offer.last = { what = why }
    if manual then
      notify.info(why)
    end
    return
  end
  -- What is being read for this very key goes on: the request finds it in the cache.
  ahead.cancel(true)
  local p = place.here()
  local c = context.gather(p.buf, p.row, p.col, context.budget(p.buf))
  local o = offer.new(p, c, manual, listener)
  local s = suggestion.new(manual and 'manual' or 'auto', now())
  o.list[1] = s
  current = o
  local err = asking.ask(o, s, c)
  if s.job and manual then
    waiting.start(o.place.buf, o.place.row)
  elseif not s.job then
    current = nil
    offer.last = {
      what = err --[[@as string]],
    }
    log.warn('completion: %s', err)
    if manual then
      notify.info(err --[[@as string]])
    end
  end
end

--- Asks because the user wants it now; loads the model first when it must.
function M.ask_by_key()
  M.setup()
  if engine.is_loaded() then
    return M.ask(true)
  end
  local why = allow.reason(true, true) -- or seven gigabytes were read only to say it then
  if why then
    offer.last = { what = why }
    return notify.info(why)
  elseif waiting.active() then
    return
  end
  notify.info(LOADING)
  waiting.start(api.nvim_get_current_buf(), api.nvim_win_get_cursor(0)[1] - 1)
  require('gemma.ready').load(function(err)
    notify.past(LOADING)
    if not err and in_insert() then
      M.ask(true)
    else
      waiting.stop()
    end
  end)
end

--- Lets the model read the buffer before somebody waits for it: at the start of Insert mode, and
--- the new key during the delay after it (urgent).
---@param urgent boolean
function M.read_ahead(urgent)
  local function wanted_now()
    return in_insert() and not current and not allow.reason(false)
  end
  if wanted_now() then
    ahead.read(urgent, wanted_now)
  end
end

--- Shows what is remembered for this text. Before a key is on the screen: a prompt would be read in vain.
---@return boolean
local function show_kept()
  local buf = api.nvim_get_current_buf()
  if not recall.knows(buf) or allow.reason(false, true) then
    return false
  end
  local pos = api.nvim_win_get_cursor(0)
  local text = recall.get(place.likeness(buf, pos[1] - 1, pos[2]), now())
  if not text then
    return false
  end
  local p = place.here()
  local o = offer.new(p, context.near(p.buf, p.row, p.col), false, listener)
  o.list[1] = suggestion.complete(text, 'kept', now())
  current = o
  return sync()
end

--- Shows the next or the previous candidate, or asks for another.
---@param by 1|-1
---@return boolean
function M.cycle(by)
  local o = current
  if not o or not ghost.visible() then
    return false
  end
  candidates.step(o, by)
  sync()
  vim.cmd.redrawstatus()
  return true
end

--- Which candidate is shown, once somebody has cycled.
---@return integer? at
---@return integer? of
function M.position()
  if current and current.cycled and ghost.visible() then
    return current.at, current:most()
  end
end

-- ---- keys ----------------------------------------------------------------------------------

--- Runs fn after this key is on the screen, and once for keys that come together.
---@param fn fun()
---@return fun()
local function once_soon(fn)
  local waits = false
  return function()
    if not waits then
      waits = true
      vim.schedule(function()
        waits = false
        fn()
      end)
    end
  end
end

local read_soon = once_soon(function()
  M.read_ahead(true)
end)

--- Loads the model, and starts with the buffer that is being edited by then.
local function load()
  local ok, why = engine.load(function(err)
    if err then
      failed_version = config.version
    elseif in_insert() then
      M.read_ahead(false)
    end
  end)
  if not ok then
    failed_version = config.version
    notify.once(why --[[@as string]])
  end
end

-- The event comes before the mode, and :normal or a macro, which nobody types, has left it again by then.
local load_soon = once_soon(function()
  if in_insert() and not engine.is_loaded() and not engine.busy() then
    load()
  end
end)

schedule = function()
  if not engine.is_loaded() then
    typed_early = true
    if allow.is_on() and engine.rested and not allow.buffer_reason(api.nvim_get_current_buf()) then
      load()
    end
  elseif allow.is_on() and not pace.manual_reason() then
    local gpu, tok_s = engine.is_gpu(), asking.tok_s()
    debounce.start(pace.delay(gpu, tok_s))
    if pace.reads_ahead(gpu, tok_s) then
      read_soon()
    end
  end
end

---@return string the buffer, and which of its texts it is
local function text_now()
  local buf = api.nvim_get_current_buf()
  return ('%d %d'):format(buf, api.nvim_buf_get_changedtick(buf))
end

--- Is this a blank line that was opened or emptied by the last change, in a file that has others?
---@return boolean
local function on_new_line()
  local buf = api.nvim_get_current_buf()
  return api.nvim_buf_get_mark(buf, '.')[1] == api.nvim_win_get_cursor(0)[1]
    and api.nvim_buf_line_count(buf) > 1
    and not api.nvim_get_current_line():find('%S')
end

--- What is known of this place is shown again. Who begins with `o` or `cc` need not type first; elsewhere
--- the buffer is only read.
local function begin()
  if
    not in_insert()
    or current
    or allow.moment_reason()
    or show_kept()
    or not engine.is_loaded()
  then
    return
  end
  M.read_ahead(false)
  if on_new_line() and unwanted ~= text_now() then
    schedule()
  end
end

local begin_soon = once_soon(begin) -- as load_soon

--- Text or cursor may have changed. Costs next to nothing when they did not.
function M.on_change()
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  local tick, beyond = api.nvim_buf_get_changedtick(buf), place.beyond()
  local same = buf == seen.buf and tick == seen.tick
  if same and pos[1] == seen.row and pos[2] == seen.col and beyond == seen.beyond then
    return
  end
  seen.buf, seen.tick, seen.row, seen.col, seen.beyond = buf, tick, pos[1], pos[2], beyond
  if allow.moment_reason() then
    drop('a macro, paste or the command-line window')
    debounce.stop()
    return
  end
  if not same then
    pace.key(now())
    power.set_focus(true) -- who types is in front, whatever the terminal says
  end
  if sync() or same or show_kept() then
    -- A movement without an edit asks for nothing.
    debounce.stop()
  else
    schedule()
  end
end

--- What an accept key does. Keys that were read together with it have changed the text, and nobody has
--- said so yet.
---@param kind gemma.ghost.Kind
---@return boolean
function M.accept(kind)
  local seen_one = current
  M.on_change()
  return current == seen_one and ghost.insert(kind)
end

--- A completion menu came, went or has another selection.
local function on_menu()
  if current then
    sync()
  end
end

--- Leaves no trace: no request, no job, nothing on the screen.
---@param why string
local function leave(why)
  debounce.stop()
  ahead.cancel()
  drop(why)
end

local function on_insert_enter()
  for _, p in ipairs(config.reload()) do
    notify.once('vim.g.gemma: ' .. p .. '.')
  end
  if config.get().battery ~= 'same' then
    power.refresh()
  end
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  seen.buf, seen.row, seen.col, seen.beyond = buf, pos[1], pos[2], place.beyond()
  seen.tick = api.nvim_buf_get_changedtick(buf)
  typed_early = false
  indent.forget(buf) -- it may have been changed without one line more
  if not allow.is_on() or allow.buffer_reason(buf) then
    return
  end
  if engine.is_loaded() then
    begin_soon()
  elseif
    (config.get().load == 'insert' or engine.rested)
    and not engine.busy()
    and not engine.kept_out
  then
    -- What failed once is not tried again on every Insert mode, unless the options changed.
    if not engine.reason or failed_version ~= config.version then
      load_soon()
    end
  end
end

-- ---- switches ------------------------------------------------------------------------------

---@return boolean
function M.is_enabled()
  return allow.is_on()
end

---@param yes boolean
---@param buf integer? only this buffer; 0 is the current one
function M.enable(yes, buf)
  buf = buf == 0 and api.nvim_get_current_buf() or buf
  if buf then
    vim.b[buf].gemma = yes
    if not yes then
      require('gemma.context.project').forget(buf)
    end
  else
    local sentinel = require('gemma.sentinel')
    local at_start = config.get().enabled ~= false and not sentinel.tripped()
    local left_out = yes and config.get().load == 'startup' and not at_start
    allow.switched = yes
    if yes then
      sentinel.forget()
    end
    if left_out then -- at the start, see plugin/gemma.lua
      load()
    end
  end
  if not yes then
    leave('turned off')
  end
end

--- Turns it on where it is off, and off where it is on.
---@param buf integer? only this buffer; 0 is the current one
---@return boolean on
function M.toggle(buf)
  buf = buf == 0 and api.nvim_get_current_buf() or buf
  local was
  if buf then
    was = config.takes_buffer(buf)
  else
    was = M.is_enabled()
  end
  M.enable(not was, buf)
  return not was
end

--- What the key for it does: the suggestion goes, and does not come back by itself.
function M.dismiss()
  local o = current
  unwanted = text_now()
  local shown = o and ghost.visible()
  if o and shown then
    o:event('GemmaGhostDismiss', o:suggestion().kind, ghost.text() --[[@as string]])
  end
  leave('dismissed')
  if o and shown then
    -- Who does not want it does not want it back after one key and a backspace.
    recall.drop(place.likeness(o.place.buf, o.place.cursor[1], o.place.cursor[2]))
  end
end

--- Does a suggestion come when the user has paused for long enough?
---@return boolean
function M.is_due()
  return debounce.pending()
end

local ready = false

--- Starts listening. Called once, on the first Insert mode.
function M.setup()
  if ready then
    return
  end
  ready = true
  require('gemma.context.project').setup()
  if require('gemma.sentinel').tripped() then
    allow.switched = false
    notify.warn('GPU work or a load ended Neovim. :Gemma enable or device cpu.')
  end
  local group = api.nvim_create_augroup('gemma.completion', {})
  local function au(events, callback, pattern)
    api.nvim_create_autocmd(events, { group = group, callback = callback, pattern = pattern })
  end
  au('InsertEnter', on_insert_enter)
  asking.forget_other_speed() -- the model may have been loaded before
  au('User', function(ev)
    if ev.data.from == 'loading' and engine.is_loaded() then
      asking.forget_other_speed()
    end
    -- Who has waited for the model, whoever loads it, need not type once more.
    local there = ev.data.to == 'ready' or ev.data.to == 'borrowed'
    if typed_early and there and in_insert() then
      typed_early = false
      schedule()
    end
  end, 'GemmaState')
  au('User', function()
    if engine.state == 'loading' then
      waiting.update(engine.load_progress())
    end
  end, 'GemmaProgress')
  au({ 'TextChangedI', 'TextChangedP', 'CursorMovedI' }, M.on_change)
  popup.watch(group, on_menu)
  au('ModeChanged', function()
    if not vim.v.event.new_mode:match('^i[cx]?$') then
      leave('Insert mode was left')
    end
  end, 'i*:*')
  au({ 'BufLeave', 'WinLeave', 'CmdwinEnter' }, function()
    leave('the window was left')
  end)
  au('OptionSet', function()
    leave("'paste' was set")
  end, 'paste')
  local was_due ---@type string? the text for which a suggestion was due when the focus went
  au('FocusLost', function()
    was_due = debounce.pending() and text_now() or nil
    debounce.stop()
    ahead.cancel()
  end)
  au(
    'FocusGained',
    vim.schedule_wrap(function() -- behind power.lua, which notes the focus
      if in_insert() and was_due == text_now() then
        schedule()
      end
      was_due = nil
    end)
  )
  au({ 'BufUnload', 'BufWipeout' }, function(ev)
    context.forget(ev.buf)
    recall.forget(ev.buf)
  end)
end

M.on_insert_enter = on_insert_enter

return M
