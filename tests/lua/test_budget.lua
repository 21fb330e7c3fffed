--- What the plugin may cost on the main thread. In time of the process, so that a busy machine does
--- not count, and the best of some rounds. What needs a real editor is in tests/e2e/test_budget.lua.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

test('start-up: the plugin takes less than 1 ms and loads none of its modules', function()
  local best = math.huge
  for _ = 1, 5 do
    local done = vim.system({
      h.nvim, '--headless', '--clean', '--noplugin', '-n', '-i', 'NONE',
      '--cmd', 'set rtp^=' .. vim.fn.fnameescape(h.root),
      '-c', "lua local start = os.clock() vim.cmd('runtime! plugin/gemma.lua')"
        .. ' io.stdout:write((os.clock() - start) * 1e3)',
      '-c', "lua assert(vim.fn.exists(':GemmaExplain') == 2)",
      '-c', "lua assert(not next(vim.tbl_filter(function(m)"
        .. " return m:match('^gemma') end, vim.tbl_keys(package.loaded))))", '-c', 'qall!',
    }, { text = true, env = { NVIM = '' } }):wait()
    h.eq({ done.code, done.stderr:match('Error.*') }, { 0 })
    best = math.min(best, tonumber(done.stdout))
  end
  h.ok(best < 1, ('%.3f ms'):format(best))
end)

test('rule 9: a key costs our Lua at most 1 ms at the 99th percentile', function()
  local best, ahead = math.huge, math.huge
  for _ = 1, 3 do
    local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 0, first_paint = 0 } }' })
    c:lua([[
      -- What runs before the key is on the screen, and what is read ahead once it is.
      _G.cost, _G.ahead, _G.noise = {}, {}, {}
      local completion = require('gemma.completion')
      local function time(name, list)
        local fn = completion[name]
        completion[name] = function(...)
          local start = os.clock()
          fn(...)
          list[#list + 1] = (os.clock() - start) * 1e3
          -- The same work each time: what a busy machine does to it, it does to a key.
          start = os.clock()
          local sum = ''
          for i = 1, 200 do sum = (sum .. i):sub(-50):gsub('1', '2') end
          _G.noise[#_G.noise + 1] = os.clock() - start
        end
      end
      time('on_change', _G.cost)
      time('read_ahead', _G.ahead)
      Fake.auto = function() return { 'alpha beta(1)\n', '  gamma = delta\n', 'end' } end
      local lines = {}
      for i = 1, 2000 do lines[i] = ('  local variable_%04d = compute(%d)'):format(i, i) end
      vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
      vim.bo.filetype = 'lua'
      vim.api.nvim_win_set_cursor(0, { 1000, 0 })]])
    c:feed('o')
    c:wait("require('gemma.engine').is_loaded()")
    c:lua('for _, l in ipairs({ cost, ahead, noise }) do for i = #l, 1, -1 do l[i] = nil end end')
    -- Keys that match, keys that do not, corrections, new lines.
    for i = 1, 36 do
      c:type('alp')
      c:feed(i % 3 == 0 and '<BS>' or 'q')
      c:feed(i % 5 == 0 and '<CR>' or '<Space>')
    end
    local cost, more, noise = unpack(c:lua([[
      for _, l in ipairs({ cost, ahead, noise }) do table.sort(l) end
      return { cost, ahead, noise }]]))
    local worse = noise[math.ceil(#noise * 0.99)] / noise[math.ceil(#noise * 0.1)]
    h.ok(#cost >= 180, ('%d keys were measured'):format(#cost))
    best = math.min(best, cost[math.ceil(#cost * 0.99)] / worse)
    ahead = math.min(ahead, (more[math.ceil(#more * 0.99)] or 0) / worse)
    if best <= 1 and ahead <= 2 then
      break
    end
  end
  h.ok(best <= 1, ('%.2f ms'):format(best))
  h.ok(ahead <= 2, ('reading ahead: %.2f ms'):format(ahead))
  local fmt = 'note: at the 99th percentile a key costs %.2f ms, reading ahead %.2f ms\n'
  io.stdout:write(fmt:format(best, ahead))
end)

return T
