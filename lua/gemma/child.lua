--- child.lua: programs that end with the editor, and with them what they have started.

local M = {}

local uv = vim.uv

local running = {} ---@type table<vim.SystemObj, true>
-- A program in a group of its own is ended with all of the group. Windows has no such groups.
local GROUP = vim.fn.has('win32') == 0

local function leave()
  for proc in pairs(running) do
    if GROUP then
      uv.kill(-proc.pid, 'sigterm')
    else
      proc:kill('sigterm')
    end
  end
end

--- As vim.system(): raises an error where there is no such program. on_exit may use all of Neovim.
---@param argv string[]
---@param opts vim.SystemOpts
---@param on_exit fun(done: vim.SystemCompleted)
---@return vim.SystemObj
function M.start(argv, opts, on_exit)
  local proc
  opts.detach = GROUP
  proc = vim.system(
    argv,
    opts,
    vim.schedule_wrap(function(done)
      running[proc] = nil
      on_exit(done)
    end)
  )
  running[proc] = true
  vim.api.nvim_create_autocmd('VimLeavePre', {
    group = vim.api.nvim_create_augroup('gemma.child', {}),
    callback = leave,
  })
  return proc
end

--- The same for what a program writes: on_exit gets it, or, when that is more than `limit` bytes, what came
--- before the program was ended for it.
---@param argv string[]
---@param opts vim.SystemOpts
---@param limit number
---@param on_exit fun(done: vim.SystemCompleted, out: string, too_much: boolean)
---@return vim.SystemObj
function M.read(argv, opts, limit, on_exit)
  local chunks, size, too_much = {}, 0, false
  local proc
  opts.stdout = function(_, data)
    if data and not too_much then
      size = size + #data
      chunks[#chunks + 1] = data
      too_much = size > limit
      if too_much then
        proc:kill(9)
      end
    end
  end
  proc = M.start(argv, opts, function(done)
    on_exit(done, table.concat(chunks), too_much)
  end)
  return proc
end

return M
