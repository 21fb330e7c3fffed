--- region.lua: some lines of a buffer, followed while the text around them changes.
---
--- The lines are compared with what they were, not guessed from the changes. The owner hears of each
--- change of the buffer, on the next tick, and asks whether the lines are still there.

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.edit.region')

---@class gemma.Region
---@field buf integer
---@field mark integer on the first line; lines put in just above it move it down
---@field other integer on the first line; stays, also when undo or redo replaces the lines
---@field at integer row where the lines were last seen, 0-based
---@field lines string[] what is there
---@field freed boolean
---@field writing boolean the owner itself changes them
---@field scheduled boolean
---@field attached boolean
---@field on_changed fun()? nil until somebody watches
local Region = {}
Region.__index = Region

---@param buf integer
---@param first integer 1-based
---@param last integer
---@return gemma.Region
function M.new(buf, first, last)
  return setmetatable({
    buf = buf,
    mark = api.nvim_buf_set_extmark(buf, ns, first - 1, 0, {}),
    other = api.nvim_buf_set_extmark(buf, ns, first - 1, 0, { right_gravity = false }),
    at = first - 1,
    lines = api.nvim_buf_get_lines(buf, first - 1, last, false),
    freed = false,
    writing = false,
    scheduled = false,
    attached = false,
  }, Region)
end

--- The first line; nil when the buffer is gone.
---@return integer? row 0-based
function Region:row()
  if self.freed or not api.nvim_buf_is_loaded(self.buf) then
    return nil
  end
  return api.nvim_buf_get_extmark_by_id(self.buf, ns, self.mark, {})[1]
end

---@param row integer
function Region:set_row(row)
  self.at = row
  api.nvim_buf_set_extmark(self.buf, ns, row, 0, { id = self.mark, strict = false })
  local stays = { id = self.other, right_gravity = false, strict = false }
  api.nvim_buf_set_extmark(self.buf, ns, row, 0, stays)
end

--- Whether these lines are there: at one of the marks, or, since a formatter that replaces the whole text
--- takes the marks away, where they were last. Then both marks are.
---@param lines string[]
---@return boolean
---@return boolean moved the first mark was elsewhere, as other marks on the lines may be
function Region:has(lines)
  local first = self:row()
  if not first then
    return false, false
  end
  local other = api.nvim_buf_get_extmark_by_id(self.buf, ns, self.other, {})[1]
  for i, row in ipairs({ first, other, self.at }) do
    if vim.deep_equal(api.nvim_buf_get_lines(self.buf, row, row + #lines, false), lines) then
      self:set_row(row)
      return true, i > 1
    end
  end
  return false, false
end

---@return boolean
function Region:intact()
  return (self:has(self.lines))
end

--- fn is called when the buffer was changed by others, or went; from now on nobody else is.
---@param fn fun()
function Region:watch(fn)
  self.on_changed = fn
  if self.attached then
    return
  end
  self.attached = true
  local function changed()
    if self.freed then
      return true -- no further calls
    end
    if not self.writing and not self.scheduled then
      self.scheduled = true
      vim.schedule(function()
        self.scheduled = false
        if not self.freed and self.on_changed then
          self.on_changed()
        end
      end)
    end
  end
  api.nvim_buf_attach(self.buf, false, {
    on_lines = changed,
    on_reload = changed,
    on_detach = changed,
  })
end

--- Changes some of the lines. With `join`, undo takes this and the last change back together.
---@param first integer of the region, 1-based
---@param n integer how many lines go
---@param new string[]
---@param join boolean
---@return boolean ok
---@return string? err
function Region:replace(first, n, new, join)
  local row = self:row()
  if not row then
    return false, 'the buffer is gone.'
  end
  self.writing = true
  local ok, err = pcall(api.nvim_buf_call, self.buf, function()
    if join then
      pcall(vim.cmd, 'undojoin') -- refused after an undo; then it is a step of its own
    end
    api.nvim_buf_set_lines(self.buf, row + first - 1, row + first - 1 + n, false, new)
  end)
  self.writing = false
  if not ok then
    return false, (tostring(err):gsub('^.-(E%d+:)', '%1'):gsub('\n.*', ''))
  end
  local lines = vim.list_slice(self.lines, 1, first - 1)
  vim.list_extend(lines, new)
  vim.list_extend(lines, self.lines, first + n, #self.lines)
  self.lines = lines
  self:set_row(row)
  return true
end

function Region:free()
  if not self.freed then
    self.freed = true
    if api.nvim_buf_is_valid(self.buf) then
      api.nvim_buf_del_extmark(self.buf, ns, self.mark)
      api.nvim_buf_del_extmark(self.buf, ns, self.other)
    end
  end
end

return M
