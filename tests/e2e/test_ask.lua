--- test_ask.lua: questions and edits, as someone in front of the terminal sees them.
---
--- Where the screen is compared as a whole the fake engine answers, so that what is written is
--- known; the last tests use the library and a model of random weights.

package.path = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h') .. '/?.lua;' .. package.path
local case = require('case')
local screen = require('screen')

local WAIT = 20000 -- ms; a busy machine may be slow, a failing test is the only one that waits

---@param file string
---@return Screen
local function fake_editor(file)
  local s = case.editor({
    file = file,
    args = { '--cmd', 'luafile ' .. screen.top .. '/tests/lua/fake_engine.lua' },
    options = { shared = 'off' },
  })
  s:wait_loaded()
  return s
end

---@param s Screen
---@param n integer
local function wait_jobs(s, n)
  s:wait(n .. ' requests', WAIT, function()
    return s:lua('return #Fake.jobs') == n
  end)
end

---@param s Screen
---@return string[]
local function buffer(s)
  return s:lua('return vim.api.nvim_buf_get_lines(1, 0, -1, false)')
end

--- The rows of the screen, without the file's name in the statusline, which differs.
---@param s Screen
---@param first integer
---@param last integer
---@return string[]
local function rows(s, first, last)
  return vim.tbl_map(function(line)
    return (line:gsub('%s+$', ''))
  end, vim.list_slice(s:lines(), first, last))
end

---@param s Screen
---@param what string
---@param want string[]
---@param first integer
local function wait_rows(s, what, want, first)
  local got
  local ok = pcall(s.wait, s, what, 5000, function()
    got = rows(s, first, first + #want - 1)
    return vim.deep_equal(got, want)
  end)
  if not ok then
    error(('%s\n%s\n%s'):format(what, screen.frame(want, 'expected'), screen.frame(got, 'got')), 0)
  end
end

local SAMPLE = vim.fn.readfile(screen.top .. '/tests/e2e/sample.lua')

case.run({
  {
    'an explanation streams into a float; a follow-up goes on; thoughts are one line',
    function()
      local s = fake_editor(case.sample())
      s:keys('5G')
      s:ex('Gemma think on')
      s:ex('5,11GemmaExplain')
      wait_jobs(s, 1)
      s:lua("Fake.think('Numbers are added.') Fake.emit('Adds up **all**') ")
      s:wait('the beginning of the answer', 5000, function()
        return s:find('Adds up **all**')
      end)
      s:lua([[Fake.emit(' numbers.\n\n```lua\nM.sum({ 1, 2 })\n```\n') Fake.done()]])
      wait_rows(s, 'the answer in its float, below the lines it is about', {
        'end',
        '╭ Gemma: lines 5-11 ─────────────────────────────────────────────────────────╮',
        '│▸ thought, 3 words                                                          │',
        '│                                                                            │',
        '│Adds up **all** numbers.                                                    │',
        '│                                                                            │',
        '│```lua                                                                      │',
        '│M.sum({ 1, 2 })                                                             │',
        '│```                                                                         │',
        '╰─────────────────── <C-w>w, then <CR> ask on · gy yank · ga apply · q close ╯',
      }, 11)
      case.equal(buffer(s), SAMPLE, 'the buffer')
      s:ex('5,11GemmaExplain')
      s:keys('Enter')
      s:wait('the prompt of the follow-up', 5000, function()
        return s:find('Ask on:')
      end)
      s:paste('and floats?')
      s:keys('Enter')
      wait_jobs(s, 2)
      s:lua("Fake.emit('Yes.') Fake.done()")
      s:wait('the second answer', 5000, function()
        return s:find('> and floats?') and s:find('│Yes.')
      end)
      s:keys('q')
      s:wait('the float is gone', 5000, function()
        return not s:find('ask on')
      end)
      s:ex('Gemma answers 1')
      s:wait('it is opened again', 5000, function()
        return s:find('│Yes.') and s:find('ask on')
      end)
    end,
  },
  {
    'an edit is shown in the text, accepted by hand and taken back by one undo',
    function()
      local s = fake_editor(case.sample())
      s:keys('5G')
      s:ex('5,11Gemma edit use ipairs less')
      wait_jobs(s, 1)
      s:wait('the first line says what goes on', 5000, function()
        return s:find('function M.sum(list)  reading · <C-e> stops')
      end)
      s:lua([[Fake.emit('function M.sum(list)\n  local total = 0\n  for i = 1, #list do\n'
        .. '    total = total + list[i]\n  end\n  -- zero for none\n  return total\nend')
        Fake.done(nil, 'string')]])
      wait_rows(s, 'old and new lines', {
        'function M.sum(list)',
        '  local total = 0',
        '  for _, value in ipairs(list) do  2 changes · <C-y> accept · <C-e> reject',
        '    total = total + value',
        '  for i = 1, #list do',
        '    total = total + list[i]',
        '  end',
        '  -- zero for none',
        '  return total',
        'end',
        '',
        '--- The keys of a table, sorted.',
      }, 5)
      case.equal(buffer(s), SAMPLE, 'nothing is written yet')
      s:keys(']', 'c')
      s:keys('C-y')
      s:wait('one change is left', 5000, function()
        return s:find('1 change ·')
      end)
      wait_rows(s, 'the first is made, the second still shown', {
        'function M.sum(list)',
        '  local total = 0',
        '  for i = 1, #list do',
        '    total = total + list[i]',
        '  end  1 change · <C-y> accept · <C-e> reject',
        '  -- zero for none',
        '  return total',
        'end',
      }, 5)
      s:keys('C-y')
      s:wait('all is made', 5000, function()
        return not s:find('C-y')
      end)
      local want = vim.deepcopy(SAMPLE)
      want[7], want[8] = '  for i = 1, #list do', '    total = total + list[i]'
      table.insert(want, 10, '  -- zero for none')
      case.equal(buffer(s), want, 'the buffer after accepting')
      s:keys('u')
      s:wait('undo', 5000, function()
        return not vim.deep_equal(buffer(s), want)
      end)
      case.equal(buffer(s), SAMPLE, 'the buffer after one undo')
      wait_rows(s, 'the screen is as at first', vim.list_slice(SAMPLE, 5, 12), 5)
    end,
  },
  {
    'a rejected edit leaves no trace on the screen',
    function()
      local s = fake_editor(case.sample())
      wait_rows(s, 'the file', vim.list_slice(SAMPLE, 1, 12), 1)
      local before = s:raw()
      s:keys('5G')
      s:ex('5,11Gemma edit x')
      wait_jobs(s, 1)
      s:lua("Fake.emit('function M.sum() end') Fake.done(nil, 'string')")
      s:wait('the change is shown', 5000, function()
        return s:find('<C-y> accept')
      end)
      s:keys('g', 'C-e')
      s:keys('gg')
      s:wait('it is gone', 5000, function()
        return not s:find('<C-y> accept')
      end)
      wait_rows(s, 'the file', vim.list_slice(SAMPLE, 1, 12), 1)
      s:wait('its colours too', 5000, function()
        return vim.deep_equal(vim.list_slice(s:raw(), 2, 20), vim.list_slice(before, 2, 20))
      end)
      case.equal(s:lua('return vim.bo[1].modified'), false, "'modified'")
    end,
  },
  {
    'the code of an answer becomes a change of the file by ga',
    function()
      local s = fake_editor(case.sample())
      s:keys('7G')
      s:ex('7GemmaExplain')
      wait_jobs(s, 1)
      s:lua([[Fake.emit('```lua\nfunction M.sum(list)\n  return 0\nend\n```') Fake.done()]])
      s:wait('the answer', 5000, function()
        return s:find('ga apply')
      end)
      s:ex('7GemmaExplain')
      s:keys('ga')
      s:wait('the change is shown', 5000, function()
        return s:find('<C-y> accept')
      end)
      s:keys('g', 'C-y')
      s:wait('it is made', 5000, function()
        return vim.deep_equal(vim.list_slice(buffer(s), 5, 7), { 'function M.sum(list)', '  return 0', 'end' })
      end)
      s:keys('u')
      s:wait('undo', 5000, function()
        return vim.deep_equal(buffer(s), SAMPLE)
      end)
    end,
  },
  {
    'with the library: an edit after an explanation reads only its own words again',
    function()
      local s = case.editor({ file = case.sample(), options = { explain = { max_tokens = 4 } } })
      s:wait_loaded()
      s:lua([[
        _G.Infos = {}
        local engine = require('gemma.engine')
        local generate = engine.generate
        engine.generate = function(req)
          local done = req.on_done
          if req.session ~= 0 then
            req.on_done = function(info)
              table.insert(Infos, { info.n_prompt, info.n_reused, req.session })
              done(info)
            end
          end
          return generate(req)
        end]])
      local function asked(n, command)
        s:ex(command)
        return s:wait(n .. ' answers', WAIT, function()
          return s:lua('return Infos[...] or false', n)
        end)
      end
      asked(1, '5,11GemmaExplain')
      -- The window is open: a cache of its own, begun with a copy.
      local edit = asked(2, '5,11Gemma edit x')
      case.equal(edit[3], 3, 'its session')
      case.ok(edit[1] - edit[2] < 60 and edit[2] > 150,
        ('%d of %d tokens were read again'):format(edit[1] - edit[2], edit[1]))
      -- And the conversation goes on where it was.
      s:lua("require('gemma.chat.kept').current():follow('and?')")
      local more = s:wait('the follow-up', WAIT, function()
        return s:lua('return Infos[3] or false')
      end)
      case.ok(more[1] - more[2] < 60 and more[2] > 150,
        ('%d of %d tokens of the conversation were read again'):format(more[1] - more[2], more[1]))
    end,
  },
  {
    'with the library: an answer that is begun, a stop, and a measurement',
    function()
      local s = case.editor({ file = case.sample() })
      s:wait_loaded()
      s:lua([[
        _G.Got = {}
        require('gemma').ask({ prompt = 'Hello', thinking = true, max_tokens = 4,
          on_done = function(text, info) Got.thought_over = text or info end })
        require('gemma').ask({ prompt = 'Hello', answer = 'Well', max_tokens = 12, temperature = 0,
          on_done = function(text, info) Got.whole, Got.first = text or info, info end })]])
      local whole = s:wait('an answer', WAIT, function()
        local text = s:lua('return Got.whole')
        return text ~= vim.NIL and text
      end)
      s:wait('an answer with thinking on', WAIT, function()
        return s:lua('return Got.thought_over') ~= vim.NIL
      end)
      -- The same again ends before any piece of it that is asked for.
      local stop = whole:match('[%w%p]+', 4)
      if stop then
        s:lua([[
          require('gemma').ask({ prompt = 'Hello', answer = 'Well', max_tokens = 12, temperature = 0,
            stops = { ... },
            on_done = function(text, info) Got.cut, Got.second = text, info end })]], stop)
        s:wait('the cut answer', WAIT, function()
          return s:lua('return Got.cut') ~= vim.NIL
        end)
        case.equal(s:lua('return { Got.cut, Got.second.reason }'),
          { whole:sub(1, whole:find(stop, 1, true) - 1), 'string' }, 'the text before the stop')
      end
      s:ex('Gemma bench')
      s:wait('what was measured', WAIT, function()
        return s:find('tokens per second')
      end)
    end,
  },
})
