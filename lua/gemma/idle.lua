--- idle.lua: the time after which a model that nobody uses is unloaded (unload_idle).
---
--- Owns one timer. It is armed when the last job ends, so that an idle Neovim wakes up once and
--- then never. It counts from the last use; without the focus it takes half of the time.

local config = require('gemma.config')
local power = require('gemma.power')

local M = {}

local last_use = 0 -- ms, of the loop's clock
local timer ---@type uv.uv_timer_t?

--- The model was used until now.
function M.used()
  vim.uv.update_time()
  last_use = vim.uv.now()
end

function M.stop()
  if timer then
    timer:stop()
  end
end

--- Calls fn when the time is over, in place of what was to be called before.
---@param fn fun()
function M.start(fn)
  M.stop()
  local seconds = config.get().unload_idle
  if seconds == 0 then
    return
  end
  local ms = seconds * (power.focused() and 1000 or 500) - (vim.uv.now() - last_use)
  timer = timer or assert(vim.uv.new_timer())
  timer:start(math.max(ms, 1), 0, vim.schedule_wrap(fn))
end

return M
