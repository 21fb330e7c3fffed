--- init.lua: what people call: setup(), the verbs, and a small API for other plugins.
---
--- Everything is loaded when it is used; requiring this file costs nothing else.

local M = {}

--- A mistake in the program that calls is an error at the line of its call.
---@param wrong string? from check.lua
local function raise(wrong)
  if wrong then
    error(wrong, 3) -- 1 is here, 2 the public function
  end
end

--- Merges opts into vim.g.gemma. Optional, and never starts anything.
---@param opts table?
function M.setup(opts)
  raise(require('gemma.check').argument('setup', 'opts', 'table?', opts))
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
  raise(require('gemma.check').argument('load', 'on_ready', 'function?', on_ready))
  require('gemma.ready').load(on_ready)
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
  raise(require('gemma.check').buffer('enable', buf))
  require('gemma.completion').enable(true, buf)
end

---@param buf integer?
function M.disable(buf)
  raise(require('gemma.check').buffer('disable', buf))
  require('gemma.completion').enable(false, buf)
end

---@param buf integer?
---@return boolean on
function M.toggle(buf)
  raise(require('gemma.check').buffer('toggle', buf))
  return require('gemma.completion').toggle(buf)
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
  require('gemma.completion').ask_by_key()
end

--- State as a table; see |gemma-status|.
---@return gemma.Status
function M.status()
  return require('gemma.status').all()
end

--- A few characters for a statusline; see status.lua. Costs next to nothing.
---@return string
function M.statusline()
  return require('gemma.status').line()
end

-- ---- for other plugins ---------------------------------------------------------------------

--- Tells what cannot be served in the way in which a request fails.
---@param on_done fun(text: nil, why: string)? without it nobody would hear: an error at the line of the call
---@param why string from check.lua
---@return gemma.Handle
local function refuse(on_done, why)
  if not on_done then
    error(why, 3)
  end
  vim.schedule(function()
    on_done(nil, why .. '.')
  end)
  return { cancel = function() end }
end

--- Asks the model; the text comes in pieces to on_token and as a whole to on_done.
---@param o gemma.AskOpts
---@return gemma.Handle
function M.ask(o)
  local wrong, refused = require('gemma.check').ask(o)
  raise(wrong)
  local handle = refused and refuse(o.on_done, refused)
  return handle or require('gemma.ask').ask(o)
end

--- Completes code at a place in a buffer or between two strings, filtered like ghost text.
---@param o gemma.CompleteOpts
---@return gemma.Handle
function M.complete(o)
  local wrong, refused = require('gemma.check').complete(o)
  raise(wrong)
  local handle = refused and refuse(o.on_done, refused)
  return handle or require('gemma.complete').complete(o)
end

--- Asks the model to rewrite lines, shown as a change to accept or reject. See |gemma-edit|.
---@param o { buf: integer?, first: integer, last: integer, instruction: string } a last line behind
--- the end means the end
function M.edit(o)
  local wrong, refused, last = require('gemma.check').edit(o)
  raise(wrong)
  if refused then
    return require('gemma.notify').warn(refused .. '.')
  end
  local edit = require('gemma.edit')
  edit.start({
    buf = o.buf or 0,
    first = o.first,
    last = last,
    task = edit.task(o.instruction),
  })
end

--- Asks for lines without the problems that vim.diagnostic reports there. See |gemma-fix|.
---@param o gemma.FixOpts?
function M.fix(o)
  local wrong, refused, last = require('gemma.check').fix(o)
  raise(wrong)
  if refused then
    return require('gemma.notify').warn(refused .. '.')
  end
  require('gemma.edit').fix(last and vim.tbl_extend('force', o, { last = last }) or o)
end

--- A name that is not here may be a deprecated one, which api.lua knows; it is read only then.
return setmetatable(M, {
  __index = function(_, name)
    require('gemma.api').deprecated(M)
    return rawget(M, name)
  end,
})
