--- test_budget.lua: what the plugin costs, measured from outside a real editor in a real terminal:
--- frames, wake-ups, memory, threads, the time to leave.

package.path = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h') .. '/?.lua;' .. package.path
local case = require('case')
local screen = require('screen')

local WAIT = 20000

---@param s Screen
---@return integer
local function pid_of(s)
  return s:lua('return vim.uv.os_getpid()')
end

--- A number from /proc/PID/status.
---@param pid integer
---@param field string
---@return integer
local function proc(pid, field)
  for line in io.lines(('/proc/%d/status'):format(pid)) do
    local n = line:match('^' .. field .. ':%s*(%d+)')
    if n then
      return tonumber(n) --[[@as integer]]
    end
  end
  error('no ' .. field)
end

--- How often the threads of a process have gone to sleep by themselves: once for each wake-up.
---@param pid integer
---@return integer
local function sleeps(pid)
  local sum = 0
  for task in vim.fs.dir(('/proc/%d/task'):format(pid)) do
    for line in io.lines(('/proc/%d/task/%s/status'):format(pid, task)) do
      sum = sum + (tonumber(line:match('^voluntary_ctxt_switches:%s*(%d+)')) or 0)
    end
  end
  return sum
end

local LINES = {}
for n = 1, 8 do
  LINES[n] = ('value_%d = compute(%d, other)'):format(n, n)
end
local LONG = table.concat(LINES, '\n')

case.run({
  {
    'in 200 keys that match it the ghost text is in every frame',
    function()
      local s = case.editor({
        file = case.sample(),
        args = { '--cmd', 'luafile ' .. screen.top .. '/tests/lua/fake_engine.lua' },
        options = { completion = { delay = 0 } },
      })
      s:lua([[
        vim.o.autoindent, vim.bo.indentexpr, vim.o.showmode = false, '', false
        vim.api.nvim_buf_set_lines(0, 0, -1, false, { '' })
        _G.cleared = 0
        vim.api.nvim_create_autocmd('User', { pattern = 'GemmaGhostClear', callback = function()
          _G.cleared = _G.cleared + 1
        end })]])
      s:keys('i')
      s:wait_loaded()
      s:keys('M-\\')
      s:wait('a request', 5000, function()
        return s:lua('return #Fake.jobs') == 1
      end)
      s:lua('Fake.emit(...)', LONG)
      s:lua('Fake.done()')
      s:wait('ghost text', 5000, function()
        return s:lua("return require('gemma.ghost').text()") == LONG
      end)
      -- At the end of each redraw: what is in the buffer and what the mark shows make up the text.
      s:lua([[
        local ns = vim.api.nvim_get_namespaces()['gemma.ghost']
        local whole = ...
        _G.frames, _G.bad = 0, {}
        vim.api.nvim_set_decoration_provider(vim.api.nvim_create_namespace('test'), {
          on_end = function()
            _G.frames = _G.frames + 1
            local mark = vim.api.nvim_buf_get_extmarks(0, ns, 0, -1, { details = true })[1]
            local lines = vim.api.nvim_buf_get_lines(0, 0, -1, false)
            if mark then
              local d = mark[4]
              for _, chunk in ipairs(d.virt_text or {}) do lines[#lines] = lines[#lines] .. chunk[1] end
              for _, line in ipairs(d.virt_lines or {}) do lines[#lines + 1] = line[1][1] end
            end
            if table.concat(lines, '\n') ~= whole then
              table.insert(_G.bad, { frame = _G.frames, mark = mark ~= nil, text = lines })
            end
          end,
        })]], LONG)
      local whole = vim.trim(table.concat(s:lines(), '\n'):match('^(.-)\n~'))
      case.equal(whole, LONG, 'the screen before the first key')
      for n = 1, 200 do
        local key = LONG:sub(n, n)
        if key == '\n' then
          s:keys('Enter')
        else
          s:paste(key)
        end
      end
      s:wait('200 keys', 10000, function()
        return s:lua("return #table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), '\\n')") == 200
      end)
      case.equal(s:lua('return _G.bad'), {}, 'frames that show something else')
      case.equal(s:lua('return { _G.cleared, #Fake.jobs }'), { 0, 1 }, 'times it was cleared, requests')
      local frames = s:lua('return _G.frames')
      case.ok(frames >= 50, ('%d frames for 200 keys'):format(frames))
      case.equal(vim.trim(table.concat(s:lines(), '\n'):match('^(.-)\n~')), LONG, 'the screen after the last key')
    end,
  },
  {
    'an editor with the model loaded wakes up not once in 10 seconds of rest',
    function()
      if vim.fn.isdirectory('/proc/self/task') == 0 then
        case.skip('no /proc')
      end
      local s = case.editor({ file = case.sample(), options = { threads = 2 } })
      s:wait_loaded()
      s:lua('vim.o.updatetime = 50') -- Neovim's own wake-up, for CursorHold
      s:keys('2Go')
      s:type('local width = ')
      s:wait('the model has written', WAIT, function()
        return s:lua("local e = require('gemma.engine') return e.state == 'ready' and e.numbers().decode_tok_s > 0")
      end)
      local pid = pid_of(s)
      -- CursorHoldI and the last redraws come first.
      s:wait('a second without a wake-up', 15000, function()
        local before = sleeps(pid)
        vim.wait(1000)
        return sleeps(pid) == before
      end)
      -- What the kernel has to do with a thread comes once in a while, a timer of ours in each of these.
      local least = math.huge
      for _ = 1, 3 do
        local before = sleeps(pid)
        vim.wait(10000)
        least = math.min(least, sleeps(pid) - before)
        if least == 0 then
          break
        end
      end
      case.equal(least, 0, 'wake-ups of all threads in 10 seconds')
    end,
  },
  {
    ':Gemma unload gives memory and threads back',
    function()
      if vim.fn.isdirectory('/proc/self/task') == 0 then
        case.skip('no /proc')
      end
      local s = case.editor({
        file = case.sample(),
        model = screen.top .. '/tests/golden/sets/deep/model-F16.gguf',
        -- A driver of the GPU would stay in the process with some memory of its own.
        options = { load = 'manual', threads = 3, n_ctx = 8192, device = 'cpu' },
      })
      local pid = pid_of(s)
      local threads = proc(pid, 'Threads')
      local function round()
        s:lua("require('gemma').load()")
        s:wait_loaded()
        s:lua([[_G.answered = nil
          require('gemma').ask({ prompt = ('word '):rep(400), max_tokens = 5, on_done = function()
            _G.answered = true
          end })]])
        s:wait('an answer', WAIT, function()
          return s:lua('return _G.answered') == true
        end)
        -- Pages of files are the system's to keep.
        local loaded, more = proc(pid, 'RssAnon'), proc(pid, 'Threads')
        s:paste(':Gemma unload')
        s:keys('Enter')
        s:wait('the threads are gone', 5000, function()
          return proc(pid, 'Threads') == threads
        end)
        case.ok(more > threads, ('%d threads with a model, %d before'):format(more, threads))
        return loaded, proc(pid, 'RssAnon')
      end
      local before = proc(pid, 'RssAnon')
      round() -- what Neovim and the C library keep for themselves, they have after this
      local loaded, left = round()
      local fmt = '%d kB before, %d kB with the model, %d kB after'
      case.ok(left < loaded and left - before < (loaded - before) / 2, fmt:format(before, loaded, left))
      for _ = 1, 4 do
        round()
      end
      local _, last = round()
      case.ok(last < left + 2048, ('%d kB after the second unload, %d kB after the seventh'):format(left, last))
      io.stdout:write('     note: ' .. fmt:format(before, loaded, last) .. '\n')
    end,
  },
  {
    'leaving while the model writes costs at most 200 ms more than without the plugin',
    function()
      --- Milliseconds from the end of :wq's writing to the end of the process.
      local function leave(o)
        o.file = case.sample()
        o.model = screen.top .. '/tests/golden/sets/deep/model-F16.gguf'
        local s = case.editor(o)
        if o.busy then
          s:wait_loaded()
          s:lua([[
            local function ask()
              require('gemma').ask({ prompt = 'Go on.', max_tokens = 8000, on_done = ask })
            end
            ask()]])
          s:wait('the model is writing', WAIT, function()
            return s:lua("return require('gemma').status().state") == 'generating'
          end)
        end
        s:paste(':wq')
        local start = vim.uv.hrtime()
        s:keys('Enter')
        s:wait('the editor leaves', 5000, function()
          return s:dead()
        end)
        local ms = (vim.uv.hrtime() - start) / 1e6
        case.equal(s:status(), 0, 'the exit status')
        return ms
      end
      local without, with = math.huge, math.huge
      for _ = 1, 2 do
        without = math.min(without, leave({ options = { load = 'manual' } }))
        with = math.min(with, leave({ busy = true }))
      end
      io.stdout:write(('     note: %.0f ms without, %.0f ms with\n'):format(without, with))
      case.ok(with - without <= 200, ('%.0f ms without, %.0f ms with'):format(without, with))
    end,
  },
})
