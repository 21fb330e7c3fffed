--- context/project.lua: what a prompt says beyond the text of its buffer: notes, pieces of other
--- files, edits, declarations, diagnostics. Listens to the editor and keeps them; context.lua puts
--- them in front of the text.
---
--- All of it stands before the text of the buffer, so a change would cost reading that text anew.
--- Therefore a prompt gets a frozen copy. It is renewed when the text has to be read again anyway
--- (another buffer, another window of it), or, where reading is quick, with each Insert mode.

local M = {}

local api = vim.api
local config = require('gemma.config')
local declarations = require('gemma.context.declarations')
local edits = require('gemma.context.edits')
local exclude = require('gemma.exclude')
local notes = require('gemma.context.notes')
local ring = require('gemma.context.ring')
local text = require('gemma.context.text')
local util = require('gemma.util')

local WIDTH = 400 -- bytes of a line in a piece
local LINE = 100 -- bytes of a line on average, for the size of a piece
local MOVED = 32 -- lines; a place that far from the next one is worth remembering
local ENTER_MS = 100 -- after entering a buffer
local IDLE_MS = 300 -- before the language server is asked
local KEEP_TEXT = 256 * 1024 -- bytes of a buffer whose old text is kept for its edits
local DIAGNOSTICS, NEAR = 3, 3 -- of them, lines around the cursor
local SHARE = { ring = 0.5, declarations = 0.3, edits = 0.2 } -- of the budget

---@class gemma.Project what a prompt holds; '' where there is nothing
---@field notes string
---@field ring string
---@field edits string
---@field declarations string
---@field diagnostics string

---@class gemma.project.Snapshot
---@field buf integer
---@field version integer of the options
---@field parts gemma.Project
---@field paths table<string, boolean> the files that it could show, and whether it may
---@field fresh boolean taken in this Insert mode

M.EMPTY = { notes = '', ring = '', edits = '', declarations = '', diagnostics = '' }

local pieces = ring.new(16)
local first_id = 0 -- of the first piece that was in the last prompt
local changes = {} ---@type gemma.Edit[]
local before = nil ---@type { buf: integer, path: string, tick: integer, text: string }?
local snapshot ---@type gemma.project.Snapshot?
local last_place = {} ---@type table<integer, integer> row of the last Insert mode, by buffer

-- ---- may a buffer be read? -----------------------------------------------------------------

--- Files that may be read for others: what may be completed, without regard to the moment.
---@param buf integer
---@return boolean
function M.readable(buf)
  if
    not api.nvim_buf_is_loaded(buf)
    or vim.bo[buf].buftype ~= ''
    or not config.takes_buffer(buf)
  then
    return false
  end
  local name = api.nvim_buf_get_name(buf)
  if name == '' or name:match('^%a[%w+.-]+://') or exclude.buffer_is_excluded(buf) then
    return false
  end
  return not config.too_big(buf)
end

--- The same of a file that need not be open.
---@param path string
---@return boolean
local function readable_file(path)
  local buf = util.buf_of(path)
  if buf and api.nvim_buf_is_loaded(buf) then
    return M.readable(buf)
  elseif buf and vim.b[buf].gemma == false then
    return false
  end
  return not exclude.is_excluded(path)
    and config.takes(vim.filetype.match({ filename = path }) or '')
end

--- Sorts out what was collected of buffers that may not be read any more.
---@return fun(list: { path: string }[]): table
---@return table<string, boolean> verdicts so far, by path
local function sieve()
  local bufs, may = {}, {}
  for _, buf in ipairs(api.nvim_list_bufs()) do
    if api.nvim_buf_is_loaded(buf) then
      bufs[api.nvim_buf_get_name(buf)] = buf
    end
  end
  local function sift(list)
    return vim.tbl_filter(function(x)
      if may[x.path] == nil then
        may[x.path] = not bufs[x.path] or M.readable(bufs[x.path])
      end
      return may[x.path]
    end, list)
  end
  return sift, may
end

-- ---- pieces of other buffers ---------------------------------------------------------------

--- Takes the lines around a row.
---@param buf integer
---@param row integer 0-based
local function pick(buf, row)
  local conf = config.get().context
  if pieces.max ~= conf.ring_chunks then
    pieces.max = conf.ring_chunks
  end
  if conf.ring_chunks == 0 or not M.readable(buf) then
    return
  end
  local half = math.floor(conf.chunk_lines / 2)
  local count = api.nvim_buf_line_count(buf)
  local first = math.max(0, math.min(row - half, count - conf.chunk_lines))
  local stop = first + conf.chunk_lines
  local lines = text.lines(buf, first, stop, WIDTH, conf.chunk_lines * LINE)
  pieces:add(api.nvim_buf_get_name(buf), text.trim(lines))
end

---@param buf integer
local function pick_cursor(buf)
  if api.nvim_get_current_buf() == buf then
    pick(buf, api.nvim_win_get_cursor(0)[1] - 1)
  else
    pick(buf, math.max(0, api.nvim_buf_get_mark(buf, '"')[1] - 1))
  end
end

--- What was copied, when it is more than a line or two. Only its place is asked for: the text of
--- the register may be huge.
local function on_yank()
  if api.nvim_eval('v:event.operator') ~= 'y' then
    return
  end
  local buf = api.nvim_get_current_buf()
  local first = api.nvim_buf_get_mark(buf, '[')[1]
  local last = api.nvim_buf_get_mark(buf, ']')[1]
  if last - first >= 2 then
    pick(buf, math.floor((first + last) / 2) - 1)
  end
end

-- ---- edits ---------------------------------------------------------------------------------

--- Keeps the text of a buffer as it is before it is edited.
---@param buf integer
local function remember_text(buf)
  before = nil
  if not config.get().context.edits or not M.readable(buf) then
    return
  end
  local n = api.nvim_buf_line_count(buf)
  if api.nvim_buf_get_offset(buf, n) <= KEEP_TEXT then
    before = {
      buf = buf,
      path = api.nvim_buf_get_name(buf),
      tick = api.nvim_buf_get_changedtick(buf),
      text = table.concat(api.nvim_buf_get_lines(buf, 0, -1, false), '\n'),
    }
  end
end

--- What changed in the buffer since then.
---@param buf integer
local function collect_edits(buf)
  local b = before
  if not b or b.buf ~= buf or not api.nvim_buf_is_loaded(buf) then
    return
  end
  local tick = api.nvim_buf_get_changedtick(buf)
  local n = api.nvim_buf_line_count(buf)
  if tick == b.tick or api.nvim_buf_get_offset(buf, n) > KEEP_TEXT or not M.readable(buf) then
    return
  end
  local now = table.concat(api.nvim_buf_get_lines(buf, 0, -1, false), '\n')
  edits.push(changes, edits.hunks(b.path, b.text, now))
  b.tick, b.text = tick, now
end

-- ---- the frozen copy -----------------------------------------------------------------------

---@param buf integer
---@param row integer
---@return string
local function read_diagnostics(buf, row)
  if not config.get().context.diagnostics then
    return ''
  end
  return require('gemma.context.diagnostics').read(buf, row - NEAR, row + NEAR, DIAGNOSTICS)
end

---@param buf integer
---@param row integer
---@param near string text around the cursor, which the prompt has anyway
---@param budget integer bytes
---@return gemma.Project
---@return table<string, boolean> paths of the snapshot
local function build(buf, row, near, budget)
  local path = api.nvim_buf_get_name(buf)
  local conf = config.get().context
  local sift, paths = sieve()
  local chosen
  local near_lines = vim.split(near, '\n', { plain = true })
  -- What was collected before an option was turned off is not shown either.
  local ring_bytes = conf.ring_chunks > 0 and budget * SHARE.ring or 0
  local edited = conf.edits and changes or {}
  chosen, first_id = pieces:select(first_id, near_lines, ring_bytes)
  local declared = ''
  if conf.lsp then
    local list = sift(declarations.of(buf))
    declared = declarations.format(list, near, budget * SHARE.declarations, text.name)
  end
  local said = conf.notes and notes.get(path) or ''
  local found = {
    notes = text.head(vim.trim(said), notes.MAX_BYTES),
    ring = ring.format(sift(chosen), text.name),
    edits = edits.format(sift(edited), path, budget * SHARE.edits, text.name),
    declarations = declared,
    diagnostics = read_diagnostics(buf, row),
  }
  return found, paths
end

---@class gemma.project.Opts
---@field bytes integer budget
---@field quick boolean reading costs little, so that each Insert mode may have the latest
---@field moved boolean the text of the buffer has to be read again anyway

--- What belongs into the prompt of a buffer now. The same as last time unless a renewal is free.
---@param buf integer
---@param row integer 0-based
---@param near fun(): string text around the cursor; asked for only when it is needed
---@param o gemma.project.Opts
---@return gemma.Project
function M.parts(buf, row, near, o)
  if o.bytes <= 0 then
    return M.EMPTY
  end
  local s = snapshot
  local other = not s or s.buf ~= buf or s.version ~= config.version
  if other or o.moved or (o.quick and not s.fresh) then
    local parts, paths = build(buf, row, near(), o.bytes)
    snapshot = { buf = buf, version = config.version, parts = parts, paths = paths, fresh = true }
  elseif not s.fresh then
    -- Diagnostics stand behind the text, where a change costs little.
    s.parts.diagnostics = read_diagnostics(buf, row)
    s.fresh = true
  end
  return snapshot.parts
end

--- Forgets what was collected of a buffer, which may not be read any more.
---@param buf integer
function M.forget(buf)
  local path = api.nvim_buf_get_name(buf)
  pieces:forget(path)
  changes = vim.tbl_filter(function(e)
    return e.path ~= path
  end, changes)
  if before and before.buf == buf then
    before = nil
  end
  if snapshot and snapshot.paths[path] then
    snapshot = nil
  end
end

--- Forgets all that was collected.
function M.reset()
  pieces = ring.new(config.get().context.ring_chunks)
  first_id, changes, before, snapshot, last_place = 0, {}, nil, nil, {}
  notes.forget()
end

--- What was collected, for tests and :checkhealth. Counts only: text of buffers stays here.
---@return { chunks: integer, edits: integer, declarations: integer, paths: string[] }
function M.stats()
  return {
    chunks = #pieces.chunks,
    edits = #changes,
    declarations = #declarations.of(api.nvim_get_current_buf()),
    paths = vim.tbl_map(function(c)
      return c.path
    end, pieces.chunks),
  }
end

-- ---- events --------------------------------------------------------------------------------

---@param buf integer
local function fetch(buf)
  if api.nvim_get_current_buf() == buf and config.get().context.lsp and M.readable(buf) then
    declarations.fetch(buf, api.nvim_win_get_cursor(0)[1] - 1, readable_file)
  end
end

---@param buf integer
local function tell_of_notes(buf)
  if config.get().context.notes and M.readable(buf) then
    local _, path = notes.get(api.nvim_buf_get_name(buf))
    if path then
      notes.tell(path)
    end
  end
end

local entered = util.debounce(function()
  local buf = api.nvim_get_current_buf()
  pick_cursor(buf)
  tell_of_notes(buf)
end)
local idle = util.debounce(function()
  fetch(api.nvim_get_current_buf())
end)

local function on_enter(ev)
  remember_text(ev.buf)
  entered.start(ENTER_MS)
  idle.start(IDLE_MS)
end

local function on_leave(ev)
  entered.stop()
  idle.stop()
  if not M.readable(ev.buf) then
    return M.forget(ev.buf) -- it may have been turned off since
  end
  pick_cursor(ev.buf)
  collect_edits(ev.buf)
end

local function on_write(ev)
  notes.look_again()
  pick_cursor(ev.buf)
  collect_edits(ev.buf)
  if vim.fs.basename(ev.match) == notes.FILE then
    notes.forget()
    snapshot = nil
  end
end

--- A place that was left for another one in the same file.
local function on_insert(ev)
  local row = api.nvim_win_get_cursor(0)[1] - 1
  local last = last_place[ev.buf]
  if last and math.abs(last - row) > MOVED then
    pick(ev.buf, last)
  end
  idle.start(IDLE_MS)
end

local function on_insert_leave(ev)
  last_place[ev.buf] = api.nvim_win_get_cursor(0)[1] - 1
  if snapshot then
    snapshot.fresh = false
  end
  idle.start(IDLE_MS)
  vim.schedule(function()
    if api.nvim_get_current_buf() == ev.buf then
      tell_of_notes(ev.buf)
    end
  end)
end

local function on_gone(ev)
  last_place[ev.buf] = nil
  declarations.forget(ev.buf)
  if before and before.buf == ev.buf then
    before = nil
  end
  if snapshot and snapshot.buf == ev.buf then
    snapshot = nil
  end
end

local ready = false

--- What stands in other windows, and the file that was there before this one, were seen before anybody
--- listened.
local function pick_seen()
  local here = api.nvim_get_current_buf()
  local before_it = vim.fn.bufnr('#')
  if before_it > 0 and before_it ~= here then
    pick_cursor(before_it)
  end
  for _, win in ipairs(api.nvim_tabpage_list_wins(0)) do
    local buf = api.nvim_win_get_buf(win)
    if buf ~= here then
      pick(buf, api.nvim_win_get_cursor(win)[1] - 1)
    end
  end
end

--- Starts listening. Called once, on the first Insert mode.
function M.setup()
  if ready then
    return
  end
  ready = true
  pieces.max = config.get().context.ring_chunks
  local group = api.nvim_create_augroup('gemma.project', {})
  local function au(events, callback, pattern)
    api.nvim_create_autocmd(events, { group = group, callback = callback, pattern = pattern })
  end
  au('TextYankPost', on_yank)
  au('BufEnter', on_enter)
  au('BufLeave', on_leave)
  au('BufWritePost', on_write)
  au('BufReadPost', function(ev)
    notes.look_again() -- the file system has answered a moment ago, so nobody waits for it
    if before and before.buf == ev.buf then
      remember_text(ev.buf)
    end
  end)
  au('InsertEnter', on_insert)
  au('ModeChanged', on_insert_leave, 'i*:n*')
  au('LspAttach', function()
    idle.start(IDLE_MS)
  end)
  au({ 'BufUnload', 'BufWipeout' }, on_gone)
  remember_text(api.nvim_get_current_buf())
  pick_seen()
end

return M
