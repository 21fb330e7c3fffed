--- child.lua: programs that end with the editor, and with them what they have started.

local M = {}

local uv = vim.uv

local running = {} ---@type table<vim.SystemObj, true>
-- A program in a group of its own is ended with all of the group. Windows has no such groups.
local GROUP = vim.fn.has('win32') == 0

---@param proc vim.SystemObj
---@param signal string
local function finish(proc, signal)
  if GROUP then
    uv.kill(-proc.pid, signal)
  else
    proc:kill(signal)
  end
end

local function leave()
  for proc in pairs(running) do
    finish(proc, 'sigterm')
  end
end

-- A pipe that Neovim holds closes whatever Neovim dies of.
local TIE = [[signal=$1; shift; exec 3<&0 </dev/null
(read -r _ <&3; kill -s "$signal" $$) >/dev/null 2>&1 &
exec "$@" 3<&-]]

--- The command that ties a program to this process, so that it ends even when the editor is killed. It gets
--- the signal when its standard input, which must be a pipe, ends; it sees an empty one. On Windows this is
--- `argv` itself.
---@param argv string[]
---@param signal 'TERM'|'INT'
---@return string[]
function M.tied(argv, signal)
  return GROUP and vim.list_extend({ 'sh', '-c', TIE, 'sh', signal }, argv) or argv
end

--- Why a program could not be started: of what vim.system() raised, the line without the place in its code.
---@param err any
---@return string
function M.why(err)
  return (tostring(err):gsub('^.-:%d+: ', ''):gsub('\n.*', ''))
end

--- As vim.system(): raises an error where there is no such program. on_exit may use all of Neovim. A timeout
--- ends by SIGTERM what was started, and what that has started.
---@param argv string[]
---@param opts vim.SystemOpts
---@param on_exit fun(done: vim.SystemCompleted)
---@return vim.SystemObj
function M.start(argv, opts, on_exit)
  local proc
  opts.detach = GROUP
  local ms = opts.timeout -- vim.system() would end the program and leave what that has started
  opts.timeout = nil
  proc = vim.system(
    argv,
    opts,
    vim.schedule_wrap(function(done)
      running[proc] = nil
      on_exit(done)
    end)
  )
  running[proc] = true
  if ms then
    vim.defer_fn(function()
      if running[proc] then
        finish(proc, 'sigterm')
      end
    end, ms)
  end
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
        finish(proc, 'sigkill')
      end
    end
  end
  proc = M.start(argv, opts, function(done)
    on_exit(done, table.concat(chunks), too_much)
  end)
  return proc
end

return M
