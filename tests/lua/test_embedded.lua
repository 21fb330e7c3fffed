--- The embedded model: when it stands in for a real one, and the tools that make it (prompts out of
--- files, and what they may be made from).

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local FILE = h.root .. '/tools/embedded/model/gemma-embedded.gguf'

--- The fake engine has no folder of a plugin, so it is told.
---@param c test.Child
---@return test.Child
local function without_model(c)
  c:lua([[
    vim.fn.delete(vim.fn.stdpath('data') .. '/gemma/fake.gguf')
    require('gemma.ffi').root = function() return root end
    root = ...]], h.root)
  return c
end

--- A child without any model of its own.
---@param config string?
local function poor(config)
  return without_model(h.child({ config = config }))
end

test('without a model the one that comes with the plugin is loaded, and says so once on a machine', function()
  local c = poor()
  c:cmd('Gemma load')
  c:wait("require('gemma.engine').is_loaded()")
  h.eq(c:lua('return Fake.loads[1].model_path'), FILE)
  h.eq(c:lua('return Fake.loads[1].mmproj_path'), vim.fs.dirname(FILE) .. '/mmproj-gemma-embedded.gguf')
  local news = 'gemma: built-in toy model. :Gemma install model: 6.7 GB.'
  c:wait('#Seen.messages == 2')
  h.eq(c:messages(), { news, 'gemma: the model is loaded.' })
  local page = c:lua("return vim.inspect(require('gemma.command').status_lines())")
  h.has(page, 'the toy that comes with the plugin; :Gemma install model for a real one')
  -- The next session has read the message already.
  local d = without_model(h.child({
    env = { XDG_STATE_HOME = c.dir .. '/state' },
    config = "vim.g.gemma = { shared = 'own' }",
  }))
  d:cmd('Gemma load')
  d:wait("require('gemma.engine').is_loaded()")
  d:wait('#Seen.messages == 1')
  h.eq(d:messages(), { 'gemma: the model is loaded.' })
end)

-- An unused model is unloaded, so that a day in one editor has many loads.
test('where nothing can be written it is said once in a session', function()
  local c = poor()
  c:lua([[local path = require('gemma.util').state_path('')
    vim.fn.mkdir(vim.fs.dirname(vim.fs.dirname(path)), 'p')
    vim.fn.writefile({}, vim.fs.dirname(path))]])
  for _ = 1, 2 do
    c:lua("require('gemma').load()")
    c:wait("require('gemma.engine').is_loaded()")
    c:lua("require('gemma').unload()")
    c:wait("require('gemma.engine').state == 'off'")
  end
  c:cmd('Gemma load')
  c:wait("vim.tbl_contains(Seen.messages, 'gemma: the model is loaded.')")
  h.eq(#c:messages(), 2, vim.inspect(c:messages()))
end)

test('a model of the folder, or model_path, comes before the one of the plugin', function()
  local c = h.child()
  h.eq(c:lua("return (require('gemma.models').find())"), c.dir .. '/data/nvim/gemma/fake.gguf')
  local d = poor("vim.g.gemma = { model_path = '/nowhere.gguf' }")
  h.eq(d:lua("return { require('gemma.models').find() }")[2], 'no model at /nowhere.gguf. Check model_path.')
end)

test('embedded = false leaves it out', function()
  local c = poor('vim.g.gemma = { embedded = false }')
  h.has(c:lua("return select(2, require('gemma.models').find())"), 'no model. Run :Gemma install model')
end)

--- A child that can cut holes into a file as the training prompts do.
local function cutter()
  local c = h.child()
  c:lua([[
    package.path = ... .. '/tools/embedded/?.lua;' .. package.path
    holes = require('holes')
    context = require('gemma.context')
    text = 'local M = {}\n\nfunction M.add(a, b)\n  local sum = a + b\n  return sum\nend\n\n'
      .. 'function M.sub(a, b)\n  return a - b\nend\n\nreturn M\n'
    buf, lines = holes.open(text, 'lua/sum.lua', 'lua')
    budget = { tokens = 256, suffix_tokens = 64 }
    function flat(hole, tail)
      local out
      holes.with(buf, lines, hole, tail, function()
        out = context.gather(buf, hole.row, hole.col, budget)
      end)
      return out
    end]], h.root)
  return c
end

test('a prompt with its hole filled is the file, and the buffer is as it was', function()
  local c = cutter()
  local bad = c:lua([[
    local rnd, bad, n = holes.random(5), {}, 0
    while n < 200 do
      local hole = holes.pick(lines, rnd)
      if hole then
        n = n + 1
        local got = flat(hole, false)
        local whole = got.above .. got.mouth .. hole.text .. got.next .. '\n'
        if got.below ~= '' then
          whole = whole .. got.below .. '\n'
        end
        local now = table.concat(vim.api.nvim_buf_get_lines(buf, 0, -1, false), '\n') .. '\n'
        if whole ~= text or now ~= text then
          bad[#bad + 1] = whole
        end
      end
    end
    return bad]])
  h.eq(bad, {})
end)

test('at the end of what was written nothing follows the hole', function()
  local c = cutter()
  h.eq(c:lua([[
    local hole = { row = 3, col = 2, to_row = 3, to_col = #lines[4], text = lines[4]:sub(3) }
    local got = flat(hole, true)
    return { got.next, got.below, got.mouth:sub(-23) }]]),
    { '', '', 'function M.add(a, b)\n  ' })
end)

test('a hole ends where a line or a short block ends', function()
  local c = cutter()
  local texts = c:lua([[
    local rnd, seen = holes.random(9), {}
    for _ = 1, 2000 do
      local hole = holes.pick(lines, rnd)
      if hole and hole.row == 2 and hole.col == 0 and hole.to_col == #lines[hole.to_row + 1] then
        seen[hole.text] = true
      end
    end
    local out = vim.tbl_keys(seen)
    table.sort(out, function(a, b) return #a < #b end)
    return out]])
  h.eq(texts, {
    'function M.add(a, b)',
    'function M.add(a, b)\n  local sum = a + b\n  return sum\nend',
  })
end)

test('the indentation of a file is found, so that the prompt can name it', function()
  local c = cutter()
  h.eq(c:lua("return flat({ row = 3, col = 2, to_row = 3, to_col = 4, text = 'lo' }, false).indent"),
    '2 spaces')
  h.eq(c:lua([[
    local b = holes.open('int f(void)\n{\n\treturn 1;\n}\n', 'f.c', 'c')
    return context.gather(b, 2, 1, budget).indent]]), 'tabs')
end)

test('every source of training text has a permissive licence', function()
  local free = { 'MIT', 'Apache%-2%.0', 'Vim', 'BSD%-[23]%-Clause', 'curl', 'ISC', 'libpng', 'Zlib' }
  local n = 0
  for line in io.lines(h.root .. '/tools/embedded/sources.tsv') do
    if line:sub(1, 1) ~= '#' then
      n = n + 1
      local name, kind, licence, languages = line:match('^([%w.+-]+)\t(%a+)\t([^\t]+)\t([^\t]+)$')
      assert(name, 'not four columns: ' .. line)
      assert(kind == 'deb' or kind == 'src', name .. ' is of kind ' .. kind)
      assert(languages, name)
      for part in (licence:gsub('%b()', '') .. ' '):gmatch('(%S+) ') do
        local known = part == 'and' or part == 'or'
        for _, f in ipairs(free) do
          known = known or part:find('^' .. f .. '$') ~= nil
        end
        assert(known, ('%s: licence %s'):format(name, part))
      end
    end
  end
  assert(n > 50, n)
end)

-- It broke once when attach.ask() got another parameter, and nobody saw it before the next training.
test('the plugin texts of the training prompts are those of the plugin', function()
  local work = vim.fn.tempname()
  local done = vim.system({ vim.v.progpath, '--clean', '-l', h.root .. '/tools/embedded/prompts.lua',
    h.root, work, 'rules' }, { text = true }):wait()
  h.eq({ done.code, done.stderr }, { 0, '' })
  local rules = vim.json.decode(table.concat(vim.fn.readfile(work .. '/prompts/rules.json'), '\n'))
  h.eq(rules.complete, require('gemma.context').RULES)
  h.has(rules.image, 'What does this picture show?')
  h.has(rules.audio, 'What is said in this recording?')
  vim.fn.delete(work, 'rf')
end)

test('the chain says in one line which stages there are', function()
  local done = vim.system({ h.root .. '/tools/embedded/chain', 'nonsense' },
    { text = true, env = { WORK = vim.fn.tempname(), TREE = '/nonexistent' } }):wait()
  h.eq(done.code, 1)
  h.eq(done.stderr, 'embedded: no stage nonsense; there are: tree fetch corpus vocabulary prompts '
    .. 'sounds heldout train export equal eval\n')
end)

test('its sum is not kept, and nobody says so', function()
  local c = poor()
  c:cmd('Gemma load')
  c:wait("require('gemma.engine').is_loaded()")
  c:cmd('Gemma verify')
  c:wait('#Fake.hashes == 1')
  c:lua("Fake.hashed(('ab'):rep(32))")
  c:wait('Seen.messages[#Seen.messages]:find("no sum")')
  h.has(table.concat(c:messages(), '\n'), 'gemma-embedded.gguf: abababababab...; it comes with the plugin.')
  c:cmd('checkhealth gemma')
  h.has(table.concat(c:lines(), '\n'), 'none is kept of the model that comes with the plugin')
end)

return T
