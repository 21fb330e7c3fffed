--- helper.lua: a child Neovim that a test drives over RPC, and assertions that show both sides.
---
--- The child runs headless with the plugin on its runtimepath and nothing else. Keys go in as if
--- typed; the screen is read cell by cell. Waiting is for conditions, with a limit, never for time.

local M = {}

local this = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p')
M.root = vim.fs.dirname(vim.fs.dirname(vim.fs.dirname(this)))

--- The Neovim under test. A wrapper script is fine; v:progpath may name a loader.
M.nvim = vim.env.GEMMA_TEST_NVIM or vim.env.NVIM
if not M.nvim or vim.fn.executable(M.nvim) == 0 then
  M.nvim = 'nvim'
end

local LIMIT = 5000 -- ms; only a failing test takes that long

---@class test.Child
---@field chan integer
---@field dir string a folder of its own
---@field errors_ok boolean? errors in callbacks are what the test is about
---@field package seen string? the last of them
local Child = {}
Child.__index = Child

local children = {}

---@param o { fake: boolean?, config: string?, cols: integer?, lines: integer?, env: table? }?
---@return test.Child
function M.child(o)
  o = vim.tbl_extend('keep', o or {}, { fake = true, cols = 70, lines = 20 })
  local dir = vim.fn.tempname()
  for _, d in ipairs({ 'data/nvim/gemma', 'state', 'config', 'cache' }) do
    vim.fn.mkdir(dir .. '/' .. d, 'p')
  end
  local env = vim.tbl_extend('force', {
    XDG_DATA_HOME = dir .. '/data',
    XDG_STATE_HOME = dir .. '/state',
    XDG_CONFIG_HOME = dir .. '/config',
    XDG_CACHE_HOME = dir .. '/cache',
    NVIM_LOG_FILE = dir .. '/nvim.log',
    -- What the user's own shell may say.
    NVIM = '',
    NVIM_APPNAME = '',
    LC_ALL = 'C.UTF-8',
    no_proxy = '127.0.0.1',
    NO_PROXY = '127.0.0.1',
  }, o.env or {})
  local argv = { M.nvim, '--embed', '--headless', '--clean', '-n', '-i', 'NONE' }
  vim.list_extend(argv, {
    '--cmd', 'set noswapfile columns=' .. o.cols .. ' lines=' .. o.lines,
    '--cmd', 'set rtp^=' .. vim.fn.fnameescape(M.root),
  })
  if o.fake then
    local fake = M.root .. '/tests/lua/fake_engine.lua'
    vim.list_extend(argv, { '--cmd', 'luafile ' .. vim.fn.fnameescape(fake) })
    vim.fn.writefile({ 'GGUF' }, dir .. '/data/nvim/gemma/fake.gguf')
  end
  if o.colour then
    vim.list_extend(argv, { '--cmd', 'set termguicolors | hi GemmaGhost guifg=#123456' })
  end
  if o.config then
    vim.fn.writefile(vim.split(o.config, '\n'), dir .. '/config.lua')
    vim.list_extend(argv, { '--cmd', 'luafile ' .. vim.fn.fnameescape(dir .. '/config.lua') })
  end
  vim.list_extend(argv, o.args or {})
  local chan = vim.fn.jobstart(argv, { rpc = true, env = env, cwd = dir })
  assert(chan > 0, 'cannot start ' .. M.nvim)
  local child = setmetatable({ chan = chan, dir = dir }, Child)
  children[#children + 1] = child
  child:lua([[
    _G.Seen = { events = {}, messages = {} }
    vim.api.nvim_create_autocmd('User', { pattern = 'Gemma*', callback = function(ev)
      table.insert(Seen.events, { name = ev.match, data = ev.data })
    end })
    _G.PlainNotify = vim.notify
    vim.notify = function(msg, level) table.insert(Seen.messages, msg) end
    -- What the machine runs on must not decide; and nothing is loaded for this that start-up does not load.
    local file, none, errors = ...
    package.preload['gemma.power'] = function()
      local power = dofile(file)
      power.root = none
      return power
    end
    -- Written when it leaves rather than asked for: it may be stopped, wait for a key, or be gone already.
    -- What :silent! holds back, as Neovim's own files do, is no message.
    local open = io.open
    vim.api.nvim_create_autocmd('VimLeave', { callback = function()
      local err = vim.v.errmsg
      if err ~= '' and vim.fn.execute('messages'):find(err:match('^%C*'), 1, true) then
        local f = assert(open(errors, 'wb'))
        f:write(err)
        f:close()
      end
    end })
  ]], M.root .. '/lua/gemma/power.lua', dir .. '/no-batteries', dir .. '/errmsg')
  return child
end

--- Ends the children of the test that just ran.
---@return string? err of a callback of one of them
function M.stop_children()
  local err
  for _, c in ipairs(children) do
    err = c:stop() or err
  end
  children = {}
  return err
end

---@param ms integer to wait for its end
---@return boolean
function Child:gone(ms)
  return vim.fn.jobwait({ self.chan }, ms)[1] ~= -1
end

--- Ends it. An error in a callback (an autocommand, a timer, vim.schedule, a mapping) shows nowhere but in
--- Neovim's own messages.
---@return string? err the last of them, when the test is not about them
function Child:stop()
  if self.chan then
    pcall(vim.rpcnotify, self.chan, 'nvim_command', 'qall!')
    if not self:gone(1000) then
      -- It may wait for a key, such as below an error of two lines.
      pcall(vim.rpcnotify, self.chan, 'nvim_input', '<C-c><C-c>')
      if not self:gone(1000) then
        vim.fn.jobstop(self.chan)
      end
    end
    self.chan = nil
    local f = io.open(self.dir .. '/errmsg', 'rb')
    self.seen = f and f:read('*a')
    if f then
      f:close()
    end
    vim.fn.delete(self.dir, 'rf')
  end
  return not self.errors_ok and self.seen or nil
end

--- Runs Lua in the child and returns what it returns.
function Child:lua(code, ...)
  return vim.rpcrequest(self.chan, 'nvim_exec_lua', code, { ... })
end

function Child:cmd(command)
  return vim.rpcrequest(self.chan, 'nvim_command', command)
end

--- Keys as if typed, all at once. The next request is answered after they are worked through.
function Child:feed(keys)
  vim.rpcrequest(self.chan, 'nvim_input', keys)
  self:lua('return 0')
end

--- Keys one by one, as a person types: autocommands run after each.
function Child:type(text)
  for ch in text:gmatch('[%z\1-\127\192-\247][\128-\191]*') do
    self:feed(ch == '<' and '<LT>' or ch == '\n' and '<CR>' or ch)
  end
end

--- Until a Lua expression is true in the child.
function Child:wait(expr, what)
  local start = vim.uv.now()
  while true do
    local value = self:lua('return ' .. expr)
    if value and value ~= vim.NIL then -- what nil becomes on its way
      return
    end
    vim.uv.update_time()
    if vim.uv.now() - start > LIMIT then
      local state = self:lua([[return {
        mode = vim.api.nvim_get_mode().mode, seen = Seen,
        jobs = _G.Fake and #Fake.jobs, status = require('gemma').status() }]])
      error(('waited in vain for: %s\n%s'):format(what or expr, vim.inspect(state)), 2)
    end
    vim.wait(2)
  end
end

--- Puts text into the buffer with the cursor where the `|` is, in Insert mode.
function Child:insert_at(text, opts)
  opts = opts or {}
  local lines = vim.split(text, '\n', { plain = true })
  local row, col
  for i, l in ipairs(lines) do
    local at = l:find('|', 1, true)
    if at then
      row, col = i, at - 1
      lines[i] = l:sub(1, at - 1) .. l:sub(at + 1)
      break
    end
  end
  self:lua([[
    local lines, row, col, ft = ...
    vim.api.nvim_buf_set_lines(0, 0, -1, false, lines)
    vim.bo.filetype = ft
    vim.bo.expandtab, vim.bo.shiftwidth = true, 2
    vim.o.virtualedit = 'onemore'
    vim.api.nvim_win_set_cursor(0, { row, col })
  ]], lines, row, col, opts.ft or 'lua')
  self:feed('i')
  self:lua("vim.o.virtualedit = ''")
end

function Child:lines()
  return self:lua('return vim.api.nvim_buf_get_lines(0, 0, -1, false)')
end

function Child:cursor()
  return self:lua('return vim.api.nvim_win_get_cursor(0)')
end

function Child:ghost()
  return self:lua("return require('gemma.ghost').text()")
end

--- The screen, one string per row, without blanks at the end.
function Child:screen(first, last)
  return self:lua([[
    local first, last = ...
    vim.cmd.redraw()
    local out = {}
    for r = first or 1, last or vim.o.lines do
      local cells = {}
      for c = 1, vim.o.columns do
        cells[c] = vim.fn.screenstring(r, c)
      end
      out[#out + 1] = (table.concat(cells):gsub('%s+$', ''))
    end
    return out
  ]], first, last)
end

--- Until the screen has the text.
function Child:shows(text)
  local screen
  local start = vim.uv.now()
  repeat
    screen = table.concat(self:screen(), '\n')
    if screen:find(text, 1, true) then
      return
    end
    vim.wait(5)
    vim.uv.update_time()
  until vim.uv.now() - start > LIMIT
  M.has(screen, text)
end

--- The screen as it is stored in tests/lua/screens: each row of text, and under a row with ghost
--- text a row that marks its cells; `^` marks the cursor. Of a child with `colour`.
---@return string[]
function Child:picture()
  return self:lua([[
    vim.api.nvim__inspect_cell(1, 0, 0) -- the first call makes Neovim number its colours anew
    vim.cmd('redraw!')
    local top = vim.fn.win_screenpos(0)
    local rows, last = {}, 0
    for r = 0, vim.o.lines - vim.o.cmdheight - 2 do
      local text, marks = {}, {}
      for c = 0, vim.o.columns - 1 do
        local cell = vim.api.nvim__inspect_cell(1, r, c)
        text[#text + 1] = cell[1]
        marks[#marks + 1] = cell[2].foreground == 0x123456 and '~' or ' '
      end
      if top[1] + vim.fn.winline() - 2 == r then
        marks[top[2] + vim.fn.wincol() - 1] = '^'
      end
      text = table.concat(text):gsub('%s+$', '')
      marks = table.concat(marks):gsub('%s+$', '')
      rows[#rows + 1] = '|' .. text
      if marks ~= '' then
        rows[#rows + 1] = ' ' .. marks
      end
      if (text ~= '' and text ~= '~') or marks ~= '' then
        last = #rows
      end
    end
    return vim.list_slice(rows, 1, last)
  ]])
end

--- The screen is the stored one. GEMMA_SCREENS=write stores what is seen instead.
---@param name string
function Child:looks_like(name)
  local path = ('%s/tests/lua/screens/%s.txt'):format(M.root, name)
  local got = self:picture()
  if vim.env.GEMMA_SCREENS == 'write' then
    vim.fn.mkdir(vim.fs.dirname(path), 'p')
    vim.fn.writefile(got, path)
  end
  local want = vim.fn.filereadable(path) == 1 and vim.fn.readfile(path) or { '(not stored)' }
  if not vim.deep_equal(got, want) then
    local fmt = 'screen %s\n--- got\n%s\n--- want\n%s'
    error(fmt:format(name, table.concat(got, '\n'), table.concat(want, '\n')), 2)
  end
end

function Child:messages()
  return self:lua('return Seen.messages')
end

--- Names of the User events so far.
function Child:events()
  return self:lua('return vim.tbl_map(function(e) return e.name end, Seen.events)')
end

--- Waits for ghost text and returns it.
function M.shown(c)
  c:wait("require('gemma').visible()", 'ghost text')
  return c:ghost()
end

---@return boolean
function M.hidden(c)
  return not c:lua("return require('gemma').visible()")
end

--- A child with the model loaded, in Insert mode at the `|`, that has asked for a suggestion.
function M.asking(text, o)
  local c = M.child(o)
  c:insert_at(text, o)
  c:wait("require('gemma.engine').is_loaded()")
  c:feed([[<M-Bslash>]])
  c:wait('#Fake.jobs > 0')
  return c
end

--- ... and the model wrote this and ended.
function M.suggesting(text, answer, o)
  local c = M.asking(text, o)
  c:lua('Fake.emit(...)', answer)
  if not (o and o.running) then
    c:lua('Fake.done()')
  end
  return c
end

function M.eq(got, want, what)
  if not vim.deep_equal(got, want) then
    local fmt = '%s\n   got: %s\n  want: %s'
    error(fmt:format(what or 'not equal', vim.inspect(got), vim.inspect(want)), 2)
  end
end

function M.ok(v, what)
  if not v then
    error(what or 'not true', 2)
  end
end

--- Ends a test that cannot be run here.
---@param reason string
function M.skip(reason)
  error({ skip = reason })
end

--- A number as n bytes, the most significant first.
---@param v integer
---@param n integer
---@return string
function M.be(v, n)
  local out = ''
  for _ = 1, n do
    out = string.char(v % 256) .. out
    v = math.floor(v / 256)
  end
  return out
end

--- The same the other way round.
function M.le(v, n)
  return M.be(v, n):reverse()
end

--- The library of this build, which may not be there.
---@return string
function M.shared_object()
  return require('built') .. '/libgemma.so'
end

--- The library of this build, for tests that are skipped without.
---@return string
function M.need_library()
  if not vim.uv.fs_stat(M.shared_object()) then
    M.skip('no library was built')
  end
  return M.shared_object()
end

--- s contains plain text
function M.has(s, text)
  if not s:find(text, 1, true) then
    error(('%q is not in %q'):format(text, s), 2)
  end
end

return M
