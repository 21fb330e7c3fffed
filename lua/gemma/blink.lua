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

---@param ctx { bufnr: integer?, cursor: integer[] } row from 1, column from 0
---@param callback fun(response: table)
---@return fun() cancel
function Source.get_completions(_, ctx, callback)
  local buf = ctx.bufnr or vim.api.nvim_get_current_buf()
  return require('gemma.menu').request(buf, ctx.cursor[1] - 1, ctx.cursor[2], function(items)
    callback({ items = items, is_incomplete_forward = true, is_incomplete_backward = true })
  end)
end

return Source
