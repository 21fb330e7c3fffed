--- completion.lua: when to ask the model, and whether its answer still fits.
---
--- Owns one record: the request that is under way or on the screen, with the place it was made
--- for. Every change of text or cursor is compared with it in the same tick: what was typed as
--- predicted only trims the ghost text, and generation goes on; anything else drops it. ghost.lua
--- draws, filter.lua judges, context.lua reads.

local config = require('gemma.config')
local context = require('gemma.context')
local engine = require('gemma.engine')
local filter = require('gemma.filter')
local ghost = require('gemma.ghost')
local log = require('gemma.log')
local notify = require('gemma.notify')
local util = require('gemma.util')

local M = {}

local api = vim.api

local WINDOW = 128 -- bytes left and right of the cursor that must not change
local TYPED_LINES, TYPED_BYTES = 40, 4096 -- more than this was not typed through
local AHEAD = 16 -- bytes a user may be ahead of a running answer
local SLOW_MS = 700 -- first characters later than this: manual
local SAMPLES = 3 -- answers that are measured before judging the speed

---@class gemma.completion.Record
---@field buf integer
---@field win integer
---@field row integer where the answer begins, 0-based
---@field col integer
---@field tick integer changedtick for which the record was last found to fit
---@field cursor integer[] the cursor then
---@field left string bytes before the place
---@field right string bytes after it
---@field first_line integer first line changed since the request
---@field lines_after integer lines below all changes since the request
---@field filter gemma.filter.Context
---@field job gemma.Job?
---@field raw string all the model wrote
---@field clean string the part of it that may be in a buffer
---@field text string the part of that which may be shown
---@field why string? why the answer ended
---@field over boolean nothing more will come
---@field manual boolean
---@field shown boolean it has been on the screen
---@field asked number ms
---@field first number? ms at which the first token came
---@field info gemma.Done?

local rec ---@type gemma.completion.Record?
local warm ---@type gemma.Job? a prefill-only job
local on = true -- :Gemma enable / disable
local slow = false -- measured: ghost text is manual
local samples = 0
local failed_version = -1 -- of the options, when loading failed
local reading = nil ---@type number? share of the prompt that is in the cache, while it is read
local seen = { buf = -1, tick = -1, row = -1, col = -1 } -- the last state that was looked at
local attached = {} ---@type table<integer, true>
local debounce = util.debounce(function()
  if vim.api.nvim_get_mode().mode:match('^i') then
    M.request(false)
  end
end)

--- What became of the last request, for :Gemma status.
M.last = nil ---@type { what: string, ms_first: number?, ms_total: number? }?

---@return number
local function now()
  return vim.uv.hrtime() / 1e6
end

-- ---- may there be ghost text here? ---------------------------------------------------------

local verdicts = {} ---@type table<integer, { key: string, why: string? }>
local patterns = { version = -1, list = {} } ---@type { version: integer, list: table[] }

---@return table[]
local function exclude_patterns()
  if patterns.version ~= config.version then
    patterns = { version = config.version, list = {} }
    for _, glob in ipairs(config.get().exclude) do
      local whole = glob:find('/', 1, true) ~= nil
      patterns.list[#patterns.list + 1] = { pattern = util.glob(glob), whole = whole }
    end
  end
  return patterns.list
end

--- Is the file one that is never read, not even as context?
---@param name string full path
---@return boolean
function M.is_excluded(name)
  if name == '' then
    return false
  end
  local path = vim.fs.normalize(name):lower()
  local base = vim.fs.basename(path)
  for _, p in ipairs(exclude_patterns()) do
    if (p.whole and path or base):find(p.pattern) then
      return true
    end
  end
  return false
end

--- What depends on the buffer's name, type and options only.
---@param buf integer
---@return string? why not
local function static_reason(buf)
  local bo = vim.bo[buf]
  local name = api.nvim_buf_get_name(buf)
  local key = table.concat({ name, bo.filetype, bo.buftype, config.version }, '\0')
  local v = verdicts[buf]
  if v and v.key == key then
    return v.why
  end
  local conf = config.get()
  local why
  local allowed = conf.filetypes[bo.filetype]
  if allowed == nil then
    allowed = conf.filetypes['*'] ~= false
  end
  if bo.buftype ~= '' and bo.buftype ~= 'acwrite' then
    why = ("this is not a file ('buftype' is %s)."):format(bo.buftype)
  elseif not allowed then
    why = ("filetype %s is off (filetypes)."):format(bo.filetype)
  elseif M.is_excluded(name) then
    why = ('%s is excluded (exclude list).'):format(vim.fs.basename(name))
  end
  verdicts[buf] = { key = key, why = why }
  return why
end

--- Why this buffer gets no ghost text at all; nil when it may.
---@param buf integer
---@return string?
function M.buffer_reason(buf)
  local why = static_reason(buf)
  if why then
    return why
  end
  if vim.b[buf].gemma == false then
    return 'this buffer is off (b:gemma). Run :Gemma enable buffer.'
  elseif not vim.bo[buf].modifiable then
    return "'modifiable' is off."
  end
  local enabled = config.get().enabled
  if enabled then
    local ok, yes = pcall(enabled, buf)
    if not ok then
      notify.once('enabled(): ' .. tostring(yes))
      return 'enabled() failed: ' .. tostring(yes)
    elseif yes == false then
      return 'enabled() says no.'
    end
  end
end

--- Why the engine cannot answer now.
---@return string?
local function engine_reason()
  if engine.state == 'loading' then
    local p = engine.load_progress()
    return ('the model is loading%s.'):format(p and (' (%d %%)'):format(p * 100) or '')
  elseif engine.is_loaded() then
    return nil
  elseif engine.reason then
    return engine.reason
  elseif engine.kept_out then
    return 'the model was unloaded. Run :Gemma load.'
  elseif config.get().load == 'manual' then
    return 'the model is not loaded (load is manual). Run :Gemma load.'
  end
  return 'the model is not loaded yet; the first Insert mode loads it. Or run :Gemma load.'
end

--- What may change with every key.
---@return string?
local function moment_reason()
  if vim.o.paste then
    return "'paste' is on."
  elseif vim.fn.getcmdwintype() ~= '' then
    return 'this is the command-line window.'
  elseif vim.fn.reg_executing() ~= '' then
    return 'a macro is running.'
  elseif vim.fn.reg_recording() ~= '' and not config.get().completion.in_macros then
    return 'a macro is being recorded (completion.in_macros).'
  end
end

--- Is the popup menu in the way?
---@return boolean
local function menu_hides()
  local menu = config.get().completion.menu
  if menu == false or vim.fn.pumvisible() == 0 then
    return false
  end
  return menu == true or vim.fn.complete_info({ 'selected' }).selected ~= -1
end

---@return boolean
local function auto_on()
  local auto = config.get().completion.auto
  return auto == true or (auto == 'auto' and not slow)
end

---@param buf integer
---@return boolean
local function too_big(buf)
  local size = api.nvim_buf_get_offset(buf, api.nvim_buf_line_count(buf))
  return size > config.get().context.max_file
end

--- Why nothing comes by itself at the cursor of the current window; nil when it may.
---@return string?
local function auto_reason()
  local conf = config.get().completion
  local buf = api.nvim_get_current_buf()
  if not auto_on() then
    return slow and conf.auto == 'auto' and 'the model is slow here, so ghost text is manual.'
      or 'ghost text is manual (completion.auto).'
  elseif too_big(buf) then
    return 'the buffer is large (context.max_file), so ghost text is manual.'
  end
  local pos = api.nvim_win_get_cursor(0)
  local row, col = pos[1] - 1, pos[2]
  local len = api.nvim_buf_get_offset(buf, row + 1) - api.nvim_buf_get_offset(buf, row) - 1
  local right = api.nvim_buf_get_text(buf, row, col, row, math.min(len, col + 1024), {})[1]
  if filter.weight_after(right) > conf.max_line_suffix then
    return 'there is text to the right of the cursor (completion.max_line_suffix).'
  end
end

--- The first reason against ghost text in the current buffer, in the order in which a user would
--- repair them.
---@param manual boolean asked for by key
---@return string?
function M.reason(manual)
  if not on then
    return 'ghost text is off. Run :Gemma enable.'
  end
  return M.buffer_reason(api.nvim_get_current_buf())
    or engine_reason()
    or moment_reason()
    or (not manual and auto_reason() or nil)
end

-- ---- the record ----------------------------------------------------------------------------

local function cancel_warm()
  if warm then
    warm:cancel()
    warm = nil
  end
end

--- Forgets the record, stops its job and clears the screen.
---@param why string
local function drop(why)
  local r = rec
  rec = nil
  if r and r.job then
    r.job:cancel()
  end
  if r and not r.over then
    M.last = { what = why }
  end
  ghost.dismiss(why)
end

--- Remembers which lines of the buffer change, so that an edit elsewhere (a formatter, another
--- plugin) is told from typing at the cursor.
---@param buf integer
local function attach(buf)
  if attached[buf] then
    return
  end
  attached[buf] = api.nvim_buf_attach(buf, false, {
    on_lines = function(_, b, _, first, _, new_last)
      if rec and rec.buf == b then
        rec.first_line = math.min(rec.first_line, first)
        rec.lines_after = math.min(rec.lines_after, api.nvim_buf_line_count(b) - new_last)
      end
    end,
    on_reload = function(_, b)
      if rec and rec.buf == b then
        rec.first_line = -1
      end
    end,
    on_detach = function(_, b)
      attached[b] = nil
      verdicts[b] = nil
    end,
  }) or nil
end

--- May the right side differ from the one at the time of the request? Only by closers: autopairs
--- put them in, and typing over them takes them out.
---@param was string
---@param is string
---@return boolean
local function same_right(was, is)
  if was == is then
    return true
  end
  local long, short = was, is
  if #long < #short then
    long, short = short, long
  end
  local extra = #long - #short
  -- Both are windows of WINDOW bytes, so the longer text may be cut at its end.
  if extra == 0 then
    local n = is:match('^[%]%)}"\'`]+()') or was:match('^[%]%)}"\'`]+()')
    return n ~= nil
      and (is:sub(n) == was:sub(1, #is - n + 1) or was:sub(n) == is:sub(1, #was - n + 1))
  end
  local head = long:sub(1, extra)
  return head:find('^[%]%)}"\'`]+$') ~= nil and long:sub(extra + 1) == short
end

---@param buf integer
---@param row integer
---@param col integer
---@param from integer bytes left of col
---@param to integer bytes right of col
---@return string left
---@return string right
local function around(buf, row, col, from, to)
  local len = api.nvim_buf_get_offset(buf, row + 1) - api.nvim_buf_get_offset(buf, row) - 1
  local left = api.nvim_buf_get_text(buf, row, math.max(0, col - from), row, col, {})[1]
  local right = ''
  if col < len then
    right = api.nvim_buf_get_text(buf, row, col, row, math.min(len, col + to), {})[1]
  end
  return left, right
end

--- Does the record fit the buffer as it is now, and what was typed since the request?
---@param r gemma.completion.Record
---@return string? typed nil when it does not fit
---@return string? why
local function typed_since(r)
  local mode = api.nvim_get_mode().mode
  if api.nvim_get_current_buf() ~= r.buf or api.nvim_get_current_win() ~= r.win then
    return nil, 'the window was left'
  elseif not mode:match('^i[cx]?$') then
    return nil, 'Insert mode was left'
  end
  local pos = api.nvim_win_get_cursor(0)
  local row, col = pos[1] - 1, pos[2]
  local tick = api.nvim_buf_get_changedtick(r.buf)
  local moved = row ~= r.cursor[1] or col ~= r.cursor[2]
  if tick == r.tick and moved then
    return nil, 'the cursor moved'
  elseif row < r.row or (row == r.row and col < r.col) then
    return nil, 'text before it was deleted'
  elseif row - r.row > TYPED_LINES or col > r.col + TYPED_BYTES then
    return nil, 'the text changed'
  end
  local n_lines = api.nvim_buf_line_count(r.buf)
  if r.first_line < r.row or r.lines_after < n_lines - row - 1 then
    return nil, 'the text changed elsewhere'
  end
  local left = around(r.buf, r.row, r.col, WINDOW, 0)
  local _, right = around(r.buf, row, col, 0, WINDOW)
  if left ~= r.left or not same_right(r.right, right) then
    return nil, 'the text changed'
  end
  r.tick, r.cursor = tick, { row, col }
  return table.concat(api.nvim_buf_get_text(r.buf, r.row, r.col, row, col, {}), '\n')
end

--- Judges what has come so far, and ends the job when the rest is not wanted.
---@param r gemma.completion.Record
local function judge(r)
  local body, stop, why, tail = filter.body(r.raw, r.filter, r.over)
  r.clean = filter.clean(r.raw)
  if stop and not r.over then
    r.over = true
    r.why = why
    if r.job then
      r.job:cancel()
    end
  elseif stop then
    r.why = r.why or why
  end
  local text = body
  if tail ~= '' and r.first and now() - r.first >= config.get().completion.first_paint then
    text = body .. filter.partial(tail, r.filter)
  end
  -- What is painted only grows, except that the end of the answer has the last word.
  if #text >= #r.text or r.over then
    r.text = text
  end
end

---@param r gemma.completion.Record
---@param typed string
---@return string? rest to show; nil when the typed text contradicts the answer
local function rest_after(r, typed)
  if vim.startswith(r.text, typed) then
    return r.text:sub(#typed + 1)
  elseif vim.startswith(r.clean, typed) then
    return ''
  elseif not r.over and r.clean ~= '' and vim.startswith(typed, r.clean) then
    return #typed - #r.clean <= AHEAD and '' or nil
  end
end

local on_accept, schedule

--- Brings the screen in line with the record and the buffer.
---@return boolean alive the record goes on
local function sync()
  local r = rec
  if not r then
    return false
  end
  local typed, why = typed_since(r)
  if not typed then
    drop(why --[[@as string]])
    return false
  end
  local rest = rest_after(r, typed)
  if not rest then
    drop('something else was typed')
    return false
  end
  if rest == '' then
    ghost.dismiss('typed')
    if r.over then
      local whole = r.text == ''
      M.last = { what = whole and (r.why or 'the model had nothing to add') or 'it was used up' }
      rec = nil
      return false
    end
    return r.raw ~= '' or typed == ''
  end
  local before = r.filter.before .. typed
  local _, right = around(r.buf, r.cursor[1], r.cursor[2], 0, WINDOW)
  local text, swallow = filter.fit_after(rest, before:match('[^\n]*$'), right)
  local chars = #(text:gsub('%s', ''))
  local enough = r.shown or r.manual or chars >= config.get().completion.min_chars
  if chars == 0 or not enough or menu_hides() then
    ghost.dismiss('hidden')
    if r.over and not menu_hides() then
      M.last = { what = chars == 0 and 'it is in the text already' or 'too short' }
    end
    return true
  end
  r.shown = true
  ghost.present({
    row = r.cursor[1],
    col = r.cursor[2],
    text = text,
    swallow = swallow,
    on_accept = on_accept,
  })
  return true
end

---@param piece string
---@param kind gemma.ghost.Kind
on_accept = function(piece, kind)
  local r = rec
  if r then
    notify.event('GemmaGhostAccept', {
      buf = r.buf,
      kind = kind,
      chars = vim.fn.strchars(piece),
      ms_first = r.first and r.first - r.asked or nil,
      ms_total = now() - r.asked,
      tokens = r.info and r.info.n_generated or nil,
      reused = r.info and r.info.n_reused or nil,
    })
  end
  M.on_change()
end

-- ---- requests ------------------------------------------------------------------------------

--- After some answers it is known how fast this machine is with this model. Two steps of the
--- decoder (the new key, the first token) are what a keystroke waits for.
local function measure()
  samples = samples + 1
  if samples < SAMPLES or config.get().completion.auto ~= 'auto' then
    return
  end
  local numbers = engine.numbers()
  local tok_s = numbers and numbers.decode_tok_s or 0
  if tok_s <= 0 then
    return
  end
  local was = slow
  slow = 2000 / tok_s > SLOW_MS
  if slow and not was then
    local fmt = 'measured %.1f tok/s here, so ghost text is manual. Press <M-\\>.'
    notify.once(fmt:format(tok_s))
  end
end

---@return gemma.context.Budget
local function budget()
  local conf = config.get().context
  local tokens = conf.tokens == 'auto' and (engine.is_gpu() and 4096 or 1024) or conf.tokens
  return { tokens = tokens --[[@as integer]], suffix_tokens = conf.suffix_tokens }
end

---@param done integer
---@param total integer
local function on_progress(done, total)
  reading = total > 0 and done / total or nil
end

---@param c gemma.Context
---@return string[]
local function stops(c, single)
  local list = {}
  if single then
    list[#list + 1] = '\n'
  end
  if c.fence then
    list[#list + 1] = '\n```'
  end
  return list
end

--- The callbacks of a request hold its own record: when it is not the current one any more,
--- they come too late and do nothing.
---@param r gemma.completion.Record
---@param c gemma.Context
---@return gemma.Request
local function request_for(r, c)
  local conf = config.get().completion
  return {
    parts = context.parts(c),
    session = 0,
    priority = 'typing',
    heal = true,
    max_tokens = r.manual and conf.manual_max_tokens or conf.max_tokens,
    stops = stops(c, r.filter.single),
    on_progress = on_progress,
    on_text = function(text)
      reading = nil
      if rec ~= r or r.over then
        return
      end
      r.first = r.first or now()
      r.raw = r.raw .. text
      judge(r)
      if not sync() then
        schedule()
      end
    end,
    on_done = function(info)
      r.info = info
      r.job = nil
      measure()
      if rec == r and not r.over then
        r.over = true
        judge(r)
        M.last = { what = 'shown', ms_first = r.first and r.first - r.asked }
        sync()
      end
    end,
    on_error = function(err)
      r.job = nil
      if r.first then
        measure()
      end
      if rec == r and not r.over then
        r.over = true
        if err.name ~= 'ECANCELLED' then
          r.why = err.text
        end
        judge(r)
        sync()
      end
    end,
  }
end

--- Asks for a suggestion at the cursor.
---@param manual boolean
function M.request(manual)
  debounce.stop()
  drop('asked again')
  local why = M.reason(manual)
  if why then
    M.last = { what = why }
    if manual then
      notify.info(why)
    end
    return
  end
  cancel_warm()
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  local row, col = pos[1] - 1, pos[2]
  local c = context.gather(buf, row, col, budget())
  local left, right = around(buf, row, col, WINDOW, WINDOW)
  local conf = config.get().completion
  attach(buf)
  ---@type gemma.completion.Record
  local r = {
    buf = buf,
    win = api.nvim_get_current_win(),
    row = row,
    col = col,
    tick = api.nvim_buf_get_changedtick(buf),
    cursor = { row, col },
    left = left,
    right = right,
    first_line = math.huge,
    lines_after = math.huge,
    filter = {
      before = c.before_line,
      after = c.after_line,
      below = c.below_lines,
      single = conf.max_lines == 1 or filter.weight_after(c.after_line) > 0,
      prose = context.is_prose(vim.bo[buf].filetype),
      fence = c.fence,
      tabstop = vim.bo[buf].tabstop,
      max_lines = conf.max_lines,
    },
    raw = '',
    clean = '',
    text = '',
    over = false,
    manual = manual,
    shown = false,
    asked = now(),
  }
  local err
  rec = r
  r.job, err = engine.generate(request_for(r, c))
  if not r.job then
    rec = nil
    M.last = { what = err --[[@as string]] }
    log.warn('completion: %s', err)
  end
end

--- Lets the model read the buffer before the first key, so that the first answer is as quick as
--- the later ones.
local function warm_up()
  if warm or rec or M.reason(false) then
    return
  end
  local pos = api.nvim_win_get_cursor(0)
  local c = context.gather(api.nvim_get_current_buf(), pos[1] - 1, pos[2], budget())
  local function over()
    warm, reading = nil, nil
  end
  warm = engine.generate({
    parts = context.parts(c),
    session = 0,
    priority = 'background',
    max_tokens = 0,
    on_progress = on_progress,
    on_done = over,
    on_error = over,
  })
end

---@return integer ms
local function delay()
  local d = config.get().completion.delay
  if d == 'auto' then
    return engine.is_gpu() and 40 or 75
  end
  return d --[[@as integer]]
end

schedule = function()
  if on and auto_on() and engine.is_loaded() then
    debounce.start(delay())
  end
end

--- Text or cursor may have changed. Costs next to nothing when they did not.
function M.on_change()
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  local tick = api.nvim_buf_get_changedtick(buf)
  local same = buf == seen.buf and tick == seen.tick
  if same and pos[1] == seen.row and pos[2] == seen.col then
    return
  end
  seen.buf, seen.tick, seen.row, seen.col = buf, tick, pos[1], pos[2]
  if moment_reason() then
    drop('a macro, paste or the command-line window')
    debounce.stop()
    return
  end
  if sync() then
    debounce.stop()
  elseif same then
    -- A movement without an edit asks for nothing.
    debounce.stop()
  else
    schedule()
  end
end

--- The popup menu came, went or has another selection.
local function on_menu()
  if rec then
    sync()
  end
end

--- Leaves no trace: no request, no job, nothing on the screen.
---@param why string
local function leave(why)
  debounce.stop()
  cancel_warm()
  drop(why)
end

local function on_insert_enter()
  for _, p in ipairs(config.reload()) do
    notify.once('vim.g.gemma: ' .. p .. '.')
  end
  local buf = api.nvim_get_current_buf()
  local pos = api.nvim_win_get_cursor(0)
  seen.buf, seen.row, seen.col = buf, pos[1], pos[2]
  seen.tick = api.nvim_buf_get_changedtick(buf)
  if not on or M.buffer_reason(buf) then
    return
  end
  if engine.is_loaded() then
    warm_up()
  elseif config.get().load == 'insert' and not engine.busy() and not engine.kept_out then
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
    elseif api.nvim_get_mode().mode:match('^i') then
      warm_up()
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
  return on
end

---@param yes boolean
---@param buf integer? only this buffer
function M.enable(yes, buf)
  if buf then
    vim.b[buf].gemma = yes
  else
    on = yes
    require('gemma.sentinel').forget()
  end
  if not yes then
    leave('turned off')
  end
end

function M.dismiss()
  if rec and not rec.over then
    M.last = { what = 'dismissed' }
  end
  if ghost.visible() then
    notify.event('GemmaGhostDismiss', { buf = api.nvim_get_current_buf() })
  end
  leave('dismissed')
end

--- What goes on at the cursor, in one sentence.
---@return string
function M.why()
  if ghost.visible() then
    local n = #vim.split(ghost.text() --[[@as string]], '\n')
    return ('a suggestion of %d line%s is shown.'):format(n, n == 1 and '' or 's')
  end
  local why = M.reason(false)
  if why then
    return 'no suggestion: ' .. why
  elseif (rec and not rec.over and rec.raw == '') or warm then
    return reading and ('the model reads (%d %%).'):format(reading * 100) or 'the model reads.'
  elseif rec and not rec.over then
    return 'the model writes.'
  elseif debounce.pending() then
    return 'waiting for a pause in typing.'
  elseif not api.nvim_get_mode().mode:match('^i') then
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
  if require('gemma.sentinel').tripped() then
    on = false
    notify.warn(
      'Neovim ended during GPU work last time. Ghost text stays off; '
        .. ':Gemma enable or :Gemma device cpu.'
    )
  end
  local group = api.nvim_create_augroup('gemma.completion', {})
  local function au(events, callback, pattern)
    api.nvim_create_autocmd(events, { group = group, callback = callback, pattern = pattern })
  end
  au('InsertEnter', on_insert_enter)
  au({ 'TextChangedI', 'TextChangedP', 'CursorMovedI' }, M.on_change)
  au({ 'CompleteChanged', 'CompleteDone' }, on_menu)
  au('ModeChanged', function()
    if not vim.v.event.new_mode:match('^i[cx]?$') then
      leave('Insert mode was left')
    end
  end, 'i*:*')
  au({ 'BufLeave', 'WinLeave', 'CmdwinEnter' }, function()
    leave('the window was left')
  end)
  au({ 'BufUnload', 'BufWipeout' }, function(ev)
    context.forget(ev.buf)
    verdicts[ev.buf] = nil
  end)
end

M.on_insert_enter = on_insert_enter

return M
