--- Nothing leaves the process, and an idle one costs nothing: shown from outside.

local h = require('helper')

local T = {}

--- Skips where a tool or the library is not there.
local function test(name, tool, fn)
  T[#T + 1] = {
    name,
    function()
      h.need_library()
      if tool and vim.fn.executable(tool) == 0 then
        h.skip('no ' .. tool)
      end
      fn()
    end,
  }
end

local CONFIG = ('vim.g.gemma = { lib_path = %q, model_path = %q, n_ctx = 4096, threads = 1 }')
  :format(h.shared_object(), h.root .. '/tests/golden/sets/nano/model-Q8_0.gguf')

--- An editor with the library and the smallest model, which has suggested and answered.
local function session()
  local c = h.child({ fake = false, cols = 70, lines = 20, config = CONFIG })
  c:insert_at('local x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:lua("require('gemma').request()")
  c:wait("require('gemma.engine').state == 'ready'")
  h.ok(not c:lua("return require('gemma.status').here()"):find('n_ctx', 1, true), 'it was read')
  c:lua([[require('gemma').ask({ prompt = 'hello', max_tokens = 5, temperature = 0,
    on_done = function(text) _G.Text = text or false end })]])
  c:wait('Text ~= nil')
  return c
end

-- Whole names, or beginnings with a *.
local SOCKETS = { 'socket', 'socketpair', 'connect', 'bind', 'listen', 'accept', 'accept4', 'send',
  'sendto', 'sendmsg', 'sendmmsg', 'recv', 'recvfrom', 'recvmsg', 'getaddrinfo', 'gethostby*',
  'res_*', 'uv_tcp_*', 'uv_udp_*', 'uv_pipe_*', 'uv_getaddrinfo', 'uv_spawn', 'system', 'popen',
  'fork', 'exec*', 'posix_spawn*' }

test('the library has no symbol that could open a connection or start a program', 'nm', function()
  local out = vim.system({ 'nm', '-D', '--undefined-only', h.shared_object() }, { text = true }):wait()
  h.eq(out.code, 0)
  local n = 0
  for name in out.stdout:gmatch('%sU%s+([%w_]+)') do
    n = n + 1
    for _, bad in ipairs(SOCKETS) do
      local stem = bad:match('^(.*)%*$')
      h.ok(stem and not vim.startswith(name, stem) or not stem and name ~= bad, name)
    end
  end
  h.ok(n > 20, 'nm shows what the library needs')
end)

test('a session that loads, suggests and answers opens no internet socket', 'strace', function()
  local log = vim.fn.tempname()
  local probe = vim.system({ 'strace', '-f', '-o', log, 'true' }):wait()
  if probe.code ~= 0 then
    h.skip('strace may not trace here')
  end
  local wrapper = vim.fn.tempname()
  vim.fn.writefile({ '#!/bin/sh',
    ('exec strace -f -e trace=socket,connect,openat -o %s %q "$@"'):format(log, h.nvim) }, wrapper)
  vim.uv.fs_chmod(wrapper, 493)
  local nvim = h.nvim
  h.nvim = wrapper
  local ok, c = pcall(session)
  h.nvim = nvim
  assert(ok, c)
  c:stop()
  local n, text = 0, table.concat(vim.fn.readfile(log), '\n')
  for family in text:gmatch('socket%(([%w_]+)') do
    n = n + 1
    h.ok(family == 'AF_UNIX', family)
  end
  h.ok(not text:find('AF_INET', 1, true), 'no address of the internet')
  h.has(text, 'model-Q8_0.gguf') -- the trace saw the session
  h.ok(n > 0, "Neovim's own pipe")
end)

--- How often the kernel has put a thread of this process to sleep, by name of the thread.
---@return table<string, integer>
local function switches(pid)
  local out = {}
  for task in vim.fs.dir(('/proc/%d/task'):format(pid)) do
    local ok, lines = pcall(vim.fn.readfile, ('/proc/%d/task/%s/status'):format(pid, task))
    for _, line in ipairs(ok and lines or {}) do
      local n = line:match('^voluntary_ctxt_switches:%s*(%d+)')
      out[task] = tonumber(n) or out[task]
    end
  end
  return out
end

test('with the model loaded and nothing to do no thread wakes up for 1.5 s', nil, function()
  if vim.fn.isdirectory('/proc/self/task') == 0 then
    h.skip('no /proc')
  end
  local c = session()
  c:lua('vim.o.updatetime = 50') -- Neovim's own wake-up, for CursorHold
  c:feed('<Esc>')
  local pid = c:lua('return vim.uv.os_getpid()')
  -- What the last request left comes to rest at some point (a team of threads that spins, a redraw,
  -- a CursorHold); whoever polls never has a second and a half without.
  local before, still
  for _ = 1, 8 do
    before = switches(pid)
    vim.wait(1500)
    still = vim.deep_equal(switches(pid), before)
    if still then
      break
    end
  end
  h.ok(still, 'comes to rest')
  h.ok(vim.tbl_count(before) >= 2, 'the worker is one of the threads')
end)

return T
