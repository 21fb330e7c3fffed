--- The recipes of the README, as they stand there: a package manager takes the plugin from a local
--- repository, builds it, and a new editor has it.
---
--- `make` is a stand-in that puts the library of this checkout in place: compiling it is what the
--- other tests begin with. vim.pack is Neovim's own; of lazy.nvim, which is not here, the documented
--- meaning of the four fields is followed: clone, `build` as a shell command in the clone, then the
--- clone on 'runtimepath' with its plugin files sourced.

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
---@return string? dir nil without git
local function workshop()
  if vim.fn.executable('git') == 0 then
    return nil
  end
  local dir = vim.fn.tempname()
  local repo, bin = dir .. '/gemma.git', dir .. '/bin'
  vim.fn.mkdir(repo, 'p')
  vim.fn.mkdir(bin, 'p')
  run({ 'cp', '-R', 'plugin', 'lua', 'doc', 'Makefile', repo }, { cwd = h.root })
  local git = { 'git', '-c', 'user.name=test', '-c', 'user.email=test@localhost' }
  run({ 'git', 'init', '-q', '-b', 'main' }, { cwd = repo })
  run(vim.list_extend(vim.deepcopy(git), { 'add', '-A' }), { cwd = repo })
  run(vim.list_extend(vim.deepcopy(git), { 'commit', '-q', '-m', 'plugin' }), { cwd = repo })
  vim.fn.writefile({
    '#!/bin/sh',
    'echo "$PWD: $*" >>"$MADE"',
    'mkdir -p build && echo library >build/libgemma.so',
  }, bin .. '/make')
  run({ 'chmod', '+x', bin .. '/make' })
  return dir
end

--- A Neovim of the test's version that runs an init file and says what is there.
local function nvim(dir, init)
  vim.fn.writefile(vim.split(init, '\n'), dir .. '/init.lua')
  local script = dir .. '/look.lua'
  vim.fn.writefile({
    'local ok, path = pcall(function() return require("gemma.ffi").path() end)',
    'local out = { command = vim.fn.exists(":Gemma"), library = ok and path or "?",',
    '  there = ok and vim.uv.fs_stat(path) ~= nil, loaded = vim.g.loaded_gemma or false,',
    '  tags = #vim.fn.getcompletion("gemma-options", "help") }',
    'vim.fn.writefile({ vim.json.encode(out) }, vim.env.LOOK)',
  }, script)
  local env = {
    XDG_CONFIG_HOME = dir .. '/config', XDG_DATA_HOME = dir .. '/data', XDG_STATE_HOME = dir .. '/state',
    XDG_CACHE_HOME = dir .. '/cache', NVIM = '', NVIM_APPNAME = '', MADE = dir .. '/made',
    LOOK = dir .. '/look', PATH = dir .. '/bin:' .. vim.env.PATH, GIT_CONFIG_NOSYSTEM = '1',
    GIT_CONFIG_GLOBAL = '/dev/null',
  }
  run({ h.nvim, '--headless', '-n', '-i', 'NONE', '-u', dir .. '/init.lua', '-c', 'luafile ' .. script,
    '-c', 'qall!' }, { env = env })
  return vim.json.decode(vim.fn.readfile(dir .. '/look')[1])
end

test("recipes: vim.pack installs from a repository, builds, and the next start has it", function()
  local version = vim.fn.system({ h.nvim, '--version' })
  local dir = tonumber(version:match('v0%.(%d+)')) >= 12 and workshop()
  if not dir then
    return -- vim.pack came with 0.12
  end
  local code = recipe('vim.pack'):gsub("'URL'", ("'file://%s/gemma.git'"):format(dir))
  -- Asked whether it may install, the user says yes.
  local got = nvim(dir, 'vim.fn.confirm = function() return 1 end\n' .. code)
  h.eq({ got.command, got.loaded, got.there }, { 2, true, true }, 'installed and built at once')
  h.has(got.library, dir .. '/data/nvim/site/pack/core/opt/gemma.nvim/build/libgemma.so')
  h.ok(got.tags >= 1, 'the help has its tags')
  h.eq(#vim.fn.readfile(dir .. '/made'), 1)
  h.has(vim.fn.readfile(dir .. '/made')[1], 'gemma.nvim: lib')
  h.eq(nvim(dir, code).command, 2)
  h.eq(#vim.fn.readfile(dir .. '/made'), 1, 'built once')
  vim.fn.delete(dir, 'rf')
end)

test('recipes: what lazy.nvim makes of the four fields is a working plugin', function()
  local dir = workshop()
  if not dir then
    return
  end
  local spec = assert(loadstring('return ' .. recipe('lazy.nvim')))()
  h.eq({ spec.url, spec.name, spec.lazy, spec.build }, { 'URL', 'gemma.nvim', false, 'make lib' })
  local at = dir .. '/data/nvim/lazy/' .. spec.name
  run({ 'git', 'clone', '-q', 'file://' .. dir .. '/gemma.git', at })
  run({ 'sh', '-c', spec.build }, { cwd = at, env = { PATH = dir .. '/bin:' .. vim.env.PATH, MADE = dir .. '/made' } })
  local got = nvim(dir, ('vim.opt.rtp:prepend(%q)'):format(at))
  h.eq({ got.command, got.loaded, got.there }, { 2, true, true })
  h.has(got.library, at)
  vim.fn.delete(dir, 'rf')
end)

test('recipes: nothing at the top level is run by a package manager on its own', function()
  -- lazy.nvim runs a build.lua that it finds there.
  h.ok(not vim.uv.fs_stat(h.root .. '/build.lua'))
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
  local install = make:match('\ninstall: lib(.-)\n\n')
  for _, d in ipairs(env.build.copy_directories) do
    h.has(install, d)
  end
end)

return T
