--- preview.lua: a change that is shown in the text and not yet made, hunk by hunk.
---
--- Lines that would go are coloured; lines that would come are virtual and stand below them. Only
--- accepting writes. One preview per buffer; it goes when it is decided or when its lines change.

local draw = require('gemma.edit.draw')
local hunks = require('gemma.edit.hunks')
local keys = require('gemma.edit.keys')
local notify = require('gemma.notify')
local util = require('gemma.util')

local M = {}

local api = vim.api

---@class (exact) gemma.preview.State
---@field lines string[]
---@field hunks gemma.Hunk[]
---@field accepted integer

---@class gemma.Preview
---@field buf integer
---@field region gemma.Region
---@field hunks gemma.Hunk[] still to be decided, from top to bottom
---@field total integer
---@field accepted integer
---@field rejected table<string[], true> by the lines that would have come
---@field state gemma.preview.State the one that was taken down, or come back to, last
---@field states table<integer, gemma.preview.State> by place in the undo tree
---@field tick integer? changedtick after our own last change
---@field keys gemma.Keys
---@field side gemma.Side? with edit.diff = 'split'
---@field over boolean
local Preview = {}
Preview.__index = Preview

local shown = {} ---@type table<integer, gemma.Preview> by buffer

--- Everything anew. Few marks, and only when something was decided.
---@return integer rows in which the new lines of the first hunk are drawn
function Preview:draw()
  draw.clear(self.buf)
  local row = self.region:row()
  if not row then
    return 0
  end
  local first = 0
  if self.side then
    local old = self.region.lines
    local lines = api.nvim_buf_get_lines(self.buf, 0, row, false)
    vim.list_extend(lines, hunks.all(old, self.hunks))
    vim.list_extend(lines, api.nvim_buf_get_lines(self.buf, row + #old, -1, false))
    self.side:update(lines)
  else
    for n, hunk in ipairs(self.hunks) do
      local rows = draw.hunk(self.buf, hunk, row + hunk.at - 1)
      first = n == 1 and rows or first
    end
  end
  local what = util.count(#self.hunks, 'change')
  draw.label(self.buf, self:place(1), what .. ' · <C-y> accept · <C-e> reject')
  return first
end

--- The line that the cursor is on when it is "on" a hunk: its first old line, or for lines that only
--- come the line above them.
---@param n integer
---@return integer row
function Preview:place(n)
  local hunk = self.hunks[n]
  local row = self.region:row() + hunk.at - 1
  return #hunk.old > 0 and row or math.max(row - 1, 0)
end

---@return integer? n the hunk under the cursor
function Preview:here()
  local row = api.nvim_win_get_cursor(0)[1] - 1
  for n, hunk in ipairs(self.hunks) do
    local first = self:place(n)
    if row >= first and row < first + math.max(#hunk.old, 1) then
      return n
    end
  end
end

---@param row integer
local function go(row)
  vim.cmd("normal! m'")
  api.nvim_win_set_cursor(0, { row + 1, 0 })
end

---@param forward boolean
function Preview:move(forward)
  local row = api.nvim_win_get_cursor(0)[1] - 1
  local to
  for n = 1, #self.hunks do
    local place = self:place(n)
    if forward and place > row then
      return go(place)
    elseif not forward and place < row then
      to = place
    end
  end
  if to then
    go(to)
  end
end

--- Marks and keys go; the text stays as it is.
function Preview:finish()
  if self.over then
    return
  end
  self.over = true
  if shown[self.buf] == self then
    shown[self.buf] = nil
  end
  self.region:free()
  self.keys.give_back()
  if self.side then
    self.side:close()
  end
  draw.clear(self.buf)
end

function Preview:settle()
  if #self.hunks > 0 then
    self:draw()
    return
  end
  local done = self.accepted
  self:finish()
  if done > 0 then
    notify.event('GemmaEditApplied', { buf = self.buf, hunks = done, of = self.total })
  else
    notify.event('GemmaEditRejected', { buf = self.buf })
  end
end

--- Takes down the state it is in, so that undo can come back to it.
function Preview:remember()
  self.state = {
    lines = self.region.lines,
    hunks = vim.list_extend({}, self.hunks),
    accepted = self.accepted,
  }
  self.states[vim.fn.undotree(self.buf).seq_cur] = self.state
end

--- A place in the undo tree has the state of the nearest one before it that was taken down, for only
--- accepting makes another.
---@param entries vim.fn.undotree.entry[]
---@param place integer
---@param states table<integer, gemma.preview.State>
---@param state gemma.preview.State? before the first entry
---@return boolean found
---@return gemma.preview.State?
local function state_at(entries, place, states, state)
  for _, entry in ipairs(entries) do
    if entry.alt then
      local found, there = state_at(entry.alt, place, states, state)
      if found then
        return true, there
      end
    end
    state = states[entry.seq] or state
    if entry.seq == place then
      return true, state
    end
  end
  return false
end

--- Whether place 0 is the one before change 1. When undo has forgotten that change ('undolevels'), 0
--- is before the oldest one that it still has, whichever that is.
---@param entries vim.fn.undotree.entry[]
---@return boolean
local function reaches_first(entries)
  local entry = entries[1]
  while entry and entry.seq > 1 do
    entry = entry.alt and entry.alt[1]
  end
  return #entries == 0 or entry ~= nil
end

--- The state that is due where undo and redo went. The lines alone would not tell: those of one state
--- are often the beginning of another's, or go on below them.
---@return gemma.preview.State? nil when nobody can know
function Preview:due()
  -- The tree takes time in proportion to the history, and is asked for once a step: not with each key.
  local place = api.nvim_buf_call(self.buf, vim.fn.changenr)
  if place > 0 and self.states[place] then
    return self.states[place]
  end
  local tree = vim.fn.undotree(self.buf)
  local first = reaches_first(tree.entries) and self.states[0] or nil
  if place == 0 and not first then
    return nil
  elseif not self.states[place] then
    local _, state = state_at(tree.entries, place, self.states, first)
    self.states[place] = state or self.state
  end
  return self.states[place]
end

--- The text changed. After undo and redo the hunks are what they were there, less what was rejected
--- since; any other change of the lines is the end.
function Preview:changed()
  local state = self.region:row() and self:due()
  local there, moved
  if state then
    there, moved = self.region:has(state.lines)
  end
  if not state or not there then
    return self:withdraw()
  elseif state ~= self.state then
    self.state = state
    self.region.lines = state.lines
    self.hunks = vim.tbl_filter(function(hunk)
      return not self.rejected[hunk.new]
    end, state.hunks)
    self.accepted = state.accepted
    self.tick = nil -- what is accepted now is a step of its own
    self:settle()
  elseif self.side or moved then
    self:draw() -- the side shows the lines around, too
  end
end

--- The lines are not what the change was made for.
function Preview:withdraw()
  self:finish()
  notify.event('GemmaEditRejected', { buf = self.buf })
  if api.nvim_buf_is_loaded(self.buf) then
    notify.warn('the lines changed; the edit is gone. :Gemma edit asks again.')
  end
end

--- Keys may come before a change of the lines was looked at.
---@return boolean still there
function Preview:sync()
  if not self.over then
    self:changed()
  end
  return not self.over
end

---@param n integer
---@return boolean
function Preview:accept_one(n)
  local hunk = self.hunks[n]
  local _, rest = hunks.apply(self.region.lines, self.hunks, n)
  -- Together with the hunk before, unless something else was changed since.
  local join = self.tick ~= nil and self.tick == api.nvim_buf_get_changedtick(self.buf)
  local ok, err = self.region:replace(hunk.at, #hunk.old, hunk.new, join)
  if not ok then
    notify.warn(('nothing was changed: %s'):format(err))
    return false
  end
  self.tick = api.nvim_buf_get_changedtick(self.buf)
  self.hunks = rest
  self.accepted = self.accepted + 1
  return true
end

--- Is some of what is to be decided in the current window? <C-y> and <C-e> scroll, and who scrolls
--- elsewhere decides nothing.
---@return boolean
function Preview:in_sight()
  for n, hunk in ipairs(self.hunks) do
    local first = self:place(n) + 1
    if keys.in_sight(first, first + math.max(#hunk.old, 1) - 1) then
      return true
    end
  end
  return false
end

--- The hunk under the cursor, or all of them when it is on none.
function Preview:accept()
  if not self:sync() then
    return
  end
  local n = self:here()
  if not n and not self:in_sight() then
    return keys.pass('<C-y>')
  elseif not n then
    return self:accept_all()
  end
  if self:accept_one(n) then
    self:remember()
    local to = self.hunks[n] and self:place(n)
    self:settle()
    if to then
      go(to)
    end
  end
end

function Preview:accept_all()
  if not self:sync() then
    return
  end
  local ok = true
  while ok and #self.hunks > 0 do
    ok = self:accept_one(#self.hunks) -- from the bottom, so that nothing has to move
  end
  self:remember()
  self:settle()
end

--- The hunk under the cursor, or all of them when it is on none.
function Preview:reject()
  if not self:sync() then
    return
  end
  local n = self:here()
  if not n and not self:in_sight() then
    return keys.pass('<C-e>')
  elseif n then
    self.rejected[table.remove(self.hunks, n).new] = true
  else
    self.hunks = {}
  end
  self:settle()
end

function Preview:reject_all()
  self.hunks = {}
  self:settle()
end

--- Shows what would become of the lines of a region, which then belongs to the preview. nil when
--- nothing would.
---@param region gemma.Region
---@param new string[]
---@param win integer? of several windows the one that is scrolled to it
---@return gemma.Preview?
function M.show(region, new, win)
  local list = hunks.diff(region.lines, new)
  if #list == 0 then
    return nil
  end
  M.dismiss(region.buf)
  require('gemma.highlight').ensure()
  local self = setmetatable({
    buf = region.buf,
    region = region,
    hunks = list,
    total = #list,
    accepted = 0,
    rejected = {},
    states = {},
    over = false,
  }, Preview)
  shown[self.buf] = self
  -- stylua: ignore
  self.keys = keys.lend(self.buf, {
    { lhs = ']c', desc = 'next change', fn = function() self:move(true) end },
    { lhs = '[c', desc = 'previous change', fn = function() self:move(false) end },
    { lhs = '<C-y>', desc = 'accept', fn = function() self:accept() end },
    { lhs = '<C-e>', desc = 'reject', fn = function() self:reject() end },
    { lhs = 'g<C-y>', desc = 'accept all', fn = function() self:accept_all() end },
    { lhs = 'g<C-e>', desc = 'reject all', fn = function() self:reject_all() end },
  })
  self:remember()
  local place, first = next(self.states)
  setmetatable(self.states, {
    __index = function(_, earlier)
      return earlier < place and first or nil -- nothing was accepted before it was shown
    end,
  })
  region:watch(function()
    self:changed()
  end)
  if region:row() then
    for n, hunk in ipairs(list) do
      draw.open_folds(self.buf, self:place(n), math.max(#hunk.old, 1))
    end
  end
  if require('gemma.config').get().edit.diff == 'split' then
    self.side = require('gemma.edit.side').open(self.buf, function()
      self.side = nil -- somebody closed it: the change is shown in the text then
      if not self.over then
        self:draw()
      end
    end)
  end
  local rows = self:draw()
  if region:row() and not self.side then
    local n = math.max(#list[1].old, 1)
    draw.make_room(win or util.window_of(self.buf), self:place(1), n, rows)
  end
  notify.event('GemmaEditPreview', { buf = self.buf, hunks = #list })
  return self
end

--- What is shown in a buffer.
---@param buf integer
---@return gemma.Preview?
function M.get(buf)
  return shown[buf]
end

--- Takes down what is shown in a buffer, without a word.
---@param buf integer
function M.dismiss(buf)
  if shown[buf] then
    shown[buf]:finish()
  end
end

return M
