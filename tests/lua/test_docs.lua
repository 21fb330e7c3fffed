--- The help file, the code and the README say the same: every command, option, key, event, function
--- and highlight has its tag, no tag is without its thing, and every promise names its test.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function slurp(path)
  local f = assert(io.open(h.root .. '/' .. path, 'rb'))
  local s = f:read('*a')
  f:close()
  return s
end

local help = slurp('doc/gemma.txt')

--- Tags of the help file that match a pattern, as a set of what it captures.
local function tags(pattern)
  local out = {}
  for tag in help:gmatch('%*([^%s*|]+)%*') do
    local m = tag:match('^' .. pattern .. '$')
    if m then
      out[m] = true
    end
  end
  return out
end

local function set(list, field)
  local out = {}
  for _, v in ipairs(list) do
    out[field and v[field] or v] = true
  end
  return out
end

--- Both sets are the same; says which side lacks what.
local function same(got, want, what)
  for k in pairs(want) do
    h.ok(got[k], ('%s %s has no tag in doc/gemma.txt'):format(what, k))
  end
  for k in pairs(got) do
    h.ok(want[k], ('the help has a tag for the %s %s, which does not exist'):format(what, k))
  end
end

test('docs: every option has its tag, and every such tag its option', function()
  same(tags('gemma%-option%-(.+)'), set(require('gemma.config').schema, 'name'), 'option')
end)

test('docs: every subcommand has its tag', function()
  local have = tags('gemma%-(%l+)')
  for name in pairs(require('gemma.command').commands) do
    h.ok(have[name], name)
  end
  for line in help:gmatch('\n:[^\n]*Gemma ([%l]+)[^\n]*%*gemma%-%l+%*') do
    h.ok(require('gemma.command').commands[line], line)
  end
  for _, c in ipairs({ ':Gemma', ':GemmaExplain' }) do
    h.has(help, '*' .. c .. '*')
  end
end)

test('docs: every key has its tag, and every such tag its key', function()
  local keys = {}
  for _, k in ipairs(require('gemma.keymap').keys) do
    keys[k.plug:match('gemma%-([%w-]+)')] = true
  end
  same(tags('gemma%-key%-(.+)'), keys, 'key')
end)

test('docs: every <Plug> map of Normal mode has its tag, and every such tag its map', function()
  local c = h.child()
  local plugs = {}
  local lhs = c:lua([[return vim.tbl_map(function(m) return m.lhs end, vim.api.nvim_get_keymap('n'))]])
  for _, l in ipairs(lhs) do
    local name = l:match('^<Plug>%(gemma%-(.+)%)$')
    if name then
      plugs[name] = true
    end
  end
  same(tags('gemma%-plug%-(.+)'), plugs, 'map')
end)

test('docs: <Tab> as the help has it: accepts, jumps in a snippet, or is what it was', function()
  local blocks = {}
  for block in help:match('%*gemma%-tab%*(.-)\n====='):gmatch('>lua\n(.-)\n<') do
    blocks[#blocks + 1] = block
  end
  local c = h.child()
  c:lua(blocks[1])
  c:insert_at('x = |')
  c:wait("require('gemma.engine').is_loaded()")
  c:feed('<Tab>')
  h.eq(c:lines(), { 'x =     ' })
  c:lua("vim.snippet.expand('f($1, $2)$0')")
  c:feed('a<Tab>b<Tab>')
  h.eq(c:lines(), { 'x =     f(a, b)' })
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs > 0')
  c:lua("Fake.emit('.alpha') Fake.done()")
  h.shown(c)
  c:feed('<Tab>')
  h.eq(c:lines(), { 'x =     f(a, b).alpha' })
  -- As blink.cmp calls the functions of its keys, and nvim-cmp its own: within a mapping.
  local plugins = { ('local %s return keymap["<Tab>"][1]'):format(vim.trim(blocks[2])),
    ([[local %s return function()
      local passed = false
      mapping["<Tab>"](function() passed = true end)
      return not passed
    end]]):format(vim.trim(blocks[3])) }
  for n, code in ipairs(plugins) do
    c:lua([[local code = ...
      local accept = assert(loadstring(code))()
      vim.keymap.set('i', '<Tab>', function() return accept() and '' or '-' end, { expr = true })]], code)
    c:feed('<Tab>')
    c:feed([[<M-Bslash>]])
    c:wait('#Fake.jobs > ' .. n)
    c:lua("Fake.emit('beta') Fake.done()")
    h.shown(c)
    c:feed('<Tab>')
  end
  h.eq(c:lines(), { 'x =     f(a, b).alpha-beta-beta' })
end)

test('docs: every highlight group has its tag, and every such tag its group', function()
  same(tags('hl%-(.+)'), set(require('gemma.highlight').groups, 'name'), 'group')
end)

test('docs: every event of the code has its tag, and every such tag its event', function()
  local events = {}
  for _, file in ipairs(vim.fn.globpath(h.root .. '/lua', '**/*.lua', true, true)) do
    local f = assert(io.open(file, 'rb'))
    for name in f:read('*a'):gmatch("event%(%s*'(Gemma%w+)'") do
      events[name] = true
    end
    f:close()
  end
  same(set(require('gemma.api').events, 'name'), events, 'event')
  for name in pairs(events) do
    h.has(help, '*' .. name .. '*')
  end
end)

test('docs: every public function is in the list, with its version and its tag', function()
  local gemma, listed = require('gemma'), {}
  for _, f in ipairs(require('gemma.api').functions) do
    listed[f.name] = true
    h.ok(f.since:match('^%d+%.%d+%.%d+$') and #f.desc > 10, f.name)
    h.has(help, ('*gemma.%s()*'):format(f.name))
    h.ok(type(gemma[f.name]) == 'function', f.name .. ' exists')
  end
  for name in pairs(gemma) do
    h.ok(listed[name], name .. ' is not in api.lua')
  end
end)

test('docs: a deprecated function says so once and does what takes its place', function()
  local c = h.child()
  c:lua([[
    _G.Said = {}
    vim.deprecate = function(...) table.insert(Said, { ... }) end
    local m = { new = function(a) return a + 1 end }
    require('gemma.api').deprecated(m, { { name = 'old', args = '', since = '0.1.0', desc = '',
      instead = 'new', until_version = '0.3.0' } })
    _G.Got = m.old(1)]])
  h.eq(c:lua('return Got'), 2)
  h.eq(c:lua('return { Said[1][1], Said[1][2], Said[1][3], Said[1][4] }'),
    { "require('gemma').old", 'new', '0.3.0', 'gemma.nvim' })
end)

test('docs: the states of the engine are those that the help names', function()
  local engine = slurp('lua/gemma/engine.lua')
  local alias = engine:match('%-%-%-@alias gemma%.State(.-)\n\n')
  local states = {}
  for s in alias:gmatch("'(%l+)'") do
    states[s] = true
  end
  same(set(require('gemma.api').states), states, 'state')
end)

-- EINVAL had the number of ENOMEM in two places, and EBUSY in a third.
test('docs: errors that are made in Lua have the codes of the library', function()
  local errors = require('gemma.errors')
  local n = 0
  for name, code in slurp('csrc/base/err.h'):gmatch('X%((E%u+), (%-%d+),') do
    n = n + 1
    h.eq(errors.code[name], tonumber(code), name)
    h.eq(errors.name(tonumber(code)), name)
    h.eq(errors.new(name, 'why'), { code = tonumber(code), name = name, text = 'why' })
  end
  h.eq(vim.tbl_count(errors.code), n)
  h.eq(errors.name(-99), 'EINTERNAL')
  for _, file in ipairs(vim.fn.globpath(h.root .. '/lua', '**/*.lua', true, true)) do
    local text = table.concat(vim.fn.readfile(file), '\n')
    h.ok(not text:find('code = %-%d'), vim.fs.basename(file) .. ' makes up an error code')
  end
end)

test('docs: the contents name every chapter', function()
  local contents = help:match('Contents ~\n(.-)\n=====')
  for tag in help:gmatch('\n%u[%u ]+ +%*(gemma%-[%l]+)%*\n') do
    h.has(contents, '|' .. tag .. '|')
  end
end)

test('docs: messages are one line without an exclamation mark, and end with a full stop', function()
  -- What can be read from the source: the literal texts of notify calls.
  local n = 0
  for _, file in ipairs(vim.fn.globpath(h.root .. '/lua', '**/*.lua', true, true)) do
    local f = assert(io.open(file, 'rb'))
    local name = vim.fs.basename(file)
    for text in f:read('*a'):gmatch("notify%.%l+%(%(?'([^'\n]+)'%)?[:%)]") do
      n = n + 1
      h.ok(not text:find('!', 1, true), ('%s: %s'):format(name, text))
      h.ok(not text:find('\\n', 1, true), ('%s: %s'):format(name, text))
      local ends = text:sub(-1)
      h.ok(ends == '.' or text:find('%%s$') or text:sub(-1) == ' ', ('%s: %s'):format(name, text))
      h.ok(not text:find('^%u%l'), ('%s: begins after "gemma: ": %s'):format(name, text))
    end
    f:close()
  end
  h.ok(n > 40, 'texts were found: ' .. n)
end)

test('docs: what is told fits the message line of 80 columns, so that its cure is not cut off', function()
  local room = 68 -- v:echospace with 'showcmd' and 'ruler'
  local n = 0
  for _, file in ipairs(vim.fn.globpath(h.root .. '/lua', '**/*.lua', true, true)) do
    local source = slurp(file:sub(#h.root + 2))
    for _, pattern in ipairs({ "notify%.%l+%(%(?'([^'\n]+)'", "fmt = '([^'\n]+%.)'\n" }) do
      for text in source:gmatch(pattern) do
        -- Names and paths of any length come last; the log has the whole of it.
        text = 'gemma: ' .. text:gsub('%%d', '4242'):gsub('%%%.1f', '2.1'):gsub('\\\\', '\\')
        if not text:find('%s', 1, true) and not text:find('See :Gemma log', 1, true) then
          n = n + 1
          h.ok(#text <= room, ('%s: %d cells: %s'):format(vim.fs.basename(file), #text, text))
        end
      end
    end
  end
  h.ok(n > 40, 'texts were found: ' .. n)
end)

--- Names of the tests of a file, as a set.
local function names_of(file)
  local out = {}
  for _, t in ipairs(dofile(('%s/tests/lua/test_%s.lua'):format(h.root, file))) do
    out[t[1]] = true
  end
  return out
end

local known = {} ---@type table<string, table<string, true>> names of tests by file

--- A promise "file: name" is kept by a test of that name.
local function kept(what, promise)
  local file, name = promise:match('^(%w+): (.+)$')
  h.ok(file, what .. ' has no test')
  known[file] = known[file] or names_of(file)
  h.ok(known[file][name], ('%s: there is no test %q in test_%s.lua'):format(what, name, file))
end

test('docs: every row of the feature table names a test that exists', function()
  local section = slurp('README.md'):match('\n## Beside others\n(.-)\n## ')
  local rows = 0
  for row in section:gmatch('\n(|[^\n]+|)') do
    local cells = vim.split(row:sub(2, -2), '|', { plain = true })
    local feature, promise = vim.trim(cells[1]), vim.trim(cells[#cells])
    if feature ~= '' and not feature:match('^%-+$') then
      rows = rows + 1
      h.eq(#cells, 7, feature)
      kept(feature, promise)
    end
  end
  h.ok(rows > 25, rows .. ' rows')
end)

test('docs: everything that users ask for has a test', function()
  local section = slurp('doc/gemma-dev.txt'):match('%*gemma%-dev%-demands%*\n(.-)\nvim:')
  local n = 0
  for number, demand, promise in section:gmatch('\n *(%d+)%. ([^\n]+)\n +([^\n]+)') do
    n = n + 1
    h.eq(tonumber(number), n)
    kept(demand, promise)
  end
  h.eq(n, 25)
end)

return T
