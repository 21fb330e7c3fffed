--- cmp.lua: a source for nvim-cmp; register() makes it known under the name "gemma".

local M = {}

---@class gemma.cmp.Params what is read of theirs; places from 1
---@field offset integer
---@field context { bufnr: integer, cursor_before_line: string, cursor: { row: integer, col: integer } }

---@class gemma.cmp.Source
---@field private stop fun()?
local Source = {}
Source.__index = Source

---@return gemma.cmp.Source
function M.new()
  return setmetatable({}, Source)
end

---@return boolean
function Source.is_available(_)
  return require('gemma.menu').available(vim.api.nvim_get_current_buf())
end

---@return string
function Source.get_debug_name(_)
  return 'gemma'
end

---@return string
function Source.get_position_encoding_kind(_)
  return 'utf-8'
end

--- nvim-cmp has no cancel: a new question ends the one before.
--- It compares an entry with what is left of the cursor from its own word or from the entry's range on,
--- whichever begins first, so the range has to begin there.
---@param params gemma.cmp.Params
---@param callback fun(response: table?)
function Source:complete(params, callback)
  if self.stop then
    self.stop()
  end
  local answered = false
  local function answer(items)
    if not answered then
      answered = true
      self.stop = nil
      callback({ items = items, isIncomplete = true })
    end
  end
  local c = params.context
  local function none()
    answer({})
  end
  local menu = require('gemma.menu')
  local cancel = menu.request({
    buf = c.bufnr,
    row = c.cursor.row - 1,
    col = c.cursor.col - 1,
    from = math.min(params.offset - 1, menu.word_start(c.cursor_before_line)),
    done = answer,
    left = none,
  })
  if not answered then
    self.stop = function()
      cancel()
      none()
    end
  end
end

--- Call it where nvim-cmp is set up; then name the source: { name = 'gemma' }.
function M.register()
  require('cmp').register_source('gemma', M.new())
end

return M
