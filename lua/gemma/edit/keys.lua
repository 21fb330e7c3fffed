--- keys.lua: keys of a buffer that are lent for a while and given back as they were.

local M = {}

local api = vim.api

-- Loans that ended while another one of the same key stood over them, with what was there before: the
-- other one must not bring them back.
local ended = setmetatable({}, { __mode = 'k' }) ---@type table<fun(), table|false>

---@class gemma.Keys
---@field give_back fun()

--- Maps Normal mode keys in a buffer. give_back() brings back what they were there before; a key
--- that somebody has mapped again in the meantime is left alone.
---@param buf integer
---@param keys { lhs: string, fn: fun(), desc: string }[]
---@return gemma.Keys
function M.lend(buf, keys)
  local function here(lhs)
    local map
    api.nvim_buf_call(buf, function()
      map = vim.fn.maparg(lhs, 'n', false, true)
    end)
    return map.buffer == 1 and map or nil
  end
  local before = {}
  for _, k in ipairs(keys) do
    before[k.lhs] = here(k.lhs) or false
    vim.keymap.set('n', k.lhs, k.fn, { buffer = buf, nowait = true, desc = 'Gemma: ' .. k.desc })
  end
  return {
    give_back = function()
      if not api.nvim_buf_is_valid(buf) then
        return
      end
      for _, k in ipairs(keys) do
        local now, old = here(k.lhs), before[k.lhs]
        if now and now.callback == k.fn then
          while old and old.callback and ended[old.callback] ~= nil do
            old = ended[old.callback]
          end
          vim.keymap.del('n', k.lhs, { buffer = buf })
          if old then
            api.nvim_buf_call(buf, function()
              vim.fn.mapset('n', false, old)
            end)
          end
        else
          ended[k.fn] = old
        end
      end
    end,
  }
end

--- Are some of these lines in the current window? A key that acts on what nobody sees does what it does
--- everywhere else.
---@param first integer 1-based
---@param last integer
---@return boolean
function M.in_sight(first, last)
  return first <= vim.fn.line('w$') and last >= vim.fn.line('w0')
end

--- Gives a lent key to Neovim, with the count that was typed.
---@param lhs string
function M.pass(lhs)
  local count = vim.v.count > 0 and vim.v.count or ''
  api.nvim_feedkeys(count .. vim.keycode(lhs), 'in', false)
end

return M
