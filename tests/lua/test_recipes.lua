--- The recipes of the README, as they stand there: a package manager takes the plugin from a local
--- repository, builds it, and a new editor has it.
---
--- `make` is a stand-in that puts a library in place: compiling it is what the other tests begin with.
--- vim.pack is Neovim's own; of lazy.nvim, which is not here, the documented meaning of the four fields
--- is followed: clone; `build` ends in .lua, so it is loaded and called in a coroutine that is resumed
--- until it ends, strings that it yields are shown; then the clone is on 'runtimepath' with its plugin
--- files sourced.

local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function run(cmd, opts)
  local r = vim.system(cmd, vim.tbl_extend('force', { text = true }, opts or {})):wait(60000)
  h.ok(r.code == 0, table.concat(cmd, ' ') .. ': ' .. (r.stderr or '') .. (r.stdout or ''))
  return r.stdout
end

--- The code block of the README behind a name in bold.
local function recipe(name)
  local f = assert(io.open(h.root .. '/README.md', 'rb'))
  local text = f:read('*a')
  f:close()
  return (assert(text:match('%*%*' .. vim.pesc(name) .. '%*%*[^\n]*\n\n```lua\n(.-)\n```'), name))
end

--- A folder with a repository of the plugin and a `make` that builds in no time.
---@return string dir
local function workshop()
  if vim.fn.executable('git') == 0 then
    h.skip('no git')
  end
  local dir = vim.fn.tempname()
  local repo, bin = dir .. '/gemma.git', dir .. '/bin'
  vim.fn.mkdir(repo, 'p')
  vim.fn.mkdir(bin, 'p')
  run({ 'cp', '-R', 'build.lua', 'plugin', 'lua', 'doc', 'Makefile', repo }, { cwd = h.root })
  vim.fn.mkdir(repo .. '/csrc')
  vim.fn.writefile({}, repo .. '/csrc/some.c')
  local git = { 'git', '-c', 'user.name=test', '-c', 'user.email=test@localhost' }
  run({ 'git', 'init', '-q', '-b', 'main' }, { cwd = repo })
  run(vim.list_extend(vim.deepcopy(git), { 'add', '-A' }), { cwd = repo })
  run(vim.list_extend(vim.deepcopy(git), { 'commit', '-q', '-m', 'plugin' }), { cwd = repo })
  vim.fn.writefile({
    '#!/bin/sh',
    'echo "$*" >>"$MADE"',
    'echo $$ >"$MADE.pid"',
    'echo "  CC  some.c"',
    'while [ -e "$HOLD" ]; do sleep 0.02; done',
    '[ -z "$KILLED" ] || kill -9 $$',
    '[ -z "$BROKEN" ] || { echo "some.c:1: fatal error: uv.h: No such file" >&2; exit 2; }',
    'mkdir -p "$2/build" && echo library >"$2/build/libgemma.so"',
  }, bin .. '/make')
  vim.fn.writefile({ '#!/bin/sh' }, bin .. '/cc')
  run({ 'chmod', '+x', bin .. '/make', bin .. '/cc' })
  run({ 'ln', '-s', 'make', bin .. '/gmake' })
  return dir
end

--- vim.pack came with 0.12.
local function need_pack()
  local version = vim.fn.system({ h.nvim, '--version' })
  if tonumber(version:match('v0%.(%d+)')) < 12 then
    h.skip('vim.pack came with Neovim 0.12')
  end
end

--- A Neovim of the test's version that runs an init file and says what is there.
---@param env table? more of it
---@return table found
---@return string output
local function nvim(dir, init, env)
  vim.fn.writefile(vim.split(init, '\n'), dir .. '/init.lua')
  local script = dir .. '/look.lua'
  vim.fn.writefile({
    'local ok, path = pcall(function() return require("gemma.ffi").path() end)',
    'local out = { command = vim.fn.exists(":Gemma"), shared_object = ok and path or "?",',
    '  there = ok and vim.uv.fs_stat(path) ~= nil, loaded = vim.g.loaded_gemma or false,',
    '  tags = #vim.fn.getcompletion("gemma-options", "help"), after = vim.g.after }',
    'vim.fn.writefile({ vim.json.encode(out) }, vim.env.LOOK)',
  }, script)
  env = vim.tbl_extend('force', {
    XDG_CONFIG_HOME = dir .. '/config', XDG_DATA_HOME = dir .. '/data', XDG_STATE_HOME = dir .. '/state',
    XDG_CACHE_HOME = dir .. '/cache', NVIM = '', NVIM_APPNAME = '', MADE = dir .. '/made',
    LOOK = dir .. '/look', PATH = dir .. '/bin:' .. vim.env.PATH, GIT_CONFIG_NOSYSTEM = '1',
    GIT_CONFIG_GLOBAL = '/dev/null',
  }, env or {})
  local out = vim.system({ h.nvim, '--headless', '-n', '-i', 'NONE', '-u', dir .. '/init.lua',
    '-c', 'luafile ' .. script, '-c', 'qall!' }, { env = env, text = true }):wait(60000)
  h.ok(out.code == 0, out.stderr)
  return vim.json.decode(vim.fn.readfile(dir .. '/look')[1]), out.stderr
end

--- What lazy.nvim does with a build file: its coroutine is resumed until it ends.
local LAZY_BUILD = [[
  local path = ...
  _G.Shown = {}
  local routine = coroutine.create(assert(loadfile(path)))
  local cwd = vim.uv.cwd()
  local function step()
    local ok, said = coroutine.resume(routine)
    Shown[#Shown + 1] = ok and type(said) == 'string' and said or nil
    if coroutine.status(routine) ~= 'dead' then
      return vim.defer_fn(step, 5)
    end
    _G.Built = { error = not ok and said or nil, moved = vim.uv.cwd() ~= cwd }
  end
  step()]]

--- A Neovim in which that begins, with the workshop's make.
local function lazy_builds(dir, path, env)
  local c = h.child({ fake = false, env = vim.tbl_extend('force', {
    PATH = dir .. '/bin:' .. vim.env.PATH, MADE = dir .. '/made' }, env) })
  c:lua(LAZY_BUILD, path)
  return c
end

test("recipes: vim.pack installs from a repository, builds, and the next start has it", function()
  need_pack()
  local dir = workshop()
  local code = recipe('vim.pack'):gsub("'URL'", ("'file://%s/gemma.git'"):format(dir))
  -- Asked whether it may install, the user says yes.
  local got = nvim(dir, 'vim.fn.confirm = function() return 1 end\n' .. code)
  h.eq({ got.command, got.loaded, got.there }, { 2, true, true }, 'installed and built at once')
  h.has(got.shared_object, dir .. '/data/nvim/site/pack/core/opt/gemma.nvim/build/libgemma.so')
  h.ok(got.tags >= 1, 'the help has its tags')
  h.eq(#vim.fn.readfile(dir .. '/made'), 1)
  h.has(vim.fn.readfile(dir .. '/made')[1], 'gemma.nvim --no-print-directory -j')
  h.eq(nvim(dir, code).command, 2)
  h.eq(#vim.fn.readfile(dir .. '/made'), 1, 'built once')
  vim.fn.delete(dir, 'rf')
end)

test('recipes: a build that fails says why in one line, and the rest of the configuration is read', function()
  need_pack()
  local dir = workshop()
  local code = recipe('vim.pack'):gsub("'URL'", ("'file://%s/gemma.git'"):format(dir))
  local got, said = nvim(dir, 'vim.fn.confirm = function() return 1 end\n' .. code .. '\nvim.g.after = 1', {
    BROKEN = '1' })
  h.has(said, "gemma: the library was not built: libuv's header files are missing")
  h.eq({ got.command, got.there, got.after }, { 2, false, 1 })
  vim.fn.delete(dir, 'rf')
end)

test('recipes: what lazy.nvim makes of the four fields is a working plugin', function()
  local dir = workshop()
  local spec = assert(loadstring('return ' .. recipe('lazy.nvim')))()
  h.eq({ spec.url, spec.name, spec.lazy, spec.build }, { 'URL', 'gemma.nvim', false, 'build.lua' })
  local at = dir .. '/data/nvim/lazy/' .. spec.name
  run({ 'git', 'clone', '-q', 'file://' .. dir .. '/gemma.git', at })
  local hold = dir .. '/hold'
  vim.fn.writefile({}, hold)
  local c = lazy_builds(dir, at .. '/' .. spec.build, { HOLD = hold })
  c:wait('#Shown > 0', 'while make works the editor goes on and shows how far it is')
  h.eq(c:lua('return { Shown, Built }'), { { 'CC  some.c' } })
  vim.fn.delete(hold)
  c:wait('Built ~= nil')
  h.eq(c:lua('return Built'), { moved = false })
  h.has(vim.fn.readfile(dir .. '/made')[1], '-C ' .. at)
  local got = nvim(dir, ('vim.opt.rtp:prepend(%q)'):format(at))
  h.eq({ got.command, got.loaded, got.there }, { 2, true, true })
  h.has(got.shared_object, at)
  vim.fn.delete(dir, 'rf')
end)

test('recipes: leaving in the middle of build.lua ends make', function()
  local dir = workshop()
  vim.fn.writefile({}, dir .. '/hold')
  local c = lazy_builds(dir, dir .. '/gemma.git/build.lua', { HOLD = dir .. '/hold' })
  c:wait('#Shown > 0')
  local pid = tonumber(vim.fn.readfile(dir .. '/made.pid')[1])
  vim.rpcnotify(c.chan, 'nvim_command', 'qall!')
  h.eq(vim.fn.jobwait({ c.chan }, 3000)[1], 0)
  local gone = vim.wait(10000, function()
    return vim.uv.kill(pid, 0) ~= 0
  end, 5)
  vim.fn.delete(dir, 'rf') -- and what make waits for
  h.ok(gone, 'make is gone')
end)

test('recipes: build.lua ends in an error of one line where something is missing', function()
  local dir = workshop()
  local function build(env)
    local c = lazy_builds(dir, dir .. '/gemma.git/build.lua', env)
    c:wait('Built ~= nil')
    return c:lua('return Built.error')
  end
  h.has(build({ BROKEN = '1' }), "gemma: the library was not built: libuv's header files are missing")
  -- Its exit code is 0.
  h.eq(build({ KILLED = '1' }), 'gemma: the library was not built: make was ended by signal 9.')
  h.eq(build({ CC = 'no-such-cc' }),
    'gemma: no C compiler (no-such-cc) was found. Install gcc or clang.')
  vim.fn.delete(dir, 'rf')
end)

test('recipes: the rockspec names folders that exist and targets that make knows', function()
  local env = {}
  local chunk = assert(loadfile(h.root .. '/gemma.nvim-scm-1.rockspec'))
  setfenv(chunk, env)
  chunk()
  h.eq({ env.package, env.build.type }, { 'gemma.nvim', 'make' })
  for _, d in ipairs(env.build.copy_directories) do
    h.ok(vim.fn.isdirectory(h.root .. '/' .. d) == 1, d)
  end
  local make = ''
  local parts = vim.fn.glob(h.root .. '/scripts/make/*.mk', true, true)
  for _, f in ipairs(vim.list_extend({ h.root .. '/Makefile' }, parts)) do
    make = make .. '\n' .. table.concat(vim.fn.readfile(f), '\n')
  end
  for _, target in ipairs({ env.build.build_target, env.build.install_target }) do
    h.ok(make:find('\n' .. target .. ':', 1, true), target)
  end
  -- What the plugin needs at run time, wherever it is installed.
  local install = table.concat(vim.fn.readfile(h.root .. '/scripts/install'), '\n'):match('\nparts=(%b\'\')')
  for _, d in ipairs(env.build.copy_directories) do
    h.has(install, d)
  end
end)

test('recipes: the small model is found in a checkout, in what make install copies and in a rock', function()
  h.need_library()
  local root, rock = vim.fn.tempname(), vim.fn.tempname()
  local gmake = vim.fn.executable('gmake') == 1 and 'gmake' or 'make'
  -- The copies alone: building is what the other tests begin with.
  local build = vim.fs.dirname(h.need_library())
  for _, target in ipairs({ 'install', 'install-rock' }) do
    run({ gmake, '-s', '-C', h.root, '-o', 'lib', '-o', 'tags', target, 'BUILD=' .. build, 'DEST=' .. root,
      'LUADIR=' .. rock })
  end
  for _, lua in ipairs({ h.root .. '/lua/gemma', root .. '/lua/gemma', rock .. '/gemma' }) do
    local c = h.child({ fake = false })
    local path = c:lua("return dofile(... .. '/ffi.lua').file('tools/embedded/model/gemma-embedded.gguf')", lua)
    h.ok(vim.fn.filereadable(path) == 1, path)
    local mmproj = vim.fs.joinpath(vim.fs.dirname(path), 'mmproj-gemma-embedded.gguf')
    h.ok(vim.fn.filereadable(mmproj) == 1, mmproj)
  end
  vim.fn.delete(root, 'rf')
  vim.fn.delete(rock, 'rf')
end)

--- A checkout of empty files, and a place for its copy beside it. The apostrophe is that of a home folder.
local function small_checkout()
  local root = vim.fn.tempname() .. "'s"
  local top = root .. '/checkout'
  for _, file in ipairs({ 'plugin/gemma.lua', 'lua/gemma/init.lua', 'doc/gemma.txt', 'prompts/old.md',
    'tools/embedded/model/m.gguf', 'csrc/x.c', 'LICENSE', 'build/libgemma.so' }) do
    vim.fn.mkdir(vim.fs.dirname(top .. '/' .. file), 'p')
    vim.fn.writefile({ file }, top .. '/' .. file)
  end
  vim.fn.mkdir(top .. '/scripts')
  assert(vim.uv.fs_copyfile(h.root .. '/scripts/install', top .. '/scripts/install'))
  return top, root .. '/copy', function(...)
    local r = vim.system({ 'sh', top .. '/scripts/install', ... }, { text = true }):wait()
    return { r.code, vim.trim(r.stdout .. r.stderr) }
  end
end

local function there(path)
  return vim.uv.fs_stat(path) ~= nil
end

test('recipes: a copy is replaced by a newer one and taken away again, and what is not ours stays', function()
  local top, copy, install = small_checkout()
  h.eq(install(copy, 'build/libgemma.so'), { 0, '' })
  h.ok(there(copy .. '/prompts/old.md') and there(copy .. '/build/libgemma.so'))
  vim.fn.writefile({ 'mine' }, copy .. '/notes')
  vim.fn.rename(top .. '/prompts/old.md', top .. '/prompts/new.md')
  h.eq(install(copy, 'build/libgemma.so'), { 0, '' })
  h.eq({ there(copy .. '/prompts/old.md'), there(copy .. '/prompts/new.md') }, { false, true })
  h.eq(vim.fn.readdir(copy), { 'LICENSE', 'build', 'doc', 'lua', 'notes', 'plugin', 'prompts', 'tools' })
  h.eq(install('--remove', copy), { 0, ('install: files of others stay in %s'):format(copy) })
  h.eq(vim.fn.readdir(copy), { 'notes' })
  h.eq(install('--remove', copy), { 1, ('install: no gemma.nvim in %s'):format(copy) })
  vim.fn.delete(vim.fs.dirname(top), 'rf')
end)

test('recipes: a checkout is not overwritten by its own copy, nor another one', function()
  local top, copy, install = small_checkout()
  -- The README's place for a checkout is where `make install` would put a copy: it removed the sources.
  h.eq(install(top, 'build/libgemma.so'),
    { 0, ('install: %s is this checkout, and built: Neovim finds it where it is'):format(top) })
  vim.fn.mkdir(copy .. '/csrc', 'p')
  local said = 'install: %s is a checkout of the sources; nothing is done to it'
  h.eq(install(copy, 'build/libgemma.so'), { 1, said:format(copy) })
  h.eq(install('--remove', copy), { 1, said:format(copy) })
  h.eq(install('--remove', top), { 1, said:format(top) })
  h.eq({ there(top .. '/lua/gemma/init.lua'), there(top .. '/tools/embedded/model/m.gguf') }, { true, true })
  vim.fn.delete(vim.fs.dirname(top), 'rf')
end)

return T
