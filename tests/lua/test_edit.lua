--- :Gemma edit and :Gemma fix: nothing is written before it is accepted, and then in one undo step.

local edit = require('gemma.edit')
local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local CODE = {
  'local M = {}', '', 'function M.add(a, b)', '  local c = a', '  c = c + b', '  return c', 'end', '',
  'return M',
}
local NEW = 'function M.add(x, b)\n  local c = x\n  c = c + b\n  -- sum\n  return c\nend'

--- A child with the code in a lua buffer, in Normal mode on line 4.
local function child(o)
  local c = h.child(o)
  c:lua([[
    vim.api.nvim_buf_set_lines(0, 0, -1, false, ...)
    vim.bo.filetype = 'lua'
    vim.bo.undolevels = vim.bo.undolevels
    vim.bo.modified = false
    vim.api.nvim_win_set_cursor(0, { 4, 2 })
  ]], CODE)
  return c
end

--- ... and an edit of the function, of which the model wrote `text`.
local function edited(text, o)
  local c = child(o)
  c:cmd('3,7Gemma edit call it x')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", text or NEW)
  c:wait("#Fake.jobs[1].req.stops > 0 and require('gemma.engine').state == 'ready'")
  return c
end

local function hunks(c)
  return c:lua([[local p = require('gemma.edit.preview').get(vim.api.nvim_get_current_buf())
    return p and #p.hunks or 0]])
end

--- What the preview draws: groups of old lines by row, and virtual lines.
local function marks(c)
  return c:lua([[
    local ns = vim.api.nvim_get_namespaces()['gemma.edit']
    local out = { del = {}, add = {} }
    for _, m in ipairs(vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })) do
      if m[4].hl_group == 'GemmaDiffDelete' then
        table.insert(out.del, m[2])
      elseif m[4].virt_lines then
        for _, l in ipairs(m[4].virt_lines) do
          local text = table.concat(vim.tbl_map(function(chunk) return chunk[1] end, l))
          table.insert(out.add, { m[2], (text:gsub('%s+$', '')) })
        end
      end
    end
    return out]])
end

local function own_keys(c)
  return c:lua([[return vim.tbl_map(function(m) return m.lhs end, vim.tbl_filter(function(m)
    return (m.desc or ''):find('^Gemma') ~= nil end, vim.api.nvim_buf_get_keymap(0, 'n')))]])
end

local function lines_with(changes)
  local out = vim.deepcopy(CODE)
  for row, text in pairs(changes) do
    out[row] = text
  end
  return out
end

--- A child with `old`, one line above and `below` under it, in which `new` is shown.
local function previewed(old, new, below)
  local c = h.child()
  c:lua([[
    local old, new, below = ...
    local lines = vim.list_extend({ 'above' }, old)
    vim.api.nvim_buf_set_lines(0, 0, -1, false, vim.list_extend(lines, below))
    vim.bo.undolevels = vim.bo.undolevels
    require('gemma.edit').preview({ buf = 1, first = 2, last = 1 + #old, new = new })]],
    old, new, below or { 'below' })
  return c
end

--- Until that many changes are pending; then the lines are these.
local function stands(c, lines, pending, what)
  c:wait(("#require('gemma.edit.preview').get(1).hunks == %d"):format(pending), what)
  h.eq(c:lines(), lines, what)
end

test('the prompt has the lines and the instruction, and the answer begins in a code block', function()
  local c = child()
  c:cmd('3,7Gemma edit call  it x')
  c:wait('#Fake.jobs == 1')
  local req = c:lua([[local r = Fake.jobs[1].req
    return { r.parts, r.stops, r.temperature, r.session, r.max_tokens }]])
  local parts = req[1]
  h.eq(vim.tbl_map(function(p) return p.kind end, parts),
    { 'system', 'text', 'user', 'text', 'model', 'text' })
  h.has(parts[4].data, '<selection>\n' .. table.concat(CODE, '\n', 3, 7) .. '\n</selection>')
  h.has(parts[4].data, 'Rewrite <selection>. call  it x')
  h.eq(parts[6].data, '```lua\n')
  h.eq({ req[2], req[3], req[4], req[5] }, { { '\n```' }, 0, 1, 2048 })
end)

test('an edit beside an open conversation leaves its cache alone and begins with what they share', function()
  local c = child()
  c:cmd('3,7GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('Adds.') Fake.done()")
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 2')
  h.eq(c:lua('return { Fake.jobs[2].req.session, Fake.jobs[2].req.fork_from }'), { 3, 1 })
  local parts = c:lua('return { Fake.jobs[1].req.parts[4].data, Fake.jobs[2].req.parts[4].data }')
  local n = parts[1]:find('Explain the code', 1, true) - 1
  h.eq(parts[2]:sub(1, n), parts[1]:sub(1, n))
end)

test('nothing is written while it is shown; old and new lines stand on the screen', function()
  local c = edited()
  h.eq(c:lines(), CODE)
  h.eq(c:lua('return vim.bo.modified'), false)
  h.eq(hunks(c), 2)
  h.eq(marks(c), {
    del = { 2, 3 },
    add = { { 3, 'function M.add(x, b)' }, { 3, '  local c = x' }, { 4, '  -- sum' } },
  })
  local screen = c:screen(1, 13)
  h.eq(vim.trim(screen[3]), 'function M.add(a, b)  2 changes · <C-y> accept · <C-e> reject')
  screen[3] = nil
  h.eq({ screen[1], screen[2], unpack(screen, 4, 12) }, {
    'local M = {}', '', '  local c = a', 'function M.add(x, b)', '  local c = x', '  c = c + b',
    '  -- sum', '  return c', 'end', '', 'return M' })
end)

test('a change at the bottom of a window is scrolled to where it can be seen', function()
  local c = child()
  c:lua([[
    local lines = vim.api.nvim_buf_get_lines(0, 0, -1, false)
    for i = 1, 40 do table.insert(lines, 1, '-- ' .. i) end
    vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
    vim.api.nvim_win_set_cursor(0, { 43, 0 })]])
  c:feed('zb')
  c:cmd('43,47Gemma edit call it x')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", NEW)
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:shows('local c = x')
  h.eq(c:cursor()[1], 43)
end)

test('<C-y> on a hunk accepts it; elsewhere it accepts the rest; undo takes all back at once', function()
  local c = edited()
  c:feed('3G<C-y>')
  h.eq(c:lines(), lines_with({ [3] = 'function M.add(x, b)', [4] = '  local c = x' }))
  h.eq(hunks(c), 1)
  h.eq(c:cursor()[1], 5, 'the cursor goes to the next one')
  c:feed('gg<C-y>')
  local want = lines_with({ [3] = 'function M.add(x, b)', [4] = '  local c = x' })
  table.insert(want, 6, '  -- sum')
  h.eq(c:lines(), want)
  h.eq(hunks(c), 0)
  h.eq(own_keys(c), {})
  c:feed('u')
  h.eq(c:lines(), CODE)
  h.eq(c:lua('return vim.bo.modified'), false)
  c:feed('<C-r>')
  h.eq(c:lines(), want)
  local last = c:lua('return Seen.events[#Seen.events]')
  h.eq({ last.name, last.data.hunks, last.data.of }, { 'GemmaEditApplied', 2, 2 })
end)

test('undo and redo of a part bring the preview to where it was', function()
  local c = edited()
  c:feed('3G<C-y>')
  h.eq(hunks(c), 1)
  c:feed('u')
  c:wait("#require('gemma.edit.preview').get(1).hunks == 2")
  h.eq({ c:lines(), marks(c).del }, { CODE, { 2, 3 } })
  c:feed('<C-r>')
  c:wait("#require('gemma.edit.preview').get(1).hunks == 1")
  c:feed('ugg<C-y>')
  h.eq(table.concat(vim.list_slice(c:lines(), 3, 8), '\n'), NEW)
  h.eq({ hunks(c), c:messages() }, { 0, {} })
  c:feed('u')
  h.eq(c:lines(), CODE)
end)

test('<C-e> on a hunk rejects it, elsewhere the rest; the buffer is as it was', function()
  local c = edited()
  c:feed('3G<C-e>')
  h.eq(hunks(c), 1)
  c:feed('gg<C-e>')
  h.eq(hunks(c), 0)
  h.eq(c:lines(), CODE)
  h.eq(c:lua('return vim.bo.modified'), false)
  h.eq(marks(c), { del = {}, add = {} })
  h.eq(c:lua('return Seen.events[#Seen.events].name'), 'GemmaEditRejected')
end)

test('what was rejected stays rejected where undo and redo go', function()
  -- It was pending again, and g<C-y> wrote it.
  local c = previewed({ 'a', '1', 'b', '2', 'c' }, { 'A', '1', 'B', '2', 'C' })
  c:feed('2G<C-e>')
  c:feed('4G<C-y>')
  stands(c, { 'above', 'a', '1', 'B', '2', 'c', 'below' }, 1)
  c:feed('u')
  stands(c, { 'above', 'a', '1', 'b', '2', 'c', 'below' }, 2)
  h.eq(marks(c).del, { 3, 5 })
  -- Also what is rejected after an undo; then nothing is left to decide where redo goes.
  c:feed('6G<C-e>')
  h.eq(hunks(c), 1)
  c:feed('<C-r>')
  c:wait("require('gemma.edit.preview').get(1) == nil")
  h.eq({ c:lines(), own_keys(c), c:messages() }, { { 'above', 'a', '1', 'B', '2', 'c', 'below' }, {}, {} })
  h.eq(marks(c), { del = {}, add = {} })
  local last = c:lua('return Seen.events[#Seen.events]')
  h.eq({ last.name, last.data.hunks, last.data.of }, { 'GemmaEditApplied', 1, 3 })
end)

test('g<C-y> accepts all and g<C-e> rejects all, wherever the cursor is', function()
  local c = edited()
  c:feed('3Gg<C-y>')
  h.eq(table.concat(vim.list_slice(c:lines(), 3, 8), '\n'), NEW)
  c = edited()
  c:feed('3Gg<C-e>')
  h.eq({ hunks(c), c:lines() }, { 0, CODE })
end)

test(']c and [c go from hunk to hunk', function()
  local c = edited()
  c:feed('gg]c')
  h.eq(c:cursor()[1], 3)
  c:feed(']c')
  h.eq(c:cursor()[1], 5)
  c:feed(']c')
  h.eq(c:cursor()[1], 5)
  c:feed('[c')
  h.eq(c:cursor()[1], 3)
end)

test('a key that is lent twice is given back in either order', function()
  -- An edit in a commit message that was being written brought back the key that stops the message.
  for _, order in ipairs({ { 'one', 'two' }, { 'two', 'one' } }) do
    for _, mine in ipairs({ true, false }) do
      local c = h.child()
      c:lua([[local mine = ...
        local function lend(desc)
          return require('gemma.edit.keys').lend(1, { { lhs = '<C-e>', desc = desc, fn = function() end } })
        end
        if mine then
          vim.keymap.set('n', '<C-e>', 'j', { buffer = 1, desc = 'mine' })
        end
        _G.Loans = { one = lend('one'), two = lend('two') }]], mine)
      local function desc()
        return c:lua("return vim.fn.maparg('<C-e>', 'n', false, true).desc or 'none'")
      end
      c:lua('Loans[...].give_back()', order[1])
      h.eq(desc(), 'Gemma: ' .. order[2])
      c:lua('Loans[...].give_back()', order[2])
      h.eq(desc(), mine and 'mine' or 'none')
    end
  end
end)

test('keys of the buffer are lent and given back as they were', function()
  local c = child()
  c:lua([[vim.keymap.set('n', ']c', ':let g:mine = 1<CR>', { buffer = 0, silent = true, desc = 'mine' })]])
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 1')
  h.eq(own_keys(c), { '<C-E>' })
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", NEW)
  c:wait("#Seen.events > 0 and Seen.events[#Seen.events].name == 'GemmaEditPreview'")
  h.eq(#own_keys(c), 6)
  c:feed('gg<C-e>')
  h.eq(own_keys(c), {})
  h.eq(c:lua([[local m = vim.fn.maparg(']c', 'n', false, true) return { m.desc, m.silent, m.buffer }]]),
    { 'mine', 1, 1 })
  c:feed(']c')
  h.eq(c:lua('return vim.g.mine'), 1)
end)

test('changes elsewhere move the preview along; undo of them does too', function()
  local c = edited()
  c:feed('ggOabove<Esc>Gobelow<Esc>')
  h.eq(hunks(c), 2)
  h.eq(marks(c).del, { 3, 4 })
  c:feed('gg<C-y>')
  h.eq(table.concat(vim.list_slice(c:lines(), 4, 9), '\n'), NEW)
  c:feed('u')
  h.eq(table.concat(vim.list_slice(c:lines(), 4, 8), '\n'), table.concat(CODE, '\n', 3, 7))
  h.eq(c:lines()[1], 'above', 'the change elsewhere was a step of its own')
end)

test('a change of its lines withdraws it with a message', function()
  for _, keys in ipairs({ '5GA -- x<Esc>', '4Gdd', '3GOnew<Esc>x', 'ggdG', '5Goin<Esc>' }) do
    local c = edited()
    c:feed(keys)
    if keys == '3GOnew<Esc>x' then
      -- A line just above is not one of them.
      h.eq(hunks(c), 2, keys)
    else
      c:wait('#Seen.messages == 1')
      h.has(c:messages()[1], 'the lines changed; the edit is gone.')
      h.eq({ hunks(c), own_keys(c) }, { 0, {} }, keys)
      h.eq(marks(c), { del = {}, add = {} })
    end
  end
end)

test('typing in an accepted hunk at the end of the lines is no undo', function()
  -- The lines before the hunk are those from before it was accepted. It was pending again, and g<C-y>
  -- made its line twice.
  for _, keys in ipairs({ '4GAedited<Esc>', '4Gccelse<Esc>', '4Gdd' }) do
    local c = previewed({ 'a', 'b' }, { 'A', 'b', 'x' })
    c:feed('3G<C-y>')
    stands(c, { 'above', 'a', 'b', 'x', 'below' }, 1)
    c:feed(keys)
    c:wait('#Seen.messages == 1', keys)
    h.has(c:messages()[1], 'the lines changed; the edit is gone.')
    h.eq({ hunks(c), own_keys(c) }, { 0, {} }, keys)
  end
  -- Taken back before anybody looked, it is as good as not typed.
  local c = previewed({ 'a', 'b' }, { 'A', 'b', 'x' })
  c:feed('3G<C-y>')
  c:lua([[vim.cmd('normal! 4GAedited') vim.cmd('undo')]])
  h.eq({ hunks(c), c:messages() }, { 1, {} })
  c:feed('g<C-y>')
  h.eq(c:lines(), { 'above', 'A', 'b', 'x', 'below' })
end)

test('undo and redo of a hunk at an end of the lines are seen, whatever stands beside it', function()
  for _, case in ipairs({
    { { 'a', 'b' }, { 'A', 'b', 'x' }, at = '3G' },
    { { 'a', 'b' }, { 'A', 'b', 'x' }, at = '3G', below = { 'x', 'x' } },
    { { 'a', 'b', 'c' }, { 'A', 'b' }, at = '4G' },
    { { 'c', 'a', 'b' }, { 'a', 'B' }, at = '2G' },
    { { 'a', 'b' }, { 'above', 'a', 'B' }, at = '1G' },
  }) do
    local old, new, what = case[1], case[2], table.concat(case[2], ' ')
    local c = previewed(old, new, case.below)
    local before = c:lines()
    c:feed(case.at .. '<C-y>')
    local after = c:lines()
    h.eq(hunks(c), 1, what)
    for _ = 1, 2 do
      c:feed('u')
      stands(c, before, 2, what .. ', undo')
      c:feed('<C-r>')
      stands(c, after, 1, what .. ', redo')
    end
    c:feed('g<C-y>')
    local want = vim.list_extend({ 'above' }, new)
    h.eq(c:lines(), vim.list_extend(want, case.below or { 'below' }), what)
    h.eq(c:messages(), {}, what)
  end
end)

test('the preview follows to any place in the undo tree', function()
  local c = previewed({ 'a', 'b' }, { 'A', 'b', 'x' })
  c:feed('ggOone<Esc>')
  c:feed('4G<C-y>')
  c:feed('Gotwo<Esc>Gothree<Esc>') -- at once, so that nobody looks at the place between them
  stands(c, { 'one', 'above', 'a', 'b', 'x', 'below', 'two', 'three' }, 1)
  c:feed(':earlier 4<CR>')
  stands(c, { 'above', 'a', 'b', 'below' }, 2)
  c:feed(':later 3<CR>')
  stands(c, { 'one', 'above', 'a', 'b', 'x', 'below', 'two' }, 1)
  c:feed('uu')
  stands(c, { 'one', 'above', 'a', 'b', 'below' }, 2)
  -- Another branch, in which nothing was accepted; g- goes back to the one in which it was.
  c:feed('Gofour<Esc>')
  h.eq(hunks(c), 2)
  c:feed('g-')
  stands(c, { 'one', 'above', 'a', 'b', 'x', 'below', 'two', 'three' }, 1)
  c:feed('g+')
  stands(c, { 'one', 'above', 'a', 'b', 'below', 'four' }, 2)
  c:feed('g<C-y>')
  h.eq(c:lines(), { 'one', 'above', 'A', 'b', 'x', 'below', 'four' })
  h.eq(c:messages(), {})
end)

test('random walks in the undo tree: what is not done is pending, but for what was rejected', function()
  local walk = [[
    local levels = ...
    math.randomseed(7)
    vim.bo.undolevels = levels
    local api, preview, hunks = vim.api, require('gemma.edit.preview'), require('gemma.edit.hunks')
    local alphabet = { 'a', 'b', 'c' } -- few, so that lines are like their neighbours
    local function some(n)
      local out = {}
      for i = 1, n do out[i] = alphabet[math.random(3)] end
      return out
    end
    -- Some of all hunks made the text, of the others all are pending that were not rejected.
    local function explains(old, all, rejected, text, pending)
      for some = 0, 2 ^ #all - 1 do
        local done, open, rest = {}, {}, some
        for _, hunk in ipairs(all) do
          if rest % 2 == 1 then
            done[#done + 1] = hunk
          elseif not rejected[hunk.new] then
            open[#open + 1] = hunk.new
          end
          rest = math.floor(rest / 2)
        end
        if vim.deep_equal(hunks.all(old, done), text) and vim.deep_equal(open, pending) then
          return true
        end
      end
      return false
    end
    local looked, settled = 0, 0
    for round = 1, 60 do
      local old, new = some(math.random(2, 5)), some(math.random(2, 5))
      local lines = vim.list_extend({ '(' }, old)
      api.nvim_buf_set_lines(0, 0, -1, false, vim.list_extend(lines, { ')' }))
      vim.bo.undolevels = vim.bo.undolevels
      local from = vim.fn.undotree().seq_cur
      if require('gemma.edit').preview({ buf = 1, first = 2, last = 1 + #old, new = new }) then
        local p = preview.get(1)
        local all_hunks, rejected = vim.list_slice(p.hunks), {}
        for step = 1, 12 do
          local what = math.random(7)
          if what == 1 and #p.hunks > 1 then
            api.nvim_win_set_cursor(0, { p:place(math.random(#p.hunks)) + 1, 0 })
            if p:here() then p:accept() end
          elseif what == 7 and #p.hunks > 1 then
            api.nvim_win_set_cursor(0, { p:place(math.random(#p.hunks)) + 1, 0 })
            local n = p:here()
            if n then
              rejected[p.hunks[n].new] = true
              p:reject()
            end
          elseif what == 2 then
            local row = math.random(2) == 1 and 0 or -1
            api.nvim_buf_set_lines(0, row, row, false, { '-' })
          elseif what == 3 then
            vim.cmd('silent! undo ' .. math.random(from, vim.fn.undotree().seq_last))
          elseif vim.fn.undotree().seq_cur > from then
            vim.cmd(what == 4 and 'silent! redo' or 'silent! undo')
          end
          vim.bo.undolevels = vim.bo.undolevels -- as a typed key does
          if math.random(2) == 1 then
            vim.wait(0)
          end
          p:sync()
          if p.over and #p.hunks == 0 then
            settled = settled + 1
            break
          elseif p.over and levels < 10 then
            break -- undo has forgotten too much to tell
          elseif p.over then
            return ('withdrawn: round %d, step %d'):format(round, step)
          end
          local all = api.nvim_buf_get_lines(0, 0, -1, false)
          local row = p.region:row()
          local text = vim.list_slice(all, row + 1, row + #p.region.lines)
          local above, below = all[row], all[row + #text + 1]
          local pending = vim.tbl_map(function(hunk) return hunk.new end, p.hunks)
          if above ~= '(' or below ~= ')' or not explains(old, all_hunks, rejected, text, pending) then
            return ('wrong: round %d, step %d'):format(round, step)
          end
          looked = looked + 1
        end
        p:finish()
      end
    end
    return { looked, settled }]]
  for _, levels in ipairs({ 1000, 1 }) do
    local walked = h.child():lua(walk, levels)
    local looked = type(walked) == 'table' and walked[1] > 400 and (walked[2] > 0 or levels == 1)
    h.ok(looked, ("'undolevels' %d: %s"):format(levels, vim.inspect(walked)))
  end
end)

test('a change of its lines while the model writes stops it', function()
  local c = child()
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 1')
  c:feed('5GA -- x<Esc>')
  c:wait('#Fake.cancelled == 1')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'the lines changed while the model wrote')
  h.eq(own_keys(c), {})
end)

test('<C-e> stops it while it runs; the first line says how far it is', function()
  local c = child()
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 1')
  c:lua('Fake.read(50, 100)')
  c:wait("table.concat(vim.tbl_map(function(m) return m[4].virt_text and m[4].virt_text[1][1] or '' end,"
    .. " vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['gemma.edit.busy'], 0, -1,"
    .. " { details = true }))):find('reading 50 %%') ~= nil")
  c:lua("Fake.emit('a\\nb\\nc')")
  c:wait("vim.inspect(vim.api.nvim_buf_get_extmarks(0, vim.api.nvim_get_namespaces()['gemma.edit.busy'],"
    .. " 0, -1, { details = true })):find('writing line 3', 1, true) ~= nil")
  c:feed('<C-e>')
  c:wait('#Fake.cancelled == 1')
  h.eq({ hunks(c), own_keys(c), c:lines() }, { 0, {}, CODE })
  h.eq(c:messages(), {})
end)

test('another instruction goes on from what is shown', function()
  local c = edited()
  c:cmd('Gemma edit and no comment')
  c:wait('#Fake.jobs == 2')
  local parts = c:lua('return Fake.jobs[2].req.parts')
  h.eq(vim.tbl_map(function(p) return p.kind end, parts),
    { 'system', 'text', 'user', 'text', 'model', 'text', 'user', 'text', 'model', 'text' })
  h.eq(parts[6].data, '```lua\n' .. NEW .. '\n```')
  h.has(parts[8].data, 'and no comment')
  h.eq(hunks(c), 0, 'the old one is gone while it runs')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", (NEW:gsub('  %-%- sum\n', '')))
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  h.eq(hunks(c), 1)
  c:feed('gg<C-y>')
  h.eq(c:lines(), lines_with({ [3] = 'function M.add(x, b)', [4] = '  local c = x' }))
end)

test('what was shown comes back when nothing comes of asking again', function()
  local c = edited()
  local before = marks(c)
  for job, nothing in ipairs({
    "Fake.fail(-8, 'too long')",
    "Fake.emit('function') Fake.done(nil, 'length')",
    "Fake.emit([[" .. table.concat(CODE, '\n', 3, 7) .. "]]) Fake.done(nil, 'string')",
    "vim.api.nvim_feedkeys(vim.keycode('<C-e>'), 'x', false)",
  }) do
    c:cmd('Gemma edit and no comment')
    c:wait(('#Fake.jobs == %d'):format(job + 1))
    h.eq(hunks(c), 0)
    c:lua(nothing)
    c:wait("require('gemma.edit.preview').get(1) ~= nil")
    h.eq(marks(c), before, nothing)
  end
  -- It goes on from there as if nothing had been asked in between.
  c:cmd('Gemma edit shorter')
  c:wait('#Fake.jobs == 6')
  local parts = c:lua('return Fake.jobs[6].req.parts')
  h.eq({ #parts, parts[6].data }, { 10, '```lua\n' .. NEW .. '\n```' })
end)

test('an edit elsewhere is about the lines there; what is shown stays until there is something else', function()
  local c = edited()
  c:lua([[
    local more = {}
    for i = 1, 60 do more[i] = '-- ' .. i end
    vim.list_extend(more, { 'local function f()', '  return 1', 'end' })
    vim.api.nvim_buf_set_lines(0, -1, -1, false, more)]])
  c:feed('Gk')
  c:cmd('Gemma edit return two')
  c:wait('#Fake.jobs == 2')
  h.has(c:lua('return Fake.jobs[2].req.parts[4].data'), '<selection>\nlocal function f()\n  return 1\nend\n')
  h.eq(hunks(c), 2)
  c:lua("Fake.fail(-8, 'too long')")
  c:wait('#Seen.messages == 1')
  h.eq(hunks(c), 2)
  c:cmd('Gemma edit return two')
  c:wait('#Fake.jobs == 3')
  c:lua("Fake.emit('local function f()\\n  return 2\\nend') Fake.done(nil, 'string')")
  c:wait("#require('gemma.edit.preview').get(1).hunks == 1")
  c:feed('g<C-y>')
  local lines = c:lines()
  h.eq({ lines[3], lines[#lines - 1] }, { CODE[3], '  return 2' })
end)

test('<C-y> and <C-e> scroll where no change is to be seen, also while the model writes', function()
  local c = child({ lines = 12 })
  c:lua("local more = {} for i = 1, 90 do more[i] = '-- ' .. i end vim.api.nvim_buf_set_lines(0, -1, -1, false, more)")
  local text = c:lines()
  local function scrolled(keys)
    c:feed('gg60Gzt' .. keys)
    return c:lua("return vim.fn.line('w0')")
  end
  c:cmd('3,7Gemma edit call it x')
  c:wait('#Fake.jobs == 1')
  h.eq({ scrolled('<C-e>'), scrolled('3<C-e>') }, { 61, 63 })
  h.eq(c:lua('return #Fake.cancelled'), 0)
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", NEW)
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  h.eq({ scrolled('<C-y>'), scrolled('4<C-y>'), scrolled('<C-e>') }, { 59, 56, 61 })
  h.eq({ hunks(c), c:lines() }, { 2, text })
  c:feed('gg<C-y>')
  h.eq({ hunks(c), c:lines()[6] }, { 0, '  -- sum' })
end)

test('a new line that is longer than the window is shown to its end', function()
  local c = h.child({ cols = 40, lines = 12 })
  local old = ('old words '):rep(9)
  local new = ('new 世界 '):rep(12) .. 'the end'
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'above', ... })", old)
  c:lua("require('gemma.edit').preview({ buf = 1, first = 2, last = 2, new = { ... } })", new)
  c:shows('the end')
  for _, line in ipairs(marks(c).add) do
    h.ok(vim.fn.strdisplaywidth(line[2]) <= 40, line[2])
  end
  h.eq((table.concat(vim.tbl_map(function(line) return line[2] end, marks(c).add)):gsub(' ', '')), (new:gsub(' ', '')))
end)

test('without an instruction it is asked again for another text', function()
  local c = edited()
  c:cmd('Gemma edit')
  c:wait('#Fake.jobs == 2')
  local two = c:lua([[local a, b = Fake.jobs[1].req, Fake.jobs[2].req
    return { vim.deep_equal(a.parts, b.parts), b.model_sampling, b.seed }]])
  h.eq(two, { true, true, 1 })
end)

test('without a range it is the function; without an instruction one is asked for', function()
  local c = child()
  c:lua("vim.ui.input = function(_, fn) fn('shorter') end")
  c:cmd('Gemma edit')
  c:wait('#Fake.jobs == 1')
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'),
    '<selection>\n' .. table.concat(CODE, '\n', 3, 7) .. '\n</selection>')
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'), 'shorter')
end)

test('what is typed in a window of its own is about the place where it was asked', function()
  -- As plugins do that replace vim.ui.input: their window is still there when the answer comes.
  local c = child()
  c:lua([[vim.ui.input = function(_, fn)
    vim.cmd('new')
    fn('shorter')
  end]])
  c:cmd('Gemma edit')
  c:wait('#Fake.jobs == 1')
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'), table.concat(CODE, '\n', 3, 7) .. '\n</selection>')
  c:cmd('only! | buffer 1')
  c:cmd('Gemma ask')
  c:wait('#Fake.jobs == 2')
  h.has(c:lua('return Fake.jobs[2].req.parts[4].data'), table.concat(CODE, '\n') .. '\n</selection>')
end)

test('lines that move while words are asked for are followed', function()
  local c = child()
  -- A formatter adds two lines above and removes the last one meanwhile.
  c:lua([[vim.ui.input = function(_, fn)
    vim.api.nvim_buf_set_lines(1, 0, 0, false, { '-- one', '-- two' })
    vim.api.nvim_buf_set_lines(1, -2, -1, false, {})
    fn('shorter')
  end]])
  c:cmd('3,7Gemma ask')
  c:wait('#Fake.jobs == 1')
  local selection = '<selection>\n' .. table.concat(CODE, '\n', 3, 7) .. '\n</selection>'
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'), selection)
  c:cmd('only! | buffer 1')
  c:cmd('5,9Gemma edit')
  c:wait('#Fake.jobs == 2')
  h.has(c:lua('return Fake.jobs[2].req.parts[4].data'), selection)
  -- All of it goes: what is left is asked about.
  c:lua('vim.ui.input = function(_, fn) vim.api.nvim_buf_set_lines(1, 0, -1, false, { "x" }) fn("why") end')
  c:cmd('buffer 1')
  c:cmd('7,9Gemma ask')
  c:wait('#Fake.jobs == 3')
  h.has(c:lua('return Fake.jobs[3].req.parts[4].data'), '<selection>\nx\n</selection>')
  local held = "vim.api.nvim_buf_get_extmarks(1, vim.api.nvim_get_namespaces()['gemma.subject'], 0, -1, {})"
  h.eq(c:lua('return #' .. held), 0)
end)

test('a text that was cut, or is the same, or failed, changes nothing and says so', function()
  local c = child()
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('function') Fake.done(nil, 'length')")
  c:wait('#Seen.messages == 1')
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", table.concat(CODE, '\n', 3, 7))
  c:wait('#Seen.messages == 2')
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 3')
  c:lua("Fake.fail(-8, 'the prompt is too long')")
  c:wait('#Seen.messages == 3')
  h.eq(c:messages(), {
    'gemma: the new text does not fit (edit.max_tokens). Select less or raise it.',
    'gemma: the model changed nothing.',
    'gemma: the edit failed: the prompt is too long',
  })
  h.eq({ c:lines(), own_keys(c) }, { CODE, {} })
end)

test('an edit that is not even taken is told, and leaves neither a mark nor a key', function()
  local c = child()
  c:lua("Fake.refuse = 'busy'")
  c:cmd('3,7Gemma edit x')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: the edit failed: busy' })
  h.eq({ c:lines(), own_keys(c) }, { CODE, {} })
  h.eq(c:lua([[local ns = vim.api.nvim_get_namespaces()['gemma.edit.busy']
    local engine = require('gemma.engine')
    return { #vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, {}), engine.state, engine.busy() }]]),
    { 0, 'ready', false })
  c:lua('Fake.refuse = nil')
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 1')
end)

test('lines that are too many to be written anew are told before anything is read', function()
  local c = h.child()
  c:lua([[local l = {} for i = 1, 400 do l[i] = 'local value_' .. i .. ' = 1' end
    vim.api.nvim_buf_set_lines(0, 0, -1, false, l)]])
  c:cmd('%Gemma edit x')
  c:wait('#Seen.messages == 1')
  h.eq({ c:messages()[1], c:lua('return #Fake.jobs') },
    { 'gemma: too long for edit.max_tokens (2048): 400 lines. Select less.', 0 })
end)

test("tabs of new lines are drawn by the buffer's 'vartabstop', wherever the cursor is", function()
  -- They were drawn by 'tabstop', which 'vartabstop' overrides.
  local c = child()
  c:lua([[vim.bo.vartabstop, vim.bo.tabstop, vim.bo.expandtab = '2,6', 8, false
    vim.cmd('new')
    require('gemma.edit').preview({ buf = 1, first = 3, last = 3, new = { '\ta\tb', 'c\td' } })
    vim.cmd('wincmd p')]])
  h.eq(marks(c).add, { { 2, '  a     b' }, { 2, 'c d' } })
  c:lua([[vim.g.gemma = { edit = { diff = 'split' } }
    require('gemma.config').reload()
    require('gemma.edit').preview({ buf = 1, first = 3, last = 3, new = { '\ta\tb' } })]])
  h.eq(c:lua("return vim.bo[require('gemma.edit.preview').get(1).side.buf].vartabstop"), '2,6')
end)

test("with edit.diff = 'split' the new text stands beside the old, both in diff mode", function()
  local config = "vim.g.gemma = { edit = { diff = 'split' } }"
  local c = edited(nil, { config = config })
  local function side()
    return c:lua([[local p = require('gemma.edit.preview').get(1)
      return p and p.side and { vim.api.nvim_buf_get_lines(p.side.buf, 0, -1, false),
        vim.wo[p.side.win].diff, vim.wo[p.side.source].diff } or 'none']])
  end
  local want = vim.list_extend(vim.list_slice(CODE, 1, 2), vim.split(NEW, '\n'))
  vim.list_extend(want, CODE, 8, 9)
  h.eq(side(), { want, true, true })
  h.eq(marks(c), { del = {}, add = {} })
  c:feed('ggOabove<Esc>')
  c:wait("#vim.api.nvim_buf_get_lines(require('gemma.edit.preview').get(1).side.buf, 0, -1, false) == 11")
  table.insert(want, 1, 'above')
  h.eq(side()[1], want)
  c:feed('4G<C-e>')
  want[4], want[5] = CODE[3], CODE[4]
  h.eq(side()[1], want, 'a rejected change goes from the other side')
  c:feed('gg<C-y>')
  h.eq(c:lines(), want)
  h.eq(c:lua('return { vim.wo.diff, #vim.api.nvim_list_wins() }'), { false, 1 })
  -- Closed by hand: it is shown in the text instead.
  c = edited(nil, { config = config })
  c:lua("vim.api.nvim_win_close(require('gemma.edit.preview').get(1).side.win, true)")
  c:wait("require('gemma.edit.preview').get(1).side == nil")
  h.eq(marks(c).del, { 2, 3 })
  h.eq(c:lua('return vim.wo.diff'), false)
end)

test('a window that stood beside the buffer leaves no autocmd behind', function()
  -- The one for the window of the buffer stayed after each preview.
  local c = child({ config = "vim.g.gemma = { edit = { diff = 'split' } }" })
  local count = "return #vim.api.nvim_get_autocmds({ event = { 'WinClosed', 'BufWinLeave' } })"
  local before = c:lua(count)
  for n = 1, 3 do
    c:lua([[local new = vim.split(..., '\n')
      require('gemma.edit').preview({ buf = 1, first = 3, last = 7, new = new })]], NEW)
    h.eq(c:lua(count), before + 3)
    if n < 3 then
      c:feed('gg<C-e>')
    else
      c:lua("vim.api.nvim_win_close(require('gemma.edit.preview').get(1).side.win, true)")
      c:wait("require('gemma.edit.preview').get(1).side == nil")
    end
    h.eq(c:lua(count), before)
  end
end)

test('a formatter that writes the whole text anew takes nothing down that it did not change', function()
  -- Its marks went with the old text, though the lines were the same and at the same place.
  local c = edited()
  local before = marks(c)
  local text = lines_with({ [9] = 'return  M' })
  c:lua('vim.api.nvim_buf_set_lines(0, 0, -1, false, ...)', text)
  c:feed('gg')
  h.eq({ c:messages(), marks(c) }, { {}, before })
  c:feed('g<C-y>')
  local want = vim.list_extend(vim.list_slice(text, 1, 2), vim.split(NEW, '\n'))
  h.eq(c:lines(), vim.list_extend(want, text, 8, 9))
end)

test('a file opened in the window beside it stays there; the change is shown in the text', function()
  -- What was accepted could not be seen any more, and accepting closed the file without saving it.
  local c = edited(nil, { config = "vim.o.hidden = true vim.g.gemma = { edit = { diff = 'split' } }" })
  c:cmd('wincmd l')
  c:cmd('edit mine.txt')
  c:feed('imine<Esc>')
  c:cmd('wincmd h')
  c:wait("require('gemma.edit.preview').get(1).side == nil")
  h.eq(marks(c).del, { 2, 3 })
  c:feed('g<C-y>')
  h.eq(table.concat(vim.list_slice(c:lines(), 3, 8), '\n'), NEW)
  c:cmd('wincmd l')
  h.eq({ c:lines(), c:lua('return { vim.wo.diff, #vim.api.nvim_list_wins() }') }, { { 'mine' }, { false, 2 } })
end)

test('where no window can be beside it, the change is shown in the text', function()
  -- The error once left a change that nobody saw, and <C-y> would have written it.
  for _, case in ipairs({
    { 'the buffer is in a float', [[
      local buf = vim.api.nvim_get_current_buf()
      vim.cmd('enew')
      local o = { relative = 'editor', row = 1, col = 1, width = 40, height = 10 }
      vim.api.nvim_open_win(buf, true, o)]] },
    { 'a float is above its window', [[
      local o = { relative = 'editor', row = 1, col = 1, width = 40, height = 10 }
      vim.api.nvim_open_win(0, true, o)]] },
    { 'there is no room', "vim.cmd('set winwidth=60 winminwidth=60')" },
    { 'eight buffers are in diff mode', [[
      vim.o.lines = 40
      local win = vim.api.nvim_get_current_win()
      for _ = 1, 8 do vim.cmd('new | diffthis') end
      vim.api.nvim_set_current_win(win)]] },
  }) do
    local what, before = case[1], case[2]
    local c = child({ config = "vim.g.gemma = { edit = { diff = 'split' } }" })
    c:lua(before)
    local left = 'return { #vim.api.nvim_list_wins(), #vim.api.nvim_list_bufs() }'
    local there = c:lua(left)
    c:cmd('3,7Gemma edit call it x')
    c:wait('#Fake.jobs == 1')
    c:lua("Fake.emit(...) Fake.done(nil, 'string')", NEW)
    c:wait("#Seen.events > 0 and Seen.events[#Seen.events].name == 'GemmaEditPreview'", what)
    h.eq(marks(c).del, { 2, 3 }, what)
    h.eq({ c:lua(left), c:lua('return vim.wo.diff') }, { there, false }, what)
    c:feed('gg<C-y>')
    h.eq(table.concat(vim.list_slice(c:lines(), 3, 8), '\n'), NEW, what)
    h.eq({ own_keys(c), c:messages() }, { {}, {} }, what)
  end
end)

test('a change in a closed fold opens it', function()
  local c = child()
  c:cmd('set foldmethod=manual | 1,9fold')
  h.eq(c:lua('return vim.fn.foldclosed(4)'), 1)
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", NEW)
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  h.eq(c:lua('return vim.fn.foldclosed(4)'), -1)
end)

test('excluded files and buffers that cannot be changed are left alone', function()
  local c = child()
  c:cmd('file .env')
  c:cmd('3,7Gemma edit x')
  c:wait('#Seen.messages == 1')
  c:cmd('file a.lua')
  c:cmd('setlocal nomodifiable')
  c:cmd('3,7Gemma edit x')
  c:wait('#Seen.messages == 2')
  h.eq(c:messages(), { 'gemma: .env is excluded (exclude list).',
    "gemma: this buffer cannot be changed ('modifiable' is off)." })
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('lines that come above the first line of a buffer can be seen', function()
  local c = h.child({ cols = 40, lines = 8 })
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'b', 'c' })")
  c:cmd('%Gemma edit x')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('a\\nb\\nc') Fake.done(nil, 'string')")
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  local screen = c:screen(1, 3)
  h.eq({ screen[1], screen[2]:sub(1, 2), screen[3] }, { 'a', 'b ', 'c' })
  c:feed('<C-e>')
  h.eq(c:screen(1, 2), { 'b', 'c' }, 'and the window is as it was')
  c:cmd('%Gemma edit x')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('a\\nb\\nc') Fake.done(nil, 'string')")
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:feed('<C-y>')
  h.eq(c:lines(), { 'a', 'b', 'c' })
  h.eq(c:screen(1, 3), { 'a', 'b', 'c' })
end)

-- The line that stayed was below what came, and what came was above the first line: when it was rejected, the
-- window went on to show a filler line there.
test('an empty buffer has no blank line that would stay', function()
  local c = h.child()
  c:cmd('Gemma edit x')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit('a') Fake.done(nil, 'string')")
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:feed('<C-e>')
  h.eq(c:screen(1, 2), { '', '~' })
  c:cmd('Gemma edit x')
  c:wait('#Fake.jobs == 2')
  c:lua("Fake.emit('a\\nb') Fake.done(nil, 'string')")
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:feed('<C-y>')
  h.eq(c:lines(), { 'a', 'b' })
end)

test('what the model wrote: its lines, without its fence and without control characters', function()
  for _, row in ipairs({
    { 'a\nb', { 'a', 'b' } },
    { 'a\r\nb\n\n', { 'a', 'b' } },
    { '```', {} },
    { 'a\n```\n', { 'a' } },
    { '\ta\27[0m', { '\ta[0m' } },
  }) do
    h.eq(edit.lines(row[1], '```'), row[2], row[1])
  end
end)

test('a selection with fences gets a longer one', function()
  local c = h.child()
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'x', '```lua', 'y', '```' })")
  c:cmd('%Gemma edit x')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { Fake.jobs[1].req.stops[1], Fake.jobs[1].req.parts[6].data }'),
    { '\n````', '````\n' })
end)

test('in Markdown the new text may have a block of code', function()
  -- It was cut at the first fence, without a word.
  local c = h.child()
  c:lua([[vim.api.nvim_buf_set_lines(0, 0, -1, false, { '# Title', '', 'Call it.' })
    vim.bo.filetype = 'markdown']])
  c:cmd('3Gemma edit add an example')
  c:wait('#Fake.jobs == 1')
  h.eq(c:lua('return { Fake.jobs[1].req.stops[1], Fake.jobs[1].req.parts[6].data }'),
    { '\n````', '````markdown\n' })
  c:lua("Fake.emit('Call it:\\n\\n```lua\\ncall()\\n```') Fake.done(nil, 'string')")
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:feed('g<C-y>')
  h.eq(c:lines(), { '# Title', '', 'Call it:', '', '```lua', 'call()', '```' })
end)

test('lines that were only copied keep their control characters', function()
  -- Nobody writes those but the file: each such line was a change, and accepting took them away.
  local odd = { 'int a;', '\12', '  int b;', '  puts("\27[0m");', '  x();\r', '  x();', '\12' }
  local c = h.child()
  c:lua('vim.api.nvim_buf_set_lines(0, 0, -1, false, ...)', odd)
  c:cmd('1,7Gemma edit call it z')
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", (table.concat(odd, '\n'):gsub('a;', 'z;')))
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  h.eq(hunks(c), 1)
  c:feed('g<C-y>')
  odd[1] = 'int z;'
  h.eq(c:lines(), odd)
  -- The same for code of an answer, here without its indentation.
  c:cmd('3,6GemmaExplain')
  c:wait('#Fake.jobs == 2')
  c:lua([[Fake.emit('```\nint c;\nputs("[0m");\nx();\nx();\n```') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('3,6GemmaExplain')
  c:feed('ga')
  h.eq(hunks(c), 1)
  c:feed('g<C-y>')
  odd[3] = '  int c;'
  h.eq(c:lines(), odd)
  c:cmd('3,7Gemma edit x')
  c:wait('#Fake.jobs == 3')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", table.concat(odd, '\n', 3, 6))
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: the model changed nothing.' })
end)

test('nothing is kept of an edit whose buffer is wiped out', function()
  -- The lines around it and what was written stayed until Neovim ended.
  local c = child()
  c:lua([[
    _G.edit = setmetatable({}, { __mode = 'v' })
    edit[1] = require('gemma.edit').start({ buf = 0, first = 3, last = 7, task = 'call it x' })]])
  c:wait('#Fake.jobs == 1')
  c:lua("Fake.emit(...) Fake.done(nil, 'string')", NEW)
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:lua('Fake.jobs[1].req = nil')
  h.eq(c:lua('collectgarbage() return edit[1] ~= nil'), true)
  c:cmd('bwipeout!')
  -- Code that LuaJIT has compiled keeps the functions that it was compiled for.
  c:wait('(function() if jit then jit.flush() end collectgarbage() return edit[1] == nil end)()')
end)

test('a buffer that is wiped out takes everything with it', function()
  local c = edited()
  c:cmd('bwipeout!')
  c:lua('return 0')
  c:cmd('new')
  h.eq(c:messages(), {})
  h.eq(c:lua("return require('gemma.edit.preview').get(1) == nil"), true)
end)

test('random changes around it: it moves along or is withdrawn, and never writes by itself', function()
  local c = child()
  local bad = c:lua([[
    local NEW = ...
    math.randomseed(11)
    local api, preview = vim.api, require('gemma.edit.preview')
    local edit = require('gemma.edit')
    local kept, gone = 0, 0
    vim.notify = function() end
    for round = 1, 40 do
      local base = {}
      for i = 1, 80 do base[i] = 'line ' .. i end
      api.nvim_buf_set_lines(0, 0, -1, false, base)
      local new = vim.list_slice(base, 10, 20)
      for _ = 1, 3 do
        local at = math.random(#new)
        if math.random() < 0.5 then new[at] = 'new ' .. math.random(99) else table.insert(new, at, 'ins') end
      end
      if not edit.preview({ buf = 1, first = 10, last = 20, new = new }) then
        return 'nothing to show'
      end
      local model = vim.deepcopy(base)
      local first, touched = 10, false
      for _ = 1, 5 do
        local n = api.nvim_buf_line_count(0)
        local a = math.random(0, n)
        local b = math.min(n, a + math.random(0, 2))
        local put = {}
        for i = 1, math.random(0, 2) do put[i] = 'x' .. math.random(99) end
        if #put > 0 or b > a then
          api.nvim_buf_set_lines(0, a, b, false, put)
          local out = vim.list_slice(model, 1, a)
          vim.list_extend(out, put)
          vim.list_extend(out, model, b + 1)
          model = #out == 0 and { '' } or out
          -- 0-based lines first-1 .. first+9 are those of the preview.
          local top, bottom = first - 1, first + 10
          if b <= top then
            first = first + #put - (b - a)
          elseif a < bottom then
            touched = true
          end
        end
        vim.wait(0)
      end
      vim.wait(5, function() return (preview.get(1) == nil) == touched end)
      if not vim.deep_equal(api.nvim_buf_get_lines(0, 0, -1, false), model) then
        return 'something was written, round ' .. round
      end
      local p = preview.get(1)
      if touched then
        gone = gone + 1
        -- Lines that were taken away and put back alike are as good as untouched.
        if p and not p.region:intact() then return 'still shown, round ' .. round end
        if p then p:finish() end
      else
        kept = kept + 1
        if not p then return 'withdrawn for nothing, round ' .. round end
        if p.region:row() ~= first - 1 then return 'at the wrong place, round ' .. round end
        vim.bo.undolevels = vim.bo.undolevels -- as a typed key does
        p:accept_all()
        local want = vim.list_slice(model, 1, first - 1)
        vim.list_extend(want, new)
        vim.list_extend(want, model, first + 11)
        if not vim.deep_equal(api.nvim_buf_get_lines(0, 0, -1, false), want) then
          return 'the wrong text, round ' .. round
        end
        vim.cmd('silent undo')
        if not vim.deep_equal(api.nvim_buf_get_lines(0, 0, -1, false), model) then
          return 'undo, round ' .. round
        end
      end
      local ns = api.nvim_get_namespaces()
      for _, name in ipairs({ 'gemma.edit', 'gemma.edit.region' }) do
        if #api.nvim_buf_get_extmarks(0, ns[name], 0, -1, {}) > 0 then return name .. ' is left' end
      end
    end
    return { kept, gone }]], NEW)
  h.ok(type(bad) == 'table', vim.inspect(bad))
  h.ok(bad[1] > 3 and bad[2] > 3, ('kept %d, withdrawn %d'):format(bad[1], bad[2]))
end)

-- ---- fix ------------------------------------------------------------------------------------

local function diagnose(c)
  c:lua([[
    local ns = vim.api.nvim_create_namespace('test')
    vim.diagnostic.set(ns, 0, {
      { lnum = 4, col = 2, message = 'useless\nassignment', source = 'lint' },
      { lnum = 3, col = 8, message = 'odd name' },
      { lnum = 8, col = 0, message = 'elsewhere' },
    })]])
end

test(':Gemma fix takes the diagnostics of the function, in order', function()
  local c = child()
  diagnose(c)
  c:cmd('Gemma fix')
  c:wait('#Fake.jobs == 1')
  local prompt = c:lua('return Fake.jobs[1].req.parts[4].data')
  h.has(prompt, table.concat(CODE, '\n', 3, 7) .. '\n</selection>')
  h.has(prompt, 'these problems are gone; change nothing else:\n- `local c = a`: odd name\n'
    .. '- `c = c + b`: useless assignment (lint)')
  h.ok(not prompt:find('elsewhere', 1, true))
  c:lua("Fake.emit('function M.add(a, b)\\n  return a + b\\nend') Fake.done(nil, 'string')")
  c:wait("require('gemma.edit.preview').get(1) ~= nil")
  c:feed('gg<C-y>')
  h.eq(c:lines(), { 'local M = {}', '', 'function M.add(a, b)', '  return a + b', 'end', '', 'return M' })
end)

test(':Gemma fix of a line in the middle of a problem finds it', function()
  local c = child()
  c:lua([[vim.diagnostic.set(vim.api.nvim_create_namespace('t'), 0, {
    { lnum = 2, col = 0, end_lnum = 5, end_col = 1, message = 'never ends', severity = 1 } })]])
  c:cmd('5Gemma fix')
  c:wait('#Fake.jobs == 1')
  h.has(c:lua('return Fake.jobs[1].req.parts[4].data'), '- `function M.add(a, b)`: never ends')
end)

test('the API fixes the diagnostics it is given, as a code action does', function()
  local c = child()
  diagnose(c)
  c:lua([[local d = vim.diagnostic.get(0, { lnum = 4 })
    require('gemma').fix({ buf = 0, diagnostics = d })]])
  c:wait('#Fake.jobs == 1')
  local prompt = c:lua('return Fake.jobs[1].req.parts[4].data')
  h.has(prompt, '- `c = c + b`: useless assignment (lint)')
  h.ok(not prompt:find('odd name', 1, true))
end)

test(':Gemma fix without diagnostics says so', function()
  local c = child()
  c:cmd('3,7Gemma fix')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: there are no diagnostics in these lines.' })
end)

-- ---- code of an answer ----------------------------------------------------------------------

test('ga shows the code of an answer as a change where it belongs', function()
  local c = child()
  c:cmd('4,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua([[Fake.emit('Shorter:\n```lua\nfunction M.add(a, b)\n  return a + b\nend\n```\n') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('4,5GemmaExplain')
  c:feed('ga')
  h.eq(hunks(c), 1)
  h.eq(c:cursor()[1], 3, 'in the window of the code')
  c:feed('gg<C-y>')
  h.eq(vim.list_slice(c:lines(), 3, 5), { 'function M.add(a, b)', '  return a + b', 'end' })
  c:feed('u')
  h.eq(c:lines(), CODE)
end)

test('ga of two windows on the buffer goes to the one in which it was asked', function()
  local c = child()
  c:cmd('split | wincmd j')
  local below = c:lua('return vim.api.nvim_get_current_win()')
  c:cmd('4,5GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua([[Fake.emit('Shorter:\n```lua\nfunction M.add(a, b)\n  return a + b\nend\n```\n') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('4,5GemmaExplain')
  c:feed('ga')
  h.eq({ hunks(c), c:lua('return vim.api.nvim_get_current_win()') }, { 1, below })
end)

test('ga puts code that is nowhere in the file at the lines that were asked about', function()
  local c = child()
  c:cmd('4,6GemmaExplain')
  c:wait('#Fake.jobs == 1')
  c:lua([[Fake.emit('```lua\nreturn b + a\n```\n') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:feed('ggOabove<Esc>')
  c:cmd('5,7GemmaExplain')
  c:wait('#Fake.jobs == 2')
  c:cmd('Gemma answers 2')
  c:feed('ga')
  c:feed('g<C-y>')
  h.eq(c:lines(), { 'above', 'local M = {}', '', 'function M.add(a, b)', '  return b + a', 'end', '',
    'return M' })
end)

test('ga after a question about the whole buffer does not put the code in place of all of it', function()
  -- One <C-y> replaced the file by the example.
  local c = child()
  c:cmd('Gemma ask how do I sort?')
  c:wait('#Fake.jobs == 1')
  c:lua([[Fake.emit('```lua\ntable.sort(t)\nreturn t\n```\n') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('wincmd w')
  c:feed('ga')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: cannot tell where this code belongs. gy yanks it.' })
  c:feed('q')
  h.eq(hunks(c), 0)
  -- Code that has its place there goes there.
  c:cmd('Gemma ask shorter?')
  c:wait('#Fake.jobs == 2')
  c:lua([[Fake.emit('```lua\nfunction M.add(a, b)\n  return a + b\nend\n```\n') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('wincmd w')
  c:feed('gag<C-y>')
  h.eq(c:lines(), { 'local M = {}', '', 'function M.add(a, b)', '  return a + b', 'end', '', 'return M' })
  -- Who names the whole buffer means it.
  c:cmd('%Gemma ask another?')
  c:wait('#Fake.jobs == 3')
  c:lua([[Fake.emit('```lua\nreturn {}\n```\n') Fake.done()]])
  c:wait("not require('gemma.chat.kept').current():running()")
  c:cmd('wincmd w')
  c:feed('gag<C-y>')
  h.eq(c:lines(), { 'return {}' })
end)

return T
