--- Options: defaults, merging, and what is said about mistakes.

local h = require('helper')
local config = require('gemma.config')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

test('config: every default fits its own type', function()
  for _, o in ipairs(config.schema) do
    h.ok(o.default == nil or o.type.ok(o.default), o.name)
    h.ok(#o.desc > 20 and o.desc:sub(-1) == '.', o.name .. ' is described')
    for line in vim.gsplit(o.desc, '\n') do
      h.ok(#line <= 74, o.name .. ': line too long for the help file: ' .. line)
    end
  end
end)

test('config: no option is named twice', function()
  local seen = {}
  for _, o in ipairs(config.schema) do
    h.ok(not seen[o.name], o.name)
    seen[o.name] = true
  end
end)

test('config: groups and filetypes are merged by key, excluded patterns are added', function()
  local c = config.merge({
    completion = { max_lines = 3 },
    exclude = { '*.private', '!*secret*' },
    filetypes = { lua = false, help = true },
  })
  h.eq({ c.completion.max_lines, c.completion.max_tokens }, { 3, 96 })
  h.eq({ c.exclude[1], c.exclude[#c.exclude] }, { '.env*', '*.private' })
  h.ok(not vim.tbl_contains(c.exclude, '*secret*') and vim.tbl_contains(c.exclude, '*.pem'))
  h.eq({ c.filetypes.lua, c.filetypes.help, c.filetypes.gitrebase }, { false, true, false })
end)

test('config: no list of secrets of your own leaves those that are known', function()
  h.ok(vim.tbl_contains(config.merge({ exclude = {} }).exclude, '.env*'))
end)

test('config: of a compound filetype the whole name counts, then its parts, then the star', function()
  local get = config.get
  config.get = function()
    return config.merge({ filetypes = { yaml = false, ['yaml.ansible'] = true, ['*'] = true, cpp = true } })
  end
  local got = vim.tbl_map(config.takes, { 'yaml', 'yaml.ansible', 'yaml.docker-compose', 'cpp.doxygen',
    'doxygen.yaml', 'lua', '' })
  config.get = get
  h.eq(got, { false, true, false, true, false, true, true })
end)

test('config: what exclude matches: names, whole paths, the home folder; in any case', function()
  local exclude = require('gemma.exclude')
  local list = exclude.compile({ '*.secret', '/dev/shm/*', '~/private/*', '*/vault/?' })
  for path, want in pairs({
    ['/a/b.SECRET'] = true,
    ['/a.secret/b'] = false,
    ['/dev/shm/x'] = true,
    [vim.fs.normalize('~/private/diary.md')] = true,
    ['/elsewhere/private/diary.md'] = false,
    ['/x/vault/1'] = true,
    ['/x/vault/12'] = false,
  }) do
    h.eq(exclude.matches(list, path), want, path)
  end
end)

local WRONG = {
  { { completion = { max_lines = 'three' } }, 'completion.max_lines: expected integer 1..100' },
  { { completion = { max_lines = 2.5 } }, 'completion.max_lines' },
  { { completion = { auto = 'never' } }, "completion.auto: expected boolean | 'auto'" },
  { { completion = { maxlines = 3 } }, 'completion.maxlines: unknown option' },
  { { completion = true }, 'completion: expected a table' },
  { { colour = 'red' }, 'colour: unknown option' },
  { { device = 'cuda' }, "device: expected 'auto' | 'cpu' | 'vulkan'" },
  { { device = 'vulkan:x' }, 'device' },
  { { exclude = { 1 } }, 'exclude: expected list of string' },
  { { filetypes = { lua = 'off' } }, 'filetypes: expected table of boolean' },
  { { exclude = { '!*.nothing' } }, 'exclude: *.nothing is not in the default' },
  { { enabled = 1 }, 'enabled: expected boolean | function' },
}
for _, t in ipairs(WRONG) do
  local shown = vim.inspect(t[1], { newline = ' ', indent = '' })
  test('config: says what is wrong with ' .. shown, function()
    local problems = config.problems(t[1])
    h.eq(#problems, 1, vim.inspect(problems))
    h.has(problems[1], t[2])
    h.ok(not problems[1]:find('\n'), 'one line')
  end)
end

test('config: a wrong value leaves the default', function()
  h.eq(config.merge({ completion = { max_lines = 'three' } }).completion.max_lines, 8)
end)

test('config: setup() only merges into vim.g.gemma', function()
  local c = h.child({ config = "vim.g.gemma = { log = 'info', completion = { max_lines = 2 } }" })
  c:lua("require('gemma').setup({ completion = { max_tokens = 10 }, threads = 3 })")
  h.eq(c:lua('return vim.g.gemma'),
    { log = 'info', threads = 3, completion = { max_lines = 2, max_tokens = 10 } })
  h.eq(c:lua("return package.loaded['gemma.engine'] == nil"), true)
  h.eq(c:lua("return require('gemma.config').get().completion.max_lines"), 2)
end)

test('config: vim.g.gemma may be a function', function()
  local c = h.child({ config = 'vim.g.gemma = function() return { threads = 7 } end' })
  h.eq(c:lua("return require('gemma.config').get().threads"), 7)
end)

test('config: setup() over a function leaves it a function, and its table alone', function()
  local c = h.child({ config = [[
    Threads, Mine = 7, { completion = { max_lines = 2 } }
    vim.g.gemma = function() Mine.threads = Threads return Mine end]] })
  c:lua("require('gemma').setup({ completion = { max_tokens = 10 } })")
  local read = "local conf = require('gemma.config').get()"
    .. 'return { conf.threads, conf.completion.max_lines, conf.completion.max_tokens }'
  h.eq(c:lua(read), { 7, 2, 10 })
  h.eq(c:lua('return Mine'), { threads = 7, completion = { max_lines = 2 } })
  c:lua("Threads = 5 require('gemma.config').reload()")
  h.eq(c:lua(read), { 5, 2, 10 })
end)

test('config: a change of vim.g.gemma counts from the next Insert mode on', function()
  local c = h.child()
  c:insert_at('|')
  c:feed('<Esc>')
  c:lua("vim.g.gemma = { filetypes = { lua = false } }")
  c:feed('i')
  h.has(c:lua("return require('gemma').status().here"), 'filetype lua is off')
end)

test('config: a function in vim.g.gemma is no change each time it is read', function()
  local c = h.child({ config = 'vim.g.gemma = { enabled = function() return true end }' })
  local v = c:lua("require('gemma.config').reload() return require('gemma.config').version")
  h.eq(c:lua("require('gemma.config').reload() return require('gemma.config').version"), v)
end)

test('config: mistakes are told once, in one line each', function()
  local c = h.child({ config = 'vim.g.gemma = { colour = 1 }' })
  c:insert_at('|')
  c:feed('<Esc>i')
  c:wait('#Seen.messages > 0')
  h.eq(c:messages(), { 'gemma: vim.g.gemma: colour: unknown option.' })
end)

test('a path stands for a home folder and variables, and runs nothing', function()
  local path = require('gemma.util').path
  local made = vim.fn.tempname()
  local name = '~`touch ' .. made:gsub('/', '$SLASH') .. '`.md'
  vim.env.SLASH = '/'
  h.has(path(name), '`.md')
  h.has(path('~`touch ' .. vim.fs.basename(made) .. '`.md'), vim.uv.cwd() .. '/~`touch')
  h.ok(not vim.uv.fs_stat(made) and not vim.uv.fs_stat(vim.fs.basename(made)), 'it was run')
  h.eq(path('~/x'), vim.uv.os_homedir() .. '/x')
  h.eq(path('~root/x'), vim.fn.expand('~root') .. '/x')
  h.eq(path('${SLASH}x'), '/x')
end)

return T
