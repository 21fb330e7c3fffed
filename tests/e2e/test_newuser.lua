--- test_newuser.lua: somebody who has read the README and nothing else: its two commands, a model put
--- where it says, a file, and every command of its table, typed into an editor without any configuration.
---
--- `make` is a stand-in that puts the library of this checkout in place; the model is the smallest one.

package.path = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h') .. '/?.lua;' .. package.path
local case = require('case')
local screen = require('screen')

local WAIT = 20000 -- ms; only a failing test takes that long

---@param cmd string[]
---@param o table?
local function run(cmd, o)
  local r = vim.system(cmd, vim.tbl_extend('force', { text = true }, o or {})):wait(60000)
  case.ok(r.code == 0, table.concat(cmd, ' ') .. ': ' .. (r.stderr or ''))
end

--- The shell commands of the README's section for users, and the folder that it names for a model.
---@return string[]
---@return string
local function recipe()
  local text = table.concat(vim.fn.readfile(screen.top .. '/README.md'), '\n')
  local block, prose = text:match('\n## Using it\n.-\n\n(    git clone.-)\n\n(.-)\n\n')
  local folder = assert(prose:match('put a GGUF file of Gemma 4 12B into%s+`(.-)`'))
  return vim.tbl_map(vim.trim, vim.split(block, '\n')), folder
end

--- A folder with a repository to clone, a model file that was downloaded, and a quick `make`.
---@return string
local function workshop()
  if vim.fn.executable('git') == 0 then
    case.skip('no git')
  end
  local dir = vim.fn.tempname()
  for _, d in ipairs({ 'repo/csrc', 'bin', 'data', 'away' }) do
    vim.fn.mkdir(dir .. '/' .. d, 'p')
  end
  run({ 'cp', '-R', 'build.lua', 'plugin', 'lua', 'doc', 'prompts', 'Makefile', dir .. '/repo' }, { cwd = screen.top })
  vim.fn.mkdir(dir .. '/repo/tools/embedded', 'p')
  run({ 'cp', '-R', 'tools/embedded/model', dir .. '/repo/tools/embedded' }, { cwd = screen.top })
  vim.fn.writefile({}, dir .. '/repo/csrc/some.c')
  run({ 'sh', '-c', 'git init -q && git add -A && git -c user.name=t -c user.email=t@t commit -qm all' },
    { cwd = dir .. '/repo' })
  vim.fn.writefile({
    '#!/bin/sh', -- make -C DIR ...; a file that an editor has mapped is replaced, never written over
    ('mkdir -p "$2/build" && cp %s/libgemma.so "$2/build/new"'):format(vim.fn.shellescape(case.build)),
    'mv "$2/build/new" "$2/build/libgemma.so"',
  }, dir .. '/bin/make')
  run({ 'sh', '-c', 'chmod +x make && ln -s make gmake' }, { cwd = dir .. '/bin' })
  local model = screen.top .. '/tests/golden/sets/nano/model-Q8_0.gguf'
  assert(vim.uv.fs_copyfile(model, dir .. '/away/gemma-4-12b-it-Q4_0.gguf'))
  return dir
end

--- Follows the README and starts an editor.
---@param with_model boolean
---@return Screen
---@return integer n commands that it took
local function follow(with_model)
  local dir = workshop()
  local path = dir .. '/bin:' .. vim.env.PATH
  local commands, folder = recipe()
  if with_model then
    table.insert(commands, ('mkdir -p %s && mv *.gguf %s/'):format(folder, folder))
  end
  for _, command in ipairs(commands) do
    command = command:gsub('URL', 'file://' .. dir .. '/repo'):gsub('~/%.local/share', dir .. '/data')
    run({ 'sh', '-c', command }, { cwd = dir .. '/away', env = { PATH = path, GIT_CONFIG_GLOBAL = '/dev/null' } })
  end
  vim.fn.writefile({}, dir .. '/init.lua')
  local s = case.editor({
    file = case.sample(),
    init = dir .. '/init.lua',
    model = false,
    env = { XDG_DATA_HOME = dir .. '/data', PATH = path, GIT_CEILING_DIRECTORIES = '/', DISPLAY = '' },
  })
  return s, #commands
end

--- What was said since the last command.
---@param s Screen
---@param text string
local function says(s, text)
  s:wait('a message: ' .. text, WAIT, function()
    return s:lua("return vim.fn.execute('messages')"):find(text, 1, true)
  end)
end

--- A question on the screen, which is left without an answer.
---@param s Screen
---@param text string
local function offers(s, text)
  s:wait('a list: ' .. text, WAIT, function()
    return s:find(text) and s:find('Type number and')
  end)
  s:keys('q', 'Enter')
end

---@param s Screen
---@param expr string
local function becomes(s, expr)
  s:wait(expr, WAIT, function()
    return s:lua('return ' .. expr)
  end)
end

local BUSY = "require('gemma.engine').busy()"
local ANSWER = "require('gemma.chat.kept').current() ~= nil and not require('gemma.chat.kept').current():running()"

--- Asks for as much as a model can write. A random one may end its answer by itself, so there is always
--- another question.
---@param s Screen
local function keep_asking(s)
  s:lua([[
    local function ask()
      require('gemma').ask({ prompt = 'Go on.', max_tokens = 8000, on_done = function(text, info)
        _G.Ended = not text and info or nil
        if text then ask() end
      end })
    end
    ask()]])
  becomes(s, BUSY)
end

--- Every command of the README's table, what there is to be seen of it, and what comes before it.
--- Pictures and recordings need a file that is not there.
---@type { [1]: string, [2]: fun(s: Screen), before: fun(s: Screen)? }[]
local COMMANDS = {
  { 'Gemma load', function(s) says(s, 'the model is loaded.') end },
  { 'Gemma status', function(s)
    s:wait('the page', WAIT, function() return s:find('here ') and s:find('Press ENTER') end)
    s:keys('Enter')
  end },
  { '5,6GemmaExplain', function(s)
    becomes(s, BUSY .. ' or ' .. ANSWER)
    s:ex('Gemma stop')
    becomes(s, ANSWER)
  end },
  { 'Gemma ask why', function(s)
    becomes(s, BUSY .. ' or ' .. ANSWER)
    s:ex('Gemma stop')
    becomes(s, ANSWER)
    s:lua("require('gemma.chat').close()")
  end },
  { 'Gemma answers', function(s) offers(s, 'Answers') end },
  { '5,6Gemma edit shorter', function(s)
    becomes(s, BUSY .. " or require('gemma.edit.preview').get(0 + vim.fn.bufnr()) ~= nil")
    s:keys('g', 'C-e')
    s:ex('Gemma stop')
    becomes(s, 'not ' .. BUSY)
  end },
  { 'Gemma fix', function(s) says(s, 'there are no diagnostics in these lines.') end },
  { 'Gemma prompt', function(s) offers(s, 'review: look for mistakes') end },
  { 'Gemma commit', function(s) says(s, 'no repository here: ') end },
  { 'Gemma image', function(s) says(s, 'no mmproj file') end },
  { 'Gemma shot', function(s) says(s, 'no mmproj file') end },
  { 'Gemma record voice', function(s) says(s, 'no mmproj file') end },
  { 'Gemma record screen', function(s) says(s, 'no mmproj file') end },
  { 'Gemma dictate', function(s) says(s, 'no mmproj file') end },
  { 'Gemma install lib', function(s) says(s, 'the library is built in ') end },
  { 'Gemma install model', function(s) offers(s, 'Model to download from ') end },
  { 'Gemma verify', function(s) says(s, 'no sum is known for gemma-4-12b-it-Q4_0.gguf') end },
  { 'Gemma model', function(s) offers(s, 'gemma-4-12b-it-Q4_0.gguf') end },
  { 'Gemma disable', function(s) says(s, 'ghost text is off.') end },
  { 'Gemma enable', function(s) says(s, 'ghost text is on.') end },
  { 'Gemma toggle buffer', function(s) says(s, 'ghost text is off in this buffer.') end },
  { 'Gemma device cpu', function(s)
    becomes(s, "require('gemma.engine').device == 'cpu' and require('gemma.engine').is_loaded()")
  end },
  { 'Gemma bench', function(s) says(s, ' tokens per second') end },
  { 'Gemma stop', function(s) becomes(s, "Ended == 'cancelled' and not " .. BUSY) end, before = keep_asking },
  { 'Gemma log', function(s) becomes(s, "vim.fn.getline(1):match('^# .*gemma.log') ~= nil") end },
  { 'Gemma! disable', function(s) becomes(s, "require('gemma.engine').state == 'off'") end },
  { 'Gemma load', function(s) says(s, 'the model is loaded.') end },
  { 'Gemma unload', function(s) becomes(s, "require('gemma.engine').state == 'off'") end },
}

case.run({
  {
    'two commands of the README and a model, and the first line that is typed gets grey text',
    function()
      local s, n = follow(true)
      case.ok(n <= 3, n .. ' commands')
      case.provoke(s)
    end,
  },
  {
    'for somebody who has no model: the toy is there, with pictures',
    function()
      local s = follow(false)
      s:keys('2Go')
      -- Its answer is a name; what is shorter than completion.min_chars would not be shown.
      s:type('function M.')
      s:wait('the toy', WAIT, function()
        return s:lua("return require('gemma').visible()")
      end)
      s:keys('Escape')
      s:wait('what it is', WAIT, function()
        return s:lua("return vim.fn.execute('messages')"):find('gemma: built-in toy model.', 1, true)
      end)
      case.equal(s:lua("return require('gemma.engine').media_reason()"), vim.NIL, 'pictures')
    end,
  },
  {
    'every command of the README works or says what is missing',
    function()
      local s = follow(true)
      local tried = {}
      for _, c in ipairs(COMMANDS) do
        s:lua("vim.cmd('messages clear | let v:errmsg = \"\"')")
        if c.before then
          c.before(s)
        end
        s:ex(c[1])
        c[2](s)
        case.equal(s:lua('return vim.v.errmsg'), '', c[1])
        tried[c[1]:match('Gemma!? ?(%l*)')] = true
      end
      -- think, answers and save have keys and tests of their own; nothing else is left out.
      local left = vim.tbl_filter(function(name)
        return not tried[name]
      end, s:lua("return require('gemma.command').names()"))
      case.equal(left, { 'save', 'think' }, 'commands that were not tried')
    end,
  },
})
