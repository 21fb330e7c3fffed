--- init.lua: what people call: setup(), the verbs, and a small API for other plugins.
---
--- Everything is loaded when it is used; requiring this file costs nothing else.

local M = {}

--- Merges opts into vim.g.gemma. Optional, and never starts anything.
---@param opts table?
function M.setup(opts)
  require('gemma.config').setup(opts)
end

--- Starts listening for Insert mode. plugin/gemma.lua calls it on the first one.
function M.start()
  local completion = require('gemma.completion')
  for _, p in ipairs(require('gemma.config').current_problems()) do
    require('gemma.notify').once('vim.g.gemma: ' .. p .. '.')
  end
  require('gemma.highlight').ensure()
  require('gemma.keymap').setup()
  completion.setup()
  if require('gemma.config').get().lsp then
    require('gemma.lsp').setup()
  end
  completion.on_insert_enter()
end

--- Loads the model, if it is not there. on_ready(err) hears of the end.
---@param on_ready fun(err: string?)?
function M.load(on_ready)
  local ok, err = require('gemma.engine').load(on_ready)
  if not ok then
    require('gemma.notify').warn(err --[[@as string]])
    if on_ready then
      on_ready(err)
    end
  end
end

--- Gives the memory of the model back.
function M.unload()
  require('gemma.engine').unload()
end

--- Stops everything that is being generated or recorded.
function M.stop()
  local record = package.loaded['gemma.record']
  if record then
    record.cancel()
  end
  require('gemma.engine').cancel_all()
  local install = package.loaded['gemma.install']
  if install then
    install.stop()
  end
end

---@param buf integer? only this buffer; 0 is the current one
function M.enable(buf)
  require('gemma.completion').enable(true, buf == 0 and vim.api.nvim_get_current_buf() or buf)
end

---@param buf integer?
function M.disable(buf)
  require('gemma.completion').enable(false, buf == 0 and vim.api.nvim_get_current_buf() or buf)
end

---@param buf integer?
---@return boolean on
function M.toggle(buf)
  local completion = require('gemma.completion')
  if buf then
    buf = buf == 0 and vim.api.nvim_get_current_buf() or buf
    local yes = not require('gemma.config').takes_buffer(buf)
    completion.enable(yes, buf)
    return yes
  end
  local yes = not completion.is_enabled()
  completion.enable(yes)
  return yes
end

--- Feeds the keys of an Insert mode verb, so that undo breaks around it.
---@param verb string
---@return boolean something was there
local function feed(verb)
  local shown = require('gemma.ghost').visible()
  local keys = require('gemma.keymap').run(verb)
  vim.api.nvim_feedkeys(vim.keycode(keys), 'ni', false)
  return shown
end

--- Accept what is shown; false when nothing is. Insert mode only.
---@return boolean
function M.accept()
  return feed('accept')
end

---@return boolean
function M.accept_word()
  return feed('accept_word')
end

---@return boolean
function M.accept_line()
  return feed('accept_line')
end

--- The next candidate; past the last one the model is asked for another.
---@return boolean something is shown
function M.next()
  return require('gemma.completion').cycle(1)
end

---@return boolean
function M.prev()
  return require('gemma.completion').cycle(-1)
end

function M.dismiss()
  require('gemma.completion').dismiss()
end

---@return boolean
function M.visible()
  return require('gemma.ghost').visible()
end

--- Asks for a suggestion now; loads the model first when it must.
function M.request()
  local engine = require('gemma.engine')
  local completion = require('gemma.completion')
  completion.setup()
  local why = require('gemma.allow').buffer_reason(vim.api.nvim_get_current_buf())
  if why or engine.is_loaded() then
    return completion.request(true)
  end
  require('gemma.notify').info('loading the model; the suggestion comes when it is there.')
  M.load(function(err)
    if not err and vim.api.nvim_get_mode().mode:match('^i') then
      completion.request(true)
    end
  end)
end

--- State as a table; see |gemma-status|.
---@return table
function M.status()
  local engine = require('gemma.engine')
  local completion = require('gemma.completion')
  local numbers = engine.numbers() or {}
  return vim.tbl_extend('keep', {
    state = engine.state,
    reason = engine.reason,
    model_path = engine.model,
    lender = engine.lender and engine.lender.pid,
    lent_to = package.loaded['gemma.lend'] and package.loaded['gemma.lend'].count() or nil,
    mmproj_path = engine.mmproj,
    enabled = completion.is_enabled(),
    paused = completion.paused(),
    here = completion.why(),
    progress = engine.load_progress(),
    version = engine.version(),
  }, numbers)
end

--- A few characters for a statusline; makes no call into the library.
---   "G rec 0:07" a recording is under way · "G 2/3" the second of three candidates is shown
---   ""  not loaded · "G" ready · "G~" busy · "G 42%" loading · "G!" a problem · "G-" off
---@return string
function M.statusline()
  local record = package.loaded['gemma.record']
  local recording = record and record.statusline()
  if recording then
    return 'G ' .. recording
  end
  local engine = package.loaded['gemma.engine']
  if not engine or (engine.state == 'off' and not engine.reason) then
    return ''
  end
  local s = engine.state
  local completion = package.loaded['gemma.completion']
  local at, of
  if completion then
    at, of = completion.position()
  end
  if at then
    return ('G %d/%d'):format(at, of)
  elseif s == 'loading' then
    local p = engine.load_progress()
    return p and ('G %d%%'):format(p * 100) or 'G~'
  elseif s == 'installing' then
    local p = require('gemma.install').fraction()
    return p and ('G %d%%'):format(p * 100) or 'G~'
  elseif s == 'prefill' or s == 'generating' then
    return 'G~'
  elseif s ~= 'ready' and s ~= 'borrowed' then
    return 'G!'
  end
  return (not completion or completion.is_enabled()) and 'G' or 'G-'
end

-- ---- for other plugins ---------------------------------------------------------------------

---@class (exact) gemma.Handle
---@field cancel fun()

---@class (exact) gemma.Turn
---@field role 'user'|'model'
---@field text string
---@field parts gemma.Part[]? of a user: pictures and sounds, before the text
---@field images string[]? paths; with the next two another way to give parts
---@field audio string[]?
---@field video string[]?

---@class (exact) gemma.AskOpts
---@field prompt string
---@field system string?
---@field parts gemma.Part[]? pictures and sounds, before the prompt's text
---@field images string[]? paths; with the next two another way to give parts
---@field audio string[]?
---@field video string[]?
---@field image_tokens integer? of each picture at most; |gemma-option-media.image_tokens|
---@field history gemma.Turn[]? earlier turns
---@field answer string? how the answer begins; the model goes on from there
---@field stops string[]? the answer ends before the first of these
---@field max_tokens integer? 1024
---@field thinking boolean?
---@field temperature number? when not set, the model file's own sampling
---@field seed integer?
---@field session integer? 1..7, one cache each; 2
---@field fork_from integer? another session, from which to go on where its cache has more
---@field on_token fun(text: string)?
---@field on_thought fun(text: string)? what the model thinks, with thinking on
---@field on_progress fun(done: integer, total: integer)? tokens of the prompt read
---@field on_done fun(text: string?, info: gemma.Done|string)? nil and one line on failure

--- Submits when the model is there. The handle works from the start: a request that waits for the model
--- ends at once when it is cancelled.
---@param req gemma.Request
---@return gemma.Handle
local function submit(req)
  local engine = require('gemma.engine')
  local job, failed
  local function fail(text)
    if failed then
      return
    end
    failed = true
    vim.schedule(function()
      req.on_error({ code = -1, name = 'EINVAL', text = text })
    end)
  end
  local ok, err = engine.load(function(err)
    if failed then
      return
    elseif err then
      return fail(err)
    end
    require('gemma.media').wake(req.parts)
    local why
    job, why = engine.generate(req)
    if not job then
      fail(why)
    end
  end)
  if not ok then
    fail(err)
  end
  return {
    cancel = function()
      if job then
        job:cancel()
      else
        fail('cancelled')
      end
    end,
  }
end

--- Asks the model; the text comes in pieces to on_token and as a whole to on_done.
---@param o gemma.AskOpts
---@return gemma.Handle
function M.ask(o)
  local parts = {}
  local function add(role, text, turn)
    parts[#parts + 1] = { kind = role }
    if turn then
      vim.list_extend(parts, turn.parts or {})
      vim.list_extend(parts, require('gemma.media').parts(turn))
    end
    parts[#parts + 1] = { kind = 'text', data = text }
  end
  if o.system then
    add('system', o.system)
  end
  for _, turn in ipairs(o.history or {}) do
    add(turn.role, turn.text, turn)
  end
  add('user', o.prompt, o)
  if o.answer then
    add('model', o.answer)
  end
  local text = {}
  local budget = require('gemma.config').get().media.image_tokens
  return submit({
    parts = parts,
    session = o.session or require('gemma.sessions').PLUGINS,
    fork_from = o.fork_from,
    priority = 'ask',
    max_tokens = o.max_tokens or 1024,
    think = o.thinking,
    stops = o.stops,
    model_sampling = o.temperature == nil,
    temperature = o.temperature,
    seed = o.seed,
    image_tokens = o.image_tokens or (budget ~= 'auto' and budget or nil),
    on_progress = o.on_progress,
    on_thought = o.on_thought,
    on_text = function(piece)
      text[#text + 1] = piece
      if o.on_token then
        o.on_token(piece)
      end
    end,
    on_done = function(info)
      if o.on_done then
        o.on_done(table.concat(text), info)
      end
    end,
    on_error = function(err)
      if o.on_done then
        o.on_done(nil, err.text)
      end
    end,
  })
end

--- Asks the model to rewrite lines, shown as a change to accept or reject. See |gemma-edit|.
---@param o { buf: integer?, first: integer, last: integer, instruction: string }
function M.edit(o)
  local edit = require('gemma.edit')
  edit.start({
    buf = o.buf or 0,
    first = o.first,
    last = o.last,
    task = edit.task(o.instruction),
  })
end

--- Asks for lines without the problems that vim.diagnostic reports there. See |gemma-fix|.
---@param o gemma.FixOpts?
function M.fix(o)
  require('gemma.edit').fix(o)
end

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

--- Completes code at a place in a buffer or between two strings, filtered like ghost text.
---@param o gemma.CompleteOpts
---@return gemma.Handle
function M.complete(o)
  local context = require('gemma.context')
  local filter = require('gemma.filter')
  local buf = o.buf == 0 and vim.api.nvim_get_current_buf() or o.buf --[[@as integer]]
  local c
  if o.prefix then
    c = context.from_strings(o.prefix, o.suffix or '', { language = o.language, path = o.path })
  else
    local name = vim.api.nvim_buf_get_name(buf)
    if require('gemma.exclude').buffer_is_excluded(buf) then
      vim.schedule(function()
        o.on_done(nil, ('%s is excluded (exclude list).'):format(vim.fs.basename(name)))
      end)
      return { cancel = function() end }
    end
    c = context.gather(buf, o.row, o.col, context.budget(buf))
  end
  local tick = not o.prefix and vim.api.nvim_buf_get_changedtick(buf)
  local request = require('gemma.request')
  local fctx = o.prefix and request.filter_between(c) or request.filter(buf, o.row, o.col, c)
  fctx.single = filter.weight_after(c.after_line) > 0
  fctx.max_lines = o.max_lines or 8
  local raw, over, handle = '', false, nil
  local function finish(info)
    if not over then
      over = true
      local body = filter.body(raw, fctx, true)
      local text, closers = filter.fit_after(body, fctx.before, fctx.after)
      o.on_done(text, info, #closers, closers)
    end
  end
  local function is_news(err)
    return err.name == 'ETOOLONG'
      and tick
      and context.mark_dense(buf)
      and vim.api.nvim_buf_get_changedtick(buf) == tick
  end
  local function ask()
    handle = submit({
      parts = context.parts(c),
      session = require('gemma.sessions').GHOST,
      priority = 'ask',
      heal = true,
      max_tokens = o.max_tokens or 96,
      on_text = function(piece)
        raw = raw .. piece
        local _, stop = filter.body(raw, fctx, false)
        if stop and not over then
          handle.cancel()
        end
      end,
      on_done = finish,
      on_error = function(err)
        if raw ~= '' then
          finish(err.text)
        elseif is_news(err) then
          c = context.gather(buf, o.row, o.col, context.budget(buf))
          ask()
        elseif not over then
          over = true
          o.on_done(nil, err.text)
        end
      end,
    })
  end
  ask()
  return {
    cancel = function()
      handle.cancel()
    end,
  }
end

return M
