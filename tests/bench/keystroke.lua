--- keystroke.lua: time from a typed character to the first token, beside llama-server.
---
---   MODEL=file.gguf [PEER_RUN="chroot DIR" PEER_MODEL=/path/there] nvim --clean -l tests/bench/keystroke.lua
---
---   LENGTH   tokens of the prompt that is in the cache already, about (2000)
---   KEYS     characters typed one after the other (12)
---   THREADS  2       PORT 8093       PEER_SERVER llama-server       LIB build/libgemma.so
---
--- Both hold the same text and get one more character each time; what is timed is the whole way of
--- a request for one token: ours from the call in Lua to the event in Lua, the peer's as curl
--- measures it (without starting curl). They take turns, key by key, in one run, and keep their
--- caches meanwhile. The peer runs with --swa-full and cache_prompt, without which it reads
--- the whole window again after each key. Prints medians and their ratio.

local top = vim.fs.dirname(vim.fs.dirname(vim.fs.dirname(vim.fn.fnamemodify(arg[0], ':p'))))
vim.opt.runtimepath:prepend(top)

local env = vim.env
local model = assert(env.MODEL, 'MODEL=file.gguf is missing')
local threads = tonumber(env.THREADS) or 2
local keys = tonumber(env.KEYS) or 12
local length = tonumber(env.LENGTH) or 2000
local port = tonumber(env.PORT) or 8093

vim.g.gemma = {
  model_path = model,
  lib_path = env.LIB or vim.fs.joinpath(top, 'build', 'libgemma.so'),
  threads = threads,
  load = 'manual',
  n_ctx = math.max(4096, length * 2),
}

---@param what string
---@param ready fun(): boolean
---@param minutes number
local function wait(what, ready, minutes)
  assert(vim.wait(minutes * 60000, ready, 1), what .. ' did not end in time')
end

--- Source code, of which three characters make about one token.
local function source()
  local parts, n = {}, 0
  for _, path in ipairs(vim.fn.globpath(vim.fs.joinpath(top, 'lua', 'gemma'), '*.lua', false, true)) do
    local file = assert(io.open(path))
    parts[#parts + 1] = file:read('*a')
    file:close()
    n = n + #parts[#parts]
    if n > 3 * length + 1000 then
      break
    end
  end
  return table.concat(parts)
end

local text = source()
local function prompt(i)
  return text:sub(1, 3 * length + i)
end

-- ---- ours ----------------------------------------------------------------------------------

local engine = require('gemma.engine')

---@param i integer characters typed
---@return number ms
---@return gemma.Done
local function ours(i)
  local from, took, done = vim.uv.hrtime(), nil, nil
  assert(engine.generate({
    parts = { { kind = 'text', data = prompt(i) } },
    session = 0,
    priority = 'typing',
    max_tokens = 1,
    ignore_eog = true,
    on_done = function(ev)
      took, done = (vim.uv.hrtime() - from) / 1e6, ev
    end,
    on_error = function(err)
      error(err.text)
    end,
  }))
  wait('our request', function()
    return took ~= nil
  end, 30)
  return took, done
end

-- ---- the peer ------------------------------------------------------------------------------

local server ---@type vim.SystemObj?

local function curl(path, body)
  local command = { 'curl', '-s', '-w', '\n%{time_total}', '--max-time', '1800' }
  if body then
    vim.list_extend(command, { '-H', 'Content-Type: application/json', '--data-binary', '@-' })
  end
  command[#command + 1] = ('http://127.0.0.1:%d%s'):format(port, path)
  local out
  vim.system(command, { stdin = body }, function(r)
    out = r
  end)
  wait('curl', function()
    return out ~= nil
  end, 31)
  local answer, seconds = out.stdout:match('^(.*)\n([%d.]+)$')
  return out.code == 0 and answer or nil, tonumber(seconds)
end

local function start_peer()
  local command = vim.split(env.PEER_RUN or '', ' ', { trimempty = true })
  vim.list_extend(command, {
    env.PEER_SERVER or 'llama-server', '-m', env.PEER_MODEL or model, '-t', tostring(threads),
    '-c', tostring(vim.g.gemma.n_ctx), '-np', '1', '--swa-full', '-fa', 'on', '--no-warmup',
    '--host', '127.0.0.1', '--port', tostring(port),
  }) -- stylua: ignore
  server = vim.system(command, { text = true, stderr = false, stdout = false })
  wait('loading of the peer', function()
    local answer = curl('/health')
    return answer ~= nil and answer:find('"ok"') ~= nil
  end, 10)
end

---@param i integer
---@return number ms
local function peer(i)
  local body = { prompt = prompt(i), n_predict = 1, cache_prompt = true, temperature = 0 }
  local answer, seconds = curl('/completion', vim.json.encode(body))
  assert(answer and answer:find('"content"'), 'the peer: ' .. tostring(answer))
  return seconds * 1e3
end

-- ---- both ----------------------------------------------------------------------------------

local function median(list)
  table.sort(list)
  local n = #list
  return n % 2 == 1 and list[(n + 1) / 2] or (list[n / 2] + list[n / 2 + 1]) / 2
end

local function main()
  local ready, problem
  require('gemma').load(function(err)
    ready, problem = true, err
  end)
  wait('loading', function()
    return ready
  end, 5)
  assert(not problem, problem)
  local with_peer = env.PEER_RUN or env.PEER_MODEL or env.PEER_SERVER
  if with_peer then
    start_peer()
  end
  local first, info = ours(0)
  io.stdout:write(('prompt of %d tokens: ours %.1f s'):format(info.n_prompt, first / 1e3))
  io.stdout:write(with_peer and (', peer %.1f s\n'):format(peer(0) / 1e3) or '\n')
  local mine, theirs = {}, {}
  for i = 1, keys do
    mine[i], info = ours(i)
    theirs[i] = with_peer and peer(i) or nil
    local row = 'key %2d  ours %8.1f ms (%d of %d tokens read)'
    io.stdout:write(row:format(i, mine[i], info.n_prompt - info.n_reused, info.n_prompt))
    io.stdout:write(theirs[i] and ('  peer %8.1f ms\n'):format(theirs[i]) or '\n')
  end
  local a, b = median(mine), with_peer and median(theirs)
  io.stdout:write(('median  ours %.1f ms'):format(a))
  io.stdout:write(b and ('  peer %.1f ms  ratio %.2f\n'):format(b, b / a) or '\n')
end

local ok, err = pcall(main)
if server then
  server:kill('sigterm')
end
if not ok then
  io.stderr:write('keystroke: ' .. tostring(err) .. '\n')
end
os.exit(ok and 0 or 1)
