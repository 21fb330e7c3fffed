--- :Gemma install, verify and model: against a host of our own, with the real library for the sums.

local h = require('helper')
local http = require('http')

local T = {}

local server ---@type test.Server

--- For what downloads nothing.
local function offline(name, fn)
  T[#T + 1] = {
    name,
    function()
      server = http.start()
      local ok, err = pcall(fn)
      server:stop()
      if not ok then
        error(err, 0)
      end
    end,
  }
end

local function test(name, fn)
  offline(name, function()
    if vim.fn.executable('curl') == 0 then
      h.skip('no curl')
    end
    fn()
  end)
end

--- 300,000 bytes that look like a model and differ by their seed.
local function gguf(seed)
  local out = { 'GGUF' }
  local x = seed
  for i = 2, 75000 do
    x = (x * 1103515245 + 12345) % 2147483648
    out[i] = ('%04x'):format(x / 32768)
  end
  return table.concat(out)
end

local BODY = gguf(1)

local function sha256(s)
  return vim.fn.sha256(s)
end

--- An editor whose catalogue has two files of our host.
local function child(o)
  o = o or {}
  local c = h.child({
    fake = false,
    cols = 70,
    lines = 20,
    env = o.env,
    config = ('vim.g.gemma = { lib_path = %q, install = { url = %q } %s }'):format(
      h.need_library(), server.url, o.options or ''),
  })
  c:lua([[
    local sha, bytes, model2 = ...
    package.loaded['gemma.catalog'] = {
      { note = 'the first', repo = 'us/it', revision = 'abc', file = 'tiny.gguf',
        bytes = bytes, sha256 = sha },
      model2,
    }
    local d = require('gemma.download')
    d.POLL_MS, d.RETRY_MS, d.RESERVE = 20, 5, 0
    vim.ui.select = function(items, opts, on_choice)
      _G.Shown = vim.tbl_map(opts.format_item, items)
      _G.Prompt = opts.prompt
      on_choice(items[_G.Pick or 1])
    end]], o.sha256 or sha256(BODY), o.bytes or #BODY, o.second)
  c.models = c.dir .. '/data/nvim/gemma/'
  return c
end

local PATH = '/us/it/resolve/abc/tiny.gguf'

local function install(c, args)
  c:cmd('Gemma install model ' .. (args or ''))
end

local function wait_message(c, n)
  c:wait(('#Seen.messages >= %d'):format(n or 1), 'a message')
  return c:messages()[n or 1]
end

local function read(path)
  local f = io.open(path, 'rb')
  local s = f and f:read('*a')
  if f then
    f:close()
  end
  return s
end

--- Names in the model folder.
local function files(c)
  local out = {}
  for name in vim.fs.dir(c.models) do
    out[#out + 1] = name
  end
  table.sort(out)
  return out
end

test('a model is chosen from a list, downloaded, checked and used', function()
  server.files[PATH] = { body = BODY }
  local c = child()
  install(c)
  local msg = wait_message(c)
  h.eq(msg, 'gemma: tiny.gguf installed, checksum right.')
  h.has(c:lua('return Prompt'), server.url)
  h.has(c:lua('return Shown[1]'), 'tiny.gguf')
  h.has(c:lua('return Shown[1]'), ' 300 kB  the first')
  h.eq(read(c.models .. 'tiny.gguf'), BODY)
  h.eq(read(c.models .. 'tiny.gguf.sha256'), sha256(BODY) .. '  tiny.gguf\n')
  h.eq(files(c), { 'tiny.gguf', 'tiny.gguf.sha256' }, 'nothing else is left')
  h.eq(c:lua("return (require('gemma.models').find())"), c.models .. 'tiny.gguf')
  h.eq(c:lua("return require('gemma.engine').state"), 'off')
end)

test('the toy that stood in gives way to what was installed; a model of the user does not', function()
  local path = h.root .. '/tests/golden/sets/nano/model-Q8_0.gguf'
  local model = read(path)
  server.files[PATH] = { body = model }
  -- Neovim 0.10's sha256() takes no bytes.
  local sum = vim.fn.system({ 'sha256sum', path }):match('^%x+')
  local c = child({ sha256 = sum, bytes = #model })
  local loaded = "vim.fs.basename(require('gemma.engine').is_loaded() and require('gemma.engine').model or '')"
  c:cmd('Gemma load')
  c:wait(loaded .. " == 'gemma-embedded.gguf'")
  install(c)
  c:wait(loaded .. " == 'tiny.gguf'")
  h.has(table.concat(c:messages(), '\n'), 'tiny.gguf installed, checksum right.')
  server.files['/us/it/resolve/abc/next.gguf'] = { body = BODY }
  c:lua([[
    local bytes, sha = ...
    package.loaded['gemma.catalog'][1] = { note = 'the next', repo = 'us/it', revision = 'abc',
      file = 'next.gguf', bytes = bytes, sha256 = sha }]], #BODY, sha256(BODY))
  install(c)
  c:wait("Seen.messages[#Seen.messages]:find('next.gguf', 1, true) ~= nil")
  h.has(table.concat(c:messages(), '\n'), 'next.gguf installed, checksum right. :Gemma model switches to it.')
  h.eq(c:lua('return ' .. loaded), 'tiny.gguf')
end)

-- Both wrote the same file.
test('what another machine downloads into the same folder is left to it', function()
  server.files[PATH] = { body = BODY }
  local c = child()
  vim.fn.writefile({ 'GGUF' }, c.models .. 'tiny.gguf.part')
  vim.fn.writefile({ '{"pid":7,"boot":"00000000-0000-0000-0000-000000000000","host":"elsewhere"}' },
    c.models .. 'tiny.gguf.part.lock')
  install(c)
  h.eq(wait_message(c), 'gemma: pid 7 on elsewhere downloads tiny.gguf already.')
  h.eq({ server:gets(), read(c.models .. 'tiny.gguf.part') }, { 0, 'GGUF\n' })
  local old = os.time() - 3600
  vim.uv.fs_utime(c.models .. 'tiny.gguf.part.lock', old, old)
  install(c)
  h.has(wait_message(c, 2), 'installed, checksum right.')
  h.eq(files(c), { 'tiny.gguf', 'tiny.gguf.sha256' })
end)

-- Both ran, and :Gemma stop knew of the second only.
test('of two lists that are open at once one choice is downloaded', function()
  server.files[PATH] = { body = BODY, slow = true }
  local c = child({ second = { note = 'the next', repo = 'us/it', revision = 'abc',
    file = 'next.gguf', bytes = #BODY, sha256 = sha256(BODY) } })
  c:lua([[_G.Choose = {}
    vim.ui.select = function(items, _, on_choice)
      table.insert(Choose, function(i) on_choice(items[i]) end)
    end]])
  install(c)
  install(c)
  c:lua('Choose[1](1) Choose[2](2)')
  h.eq(wait_message(c), 'gemma: a download runs already. :Gemma stop ends it.')
  c:cmd('Gemma stop')
  h.has(wait_message(c, 2), 'the download of tiny.gguf was stopped')
  h.eq(c:lua("return require('gemma.install').busy()"), false)
end)

test('an interrupted download goes on by itself, and after a restart', function()
  server.files[PATH] = { body = BODY, cut = { 100000, 50000, 20000 } }
  local c = child()
  install(c)
  h.has(wait_message(c), 'installed, checksum right.')
  h.eq(read(c.models .. 'tiny.gguf'), BODY)
  local ranges = {}
  for _, r in ipairs(server.requests) do
    if r.method == 'GET' then
      ranges[#ranges + 1] = r.range or '0'
    end
  end
  h.eq(ranges, { '0', '100000', '150000', '170000' })

  -- The editor is killed in the middle; the next one takes up what has come.
  server.files[PATH] = { body = BODY, slow = true }
  local d = child()
  install(d)
  d:wait(('(vim.uv.fs_stat(%q) or { size = 0 }).size > 100000'):format(d.models .. 'tiny.gguf.part'))
  local data = d.dir .. '/data'
  vim.uv.kill(d:lua('return vim.uv.os_getpid()'), 'sigkill')
  vim.fn.jobwait({ d.chan }, 3000)
  d.chan = nil
  server.files[PATH] = { body = BODY }
  server.requests = {}
  local e = child({ env = { XDG_DATA_HOME = data } })
  e.models = d.models
  install(e)
  h.has(wait_message(e), 'installed, checksum right.')
  h.eq(read(d.models .. 'tiny.gguf'), BODY)
  h.ok(tonumber(server.requests[2].range) > 100000, 'resumed')
end)

test('a host that cannot go on in the middle sends it from the start', function()
  server.files[PATH] = { body = BODY, cut = { 100000 }, no_range = true }
  local c = child()
  install(c)
  h.has(wait_message(c), 'installed, checksum right.')
  h.eq(read(c.models .. 'tiny.gguf'), BODY)
  h.ok(server:gets() >= 3)
end)

test('a connection that breaks again and again ends with a message and keeps what has come', function()
  server.files[PATH] = { body = BODY, cut = { 1000, 0, 0, 0, 0, 0, 0, 0, 0 } }
  local c = child()
  install(c)
  local msg = wait_message(c)
  h.has(msg, 'the connection to 127.0.0.1')
  h.has(msg, ':Gemma install model resumes.')
  h.eq(#read(c.models .. 'tiny.gguf.part'), 1000)
  server.files[PATH].cut = nil
  install(c)
  h.has(wait_message(c, 2), 'installed, checksum right.')
  h.eq(read(c.models .. 'tiny.gguf'), BODY)
end)

-- A file of no catalogue was thrown away: what was stored about it is not what a busy host says.
test('a host that is busy when it is asked costs nothing of what has come', function()
  local path = '/x/big.gguf'
  local broken = { 100000, 0, 0, 0, 0, 0 }
  server.files[path] = { body = BODY, cut = broken, headers = { 'X-Linked-Etag: "' .. sha256(BODY) .. '"' } }
  local c = child()
  install(c, server.url .. path)
  h.has(wait_message(c), 'the connection to 127.0.0.1')
  server.files[path] = { body = BODY, status = 503 }
  install(c, server.url .. path)
  h.has(wait_message(c, 2), 'answers 503')
  h.eq(#read(c.models .. 'big.gguf.part'), 100000)
  server.files[path] = { body = BODY, no_head = true }
  server.requests = {}
  install(c, server.url .. path)
  h.has(wait_message(c, 3), "big.gguf installed, checksum as in the host's headers.")
  h.eq(server.requests[2].range, '100000')
  h.eq(read(c.models .. 'big.gguf'), BODY)
end)

-- The end of the new file behind the beginning of the old one was a model with a recorded sum.
test('a file that changed on the host and kept its size starts anew', function()
  local c = child()
  local day = 'Last-Modified: Mon, 02 Nov 2026 10:00:00 GMT'
  local later = 'Last-Modified: Tue, 03 Nov 2026 10:00:00 GMT'
  for i, case in ipairs({
    { { 'ETag: "a"', day }, { 'ETag: "b"', day }, nil },
    { { day }, { later }, nil },
    { { 'ETag: W/"a"', day }, { 'ETag: W/"b"', day }, '100000' },
    { { 'ETag: "a"' }, {}, '100000' },
  }) do
    local before, now, range = case[1], case[2], case[3]
    local path = ('/x/m%d.gguf'):format(i)
    server.files[path] = { body = BODY, cut = { 100000, 0, 0, 0, 0, 0 }, headers = before }
    install(c, server.url .. path)
    h.has(wait_message(c, 2 * i - 1), 'the connection to 127.0.0.1')
    local body = range and BODY or gguf(2)
    server.files[path] = { body = body, headers = now }
    server.requests = {}
    install(c, server.url .. path)
    h.has(wait_message(c, 2 * i), ('m%d.gguf installed;'):format(i))
    h.eq(server.requests[2].range, range, table.concat(now, ', '))
    h.ok(read(c.models .. ('m%d.gguf'):format(i)) == body, 'one file, not two')
  end
end)

test('a wrong checksum: kept as .bad, the model before stays, the next try starts anew', function()
  local c = child()
  vim.fn.writefile({ 'the model before' }, c.models .. 'tiny.gguf')
  server.files[PATH] = { body = gguf(2) }
  install(c)
  h.eq(wait_message(c), 'gemma: checksum differs for tiny.gguf; kept as tiny.gguf.bad.')
  h.eq(read(c.models .. 'tiny.gguf'), 'the model before\n')
  h.eq(read(c.models .. 'tiny.gguf.bad'), gguf(2))
  h.eq(files(c), { 'tiny.gguf', 'tiny.gguf.bad' })
  server.files[PATH] = { body = BODY }
  server.requests = {}
  install(c)
  h.has(wait_message(c, 2), 'installed, checksum right.')
  h.eq(read(c.models .. 'tiny.gguf'), BODY)
  h.eq(server.requests[2].range, nil)
end)

test('a file that grew by a lie about its length is never put in place', function()
  -- The host names another size than the publisher: nothing is fetched at all.
  server.files[PATH] = { body = BODY .. 'more' }
  local c = child()
  install(c)
  h.has(wait_message(c), 'has another size now: 300004 bytes instead of 300000. Nothing was loaded.')
  h.eq(server:gets(), 0)
  -- It says so only when the file comes.
  server.files[PATH] = { body = BODY .. 'more', no_head = true }
  install(c)
  h.has(wait_message(c, 2), 'for tiny.gguf; kept as tiny.gguf.bad.')
  -- It promises more than it sends.
  server.files[PATH] = { body = BODY:sub(1, 1000), claim = #BODY }
  install(c)
  h.has(wait_message(c, 3), '1000 bytes came instead of 300000 for tiny.gguf; kept as')
  -- It breaks at the same place for ever, and cannot go on in the middle.
  server.files[PATH] = { body = BODY, cut = { 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9, 9 }, no_range = true }
  install(c)
  h.has(wait_message(c, 4), 'the connection to 127.0.0.1')
  -- It sends less and says so.
  server.files[PATH] = { body = BODY:sub(1, 999), no_head = true }
  os.remove(c.models .. 'tiny.gguf.part')
  install(c)
  h.has(wait_message(c, 5), '999 bytes came instead of 300000 for tiny.gguf')
  h.eq(read(c.models .. 'tiny.gguf'), nil)
end)

test('a full disk: told before it begins when it shows, and in the middle when it does not', function()
  server.files[PATH] = { body = BODY }
  local c = child()
  c:lua("require('gemma.download').free = function() return 200000 end")
  install(c)
  local msg = wait_message(c)
  h.has(msg, 'not enough room in')
  h.has(msg, '300 kB more are needed, 200 kB are free.')
  h.eq(server:gets(), 0)
  -- The disk fills up while curl writes.
  if vim.uv.fs_stat('/dev/full') then
    c:lua("require('gemma.download').free = function() return 1e12 end")
    server.files[PATH].headers = { 'X-Linked-Size: ' .. #BODY }
    c:lua([[local d = require('gemma.download')
      local start = d.start
      d.start = function(o)
        local self = start(o)
        local fetch = self.fetch
        self.fetch = function(...)
          os.remove(self.part)
          vim.uv.fs_symlink('/dev/full', self.part)
          return fetch(...)
        end
        return self
      end]])
    install(c)
    h.has(wait_message(c, 2), 'cannot write tiny.gguf (disk full?')
    os.remove(c.models .. 'tiny.gguf.part')
  end
  h.eq(read(c.models .. 'tiny.gguf'), nil)
end)

test('a limit on the size of files is a message, and what has come is whole', function()
  server.files[PATH] = { body = BODY }
  local wrapper = vim.fn.tempname()
  vim.fn.writefile({ '#!/bin/sh', 'ulimit -f 200', ('exec %q "$@"'):format(h.nvim) }, wrapper)
  vim.uv.fs_chmod(wrapper, 493)
  local nvim = h.nvim
  h.nvim = wrapper
  local ok, c = pcall(child)
  h.nvim = nvim
  assert(ok, c)
  install(c)
  h.has(wait_message(c), 'cannot write tiny.gguf (disk full?')
  h.eq(read(c.models .. 'tiny.gguf'), nil)
end)

test('an error page is no model', function()
  local page = '<html>please log in</html>'
  server.files[PATH] = { body = page }
  local c = child({ bytes = #page, sha256 = sha256(page) })
  install(c)
  h.has(wait_message(c), 'is no GGUF file. Check the address.')
  h.eq(files(c), { 'tiny.gguf.part.info' })
end)

offline('messages and lists fit a terminal of 80 columns', function()
  local longest, note = '', ''
  for _, m in ipairs(dofile(h.root .. '/lua/gemma/catalog.lua')) do
    longest = #m.file > #longest and m.file or longest
    note = #m.note > #note and m.note or note
    h.eq(#(m.sha256 or ('x'):rep(64)), 64)
    h.ok(not m.sha256 or m.sha256:match('^%x+$'))
  end
  h.ok(#('1: %-34s %7s  %s'):format(longest, '12.7 GB', note .. '; is there') < 80, note)
  -- v:echospace of such a terminal: longer ones ask for a key.
  h.ok(#('gemma: %s installed, checksum right.'):format(longest) <= 68)
  h.ok(#('gemma: %s is whole (as published).'):format(longest) <= 68)
end)

test('no such file, a refusal, no host: one line each', function()
  local c = child()
  install(c)
  h.has(wait_message(c), 'answers 404 for http://127.0.0.1')
  server.files[PATH] = { body = '', status = 403 }
  install(c)
  h.has(wait_message(c, 2), 'it wants an account there')
  c:lua("vim.g.gemma = vim.tbl_extend('force', vim.g.gemma, { install = { url = 'http://127.0.0.1:1' } })")
  install(c)
  h.has(wait_message(c, 3), 'cannot connect to 127.0.0.1:1.')
  c:lua("vim.env.http_proxy, vim.env.no_proxy = 'http://127.0.0.2:1', 'nowhere'")
  install(c)
  h.has(wait_message(c, 4), 'cannot connect to 127.0.0.1:1: Failed to connect to 127.0.0.2 port 1')
  -- By a curl of our own, since the machine's DNS may take its time over a name that is nowhere.
  local bin = vim.fn.tempname()
  vim.fn.mkdir(bin)
  vim.fn.writefile({ '#!/bin/sh', 'echo "curl: ($STATUS) no such name" >&2; exit $STATUS' }, bin .. '/curl')
  vim.uv.fs_chmod(bin .. '/curl', 493)
  c:lua("vim.env.PATH = ... .. ':' .. vim.env.PATH", bin)
  c:lua("vim.g.gemma = vim.tbl_extend('force', vim.g.gemma, { install = { url = 'http://gemma.invalid' } })")
  c:lua("vim.env.STATUS = '6'")
  install(c)
  h.has(wait_message(c, 5), 'cannot find gemma.invalid. Is there a network?')
  c:lua("vim.env.STATUS = '5'")
  install(c)
  h.has(wait_message(c, 6), 'the proxy of your environment (https_proxy) does not work: no such name.')
end)

test('redirects are followed; the sum of the host is used where none is published', function()
  server.files[PATH] = { redirect = '/cdn/x', headers = {
    'X-Linked-Etag: "' .. sha256(BODY) .. '"', 'X-Linked-Size: ' .. #BODY } }
  server.files['/cdn/x'] = { body = BODY }
  local c = child()
  install(c, server.url .. PATH)
  h.has(wait_message(c), "installed, checksum as in the host's headers.")
  server.files['/cdn/x'] = { body = gguf(3) }
  os.remove(c.models .. 'tiny.gguf')
  install(c, server.url .. PATH)
  h.has(wait_message(c, 2), 'checksum differs for tiny.gguf')
end)

test('only the host that was asked vouches for the file, not one to which it redirects', function()
  local headers = require('gemma.download').read_headers
  local a, b = ('a'):rep(64), ('b'):rep(64)
  local answers = table.concat({
    'HTTP/1.1 307 Moved', 'Location: /renamed', '',
    'HTTP/1.1 302 Found', 'Location: https://cdn/x', 'X-Linked-Etag: "' .. a .. '"', 'X-Linked-Size: 10', '',
    'HTTP/2 200', 'X-Linked-Etag: "' .. b .. '"', 'X-Linked-Size: 7', 'Content-Length: 10', 'ETag: "1"', '',
  }, '\r\n')
  h.eq({ headers(answers, 'https://hub/x') }, { 200, 10, a, '"1"' })
  h.eq({ headers((answers:gsub('X%-Linked[^\r]*aaa[^\r]*\r\n', '', 1)), 'https://hub/x') }, { 200, 10, nil, '"1"' })
  h.eq({ headers('HTTP/2 200\r\nContent-Length: 1e999\r\nX-Linked-Size: 99999999999999999999\r\n', 'https://hub/x') },
    { 200 })
end)

test('a disk that fills up ends a download of unknown length', function()
  server.files[PATH] = { body = BODY, slow = true, no_head = true }
  local c = child()
  install(c, server.url .. PATH)
  c:wait("(vim.uv.fs_stat(vim.fn.stdpath('data') .. '/gemma/tiny.gguf.part') or { size = 0 }).size > 0")
  c:lua("require('gemma.download').RESERVE = math.huge")
  h.has(wait_message(c), 'is full. Make room and try again.')
  server:go()
end)

test('an address without any sum is trusted once, and said so', function()
  server.files['/some/thing.gguf?download=true'] = { body = BODY, headers = { 'ETag: "17-abc"' } }
  local c = child()
  install(c, server.url .. '/some/thing.gguf?download=true')
  h.has(wait_message(c), 'installed; no checksum is published, so this one is recorded.')
  h.has(read(c.models .. 'thing.gguf.sha256'), sha256(BODY))
  install(c, server.url .. '/some/..%2f..%2fx.gguf')
  h.has(wait_message(c, 2), 'the address of a model ends in its name')
end)

test('what is needed for pictures comes with the model, and only once', function()
  local mmproj = gguf(7)
  server.files['/us/it/resolve/main/pic.gguf'] = { body = mmproj }
  server.files['/us/it/resolve/main/full.gguf'] = { body = BODY }
  local c = child({ second = { note = 'n', repo = 'us/it', file = 'full.gguf', bytes = #BODY,
    sha256 = sha256(BODY),
    mmproj = { repo = 'us/it', file = 'pic.gguf', bytes = #mmproj, sha256 = sha256(mmproj) } } })
  c:lua('_G.Pick = 2')
  install(c)
  h.has(wait_message(c), 'full.gguf installed, checksum right.')
  h.eq(read(c.models .. 'mmproj-full.gguf'), mmproj)
  h.eq(c:lua("return #require('gemma.models').list()"), 1, 'it is no model of its own')
  install(c, 'full.gguf')
  h.has(wait_message(c, 2), 'full.gguf is there already')
  h.eq(server:gets(), 2)
  vim.fn.delete(c.models .. 'mmproj-full.gguf')
  install(c, 'full.gguf')
  h.has(wait_message(c, 3), 'mmproj-full.gguf installed, checksum right.')
  h.eq({ read(c.models .. 'mmproj-full.gguf'), server:gets() }, { mmproj, 3 })
end)

-- Its address made it the model: every load tried it, in later sessions too.
test('what is no model by itself does not become the model', function()
  server.files['/x/mmproj-F16.gguf'] = { body = BODY }
  server.files['/x/s-00001-of-00002.gguf'] = { body = BODY }
  server.files['/x/s-00002-of-00002.gguf'] = { body = BODY }
  local c = child()
  local model = "return (require('gemma.models').find())"
  local before = c:lua(model)
  install(c, server.url .. '/x/mmproj-F16.gguf')
  h.has(wait_message(c), 'mmproj-F16.gguf installed;')
  h.has(c:messages()[1], ' For pictures and sounds put its model beside it, or set mmproj_path.')
  install(c, server.url .. '/x/s-00002-of-00002.gguf')
  h.has(wait_message(c, 2), ' It is no model by itself.')
  h.eq(c:lua(model), before)
  h.eq(read(c.dir .. '/state/nvim/gemma/model'), nil, 'nothing is remembered')
  install(c, server.url .. '/x/s-00001-of-00002.gguf')
  h.has(wait_message(c, 3), 'this one is recorded.')
  h.eq(c:lua(model), c.models .. 's-00001-of-00002.gguf')
  h.has(read(c.dir .. '/state/nvim/gemma/model'), '/s-00001-of-00002.gguf\n')
  install(c, server.url .. '/x/mmproj-F16.gguf')
  h.has(wait_message(c, 4), ' The next load takes it for pictures and sounds.')
  h.eq(c:lua(model), c.models .. 's-00001-of-00002.gguf')
end)

test('what is for pictures and came after the model was loaded: it says how to use it', function()
  server.files['/x/mmproj-F16.gguf'] = { body = BODY }
  local c = child()
  vim.uv.fs_copyfile(h.root .. '/tests/golden/sets/nano/model-Q8_0.gguf', c.models .. 'tiny.gguf')
  c:cmd('Gemma load')
  h.eq(wait_message(c), 'gemma: the model is loaded.')
  install(c, server.url .. '/x/mmproj-F16.gguf')
  h.has(wait_message(c, 2), ' For pictures and sounds run :Gemma unload and ask again.')
  h.eq(c:lua("return require('gemma.engine').model"), c.models .. 'tiny.gguf')
end)

test('stopping keeps what has come; a second download of the same file is refused', function()
  server.files[PATH] = { body = BODY, slow = true }
  local c = child()
  install(c)
  local part = c.models .. 'tiny.gguf.part'
  c:wait(('(vim.uv.fs_stat(%q) or { size = 0 }).size > 100000'):format(part))
  c:wait("require('gemma').statusline():match('^G %d+%%$')")
  h.eq(c:lua("return require('gemma.engine').state"), 'installing')
  c:lua([[function _G.told()
    local out
    for _, e in ipairs(Seen.events) do out = e.name == 'GemmaProgress' and e.data or out end
    return out
  end]])
  c:wait("told().text:find('kB of', 1, true)")
  local told = c:lua('return told()')
  h.has(told.text, 'tiny.gguf: ')
  h.has(told.text, 'kB of 300 kB')
  h.ok(told.percent > 30 and told.percent < 100 and told.status == 'running')
  local other = child({ env = { XDG_DATA_HOME = c.dir .. '/data' } })
  install(other)
  h.has(wait_message(other), 'downloads tiny.gguf already.')
  install(c)
  h.has(wait_message(c), 'a download runs already')
  c:cmd('Gemma stop')
  h.has(wait_message(c, 2), 'was stopped; :Gemma install model resumes it.')
  h.ok(#read(part) > 100000)
  server.files[PATH] = { body = BODY }
  install(other)
  h.has(wait_message(other, 2), 'installed, checksum right.')
end)

test('leaving ends curl', function()
  server.files[PATH] = { body = BODY, slow = true }
  local c = child()
  install(c)
  c:wait(('vim.uv.fs_stat(%q)'):format(c.models .. 'tiny.gguf.part'))
  local pid = c:lua([[for _, p in ipairs(vim.api.nvim_get_proc_children(vim.uv.os_getpid())) do
    return p end]])
  vim.rpcnotify(c.chan, 'nvim_command', 'qall!')
  h.eq(vim.fn.jobwait({ c.chan }, 3000)[1], 0)
  h.ok(vim.wait(10000, function()
    return vim.uv.kill(pid, 0) ~= 0
  end, 5), 'curl is gone')
end)

test('a Neovim that is killed takes curl along, and the next one goes on from there', function()
  server.files[PATH] = { body = BODY, slow = true }
  local c = child()
  install(c)
  local part = c.models .. 'tiny.gguf.part'
  c:wait(('(vim.uv.fs_stat(%q) or { size = 0 }).size > 100000'):format(part))
  local pid = c:lua([[for _, p in ipairs(vim.api.nvim_get_proc_children(vim.uv.os_getpid())) do
    return p end]])
  vim.uv.kill(c:lua('return vim.uv.os_getpid()'), 'sigkill')
  h.ok(vim.wait(10000, function()
    return vim.uv.kill(pid, 0) ~= 0
  end, 5), 'curl is gone')
  server.files[PATH] = { body = BODY }
  local other = child({ env = { XDG_DATA_HOME = c.dir .. '/data' } })
  install(other)
  h.has(wait_message(other), 'installed, checksum right.')
  h.ok(tonumber(server.requests[#server.requests].range) > 100000)
end)

test('a curl that cannot be started is one line, and no download stays under way', function()
  server.files[PATH] = { body = BODY }
  local c = child()
  local bin = c.dir .. '/bin'
  vim.fn.mkdir(bin)
  vim.fn.writefile({ '#!/nowhere/sh' }, bin .. '/curl')
  vim.uv.fs_chmod(bin .. '/curl', 493)
  c:lua("_G.Path = vim.env.PATH vim.env.PATH = ...", bin)
  install(c)
  h.has(wait_message(c), 'cannot start curl: ENOENT')
  c:lua('vim.env.PATH = Path')
  install(c)
  h.has(wait_message(c, 2), 'installed, checksum right.')
end)

offline('without curl or the library it says what to do', function()
  local c = child()
  c:lua("vim.env.PATH = '/nowhere'")
  install(c)
  h.has(wait_message(c), 'curl was not found.')
  c = h.child({ config = "vim.g.gemma = { lib_path = '/nowhere.so' }" })
  c:cmd('Gemma install model')
  h.has(wait_message(c), 'native library not found.')
  c:cmd('Gemma install nonsense')
  h.has(wait_message(c, 2), 'unknown argument nonsense.')
end)

-- ---- verify --------------------------------------------------------------------------------

test('what verify finds to be wrong is downloaded again', function()
  server.files[PATH] = { body = BODY }
  local c = child()
  install(c)
  wait_message(c)
  local f = assert(io.open(c.models .. 'tiny.gguf', 'r+b'))
  f:seek('set', 1234)
  f:write('!')
  f:close()
  c:cmd('Gemma verify tiny.gguf')
  h.has(wait_message(c, 2), 'Run :Gemma install model.')
  install(c)
  h.has(wait_message(c, 3), 'installed, checksum right.')
  h.eq(read(c.models .. 'tiny.gguf'), BODY)
  install(c)
  h.has(wait_message(c, 4), 'tiny.gguf is there already')
end)

offline('verify compares with the recorded sum, with the published one, or records', function()
  local c = child()
  local f = assert(io.open(c.models .. 'tiny.gguf', 'wb'))
  f:write(BODY)
  f:close()
  c:cmd('Gemma verify')
  h.eq(wait_message(c), 'gemma: tiny.gguf is whole (as published).')
  vim.uv.fs_rename(c.models .. 'tiny.gguf', c.models .. 'mine.gguf')
  c:cmd('Gemma verify mine.gguf')
  h.eq(wait_message(c, 2), ('gemma: no sum is known for mine.gguf: %s...; recorded.'):format(
    sha256(BODY):sub(1, 12)))
  c:cmd('Gemma verify')
  h.eq(wait_message(c, 3), 'gemma: mine.gguf is whole (as recorded).')
  -- One bit of the disk turns.
  f = assert(io.open(c.models .. 'mine.gguf', 'r+b'))
  f:seek('set', 1234)
  f:write('!')
  f:close()
  c:cmd('Gemma verify')
  h.has(wait_message(c, 4), 'checksum differs for mine.gguf: ')
  h.has(c:messages()[4], 'Run :Gemma install model.')
  h.eq(c:lua("return require('gemma.engine').is_loaded()"), false, 'no model was needed')
  c:cmd('Gemma verify nothing.gguf')
  h.has(wait_message(c, 5), 'no model nothing.gguf in')
end)

-- ---- several models ------------------------------------------------------------------------

offline(':Gemma model lists, marks the current one, switches and remembers', function()
  local c = h.child({ cols = 70, lines = 20, fake = true })
  local dir = c.dir .. '/data/nvim/gemma/'
  for i, name in ipairs({ 'a.gguf', 'b.gguf', 'mmproj-a.gguf', 'mtp-a.gguf', 's-00001-of-00002.gguf',
    's-00002-of-00002.gguf' }) do
    vim.fn.writefile({ 'GGUF' }, dir .. name)
    vim.uv.fs_utime(dir .. name, 2e9 - i, 2e9 - i)
  end
  c:lua([[vim.ui.select = function(items, opts, on_choice)
    _G.Shown = vim.tbl_map(opts.format_item, items)
    on_choice(items[3])
  end]])
  h.eq(c:lua("return vim.fn.getcompletion('Gemma model ', 'cmdline')"),
    { 'a.gguf', 'b.gguf', 'fake.gguf', 's-00001-of-00002.gguf' })
  c:cmd('Gemma load')
  c:wait("require('gemma.engine').is_loaded()")
  h.has(c:lua('return Fake.loads[1].model_path'), '/a.gguf')
  c:cmd('Gemma model b')
  c:wait('#Fake.loads == 2')
  h.has(c:lua('return Fake.loads[2].model_path'), '/b.gguf')
  c:wait("require('gemma.engine').is_loaded()")
  c:cmd('Gemma model')
  h.eq(c:lua('return #vim.tbl_filter(function(l) return vim.startswith(l, "*") end, Shown)'), 1)
  h.has(c:lua('return Shown[2]'), '* b.gguf')
  c:wait('#Fake.loads == 3')
  h.has(c:lua('return Fake.loads[3].model_path'), '/fake.gguf')
  c:cmd('Gemma model nothing')
  c:wait("vim.iter(Seen.messages):any(function(m) return m:find('no model nothing in', 1, true) end)")
  -- Another session finds the same.
  local d = h.child({ env = { XDG_DATA_HOME = c.dir .. '/data', XDG_STATE_HOME = c.dir .. '/state' } })
  h.has(d:lua("return (require('gemma.models').find())"), '/fake.gguf')
end)

-- ---- the library ---------------------------------------------------------------------------

--- A Neovim with the plugin of that folder.
local function child_of(root)
  return h.child({ fake = false, cols = 70, lines = 20,
    config = ('vim.opt.rtp:remove(%q) vim.opt.rtp:prepend(%q)'):format(h.root, root) })
end

--- A copy of the plugin whose Makefile does what the test wants.
local function plugin(makefile)
  local root = vim.fn.tempname()
  vim.fn.mkdir(root .. '/csrc', 'p')
  for _, d in ipairs({ 'lua', 'plugin' }) do
    vim.uv.fs_symlink(h.root .. '/' .. d, root .. '/' .. d)
  end
  vim.fn.writefile(vim.split(makefile, '\n'), root .. '/Makefile')
  local c = child_of(root)
  return c, root
end

offline('install lib builds in the background, replaces by a new inode, and the library works', function()
  local c, root = plugin(('.PHONY: lib\nlib:\n\t@echo "  CC  csrc/x.c"\n\t@mkdir -p build\n'
    .. '\t@cp %s build/libgemma.so.tmp\n\t@mv -f build/libgemma.so.tmp build/libgemma.so'):format(
    h.need_library()))
  c:lua([[vim.api.nvim_create_autocmd('User', { pattern = 'GemmaProgress', callback = function(ev)
    _G.Last = ev.data end })]])
  c:cmd('Gemma install')
  h.has(wait_message(c), 'the library is built in ' .. root)
  c:wait("Last.status == 'success'")
  local before = vim.uv.fs_stat(root .. '/build/libgemma.so').ino
  h.has(c:lua("return require('gemma.ffi').path()"), root)
  h.eq(c:lua("return require('gemma.ffi').problem() == nil"), true)
  c:lua("require('gemma.engine').hash('/nowhere', { on_done = print, on_error = function() end })")
  c:cmd('Gemma install lib')
  h.has(wait_message(c, 2), 'Restart Neovim to use it.')
  h.ok(vim.uv.fs_stat(root .. '/build/libgemma.so').ino ~= before)
end)

offline('install lib tells what is missing', function()
  local c, root = plugin('lib:\n\t@echo "worker.c:9: fatal error: uv.h: No such file" >&2; exit 1')
  c:cmd('Gemma install lib')
  h.has(wait_message(c), "the library was not built: libuv's header files are missing (Debian: libuv1-dev")
  vim.fn.writefile({ 'lib:', '\t@echo "x.c:1: error: strange"; exit 2' }, root .. '/Makefile')
  c:cmd('Gemma install lib')
  h.has(wait_message(c, 2), 'x.c:1: error: strange. See :Gemma log.')
  -- What make says of it is the name of a rule.
  vim.fn.writefile({ 'lib:', '\t@echo "mkdir: cannot create it: No space left"; echo "make: *** [x] Error 1"; false' },
    root .. '/Makefile')
  c:cmd('Gemma install lib')
  h.has(wait_message(c, 3), 'not built: mkdir: cannot create it: No space left. See :Gemma log.')
  -- It was taken for built: the exit code of a program that a signal ended is 0.
  vim.fn.writefile({ 'lib:', '\t@echo "  CC  csrc/x.c"; kill -9 $$PPID' }, root .. '/Makefile')
  c:cmd('Gemma install lib')
  h.eq(wait_message(c, 4), 'gemma: the library was not built: make was ended by signal 9. See :Gemma log.')
  c:lua("vim.env.CC = 'no-such-compiler'")
  c:cmd('Gemma install lib')
  h.has(wait_message(c, 5), 'no C compiler (no-such-compiler) was found.')
  c:lua("vim.env.PATH = '/nowhere'")
  c:cmd('Gemma install lib')
  h.has(wait_message(c, 6), 'make was not found.')
  vim.fn.delete(root .. '/csrc', 'rf')
  c:cmd('Gemma install lib')
  h.has(wait_message(c, 7), 'no sources in ' .. root)
end)

offline('two Neovims do not build the library at once', function()
  local c, root = plugin('lib:\n\t@echo >>made; while [ ! -e go ]; do sleep 0.02; done; exit 1')
  local d = child_of(root)
  c:cmd('Gemma install lib')
  c:wait(('vim.uv.fs_stat(%q)'):format(root .. '/made'))
  d:cmd('Gemma install lib')
  h.eq(wait_message(d), ('gemma: pid %d is building the library already.'):format(
    c:lua('return vim.uv.os_getpid()')))
  vim.fn.writefile({}, root .. '/go')
  h.has(wait_message(c), 'the library was not built')
  d:cmd('Gemma install lib')
  h.has(wait_message(d, 2), 'the library was not built')
  h.eq(read(root .. '/made'), '\n\n', 'made by one after the other')
end)

offline('leaving ends make and what it runs', function()
  local c, root = plugin('lib:\n\t@echo $$PPID $$$$ >pids.tmp; mv pids.tmp pids; sleep 60; true')
  c:cmd('Gemma install lib')
  c:wait(('vim.uv.fs_stat(%q)'):format(root .. '/pids'))
  local pids = vim.split(vim.trim(read(root .. '/pids')), ' ')
  vim.rpcnotify(c.chan, 'nvim_command', 'qall!')
  h.eq(vim.fn.jobwait({ c.chan }, 3000)[1], 0)
  for _, pid in ipairs(pids) do
    h.ok(vim.wait(10000, function()
      return vim.uv.kill(tonumber(pid), 0) ~= 0
    end, 5), pid .. ' is gone')
  end
end)

test('a sum that the disk has no room for counts as not recorded', function()
  local models = require('gemma.models')
  local path = vim.fn.tempname()
  h.eq(models.record_sum(path, 'abc'), true)
  os.remove(models.sum_path(path))
  assert(vim.uv.fs_symlink('/dev/full', models.sum_path(path)))
  h.eq(models.record_sum(path, 'abc'), false)
  h.eq(vim.uv.fs_lstat(models.sum_path(path)), nil)
end)

return T
