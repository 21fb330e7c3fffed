--- blink.lua: a source for blink.cmp: { name = 'Gemma', module = 'gemma.blink', async = true }.

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
---@param ctx { bufnr: integer?, pos: { row: integer, col: integer }?, cursor: integer[]? }
---@param callback fun(response: table)
---@return fun() cancel
function Source.get_completions(_, ctx, callback)
  local buf = ctx.bufnr or vim.api.nvim_get_current_buf()
  local row = ctx.pos and ctx.pos.row or ctx.cursor[1] - 1
  local col = ctx.pos and ctx.pos.col or ctx.cursor[2]
  return require('gemma.menu').request(buf, row, col, function(items)
    callback({ items = items, is_incomplete_forward = true, is_incomplete_backward = true })
  end)
end

return Source
