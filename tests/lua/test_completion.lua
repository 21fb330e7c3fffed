--- Ghost text from asking to accepting, with an engine that says what the test wants.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

test('completion: an answer is shown at the cursor and accepted as it is', function()
  local c = h.suggesting('local x = |', 'compute(1, 2)')
  c:wait("require('gemma').visible()")
  h.eq(c:ghost(), 'compute(1, 2)')
  h.eq(c:screen(1, 1), { 'local x = compute(1, 2)' })
  h.eq(c:lines(), { 'local x = ' }, 'the buffer is untouched')
  c:feed('<M-l>')
  h.eq(c:lines(), { 'local x = compute(1, 2)' })
  h.eq(c:cursor(), { 1, 23 })
  h.eq(c:lua("return require('gemma').visible()"), false)
end)

return T
