--- The answer window: what callers other than :GemmaExplain may rely on.

local h = require('helper')
local answer = require('gemma.answer')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function kinds(c, n)
  return c:lua('return vim.tbl_map(function(p) return p.kind end, Fake.jobs[...].req.parts)', n)
end

test('a question carries attachments: parts before its text, a line above the answer', function()
  local c = h.child()
  c:lua([[require('gemma.answer').open({ key = 'k', title = 'Gemma: picture', system = 'Be brief.',
    source = 0, prompt = 'What is this?', max_tokens = 64, attachments = {
      { name = 'shot.png', note = '640x480', bytes = 214000, tokens = 266,
        parts = { { kind = 'image', data = '/tmp/shot.png' } } } } })]])
  c:wait('#Fake.jobs == 1')
  h.eq(kinds(c, 1), { 'system', 'text', 'user', 'image', 'text' })
  h.eq(c:lua('return Fake.jobs[1].req.parts[4].data'), '/tmp/shot.png')
  c:lua("Fake.emit('A cat.') Fake.done()")
  c:wait("not require('gemma.answer').current():running()")
  h.eq(c:lua("return vim.api.nvim_buf_get_lines(require('gemma.answer').current().buf, 0, -1, false)"),
    { '[shot.png · 640x480 · 214 kB · 266 tokens]', '', 'A cat.' })
  -- They stay in the conversation, or the next answer would know nothing of the picture.
  c:lua([[local a = require('gemma.answer').current()
    vim.ui.input = function(_, fn) fn('its colour?') end
    a:follow_up()]])
  c:wait('#Fake.jobs == 2')
  h.eq(kinds(c, 2), { 'system', 'text', 'user', 'image', 'text', 'model', 'text', 'user', 'text' })
end)

test('the line of an attachment is one line without control characters', function()
  h.eq(answer.attachment_line({ name = 'a\nb\27[0m.png', parts = {} }), '[a b[0m.png]')
  h.eq(answer.attachment_line({ name = 'x', tokens = 1, parts = {} }), '[x · 1 token]')
end)

return T
