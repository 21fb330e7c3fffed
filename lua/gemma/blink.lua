--- blink.lua: a source for blink.cmp: { name = 'Gemma', module = 'gemma.blink', async = true }.

---@class gemma.blink.Context what is read of theirs
---@field bufnr integer?
---@field pos { row: integer, col: integer }?
---@field cursor integer[]?
---@field bounds { start_col: integer }?

---@class gemma.blink.Source
local Source = {}
Source.__index = Source

---@return gemma.blink.Source
function Source.new()
  return setmetatable({}, Source)
end

---@return boolean
function Source.enabled(_)
  return require('gemma.menu').available(vim.api.nvim_get_current_buf())
end

--- Where it is: `pos` (both from 0) since blink.cmp 2, before it `cursor` (row from 1, column from 0).
--- Its word begins at `bounds` (column from 1) and has hyphens in it whatever 'iskeyword' says.
---@param ctx gemma.blink.Context
---@param callback fun(response: table)
---@return fun() cancel
function Source.get_completions(_, ctx, callback)
  return require('gemma.menu').request({
    buf = ctx.bufnr or vim.api.nvim_get_current_buf(),
    row = ctx.pos and ctx.pos.row or ctx.cursor[1] - 1,
    col = ctx.pos and ctx.pos.col or ctx.cursor[2],
    start = ctx.bounds and ctx.bounds.start_col - 1,
    done = function(items)
      callback({ items = items, is_incomplete_forward = true, is_incomplete_backward = true })
    end,
  })
end

return Source
