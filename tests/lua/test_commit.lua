--- :Gemma commit: what of a diff is read, and where the message goes.

local commit = require('gemma.commit')
local diffs = require('gemma.commit.diff')
local h = require('helper')

local T = {}

local function test(name, fn)
  T[#T + 1] = { name, fn }
end

local function run(dir, ...)
  local done = vim.system({ 'git', '-C', dir, ... }, {
    text = true,
    env = {
      GIT_AUTHOR_NAME = 'a', GIT_AUTHOR_EMAIL = 'a@b', GIT_COMMITTER_NAME = 'a',
      GIT_COMMITTER_EMAIL = 'a@b', GIT_CONFIG_GLOBAL = '/dev/null', HOME = dir,
    },
  }):wait()
  assert(done.code == 0, done.stderr)
  return done.stdout
end

local function file(dir, name, lines)
  vim.fn.writefile(lines, dir .. '/' .. name)
end

--- Makes a repository with one commit and one staged change.
local function init(dir, name, ...)
  vim.fn.mkdir(dir, 'p')
  run(dir, 'init', '-q', ...)
  file(dir, name .. '.lua', { ('local %s = 1'):format(name) })
  run(dir, 'add', name .. '.lua')
  run(dir, 'commit', '-qm', name .. ': begin')
  file(dir, name .. '.lua', { ('local %s = 2'):format(name) })
  run(dir, 'add', name .. '.lua')
  return dir
end

--- A child in such a repository.
local function repository(o)
  local c = h.child(o)
  init(c.dir, 'a')
  return c
end

local function prompt(c, n)
  c:wait(('#Fake.jobs == %d'):format(n or 1))
  return c:lua('return Fake.jobs[#Fake.jobs].req.parts[4].data')
end

local function diff_of(name, n)
  local out = { 'diff --git a/' .. name .. ' b/' .. name, '--- a/' .. name, '+++ b/' .. name,
    '@@ -1,1 +1,' .. n .. ' @@' }
  for i = 1, n do
    out[#out + 1] = '+line ' .. i
  end
  return table.concat(out, '\n') .. '\n'
end

test('a diff is taken apart into files', function()
  local files = diffs.files(diff_of('x', 2) .. 'diff --git a/b b/b\nBinary files differ\n')
  h.eq(files, {
    { head = { 'diff --git a/x b/x', '--- a/x', '+++ b/x' }, body = { '@@ -1,1 +1,2 @@', '+line 1', '+line 2' } },
    { head = { 'diff --git a/b b/b', 'Binary files differ' }, body = {} },
  })
end)

test('a diff that is too long: every file is named, small ones stay whole, large ones share the rest', function()
  local small, large = diff_of('small', 3), diff_of('large', 500)
  h.eq(diffs.shorten(small, 1000), small)
  local out = diffs.shorten(large .. small .. diff_of('huge', 5000), 3000)
  h.ok(#out < 3300 and #out > 2500, 'about the limit: ' .. #out)
  h.has(out, small)
  h.has(out, '+++ b/huge')
  local n = 0
  for _ in out:gmatch('%[%d+ more lines%]') do
    n = n + 1
  end
  h.eq(n, 2)
  -- Very many files: no more than the limit either, and it says how many there are.
  local many = {}
  for i = 1, 500 do
    many[i] = diff_of('file' .. i, 50)
  end
  out = diffs.shorten(table.concat(many), 3000)
  h.ok(#out < 3400, 'within the limit')
  h.has(out, 'more files]')
end)

test('a diff of which only the beginning was read: the other files are named', function()
  local part = diff_of('sub/a', 2) .. diff_of('a b', 3)
  local names = { 'sub/a', 'a b', 'b', 'd\27', 'sub/b' }
  h.eq(diffs.complete(part .. '+lin', names), part .. [[
diff --git a/b b/b
[not read]
diff --git a/d b/d
[not read]
diff --git a/sub/b b/sub/b
[not read]
]])
end)

test('a message is what the model wrote, without what models put around it', function()
  for _, row in ipairs({
    { 'a: b\n', { 'a: b' } },
    { '```\na: b\n\nBody.\n```', { 'a: b', '', 'Body.' } },
    { '"a: b"', { 'a: b' } },
    { 'a: b\nBody.  \n\n', { 'a: b', '', 'Body.' } },
    { '\27[1ma: b', { '[1ma: b' } },
    { ' \n ', {} },
  }) do
    h.eq(commit.message(row[1]), row[2], row[1])
  end
end)

test('in a commit buffer the message comes before the comments, in one undo step', function()
  local c = repository()
  file(c.dir, 'COMMIT_EDITMSG', { '', '# Please enter the message', '# more' })
  c:cmd('edit COMMIT_EDITMSG | setlocal filetype=gitcommit')
  c:cmd('Gemma commit')
  local p = prompt(c)
  h.has(p, '<earlier>\na: begin\n</earlier>')
  h.has(p, '-local a = 1\n+local a = 2\n')
  h.has(vim.inspect(c:screen(1, 3)), 'C-e')
  c:lua("Fake.emit('a: make it two\\n\\nOne was') Fake.emit(' too few.') Fake.done()")
  c:wait("vim.fn.getline(1) ~= ''")
  h.eq(c:lines(), { 'a: make it two', '', 'One was too few.', '', '# Please enter the message', '# more' })
  c:feed('u')
  h.eq(c:lines(), { '', '# Please enter the message', '# more' })
  h.eq(c:lua("return vim.fn.maparg('<C-e>', 'n')"), '')
  h.eq(run(c.dir, 'log', '--format=%s'), 'a: begin\n', 'git was not told')
end)

--- Opens a message in a child and asks for it.
local function ask(c, path)
  c:cmd('edit ' .. path .. ' | setlocal filetype=gitcommit')
  c:cmd('Gemma commit')
end

-- fugitive, neogit or nvr open a message in a Neovim that is in another repository: it was written
-- from what was staged there.
test('the repository is that of the message, not the one that Neovim is in', function()
  local c = repository()
  local b = init(c.dir .. '/b', 'b')
  run(b, 'worktree', 'add', '-q', c.dir .. '/linked')
  file(c.dir, 'linked/l.lua', { 'local l = 2' })
  run(c.dir .. '/linked', 'add', 'l.lua')
  -- As `git submodule add` leaves it.
  local module = c.dir .. '/.git/modules/m'
  vim.fn.mkdir(c.dir .. '/.git/modules')
  local m = init(c.dir .. '/m', 'm', '--separate-git-dir=' .. module)
  run(m, 'config', 'core.worktree', '../../../m')
  local own = c.dir .. '/.git'
  for i, row in ipairs({
    { b .. '/.git', '+local b = 2' },
    { b .. '/.git/worktrees/linked', '+local l = 2' },
    { module, '+local m = 2' },
    { own, '+local a = 2' },
  }) do
    ask(c, row[1] .. '/COMMIT_EDITMSG')
    local p = prompt(c, i)
    h.has(p, row[2])
    h.eq(select(2, p:gsub('diff %-%-git', '')), 1, row[1])
    c:lua("Fake.emit('Fix it') Fake.done()")
    c:wait("vim.fn.getline(1) == 'Fix it'")
  end
  -- git may write a relative path there.
  file(b, '.git/worktrees/linked/gitdir', { '../../../../linked/.git' })
  ask(c, b .. '/.git/worktrees/linked/MERGE_MSG')
  h.has(prompt(c, 5), '+local l = 2')
end)

test('a message whose work tree cannot be told gets nothing, until Neovim is there', function()
  local c = repository()
  local s = init(c.dir .. '/s', 's', '--separate-git-dir=' .. c.dir .. '/store')
  ask(c, c.dir .. '/store/COMMIT_EDITMSG')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'gemma: no work tree found for ')
  h.has(c:messages()[1], '/store (fatal: ')
  h.has(c:messages()[1], ' :cd to it first.')
  h.eq(c:lua('return #Fake.jobs'), 0)
  c:cmd('cd ' .. s)
  c:cmd('Gemma commit')
  h.has(prompt(c), '+local s = 2')
end)

-- `git commit -a` and `git commit FILE` have an index of their own, which is named in the environment.
test('when git started Neovim, what git set counts, and for its own message only', function()
  local index = vim.fn.tempname()
  local c = repository({ env = { GIT_INDEX_FILE = index } })
  vim.uv.fs_copyfile(c.dir .. '/.git/index', index)
  run(c.dir, 'reset', '-q')
  ask(c, c.dir .. '/.git/COMMIT_EDITMSG')
  h.has(prompt(c), '+local a = 2')
  c:lua("Fake.emit('Fix it') Fake.done()")
  c:wait("vim.fn.getline(1) == 'Fix it'")
  ask(c, init(c.dir .. '/b', 'b') .. '/.git/COMMIT_EDITMSG')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], c.dir .. ' is another repository).')
  h.eq(c:lua('return #Fake.jobs'), 1)
end)

test('a message that git opened in a Neovim that was running is about what that git commits', function()
  for _, name in ipairs({ 'index.lock', 'next-index-123.lock' }) do
    local c = repository()
    file(c.dir, 'b.lua', { 'local b = 2' })
    run(c.dir, 'add', 'b.lua')
    vim.uv.fs_copyfile(c.dir .. '/.git/index', c.dir .. '/.git/' .. name)
    if name ~= 'index.lock' then -- which would keep git from this
      run(c.dir, 'reset', '-q')
    end
    vim.fn.delete(c.dir .. '/.git/index') -- by which both would be deleted
    ask(c, c.dir .. '/.git/COMMIT_EDITMSG')
    local text = prompt(c)
    h.has(text, '+local a = 2')
    h.has(text, '+local b = 2')
  end
end)

test('what is in the message already is not lost', function()
  local c = repository()
  c:cmd('enew | setlocal filetype=gitcommit')
  c:lua("vim.api.nvim_buf_set_lines(0, 0, -1, false, { 'mine', '', '# comment' })")
  c:cmd('Gemma commit')
  prompt(c)
  c:lua("Fake.emit('theirs') Fake.done()")
  c:wait("vim.fn.getline(1) == 'theirs'")
  h.eq(c:lines(), { 'theirs', '', 'mine', '', '# comment' })
end)

test('without a commit buffer the message gets one of its own', function()
  local c = repository()
  c:cmd('edit a.lua')
  c:cmd('Gemma commit')
  prompt(c)
  c:lua("Fake.emit('a: two') Fake.done()")
  c:wait("vim.fn.getline(1) == 'a: two'")
  h.eq(c:lua('return { vim.bo.filetype, vim.bo.buftype, #vim.api.nvim_list_wins() }'), { 'gitcommit', 'nofile', 2 })
  h.eq(c:lines(), { 'a: two' })
end)

-- The second message was from where Neovim is, since the buffer of the first one has no file.
test('asked again in a buffer of its own, it is the same repository', function()
  local c = repository()
  local b = init(c.dir .. '/b', 'b')
  c:cmd('edit b/b.lua')
  c:cmd('Gemma commit')
  h.has(prompt(c), '+local b = 2')
  c:lua("Fake.emit('b: two') Fake.done()")
  c:wait("vim.fn.getline(1) == 'b: two'")
  c:cmd('Gemma commit')
  h.has(prompt(c, 2), '+local b = 2')
  h.eq(run(b, 'log', '--format=%s'), 'b: begin\n')
end)

test('of what fugitive and oil show it is the repository too', function()
  -- Their names are no paths: the message was about the repository that Neovim is in.
  local c = repository()
  local b = init(c.dir .. '/b c', 'b')
  for n, case in ipairs({
    { 'fugitive://' .. b .. '/.git//', 'nowrite', 'fugitive' },
    { 'fugitive://' .. b:gsub(' ', '%%20') .. '/.git//0/b.lua', 'nowrite', 'lua', b .. '/.git' },
    { 'oil://' .. b .. '/', 'acwrite', 'oil' },
  }) do
    c:lua([[local name, buftype, filetype, git_dir = unpack(...)
      vim.cmd('enew')
      vim.api.nvim_buf_set_name(0, name)
      vim.bo.buftype, vim.bo.filetype, vim.b.git_dir = buftype, filetype, git_dir]], case)
    c:cmd('Gemma commit')
    h.has(prompt(c, n), '+local b = 2')
    c:feed('<C-e>')
    c:wait('#Fake.cancelled == ' .. n)
  end
end)

test('excluded files are not read; when nothing else is staged it says so', function()
  local c = repository()
  file(c.dir, '.env', { 'PASSWORD=hunter2' })
  file(c.dir, 'my secret *.txt', { 'hunter3' })
  run(c.dir, 'add', '.')
  c:cmd('Gemma commit')
  local p = prompt(c)
  h.ok(not p:find('hunter', 1, true), 'no secret in the prompt')
  h.has(p, '+local a = 2')
  h.has(p, '2 further files are not shown.')
  c:lua('Fake.done()')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages()[1], 'gemma: the model wrote no message. :Gemma commit asks again.')
  run(c.dir, 'commit', '-qm', 'all')
  file(c.dir, '.env', { 'PASSWORD=hunter4' })
  run(c.dir, 'add', '.env')
  c:cmd('Gemma commit')
  c:wait('#Seen.messages == 2')
  h.eq(c:messages()[2], 'gemma: all staged files are excluded (exclude list), such as .env.')
end)

-- With diff.relative names began at Neovim's folder, where no pattern that starts at the top met
-- them, and files outside it were missing without a word.
test('excluded files are not read in a folder of the repository either, nor those of a submodule', function()
  local c = repository()
  vim.fn.mkdir(c.dir .. '/sub')
  file(c.dir, 'sub/.env', { 'PASSWORD=hunter2' })
  file(c.dir, 'sub/s.lua', { 'local s = 1' })
  local m = init(c.dir .. '/m', 'm')
  file(m, '.env', { 'PASSWORD=hunter3' })
  run(m, 'add', '.env')
  run(m, 'commit', '-qm', 'm: secret')
  run(c.dir, 'add', 'sub', 'm')
  run(c.dir, 'config', 'diff.relative', 'true')
  run(c.dir, 'config', 'diff.submodule', 'diff')
  c:cmd('cd sub')
  c:cmd('Gemma commit')
  local p = prompt(c)
  h.ok(not p:find('hunter', 1, true), 'no secret in the prompt')
  h.has(p, '+local s = 1')
  h.has(p, '+local a = 2')
  h.has(p, '1 further files are not shown.')
end)

--- A child whose git is a script, which ends with the real one.
local function scripted(script)
  local bin = vim.fn.tempname()
  vim.fn.mkdir(bin)
  local c = repository({ env = { PATH = bin .. ':' .. vim.env.PATH } })
  file(bin, 'git', { '#!/bin/sh', script, ('exec %s "$@"'):format(vim.fn.exepath('git')) })
  vim.uv.fs_chmod(bin .. '/git', 493)
  return c
end

test('a huge file is not read to its end, and what comes after it is named', function()
  local c = repository()
  file(c.dir, 'b.csv', vim.fn['repeat']({ '0,1,2,3' }, 1e6))
  file(c.dir, 'c.lua', { 'local c' })
  vim.fn.mkdir(c.dir .. '/d')
  file(c.dir, 'd/.env', { 'PASSWORD=hunter2' })
  run(c.dir, 'add', 'b.csv', 'c.lua', 'd')
  c:lua([[local diffs = require('gemma.commit.diff')
    local shorten = diffs.shorten
    diffs.shorten = function(diff, limit) _G.Bytes = #diff return shorten(diff, limit) end]])
  c:cmd('Gemma commit')
  local p = prompt(c)
  h.has(p, '+local a = 2')
  h.has(p, '+0,1,2,3\n')
  h.has(p, 'diff --git a/c.lua b/c.lua\n[not read]\n')
  h.has(p, '1 further files are not shown.')
  h.ok(not p:find('.env', 1, true), 'excluded')
  local bytes = c:lua('return Bytes')
  h.ok(bytes > 1e6 and bytes < 3e6, 'read: ' .. bytes)
end)

test('half a diff of a git that was killed is no diff', function()
  local c = scripted('case "$*" in *--no-textconv*) echo "diff --git a/a.lua b/a.lua"; kill -9 $$;; esac')
  c:cmd('Gemma commit')
  c:wait('#Seen.messages + #Fake.jobs == 1')
  h.eq(c:messages(), { 'gemma: the staged diff cannot be read: git was ended by signal 9' })
end)

test('nothing staged, no repository: one line each', function()
  local c = repository()
  run(c.dir, 'reset', '-q')
  c:cmd('Gemma commit')
  c:wait('#Seen.messages == 1')
  h.eq(c:messages()[1], 'gemma: nothing is staged. Stage with git add first.')
  c = h.child({ env = { GIT_CEILING_DIRECTORIES = '/' } })
  c:cmd('Gemma commit')
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'gemma: no repository here: ')
  h.eq(c:lua('return #Fake.jobs'), 0)
end)

test('a buffer that was opened for a message goes when there is none, unless something was typed', function()
  local c = repository()
  c:cmd('edit a.lua')
  local windows = "return { #vim.api.nvim_list_wins(), #vim.fn.getbufinfo({ buflisted = 0 }), vim.fn.expand('%') }"
  local before = c:lua(windows)
  c:cmd('Gemma commit')
  prompt(c)
  c:feed('<C-e>')
  c:wait('#Fake.cancelled == 1')
  h.eq(c:lua(windows), before, 'stopped')
  run(c.dir, 'reset', '-q')
  c:cmd('Gemma commit')
  c:wait('#Seen.messages == 1')
  h.eq(c:lua(windows), before, 'nothing staged')
  run(c.dir, 'add', 'a.lua')
  c:cmd('Gemma commit')
  c:wait('#Fake.jobs == 2')
  c:feed('imy own words<Esc>')
  c:lua('Fake.done()')
  c:wait('#Seen.messages == 2')
  h.eq(c:lines(), { 'my own words' })
end)

--- A program that leaves ran-NAME behind.
local function trap(dir, name)
  file(dir, name, { '#!/bin/sh', ('touch %s/ran-%s'):format(dir, name), 'exec git-upload-pack "$@"' })
  vim.uv.fs_chmod(dir .. '/' .. name, 493)
  return dir .. '/' .. name
end

test('a repository cannot start programs of its own', function()
  local c = repository()
  for _, key in ipairs({ 'diff.external', 'diff.evil.textconv', 'core.fsmonitor', 'core.pager' }) do
    run(c.dir, 'config', key, 'touch ' .. c.dir .. '/ran-' .. key .. ';cat')
  end
  file(c.dir, '.gitattributes', { '*.lua diff=evil' })
  run(c.dir, '-c', 'core.fsmonitor=false', 'add', '.gitattributes')
  -- log would check the signature of each commit.
  local signed = run(c.dir, 'cat-file', 'commit', 'HEAD'):gsub('\n\n',
    '\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n -----END PGP SIGNATURE-----\n\n', 1)
  file(c.dir, 'signed', vim.split(signed, '\n'))
  local id = run(c.dir, 'hash-object', '-t', 'commit', '-w', 'signed')
  run(c.dir, 'update-ref', 'HEAD', vim.trim(id))
  run(c.dir, 'config', 'log.showSignature', 'true')
  run(c.dir, 'config', 'gpg.program', trap(c.dir, 'gpg'))
  -- diff would start another one in a submodule, which has a configuration of its own.
  local m = init(c.dir .. '/m', 'm')
  run(m, 'config', 'diff.external', trap(c.dir, 'submodule'))
  run(c.dir, '-c', 'core.fsmonitor=false', 'add', 'm')
  run(c.dir, 'config', 'diff.submodule', 'diff')
  c:cmd('Gemma commit')
  local p = prompt(c)
  h.eq(vim.fn.glob(c.dir .. '/ran-*'), '')
  h.has(p, '<earlier>\na: begin\n</earlier>')
  h.has(p, '+local a = 2')
  h.has(p, '+Subproject commit ')
end)

test('a repository cannot name files without an end to be read', function()
  local c = repository()
  for _, key in ipairs({ 'diff.orderFile', 'core.attributesFile', 'mailmap.file' }) do
    run(c.dir, 'config', key, c.dir .. '/endless')
  end
  -- Whoever opens it waits for a writer.
  h.eq(vim.system({ 'mkfifo', c.dir .. '/endless' }):wait().code, 0)
  c:cmd('Gemma commit')
  h.has(prompt(c), '+local a = 2')
end)

-- In a partial clone git fetches what it lacks, with the program that the configuration names.
test('nothing is fetched', function()
  local c = repository()
  local host = vim.fn.tempname()
  run(c.dir, 'clone', '-q', '--bare', c.dir, host)
  for key, value in pairs({
    ['core.repositoryFormatVersion'] = '1',
    ['extensions.partialClone'] = 'origin',
    ['remote.origin.url'] = host,
    ['remote.origin.promisor'] = 'true',
    ['remote.origin.uploadpack'] = trap(c.dir, 'upload'),
  }) do
    run(c.dir, 'config', key, value)
  end
  local id = vim.trim(run(c.dir, 'rev-parse', 'HEAD:a.lua'))
  os.remove(('%s/.git/objects/%s/%s'):format(c.dir, id:sub(1, 2), id:sub(3)))
  c:cmd('Gemma commit')
  c:wait('#Seen.messages + #Fake.jobs == 1')
  h.has(c:messages()[1] or '', 'gemma: the staged diff cannot be read: ')
  h.eq(vim.fn.glob(c.dir .. '/ran-*'), '')
end)

test('<C-e> stops it', function()
  local c = repository()
  c:cmd('Gemma commit')
  prompt(c)
  c:feed('<C-e>')
  c:wait('#Fake.cancelled == 1')
  h.eq({ c:lines(), c:messages() }, { { '' }, {} })
end)

test('a message whose window was closed is yanked, and leaves no buffer behind', function()
  local c = repository()
  local before = c:lua('return #vim.api.nvim_list_bufs()')
  c:cmd('Gemma commit')
  prompt(c)
  c:cmd('q')
  c:lua("Fake.emit('Fix it') Fake.done()")
  c:wait('#Seen.messages == 1')
  h.eq(c:messages(), { 'gemma: the commit buffer is gone; the message is yanked, p puts it.' })
  h.eq(c:lua('return vim.fn.getreg(\'"\')'), 'Fix it\n')
  h.eq(c:lua('return #vim.api.nvim_list_bufs()'), before)
end)

test("a message is yanked into the register that 'clipboard' makes p take", function()
  -- It was in the unnamed one, and p put what the clipboard held.
  for flag, register in pairs({ unnamedplus = '+', unnamed = '*' }) do
    local c = repository({ config = ([[
      _G.Clip = { ['+'] = { { 'else' }, 'v' }, ['*'] = { { 'else' }, 'v' } }
      local function of(r)
        return function() return Clip[r] end, function(lines, kind) Clip[r] = { lines, kind } end
      end
      local paste, copy = {}, {}
      for _, r in ipairs({ '+', '*' }) do paste[r], copy[r] = of(r) end
      vim.g.clipboard = { name = 'test', paste = paste, copy = copy }
      vim.o.clipboard = %q]]):format(flag) })
    c:cmd('Gemma commit')
    prompt(c)
    c:cmd('q')
    c:feed('"a') -- a command that is being typed has a register of its own
    c:lua("Fake.emit('Fix it') Fake.done()")
    c:wait('#Seen.messages == 1')
    c:feed('<Esc>p')
    h.eq(c:lines(), { '', 'Fix it' }, flag)
    h.eq(c:lua('return Clip[...][1][1]', register), 'Fix it', flag)
  end
end)

test('a message whose buffer is gone is yanked', function()
  local c = repository()
  c:cmd('Gemma commit')
  prompt(c)
  c:cmd('bwipeout!')
  c:lua("Fake.emit('a: two') Fake.done()")
  c:wait('#Seen.messages == 1')
  h.has(c:messages()[1], 'the message is yanked')
  h.eq(c:lua('return vim.fn.getreg()'), 'a: two\n')
end)

return T
