--- edit/init.lua: the model rewrites lines; what it wrote is shown as a change to decide on.
---
--- Owns one request per buffer and its conversation, so that another instruction can go on from
--- what was written. region.lua follows the lines, preview.lua shows the change.

local busy = require('gemma.busy')
local fences = require('gemma.chat.fence')
local kept = require('gemma.chat.kept')
local keys = require('gemma.edit.keys')
local notify = require('gemma.notify')
local preview = require('gemma.edit.preview')
local regions = require('gemma.edit.region')
local subject = require('gemma.subject')
local transcript = require('gemma.chat.transcript')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.edit.busy')

--- What a request has come to.
---@class (exact) gemma.edit.Proposal
---@field lines string[] that are offered
---@field written string
---@field task string
---@field turns gemma.Turn[]
---@field seed integer

---@class gemma.edit.Request
---@field buf integer
---@field region gemma.Region
---@field subject gemma.Subject
---@field task string the last one
---@field fence string
---@field turns gemma.Turn[] what was asked and written before the task
---@field written string? what came of it
---@field offered string[]? the lines that are shown
---@field seed integer 0: the most likely text; others vary
---@field before gemma.edit.Proposal? what was shown when it was asked again
---@field handle gemma.Handle?
---@field keys gemma.Keys?
---@field marks integer[]
local Request = {}
Request.__index = Request

local last = {} ---@type table<integer, gemma.edit.Request> by buffer

--- Keeps a request until its buffer has another one or is wiped out.
function Request:keep()
  local buf = self.buf
  if not last[buf] then
    api.nvim_create_autocmd('BufWipeout', {
      buffer = buf,
      once = true,
      callback = function()
        last[buf] = nil
      end,
    })
  end
  last[buf] = self
end

--- Says at the first line what is going on.
---@param text string?
function Request:busy(text)
  if not api.nvim_buf_is_valid(self.buf) then
    return
  end
  local row = self.region:row()
  if not text or not row then
    api.nvim_buf_clear_namespace(self.buf, ns, 0, -1)
    self.marks = {}
    return
  end
  self.marks[1] = busy.mark(self.buf, ns, row, text, self.marks[1])
  self.marks[2] = api.nvim_buf_set_extmark(self.buf, ns, row, 0, {
    id = self.marks[2],
    end_row = row + #self.region.lines,
    hl_group = 'GemmaSource',
    hl_eol = true,
    strict = false,
  })
end

--- Marks and keys of a running request go.
function Request:quiet()
  self.handle = nil
  self:busy(nil)
  if self.keys then
    self.keys.give_back()
    self.keys = nil
  end
end

--- Ends a run that came to nothing. What was shown when it was asked again is shown again.
function Request:give_up()
  local before = self.before
  self.before = nil
  if before and self.region:intact() and preview.show(self.region, before.lines) then
    self.offered, self.written = before.lines, before.written
    self.task, self.turns, self.seed = before.task, before.turns, before.seed
  else
    self.region:free()
  end
end

function Request:stop()
  local handle = self.handle
  if handle then
    self:quiet()
    self:give_up()
    handle.cancel()
  end
end

--- What the key does: it scrolls where the lines are not to be seen.
function Request:stop_here()
  local row = self.region:row()
  if row and not keys.in_sight(row + 1, row + math.max(#self.region.lines, 1)) then
    return keys.pass('<C-e>')
  end
  self:stop()
end

--- The lines that the model wrote.
---@param text string
---@param fence string
---@return string[]
function M.lines(text, fence)
  local lines = vim.split(transcript.printable(text), '\n', { plain = true })
  -- It ended its block, or its turn after a last newline.
  while #lines > 0 and (lines[#lines] == '' or vim.trim(lines[#lines]) == fence) do
    lines[#lines] = nil
  end
  return lines
end

--- Printable lines to stand where others do: indented like them, and those that were only copied are
--- the old ones with their control characters.
---@param old string[]
---@param new string[]
---@return string[]
function M.instead_of(old, new)
  local hunks = require('gemma.edit.hunks')
  local copied = vim.tbl_map(transcript.printable, old)
  return hunks.all(old, hunks.diff(copied, hunks.reindent(copied, new)))
end

---@param text string?
---@param info gemma.Done|string
function Request:finished(text, info)
  self:quiet()
  if not text then
    self:give_up()
    if info ~= 'cancelled' then
      notify.warn(('the edit failed: %s'):format(info))
    end
    return
  elseif info.reason == 'length' or info.reason == 'context' then
    self:give_up()
    local limit = info.reason == 'length' and 'edit.max_tokens' or 'n_ctx'
    local fmt = 'the new text does not fit (%s). Select less or raise it.'
    return notify.warn(fmt:format(limit))
  end
  local new = M.lines(text, self.fence)
  -- Blank lines at the ends belong to the selection, whether the model cared for them or not.
  local old = self.region.lines
  local nothing = table.concat(old) == '' and api.nvim_buf_line_count(self.region.buf) == 1
  for i = nothing and 0 or #old, 1, -1 do
    local line = transcript.printable(old[i])
    if line:find('%S') then
      break
    end
    new[#new + 1] = line
  end
  self.written, self.offered = text, M.instead_of(old, new)
  if preview.show(self.region, self.offered) then
    self.before = nil
  else
    self:give_up()
    notify.info('the model changed nothing.')
  end
end

--- Asks for the task in self.
function Request:run()
  local conf = require('gemma.config').get()
  local written = 0
  require('gemma.highlight').ensure()
  self.written = nil
  -- stylua: ignore
  self.keys = keys.lend(self.buf, {
    { lhs = '<C-e>', desc = 'stop', fn = function() self:stop_here() end },
  })
  self.region:watch(function()
    if self.handle and not self.region:intact() then
      self:stop()
      if api.nvim_buf_is_loaded(self.buf) then
        notify.warn('the lines changed while the model wrote, so it was stopped.')
      end
    end
  end)
  self:busy(busy.begins())
  local s = self.subject
  local first = #self.turns == 0
  local language = s.language ~= 'text' and s.language or ''
  local session, fork_from = kept.task_session()
  local handle
  handle = require('gemma.ask').ask({
    system = require('gemma.context.notes').with(subject.SYSTEM, self.buf),
    history = self.turns,
    prompt = first and subject.prompt(s, self.task) or self.task,
    answer = self.fence .. language .. '\n',
    stops = { '\n' .. self.fence },
    session = session,
    fork_from = fork_from,
    max_tokens = conf.edit.max_tokens,
    temperature = self.seed == 0 and 0 or nil,
    seed = self.seed,
    on_progress = function(done, total)
      if self.handle == handle and total > 0 then
        self:busy(busy.reading(done, total))
      end
    end,
    on_token = function(piece)
      local _, n = piece:gsub('\n', '')
      written = written + n
      if self.handle == handle then
        self:busy(('writing line %d'):format(written + 1))
      end
    end,
    on_done = function(text, info)
      if self.handle == handle then
        self:finished(text, info)
      end
    end,
  })
  self.handle = handle
end

--- Takes down the preview, which comes back if nothing else comes of the next run, and follows the lines that
--- stay there.
---@return gemma.Region
function Request:take_region()
  local row = self.region:row()
  self.before = {
    lines = self.offered --[[@as string[] ]],
    written = self.written --[[@as string]],
    task = self.task,
    turns = vim.list_slice(self.turns),
    seed = self.seed,
  }
  local n = #self.region.lines
  preview.dismiss(self.buf)
  return regions.new(self.buf, row + 1, row + n)
end

--- Goes on from what is shown, with another instruction.
---@param instruction string
function Request:go_on(instruction)
  local region = self:take_region()
  local before = #self.turns == 0 and subject.prompt(self.subject, self.task) or self.task
  local language = self.subject.language ~= 'text' and self.subject.language or ''
  local wrote = self.fence .. language .. '\n' .. self.written .. '\n' .. self.fence
  vim.list_extend(self.turns, {
    { role = 'user', text = before },
    { role = 'model', text = wrote },
  })
  self.task = M.task(instruction) .. ' Start from what you wrote last.'
  self.seed = 0
  self.region = region
  self:run()
end

--- The same once more, but another text.
function Request:again()
  self.region = self:take_region()
  self.seed = self.seed + 1
  self:run()
end

--- Takes down a preview of some of these lines. One of other lines stays until there is a change to be shown
--- in its place.
---@param buf integer
---@param first integer 1-based
---@param stop integer
local function make_way(buf, first, stop)
  local p = preview.get(buf)
  local row = p and p.region:row()
  if p and row and first <= row + #p.region.lines and stop > row then
    preview.dismiss(buf)
  end
end

---@class gemma.edit.Opts
---@field buf integer
---@field first integer 1-based
---@field last integer
---@field task string what the model is to do with <selection>

--- Asks for another text of some lines.
---@param o gemma.edit.Opts
---@return gemma.edit.Request?
function M.start(o)
  local buf = o.buf == 0 and api.nvim_get_current_buf() or o.buf
  if not vim.bo[buf].modifiable then
    notify.warn("this buffer cannot be changed ('modifiable' is off).")
    return nil
  end
  local max = require('gemma.config').get().edit.max_tokens
  local s, why = subject.read(buf, o.first, o.last, max)
  if not s then
    notify.warn(why --[[@as string]])
    return nil
  elseif #s.code > max * require('gemma.context').BYTES_PER_TOKEN then
    -- Said now rather than after minutes of writing.
    local fmt = 'too long for edit.max_tokens (%d): %s. Select less.'
    notify.warn(fmt:format(max, require('gemma.util').count(o.last - o.first + 1, 'line')))
    return nil
  end
  if last[buf] then
    last[buf]:stop()
  end
  make_way(buf, o.first, o.last)
  local self = setmetatable({
    buf = buf,
    region = regions.new(buf, o.first, o.last),
    subject = s,
    task = o.task,
    turns = {},
    seed = 0,
    marks = {},
  }, Request)
  -- In prose the new text may have a block of code, where the old one had none.
  local prose = require('gemma.context').is_prose(s.language)
  self.fence = fences.for_lines(self.region.lines, prose and 4 or 3)
  self:keep()
  self:run()
  return self
end

--- The request behind the preview at the cursor, as long as no part of it was decided.
---@param buf integer the current one
---@return gemma.edit.Request?
local function open_edit(buf)
  local self, p = last[buf], preview.get(buf)
  local row = p and p.region:row()
  local at = api.nvim_win_get_cursor(0)[1] - 1
  -- Lines that only come stand below the line above them.
  local here = row and at >= row - 1 and at < row + math.max(#p.region.lines, 1)
  if self and here and p.region == self.region and self.written and #p.hunks == p.total then
    return self
  end
end

---@param instruction string
---@return string
function M.task(instruction)
  return 'Rewrite <selection>. ' .. vim.trim(instruction)
end

--- :Gemma edit.
---@param given gemma.command.Given
function M.command(given)
  local buf = api.nvim_get_current_buf()
  local function start(instruction, first, stop)
    M.start({ buf = buf, first = first, last = stop, task = M.task(instruction) })
  end
  local open = given.range == 0 and open_edit(buf)
  if open then
    if given.text:find('%S') then
      return open:go_on(given.text)
    end
    return open:again()
  end
  local first, stop = given.line1, given.line2
  if given.range == 0 then
    first, stop = subject.here(buf, api.nvim_win_get_cursor(0)[1] - 1)
  end
  if given.text:find('%S') then
    return start(given.text, first, stop)
  end
  require('gemma.question').about('Edit: ', { buf = buf, first = first, last = stop }, start)
end

--- Shows a change without asking the model.
---@param o { buf: integer, first: integer, last: integer, new: string[], win: integer? }
---@return boolean shown
function M.preview(o)
  if not vim.bo[o.buf].modifiable then
    notify.warn("the buffer cannot be changed ('modifiable' is off).")
    return false
  end
  if last[o.buf] then
    last[o.buf]:stop()
  end
  preview.dismiss(o.buf)
  local region = regions.new(o.buf, o.first, o.last)
  if not preview.show(region, o.new, o.win) then
    region:free()
    notify.info('the code is there already, nothing to change.')
    return false
  end
  return true
end

--- What is wrong in a buffer, as the model is told: each with the line where it begins.
---@param buf integer
---@param diagnostics vim.Diagnostic[]
---@return string
function M.problems(buf, diagnostics)
  local sorted = vim.list_slice(diagnostics)
  table.sort(sorted, function(a, b)
    return a.lnum < b.lnum or (a.lnum == b.lnum and (a.col or 0) < (b.col or 0))
  end)
  return table.concat(
    vim.tbl_map(function(d)
      local line = vim.trim(api.nvim_buf_get_lines(buf, d.lnum, d.lnum + 1, false)[1] or '')
      local source = d.source and (' (%s)'):format(d.source) or ''
      return ('- `%s`: %s%s'):format(line, transcript.one_line(d.message), source)
    end, sorted),
    '\n'
  )
end

---@class (exact) gemma.FixOpts
---@field buf integer? 0, the current buffer
---@field first integer? 1-based; the function around the cursor, or the lines of the diagnostics
---@field last integer?
---@field diagnostics vim.Diagnostic[]? those of vim.diagnostic in the lines

--- Asks for the lines without the problems that vim.diagnostic has there.
---@param o gemma.FixOpts?
function M.fix(o)
  o = o or {}
  local buf = (o.buf or 0) == 0 and api.nvim_get_current_buf() or o.buf --[[@as integer]]
  local first, stop = o.first, o.last or o.first
  local all = o.diagnostics or vim.diagnostic.get(buf)
  if not first then
    local row = all[1] and o.diagnostics and all[1].lnum or api.nvim_win_get_cursor(0)[1] - 1
    first, stop = subject.here(buf, row)
  end
  local here = require('gemma.context.diagnostics').within(all, first - 1, stop - 1)
  if #here == 0 then
    return notify.info('there are no diagnostics in these lines.')
  end
  -- One line is named for its problems, which are seldom solved in that line alone.
  if first == stop then
    first, stop = subject.here(buf, first - 1)
  end
  M.start({
    buf = buf,
    first = first,
    last = stop,
    task = 'Rewrite <selection> so that these problems are gone; change nothing else:\n'
      .. M.problems(buf, here),
  })
end

---@param given gemma.command.Given
function M.fix_command(given)
  if given.range > 0 then
    return M.fix({ first = given.line1, last = given.line2 })
  end
  M.fix()
end

return M
