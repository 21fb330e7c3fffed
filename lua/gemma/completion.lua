--- completion.lua: when to ask the model, and whether its answer still fits.
---
--- Owns one record: the place that a request was made for, with the suggestions for it that are
--- under way or on the screen. Every change of text or cursor is compared with it in the same tick:
--- what was typed as predicted only trims the ghost text, and generation goes on; anything else
--- drops it. allow.lua says whether, pace.lua how soon, filter.lua how much; context.lua reads,
--- ghost.lua draws, recall.lua remembers, ahead.lua works before anybody waits.

local ahead = require('gemma.ahead')
local allow = require('gemma.allow')
local brackets = require('gemma.brackets')
local config = require('gemma.config')
local context = require('gemma.context')
local engine = require('gemma.engine')
local filter = require('gemma.filter')
local ghost = require('gemma.ghost')
local indent = require('gemma.context.indent')
local log = require('gemma.log')
local notify = require('gemma.notify')
local pace = require('gemma.pace')
local place = require('gemma.place')
local popup = require('gemma.popup')
local power = require('gemma.power')
local recall = require('gemma.recall')
local request = require('gemma.request')
local sessions = require('gemma.sessions')
local suggestion = require('gemma.suggestion')
local util = require('gemma.util')
local waiting = require('gemma.waiting')

local M = {}

local api = vim.api

local TEMPERATURE, TOP_P = 0.8, 0.95 -- of other candidates
local TRIES = 3 -- for one more candidate that differs
local FLUSH_MS = 33 -- between two repaints while text streams in
local NEAR = 128 -- bytes right of the cursor that a suggestion is compared with

---@class gemma.completion.Record
---@field place gemma.Place
---@field likeness gemma.Recall.Place of the place before anything was typed there
---@field filter gemma.filter.Context
---@field list gemma.Suggestion[]
---@field at integer the one that is shown
---@field coming gemma.Suggestion? asked for by cycling, not yet known to differ
---@field tries integer how many of these came to nothing in a row
---@field cycled boolean
---@field manual boolean
---@field shown boolean it has been on the screen

local rec ---@type gemma.completion.Record?
local typed_early = false -- in this Insert mode, while there was no model yet
local failed_version = -1 -- of the options, when loading failed
local speed_of ---@type string? the model and device that the measured speed belongs to
local unwanted = '' -- the buffer and its tick where the last suggestion was dismissed
local reading = nil ---@type number? share of the prompt that is in the cache, while it is read
local seen = { buf = -1, tick = -1, row = -1, col = -1, beyond = 0 } -- the last state that was looked at
local debounce = util.debounce(function()
  if api.nvim_get_mode().mode:match('^i') then
    M.request(false)
  end
end)

--- What became of the last request, for :Gemma status.
M.last = nil ---@type { what: string, ms_first: number?, ms_total: number? }?

---@return number
local function now()
  return vim.uv.hrtime() / 1e6
end

---@return boolean
local function in_insert()
  return api.nvim_get_mode().mode:match('^i') ~= nil
end

-- ---- the record ----------------------------------------------------------------------------

--- Forgets the record, stops its jobs and clears the screen.
---@param why string
local function drop(why)
  local r = rec
  rec = nil
  waiting.stop()
  if r then
    for _, s in ipairs(r.list) do
      if s.job then
        s.job:cancel()
      end
      if not s.over then
        M.last = { what = why }
      end
    end
    if r.coming and r.coming.job then
      r.coming.job:cancel()
    end
  end
  ghost.dismiss(why)
end

--- What the events tell about a suggestion.
---@param r gemma.completion.Record
---@return table
local function numbers_of(r)
  local s = r.list[r.at]
  return {
    ms_first = s.first and s.first - s.asked or nil,
    ms_total = now() - s.asked,
    tokens = s.info and s.info.n_generated or nil,
    reused = s.info and s.info.n_reused or nil,
  }
end

--- The suggestion that goes with what was typed: the one that is shown, or else another of the
--- candidates.
---@param r gemma.completion.Record
---@param typed string
---@return string? rest nil: none of them
local function fitting(r, typed)
  local rest = r.list[r.at]:rest(typed)
  if rest then
    return rest
  end
  for i, s in ipairs(r.list) do
    rest = s:rest(typed)
    if rest and rest ~= '' then
      r.at = i
      return rest
    end
  end
end

--- How many candidates there can be at this place.
---@param r gemma.completion.Record
---@return integer
local function most(r)
  return r.tries >= TRIES and #r.list or math.max(#r.list, config.get().completion.candidates)
end

local on_accept, schedule

--- Puts up the rest of a suggestion, or takes it down where there is nothing worth showing.
---@param r gemma.completion.Record
---@param typed string
---@param rest string
local function show(r, typed, rest)
  local s, p = r.list[r.at], r.place
  local before = r.filter.before .. typed
  local _, right = place.around(p.buf, p.cursor[1], p.cursor[2], 0, NEAR)
  local quote = brackets.within(brackets.open(typed))
  local text, closers = filter.fit_after(rest, before:match('[^\n]*$'), right, quote)
  local chars = #(text:gsub('%s', ''))
  local enough = r.shown or r.manual or chars >= config.get().completion.min_chars
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
  r.shown = true
  ghost.present({
    row = p.cursor[1],
    col = p.cursor[2],
    text = text,
    right = right,
    closers = closers,
    on_accept = on_accept,
    kind = s.kind,
    more = r.cycled and ('%d/%d'):format(r.at, most(r)) or nil,
    numbers = function()
      return numbers_of(r)
    end,
  })
end

--- Brings the screen in line with the record and the buffer.
---@return boolean alive the record goes on
---@return boolean? contradicted something else was typed, for which nothing has been asked yet
local function sync()
  local r = rec
  if not r then
    return false
  end
  local typed, why = r.place:typed()
  if not typed then
    drop(why --[[@as string]])
    return false
  end
  local rest = fitting(r, typed)
  if not rest then
    drop('something else was typed')
    return false, true
  elseif rest ~= '' then
    show(r, typed, rest)
    return true
  end
  local s = r.list[r.at]
  ghost.dismiss('typed')
  if not s.over then
    return true
  end
  local nothing = s.failed or s.raw:find('%S') and s.why or 'the model had nothing to add'
  M.last = { what = s.text == '' and nothing or 'it was used up' }
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

---@param piece string
---@param kind gemma.ghost.Kind
on_accept = function(piece, kind)
  local r = rec
  if r then
    local data = numbers_of(r)
    data.buf, data.kind, data.chars = r.place.buf, kind, vim.fn.strchars(piece)
    notify.event('GemmaGhostAccept', data)
  end
  M.on_change()
end

-- ---- requests ------------------------------------------------------------------------------

---@return number?
local function decode_tok_s()
  local numbers = engine.numbers()
  return numbers and numbers.decode_tok_s
end

local function measure()
  local message = pace.measured(decode_tok_s())
  if message then
    notify.once(message)
  end
end

--- What was measured with one model and device says nothing about another. How many layers a GPU
--- holds is in the note.
local function forget_other_speed()
  local n = engine.numbers() or {}
  local now_on = table.concat({ engine.model or '', n.device or '', n.device_note or '' }, '\n')
  if now_on ~= speed_of then
    speed_of = now_on
    pace.forget_speed()
  end
end

---@param r gemma.completion.Record
---@param s gemma.Suggestion
---@return boolean is anybody still waiting for it?
local function wanted(r, s)
  return rec == r and (vim.tbl_contains(r.list, s) or r.coming == s)
end

local arrived

--- The callbacks of a request hold their own record and suggestion: when these are not current any
--- more, they come too late and do nothing.
---@param r gemma.completion.Record
---@param s gemma.Suggestion
---@param c gemma.Context
---@return gemma.Request
local function request_for(r, s, c)
  local conf = config.get().completion
  local function finish(why)
    if wanted(r, s) and not s.over then
      s:finish(r.filter, why)
      arrived(r, s)
    end
  end
  return {
    parts = context.parts(c),
    session = sessions.GHOST,
    priority = 'typing',
    heal = true,
    max_tokens = r.manual and conf.manual_max_tokens or conf.max_tokens,
    stops = request.stops(c, r.filter.single),
    on_progress = function(done, total)
      if wanted(r, s) then
        reading = total > 0 and done / total or nil
        waiting.update(reading)
      end
    end,
    on_text = function(text, logprob)
      reading = nil
      if s.over or not wanted(r, s) then
        return
      end
      s:add(text, logprob, r.filter, {
        now = now(),
        first_paint = conf.first_paint,
        min_confidence = conf.min_confidence,
      })
      if s.over then
        if s.job then
          s.job:cancel()
        end
        arrived(r, s)
      elseif r.coming == s then
        arrived(r, s)
      else
        repaint()
      end
    end,
    on_done = function(info)
      s.info, s.job = info, nil
      measure()
      finish()
    end,
    on_error = function(err)
      s.job = nil
      if s.first then
        measure()
      end
      local still = wanted(r, s)
      if err.name == 'ETOOLONG' and still and context.mark_dense(r.place.buf) then
        return M.request(r.manual)
      elseif err.name ~= 'ECANCELLED' then
        s.failed = err.text
        if still and r.manual and s:is_empty() and not err.told then
          notify.info(err.text)
        end
      end
      finish(s.failed)
    end,
  }
end

---@param manual boolean
---@return gemma.completion.Record
---@return gemma.Context
local function new_record(manual)
  local p = place.here()
  local c = context.gather(p.buf, p.row, p.col, context.budget(p.buf))
  ---@type gemma.completion.Record
  local r = {
    place = p,
    likeness = place.likeness(p.buf, p.row, p.col),
    filter = request.filter(p.buf, p.row, p.col, c),
    list = {},
    at = 1,
    tries = 0,
    cycled = false,
    manual = manual,
    shown = false,
  }
  return r, c
end

--- Is what was asked for here by key still to come? Asking again would begin anew.
---@return boolean
local function under_way()
  local s = rec and rec.manual and rec.list[rec.at]
  return s and s.job ~= nil and s:is_empty() and rec.place:typed() == '' or false
end

--- Asks for a suggestion at the cursor.
---@param manual boolean
function M.request(manual)
  if manual and under_way() then
    return
  end
  debounce.stop()
  drop('asked again')
  local why = allow.reason(manual)
  if why then
    M.last = { what = why }
    if manual then
      notify.info(why)
    end
    return
  end
  -- What is being read for this very key goes on: the request finds it in the cache.
  ahead.cancel(true)
  local r, c = new_record(manual)
  local s = suggestion.new(manual and 'manual' or 'auto', now())
  r.list[1] = s
  rec = r
  local err
  s.job, err = engine.generate(request_for(r, s, c))
  if s.job and manual then
    waiting.start(r.place.buf, r.place.row)
  elseif not s.job then
    rec = nil
    M.last = {
      what = err --[[@as string]],
    }
    log.warn('completion: %s', err)
    if manual then
      notify.info(err --[[@as string]])
    end
  end
end

--- Lets the model read the buffer before somebody waits for it: at the start of Insert mode, and
--- the new key during the delay after it (urgent).
---@param urgent boolean
function M.read_ahead(urgent)
  local function wanted_now()
    return in_insert() and not rec and not allow.reason(false)
  end
  if wanted_now() then
    ahead.read(urgent, wanted_now)
  end
end

--- Keeps a suggestion that is complete for when the same text is there again.
---@param r gemma.completion.Record
---@param s gemma.Suggestion
local function remember(r, s)
  local p = r.place
  if
    s.text ~= ''
    and s.base == 0
    and s.kind ~= 'kept'
    and api.nvim_buf_is_valid(p.buf)
    and p:typed()
  then
    recall.put(r.likeness, s.text, now())
  end
end

--- Shows what is remembered for this text.
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
  local r = new_record(false)
  r.list[1] = suggestion.complete(text, 'kept', now())
  rec = r
  return sync()
end

-- ---- candidates ----------------------------------------------------------------------------

--- Asks for one more candidate: from a fork of the cache, with another seed. The one on the screen
--- stays until the new one is known to say something else.
---@param r gemma.completion.Record
local function ask_another(r)
  local typed = r.place:typed()
  if not typed or r.coming or allow.reason(true) then
    return
  end
  local buf, cursor = r.place.buf, r.place.cursor
  local s = suggestion.new('next', now(), typed)
  local req = request_for(r, s, context.gather(buf, cursor[1], cursor[2], context.budget(buf)))
  req.session, req.fork_from = sessions.CANDIDATES, sessions.GHOST
  req.temperature, req.top_p = TEMPERATURE, TOP_P
  req.seed = #r.list + r.tries
  r.coming = s
  s.job = engine.generate(req)
  if not s.job then
    r.coming = nil
  end
end

--- More text, or the end, of a suggestion.
---@param r gemma.completion.Record
---@param s gemma.Suggestion
arrived = function(r, s)
  if r.coming ~= s then
    if s.over then
      remember(r, s)
    end
    local alive, contradicted = sync()
    if s.over and alive and ghost.visible() then
      M.last = { what = 'shown', ms_first = s.first and s.first - s.asked }
      ahead.prefetch(r.place, s.text, now())
    elseif contradicted then
      schedule()
    end
    return
  end
  local differs = s.text:sub(s.base + 1):find('%S') and s:differs(r.list)
  if differs then
    r.coming, r.tries = nil, 0
    r.list[#r.list + 1] = s
    r.at = #r.list
    sync()
    vim.cmd.redrawstatus()
  elseif s.over then
    r.coming = nil
    r.tries = r.tries + 1
    if r.tries < TRIES then
      ask_another(r)
    else
      sync()
      notify.info('the model has no other suggestion here.')
      vim.cmd.redrawstatus()
    end
  end
end

--- Shows the next or the previous candidate. Past the last one the model is asked for another, up
--- to completion.candidates of them.
---@param step 1|-1
---@return boolean
function M.cycle(step)
  local r = rec
  if not r or not ghost.visible() then
    return false
  end
  r.cycled = true
  local to = r.at + step
  if to > #r.list and #r.list < most(r) then
    ask_another(r)
  else
    r.at = (to - 1) % #r.list + 1
    local typed = r.place:typed()
    -- One that does not go with what was typed since is passed over.
    for _ = 1, #r.list do
      local rest = typed and r.list[r.at]:rest(typed)
      if rest and rest ~= '' then
        break
      end
      r.at = (r.at + step - 1) % #r.list + 1
    end
  end
  sync()
  vim.cmd.redrawstatus()
  return true
end

--- Which candidate is shown, once somebody has cycled.
---@return integer? at
---@return integer? of
function M.position()
  if rec and rec.cycled and ghost.visible() then
    return rec.at, most(rec)
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

schedule = function()
  if not engine.is_loaded() then
    typed_early = true
    if allow.is_on() and engine.rested and not allow.buffer_reason(api.nvim_get_current_buf()) then
      M.load()
    end
  elseif allow.is_on() and not pace.manual_reason() then
    local gpu, tok_s = engine.is_gpu(), decode_tok_s()
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
  if not in_insert() or rec or allow.moment_reason() or show_kept() or not engine.is_loaded() then
    return
  end
  M.read_ahead(false)
  if on_new_line() and unwanted ~= text_now() then
    schedule()
  end
end

local begin_soon = once_soon(begin)

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
  local seen_one = rec
  M.on_change()
  return rec == seen_one and ghost.insert(kind)
end

--- A completion menu came, went or has another selection.
local function on_menu()
  if rec then
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
    -- The event comes before the mode, and :normal or a macro has left it again by then.
    begin_soon()
  elseif
    (config.get().load == 'insert' or engine.rested)
    and not engine.busy()
    and not engine.kept_out
  then
    -- What failed once is not tried again on every Insert mode, unless the options changed.
    if not engine.reason or failed_version ~= config.version then
      M.load()
    end
  end
end

--- Loads the model, and starts with the buffer that is being edited by then.
function M.load()
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
      M.load()
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
  local r = rec
  unwanted = text_now()
  if r and not r.list[r.at].over then
    M.last = { what = 'dismissed' }
  end
  if r and ghost.visible() then
    local data = numbers_of(r)
    data.buf, data.kind = r.place.buf, r.list[r.at].kind
    data.chars = vim.fn.strchars(ghost.text() --[[@as string]])
    notify.event('GemmaGhostDismiss', data)
    -- Who does not want it does not want it back after one key and a backspace.
    recall.drop(place.likeness(r.place.buf, r.place.cursor[1], r.place.cursor[2]))
  end
  leave('dismissed')
end

--- Why ghost text waits everywhere although the model is there: the battery, a slow machine, a terminal
--- in the background, or because the user wants it to be asked for. nil when it does not wait.
---@return string?
function M.paused()
  if allow.is_on() and engine.is_loaded() then
    return pace.off_reason() or pace.manual_reason()
  end
end

--- What goes on at the cursor, in one sentence.
---@return string
function M.why()
  if ghost.visible() then
    local n = #vim.split(ghost.text() --[[@as string]], '\n')
    return ('a suggestion of %s is shown.'):format(util.count(n, 'line'))
  end
  local why = allow.reason(false)
  local s = rec and rec.list[rec.at]
  if why then
    return 'no suggestion: ' .. why
  elseif (s and not s.over and s:is_empty()) or ahead.reads() then
    local share = ahead.share() or reading
    return share and ('the model reads (%d %%).'):format(share * 100) or 'the model reads.'
  elseif s and not s.over then
    return 'the model writes.'
  elseif debounce.pending() then
    return 'waiting for a pause in typing.'
  elseif not api.nvim_get_mode().mode:find('i', 1, true) then -- niI, after CTRL-O, is Insert mode too
    local last = M.last and (' The last one: %s.'):format(M.last.what) or ''
    return 'suggestions come in Insert mode.' .. last
  elseif M.last then
    return ('no suggestion: %s.'):format(M.last.what)
  end
  return 'nothing was asked yet: type something.'
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
    notify.warn('GPU work ended Neovim last time. :Gemma enable or device cpu.')
  end
  local group = api.nvim_create_augroup('gemma.completion', {})
  local function au(events, callback, pattern)
    api.nvim_create_autocmd(events, { group = group, callback = callback, pattern = pattern })
  end
  au('InsertEnter', on_insert_enter)
  forget_other_speed() -- the model may have been loaded before
  au('User', function(ev)
    if ev.data.from == 'loading' and engine.is_loaded() then
      forget_other_speed()
    end
    -- Who has waited for the model, whoever loads it, need not type once more.
    local there = ev.data.to == 'ready' or ev.data.to == 'borrowed'
    if typed_early and there and in_insert() then
      typed_early = false
      schedule()
    end
  end, 'GemmaState')
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
  au('FocusLost', function()
    power.set_focus(false)
    debounce.stop()
    ahead.cancel()
  end)
  au('FocusGained', function()
    power.set_focus(true)
  end)
  au({ 'BufUnload', 'BufWipeout' }, function(ev)
    context.forget(ev.buf)
    recall.forget(ev.buf)
  end)
end

M.on_insert_enter = on_insert_enter

return M
