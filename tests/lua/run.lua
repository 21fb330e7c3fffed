--- run.lua: runs tests/lua/test_*.lua.
---
---   nvim -l tests/lua/run.lua [T=name]      only test_name.lua
---
--- A test file returns a list of { 'name as a sentence', function }. An error in a callback of a child
--- fails its test too, unless the test has set errors_ok of that child. The Neovim that children run
--- is the one of GEMMA_TEST_NVIM, or of NVIM. Exit status 1 when something failed.

local here = vim.fs.dirname(vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p'))
local lua = vim.fs.dirname(vim.fs.dirname(here)) .. '/lua'
for _, p in ipairs({ lua .. '/?/init.lua', lua .. '/?.lua', here .. '/?.lua' }) do
  package.path = p .. ';' .. package.path
end

require('apart')
local helper = require('helper')

local only
for _, a in ipairs(_G.arg or {}) do
  only = a:match('^T=(.+)$') or only
end

local files = vim.fn.glob(here .. '/test_*.lua', true, true)
table.sort(files)
local n, failed, skipped = 0, 0, 0
local start = vim.uv.hrtime()
for _, file in ipairs(files) do
  local name = file:match('test_([%w_]+)%.lua$')
  if not only or only == '' or only == name then
    for _, t in ipairs(dofile(file)) do
      n = n + 1
      local t0 = vim.uv.hrtime()
      local ok, err = xpcall(t[2], function(e)
        local as_is = type(e) == 'string' or (type(e) == 'table' and e.skip)
        return as_is and e or debug.traceback(vim.inspect(e))
      end)
      local seen = helper.stop_children()
      if seen and type(err) ~= 'table' then
        ok, err = false, ('%sin a callback: %s'):format(ok and '' or err .. '\n', seen)
      end
      if not ok and type(err) == 'table' then
        skipped = skipped + 1
        io.stdout:write(('skip: %s: %s: %s\n'):format(name, t[1], err.skip))
      elseif not ok then
        failed = failed + 1
        local text = tostring(err):gsub('\n', '\n      ')
        io.stdout:write(('FAIL  %s: %s\n      %s\n'):format(name, t[1], text))
      elseif vim.env.V == '1' then
        local ms = (vim.uv.hrtime() - t0) / 1e6
        io.stdout:write(('ok    %s: %s (%.0f ms)\n'):format(name, t[1], ms))
      end
    end
  end
end
local v = vim.fn.system({ helper.nvim, '--version' }):match('^[^\n]*')
io.stdout:write(('%d passed, %d failed, %d skipped with %s, %.1f s\n'):format(
  n - failed - skipped, failed, skipped, v, (vim.uv.hrtime() - start) / 1e9))
io.stdout:flush()
os.exit((failed > 0 or n == 0) and 1 or 0)
