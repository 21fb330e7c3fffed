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

--- Of the main thread, in milliseconds at the 99th percentile, and how often it is to be measured: before
--- a key is on the screen, to read ahead once it is, to ask after a pause.
local BUDGET = {
  { name = 'on_change', ms = 1, times = 180 },
  { name = 'read_ahead', ms = 4, times = 50 },
  { name = 'ask', ms = 6, times = 5 },
}

local function percentile(sorted, share)
  return sorted[math.ceil(#sorted * share)]
end

test('rule 9: a key costs our Lua at most 1 ms at the 99th percentile', function()
  local best, note = {}, nil
  for _ = 1, 3 do
    local c = h.child({ config = 'vim.g.gemma = { completion = { delay = 0, first_paint = 0 } }' })
    c:lua([[
      _G.Cost, _G.Noise = {}, {}
      local completion = require('gemma.completion')
      for _, b in ipairs(...) do
        local fn, list = completion[b.name], {}
        Cost[b.name] = list
        completion[b.name] = function(...)
          local start = os.clock()
          fn(...)
          list[#list + 1] = (os.clock() - start) * 1e3
          -- The same work each time: what a busy machine does to it, it does to a key.
          start = os.clock()
          local sum = ''
          for i = 1, 200 do sum = (sum .. i):sub(-50):gsub('1', '2') end
          Noise[#Noise + 1] = os.clock() - start
        end
      end
      Fake.auto = function() return { 'alpha beta(1)\n', '  gamma = delta\n', 'end' } end
      local lines = {}
      for i = 1, 2000 do lines[i] = ('  local variable_%04d = compute(%d)'):format(i, i) end
      vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
      vim.bo.filetype = 'lua'
      vim.api.nvim_win_set_cursor(0, { 1000, 0 })]], BUDGET)
    c:feed('o')
    c:wait("require('gemma.engine').is_loaded()")
    c:lua([[for _, l in ipairs({ Noise, unpack(vim.tbl_values(Cost)) }) do
      for i = #l, 1, -1 do l[i] = nil end
    end]])
    -- Keys that match, keys that do not, corrections, new lines.
    for i = 1, 36 do
      c:type('alp')
      c:feed(i % 3 == 0 and '<BS>' or 'q')
      c:feed(i % 5 == 0 and '<CR>' or '<Space>')
    end
    -- A quick child has taken all keys before it asks even once; what follows is measured for asking only.
    c:lua('_G.Keys = { on_change = vim.deepcopy(Cost.on_change), read_ahead = vim.deepcopy(Cost.read_ahead) }')
    for _ = 1, BUDGET[3].times do
      local asked = c:lua('return #Cost.ask')
      c:type('x')
      c:wait(('#Cost.ask > %d'):format(asked))
    end
    c:lua('Cost.on_change, Cost.read_ahead = Keys.on_change, Keys.read_ahead')
    local cost, noise = unpack(c:lua([[
      for _, l in ipairs({ Noise, unpack(vim.tbl_values(Cost)) }) do table.sort(l) end
      return { Cost, Noise }]]))
    -- Without a bound a key could cost anything, as long as something else is in the way.
    local spread = percentile(noise, 0.99) / percentile(noise, 0.1)
    local worse = math.min(spread, 2)
    local said, fits = {}, true
    for _, b in ipairs(BUDGET) do
      local list = cost[b.name]
      h.ok(#list >= b.times, ('%s was measured %d times'):format(b.name, #list))
      local ms = percentile(list, 0.99)
      best[b.name] = math.min(best[b.name] or math.huge, ms / worse)
      fits = fits and best[b.name] <= b.ms
      said[#said + 1] = ('%s %.2f ms (%d times)'):format(b.name, ms, #list)
    end
    note = ('at the 99th percentile %s; noise %.1f'):format(table.concat(said, ', '), spread)
    if fits then
      break
    end
  end
  io.stdout:write('note: ' .. note .. '\n')
  for _, b in ipairs(BUDGET) do
    h.ok(best[b.name] <= b.ms, ('%s: %.2f ms'):format(b.name, best[b.name]))
  end
end)

return T
