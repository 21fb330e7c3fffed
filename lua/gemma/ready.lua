--- ready.lua: what needs the model and can wait for it: loading, and requests that load it first.

local engine = require('gemma.engine')
local errors = require('gemma.errors')

local M = {}

--- Loads the model, if it is not there. A reason why it cannot be loaded is shown.
---@param on_ready fun(err: string?)? hears of the end
function M.load(on_ready)
  local ok, err = engine.load(on_ready)
  if not ok then
    require('gemma.notify').warn(err --[[@as string]])
    if on_ready then
      on_ready(err)
    end
  end
end

---@class (exact) gemma.Handle
---@field cancel fun()

--- Submits when the model is there. The handle works from the start: a request that waits for the model
--- ends at once when it is cancelled. Every failure goes to req.on_error, later than this call.
---@param req gemma.Request
---@return gemma.Handle
function M.submit(req)
  local job, failed
  local function fail(text, name)
    if failed then
      return
    end
    failed = true
    vim.schedule(function()
      req.on_error(errors.new(name or 'EINVAL', text))
    end)
  end
  local ok, err = engine.load(function(err)
    if failed then
      return
    elseif err then
      return fail(err)
    end
    require('gemma.media').wake(req.parts)
    local why
    job, why = engine.generate(req)
    if not job then
      fail(why)
    end
  end)
  if not ok then
    fail(err)
  end
  return {
    cancel = function()
      if job then
        job:cancel()
      else
        fail('cancelled', 'ECANCELLED')
      end
    end,
  }
end

return M
