--- What the other tests rely on.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

test('helper: an error in a callback is known when the child has ended', function()
  local c = h.child()
  c:lua("vim.schedule(function() error('mine') end)")
  c:wait("vim.v.errmsg ~= ''")
  local err = c:stop()
  c.errors_ok = true
  h.has(err or '', 'mine')
  h.eq(c:stop(), nil)
end)

test('helper: what is caught or silenced in a child is no error', function()
  local c = h.child()
  c:lua("vim.schedule(function() pcall(error, 'mine') pcall(vim.cmd, 'nosuch') vim.cmd('silent! nosuch') end)")
  c:wait("vim.v.errmsg ~= ''")
  h.eq(c:stop(), nil)
end)

return T
