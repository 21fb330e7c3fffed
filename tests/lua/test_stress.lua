--- Random edits (2,000 of them in `make test`) beside an editor without the plugin that gets the
--- same keys: the buffers stay equal, and there is at most one ghost, where the cursor is.
--- GEMMA_STRESS=seed[,edits] repeats or prolongs a run.

local h = require('helper')

local T = {}

local SEED, EDITS = 20, 300
if vim.env.GEMMA_STRESS then
  local seed, edits = vim.env.GEMMA_STRESS:match('^(%d+),?(%d*)$')
  SEED, EDITS = tonumber(seed), tonumber(edits) or EDITS
end

--- A model that answers at once, in pieces, with texts that go wrong in many ways. A third of its
--- answers stays unfinished for some edits.
local MODEL = [[
  local texts = {
    { 'alpha' }, { 'al', 'pha beta(', '1)' }, { '\n', 'new = ', '2\n  more' }, { ') + b' },
    { 'é世', '\tq' }, { 'if x then\n', '    y()\n', '  end\n', 'z' }, { '' }, { '  a\n\n\nb' },
    { 'a]})', '\n}' }, { '"', 'str"', ')' }, { 'aaa', 'aaa' }, { 'b', '\27' , 'c' }, { 'a\nb\nc\nd\ne' },
  }
  local n, open = 0, {}
  Fake.auto = nil
  local generate = Fake.binding.generate
  Fake.binding.generate = function(self, req)
    local id = generate(self, req)
    if id and req.max_tokens > 0 then
      n = n + 1
      local job = { i = #Fake.jobs, text = vim.deepcopy(texts[n % #texts + 1]) }
      if n % 3 == 0 then
        open[#open + 1] = job
      else
        for _, piece in ipairs(job.text) do Fake.emit(piece, job.i) end
        Fake.done(job.i)
      end
    end
    return id
  end
  -- One piece of each unfinished answer.
  function _G.trickle()
    for k = #open, 1, -1 do
      local job = open[k]
      local piece = table.remove(job.text, 1)
      if piece then Fake.emit(piece, job.i) else Fake.done(job.i) table.remove(open, k) end
    end
  end]]

local BOTH = [[
  vim.o.hidden, vim.o.autoindent, vim.o.undolevels = true, true, 200
  vim.o.completeopt, vim.o.showmode, vim.o.more = 'menuone,noinsert', false, false
  for i = 1, 3 do vim.cmd.edit('file' .. i) end
  vim.cmd.buffer(1)
  vim.keymap.set('i', '(', '()<Left>')
  function _G.state()
    local bufs = {}
    for b = 1, 3 do bufs[b] = vim.api.nvim_buf_get_lines(b, 0, -1, false) end
    local here = vim.api.nvim_get_current_buf()
    return { bufs, vim.api.nvim_win_get_cursor(0), vim.api.nvim_get_mode().mode, here, vim.fn.winnr('$') }
  end
  -- What an accept does, with text that is known.
  function _G.put(piece, swallow)
    local pos = vim.api.nvim_win_get_cursor(0)
    local lines = vim.split(piece, '\n', { plain = true })
    local paste = vim.paste
    vim.paste = function()
      vim.api.nvim_buf_set_text(0, pos[1] - 1, pos[2], pos[1] - 1, pos[2] + swallow, lines)
      local col = #lines == 1 and pos[2] + #piece or #lines[#lines]
      vim.api.nvim_win_set_cursor(0, { pos[1] + #lines - 1, col })
      return true
    end
    vim.api.nvim_paste(piece, false, -1)
    vim.paste = paste
  end
  vim.keymap.set('i', '<Plug>(put)', '<C-g>u<Cmd>lua put(_G.piece, _G.swallow)<CR><C-g>u')]]

local CHARS = vim.split('a l p h b e t ( ) [ ] { } " = x 1 ; , é 世 <Space> <Space> <CR> <Tab>', ' ')
local KEYS = {
  -- in Insert mode
  '<BS>', '<BS>', '<BS>', '<C-w>', '<C-u>', '<Del>', '<Left>', '<Right>', '<Up>', '<Down>', '<Home>',
  '<End>', '<C-o>u', '<C-o>x', '<C-n>', '<C-e>', '<C-y>', '<C-r>"', '<C-t>', '<C-d>', '<C-]>',
  '<Cmd>undo<CR>', '<Cmd>redo<CR>', '<Cmd>normal! gUU<CR>', '<C-o>p', '<C-o>J',
  -- other modes, and back
  '<Esc>a', '<C-c>i', '<Esc>A', '<Esc>o', '<Esc>O', '<Esc>ua', '<Esc>uui', '<Esc><C-r>a', '<Esc>.A',
  '<Esc>3.a', '<Esc>ddi', '<Esc>ypA', '<Esc>xa', '<Esc>vbda', '<Esc>VyPi', '<Esc>Rzz<Esc>a', '<Esc>cwab',
  '<Esc>gga', '<Esc>GA', '<Esc>3ixy<Esc>a', '<Esc>qqaab<Esc>q@qa', '<Esc>@qA', '<Esc>Jgi', '<Esc>:s/a/b/e<CR>a',
  -- other windows and buffers
  '<Cmd>split<CR>', '<Cmd>wincmd w<CR>', '<Cmd>buffer 1<CR>', '<Cmd>buffer 2<CR>', '<Cmd>buffer 3<CR>',
  '<Cmd>only<CR>', '<Esc><C-w>wa', '<Cmd>enew | buffer 2<CR>', '<Esc>:b1<CR>A',
}

local CHECK = [[
  if ... then vim.wait(4, function() return require('gemma').visible() end, 1) end
  local ns = vim.api.nvim_get_namespaces()['gemma.ghost']
  local marks = {}
  for _, b in ipairs(ns and vim.api.nvim_list_bufs() or {}) do
    for _, m in ipairs(vim.api.nvim_buf_get_extmarks(b, ns, 0, -1, {})) do
      marks[#marks + 1] = { b, m[2] + 1, m[3] }
    end
  end
  local ghost = require('gemma.ghost')
  return { state = state(), marks = marks, text = ghost.text() }]]

--- One ghost at most, and where the keys would put text.
local function sound(got)
  local bufs, cursor, mode, buf = unpack(got.state)
  if #got.marks > 1 then
    return 'more than one ghost'
  elseif (#got.marks == 1) ~= (got.text ~= nil) then
    return 'the mark and the record differ'
  elseif got.text and (not mode:match('^i') or got.marks[1][1] ~= buf) then
    return 'a ghost outside of Insert mode or in another buffer'
  elseif got.text and not vim.deep_equal({ got.marks[1][2], got.marks[1][3] }, cursor) then
    return 'the ghost is not at the cursor'
  elseif not bufs[buf] then
    return 'an unknown buffer'
  end
end

T[#T + 1] = {
  ('%d random edits: one ghost, at the cursor, and the buffers are what the keys alone give'):format(EDITS),
  function()
    math.randomseed(SEED)
    local a = h.child({ config = 'vim.g.gemma = { completion = { delay = 0, min_chars = 1, first_paint = 0 } }' })
    local b = h.child({ fake = false, cols = 70, lines = 20, config = 'vim.g.loaded_gemma = true' })
    a:lua(MODEL)
    a:lua([[_G.Dismissed = 0
      vim.api.nvim_create_autocmd('User', { pattern = 'GemmaGhostDismiss', callback = function()
        Dismissed = Dismissed + 1 end })]])
    a:lua(BOTH)
    b:lua(BOTH)
    for _, c in ipairs({ a, b }) do
      c:feed('i')
    end
    a:wait("require('gemma.engine').is_loaded()")
    local seen, accepts, through, history = 0, 0, 0, {}
    local before = a:lua(CHECK, true)
    for i = 1, EDITS do
      local key
      local what = math.random()
      local insert = before.state[3]:match('^i')
      if not insert then
        key = '<C-\\><C-n>a'
      elseif before.text and what < 0.3 then
        key = vim.fn.strcharpart(before.text, 0, 1)
        key = ({ ['\n'] = '<CR>', ['\t'] = '<C-v><Tab>', [' '] = '<Space>', ['<'] = '<LT>' })[key] or key
        key = key == '(' and '<C-v>(' or key
        through = through + 1
      elseif before.text and what < 0.55 then
        key = ({ '<M-l>', '<M-Right>', '<M-Down>', '<M-]>', '<M-[>', '<C-]>' })[math.random(6)]
      elseif what < 0.75 then
        key = CHARS[math.random(#CHARS)]
      else
        key = KEYS[math.random(#KEYS)]
      end
      history[#history + 1] = key
      local own = before.text and key:match('^<M%-')
      -- What is shown may change until the key arrives, so the plugin's editor says what it did.
      a:lua([[_G.lines_before = vim.api.nvim_buf_get_lines(0, 0, -1, false)
        _G.pos_before, _G.dismissed_before = vim.api.nvim_win_get_cursor(0), Dismissed]])
      a:feed(key)
      if own then
        local done = a:lua([=[
          local lines, pos = vim.api.nvim_buf_get_lines(0, 0, -1, false), vim.api.nvim_win_get_cursor(0)
          -- A bracket may take the place of one that stood there.
          if vim.deep_equal({ lines, pos }, { lines_before, pos_before }) then return end
          local from = pos_before
          local piece = vim.api.nvim_buf_get_text(0, from[1] - 1, from[2], pos[1] - 1, pos[2], {})
          local was = lines_before[from[1]]:sub(from[2] + 1)
          local is = lines[pos[1]]:sub(pos[2] + 1)
          return { table.concat(piece, '\n'), #was - #is }]=])
        if done and done ~= vim.NIL then
          accepts = accepts + 1
          b:lua('_G.piece, _G.swallow = ...', done[1], done[2])
          b:lua("vim.api.nvim_feedkeys(vim.keycode('<Plug>(put)'), 'mt', false)")
          b:lua('return 0')
        end
      elseif key ~= '<C-]>' or a:lua('return Dismissed == dismissed_before') then
        b:feed(key) -- where it took nothing down it does what it does everywhere: it ends a completion
      end
      a:lua('trickle()')
      local got = a:lua(CHECK, math.random() < 0.75)
      got.text = got.text ~= vim.NIL and got.text or nil
      seen = seen + (got.text and 1 or 0)
      local want = b:lua('return state()')
      local wrong = sound(got)
      if not wrong and not vim.deep_equal(got.state, want) then
        wrong = 'the editors differ'
      end
      if wrong then
        local keys = table.concat(vim.list_slice(history, math.max(1, #history - 12)), ' ')
        local fmt = 'edit %d (seed %d): %s\n keys: %s\n plugin: %s\n  plain: %s\n  ghost: %s at %s'
        error(fmt:format(i, SEED, wrong, keys, vim.inspect(got.state), vim.inspect(want),
          vim.inspect(got.text), vim.inspect(got.marks)))
      end
      before = got
    end
    h.eq(a:messages(), {}, 'nothing was said')
    h.ok(seen > EDITS / 5, ('a ghost after only %d edits'):format(seen))
    h.ok(accepts > EDITS / 50, ('only %d accepts'):format(accepts))
    io.stdout:write(('note: %d edits, a ghost after %d, %d accepted, %d typed through\n')
      :format(EDITS, seen, accepts, through))
  end,
}

return T
