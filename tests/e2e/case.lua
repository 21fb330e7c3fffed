--- case.lua: end-to-end tests as a list of sentences and functions, and their sum at the end.
---
--- A test file returns case.run { { 'sentence', function() end }, ... }. An error fails the test
--- and shows what was expected; the editors that it started are ended either way.

local M = {}

local screen = require('screen')

dofile(screen.top .. '/tests/lua/apart.lua')

M.build = dofile(screen.top .. '/tests/lua/built.lua') ---@type string

local open = {}

--- Starts an editor that is ended with the test. See screen.start; options are of vim.g.gemma.
--- Without a model it is the nano one; model = false: none of their own.
---@param o { model: string|false|nil, file: string?, options: table?, init: string?, env: table? }
---@return Screen
function M.editor(o)
  local given = {
    model = o.model == nil and screen.top .. '/tests/golden/sets/nano/model-Q8_0.gguf' or o.model or nil,
    lib = M.build .. '/libgemma.so',
    options = o.options,
  }
  o.env = vim.tbl_extend('keep', { GEMMA_E2E = vim.json.encode(given) }, o.env or {})
  local s = screen.start(o)
  open[#open + 1] = s
  return s
end

--- A copy of the sample, to be edited.
---@return string path
function M.sample()
  local dir = vim.fn.tempname()
  vim.fn.mkdir(dir, 'p')
  local path = dir .. '/sample.lua'
  assert(vim.uv.fs_copyfile(screen.top .. '/tests/e2e/sample.lua', path))
  return path
end

--- Opens a third line of the sample (behind one that is no comment, which Neovim would continue) and gets
--- a suggestion there.
---@param s Screen
---@param good? fun(): boolean is this suggestion one that the test can use?
---@return string typed
function M.provoke(s, good)
  s:keys('2Go')
  local starts = { 'local width = ', 'return value', 'local function add(', 'if x then ', 'for i' }
  return s:provoke(starts, 5000, nil, good)
end

---@param got any
---@param want any
---@param what string
function M.equal(got, want, what)
  if not vim.deep_equal(got, want) then
    error(('%s\n  expected %s\n  got      %s'):format(what, vim.inspect(want), vim.inspect(got)), 2)
  end
end

---@param condition any
---@param what string
function M.ok(condition, what)
  if not condition then
    error(what, 2)
  end
end

--- Ends a test that cannot be run here.
---@param reason string
function M.skip(reason)
  error({ skip = reason })
end

---@param tests { [1]: string, [2]: fun() }[]
function M.run(tests)
  if vim.fn.executable('tmux') == 0 then
    io.stdout:write('skip: no tmux\n')
    os.exit(77)
  end
  local passed, failed, skipped = 0, 0, 0
  for _, test in ipairs(tests) do
    local ok, err = xpcall(test[2], function(e)
      return (type(e) == 'string' or e.skip) and e or vim.inspect(e)
    end)
    local skip = type(err) == 'table' and err.skip
    for _, s in ipairs(open) do
      s:stop()
    end
    open = {}
    if ok then
      passed = passed + 1
    elseif skip then
      skipped = skipped + 1
    else
      failed = failed + 1
    end
    if skip then
      io.stdout:write(('skip: %s: %s\n'):format(test[1], skip))
    else
      io.stdout:write(('%s %s\n'):format(ok and 'ok  ' or 'FAIL', test[1]))
    end
    if not ok and not skip then
      io.stdout:write('     ' .. tostring(err):gsub('\n', '\n     ') .. '\n')
    end
    io.stdout:flush()
  end
  io.stdout:write(('%d passed, %d failed, %d skipped\n'):format(passed, failed, skipped))
  io.stdout:flush()
  os.exit(failed > 0 and 1 or 0)
end

return M
