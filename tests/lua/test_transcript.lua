--- Conversations as data: code blocks, history, Markdown; and the colours of streaming Markdown.

local fence = require('gemma.chat.fence')
local h = require('helper')
local md = require('gemma.chat.markdown')
local transcript = require('gemma.chat.transcript')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function split(s)
  return vim.split(s, '\n', { plain = true })
end

test('code blocks: fences of either kind, nested, indented, open at the end', function()
  for _, row in ipairs({
    { 'a', {} },
    { '```lua\nx\n```', { { 1, 3, 'lua', { 'x' } } } },
    { 'a\n```\nx\ny', { { 2, 4, '', { 'x', 'y' } } } },
    { '````md\n```lua\nx\n```\n````', { { 1, 5, 'md', { '```lua', 'x', '```' } } } },
    { '~~~ c++\n```\n~~~', { { 1, 3, 'c++', { '```' } } } },
    { '  ```sh\n  ls\n  ```', { { 1, 3, 'sh', { '  ls' } } } },
    { '```\na\n```\n```\nb\n```', { { 1, 3, '', { 'a' } }, { 4, 6, '', { 'b' } } } },
    { '```lua\nx\n``` y\n```', { { 1, 4, 'lua', { 'x', '``` y' } } } },
    { 'inline ```code``` is none', {} },
  }) do
    local got = vim.tbl_map(function(b)
      return { b.first, b.last, b.language, b.code }
    end, fence.blocks(split(row[1])))
    h.eq(got, row[2], row[1])
  end
end)

test('the block around a line, else the last complete one', function()
  local l = { 'a', '```', 'one', '```', 'b', '```lua', 'two' }
  h.eq(fence.block_at(l, 3).code, { 'one' })
  h.eq(fence.block_at(l, 7).code, { 'two' })
  h.eq(fence.block_at(l, 1).code, { 'one' })
  h.eq(fence.block_at({ 'x' }, 1), nil)
end)

test('a fence is longer than every fence in what it holds', function()
  h.eq(fence.for_lines({ 'x' }), '```')
  h.eq(fence.for_lines({ '```lua', 'x', '```' }), '````')
  h.eq(fence.for_lines({ '  `````' }), '``````')
end)

test('control characters of either kind never reach a buffer', function()
  h.eq(transcript.printable('a\27[31mb\0c\rd\te\n\194\155m\194\160ü'), 'a[31mbcd\te\nm\194\160ü')
  h.eq(transcript.one_line('a\nb\tc'), 'a b c')
  -- U+202E and U+2066 to U+2069 show text in another order than it has.
  h.eq(transcript.printable('if a\226\128\174 \226\129\166-- b\226\129\169 \226\128\166'), 'if a -- b \226\128\166')
end)

test('the prompt has no thoughts; a question without an answer begins the next one', function()
  local function image(name)
    return { kind = 'image', data = name }
  end
  local turns = {
    { role = 'user', text = 'q1', shown = { 'short' }, parts = { image('1') } },
    { role = 'user', text = 'q2', parts = { image('2') } },
    { role = 'model', text = 'a2', thought = 'hm' },
    { role = 'user', text = 'stopped' },
    { role = 'user', text = 'now' },
  }
  local before = vim.deepcopy(turns)
  local history, question = transcript.prompt(turns)
  h.eq(history, {
    { role = 'user', text = 'q1\n\nq2', parts = { image('1'), image('2') } },
    { role = 'model', text = 'a2', parts = {} },
  })
  h.eq(question, { role = 'user', text = 'stopped\n\nnow', parts = {} })
  h.eq(turns, before, 'the conversation itself')
end)

test('a conversation is saved as Markdown', function()
  h.eq(transcript.markdown('Gemma: lines 3-5', {
    { role = 'user', text = 'long prompt', shown = { 'a.lua:3-5', '', 'why?' } },
    { role = 'model', text = 'Because.\n', thought = 'Let me see.\n' },
    { role = 'user', text = 'sure?' },
    { role = 'model', text = 'Yes.' },
  }), split([[
# Gemma: lines 3-5

## Question

a.lua:3-5

why?

## Thought

Let me see.

## Answer

Because.

## Question

sure?

## Answer

Yes.]]))
end)

test('streaming Markdown: each line has its colours', function()
  local function spans(line, state)
    local out, after = md.spans(line, state or '')
    return vim.tbl_map(function(s)
      return line:sub(s.first + 1, s.last) .. '|' .. s.group
    end, out), after
  end
  for _, row in ipairs({
    { 'plain * text', '', {}, '' },
    { '## Head', '', { '## Head|GemmaHeading' }, '' },
    { '#include', '', {}, '' },
    { '- use `x` and **y**', '', { '-|GemmaBullet', '`x`|GemmaCode', '**y**|GemmaBold' }, '' },
    { ' 2. b', '', { '2.|GemmaBullet' }, '' },
    { '> said', '', { '> said|GemmaQuote' }, '' },
    { '```lua', '', { '```lua|GemmaFence' }, '```' },
    { '# no heading', '```', { '# no heading|GemmaCode' }, '```' },
    { '~~~', '```', { '~~~|GemmaCode' }, '```' },
    { '```', '```', { '```|GemmaFence' }, '' },
    { '```', '````', { '```|GemmaCode' }, '````' },
    { '', '```', { '|GemmaCode' }, '```' },
  }) do
    local got, after = spans(row[1], row[2])
    h.eq({ got, after }, { row[3], row[4] }, row[1])
  end
end)

return T
