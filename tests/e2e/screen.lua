--- screen.lua: a real Neovim in a real terminal (tmux), seen from outside.
---
--- Owns one tmux server per editor and the folder that the editor takes for the user's home.
--- Looks at the screen with capture-pane, types with send-keys, and asks the editor over its own
--- socket where the screen alone cannot tell. Waits for conditions, never for time.
--- Runs in `nvim -l`; knows nothing about tests (see case.lua) and little about the plugin.

local M = {}

local here = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h')
M.top = vim.fn.fnamemodify(here, ':h:h')

--- The Neovim to look at: a wrapper script, since v:progpath would miss its environment.
M.nvim = vim.env.GEMMA_TEST_NVIM or vim.v.progpath

-- Command lines are quoted for sh; the user's shell may be fish or csh.
vim.o.shell = 'sh'

---@class Screen
---@field socket string name of the tmux server
---@field home string folder of its own
---@field channel integer?
---@field cols integer
---@field rows integer
local Screen = {}
Screen.__index = Screen

local count = 0

---@param cmd string[]
---@return string stdout
local function run(cmd)
  local done = vim.system(cmd, { text = true }):wait(10000)
  if done.code ~= 0 then
    error(('%s: %s'):format(table.concat(cmd, ' '), vim.trim(done.stderr or '')), 0)
  end
  return done.stdout
end

---@param ... string
---@return string
function Screen:tmux(...)
  return run({ 'tmux', '-L', self.socket, ... })
end

--- Starts an editor. Its options, data and state are in a fresh folder; nothing of the user's.
---@param o { file: string?, init: string?, args: string[]?, env: table?, cols: integer?, rows: integer? }
---@return Screen
function M.start(o)
  count = count + 1
  local self = setmetatable({}, Screen)
  self.socket = ('gemma-%d-%d'):format(vim.uv.os_getpid(), count)
  self.home = vim.fn.tempname()
  self.cols, self.rows = o.cols or 80, o.rows or 24
  for _, dir in ipairs({ 'config', 'data', 'state', 'cache', 'run' }) do
    vim.fn.mkdir(self.home .. '/' .. dir, 'p', tonumber('700', 8))
  end
  local env = vim.tbl_extend('force', {
    XDG_CONFIG_HOME = self.home .. '/config',
    XDG_DATA_HOME = self.home .. '/data',
    XDG_STATE_HOME = self.home .. '/state',
    XDG_CACHE_HOME = self.home .. '/cache',
    XDG_RUNTIME_DIR = self.home .. '/run',
    LC_ALL = 'C.UTF-8',
    COLORTERM = 'truecolor',
    NVIM = '',
    NVIM_APPNAME = '',
    GEMMA_TOP = M.top,
  }, o.env or {})
  local cmd = { 'env', '-u', 'NVIM', '-u', 'NVIM_APPNAME' }
  for name, value in pairs(env) do
    if value ~= '' then
      cmd[#cmd + 1] = name .. '=' .. value
    end
  end
  self.address = self.home .. '/run/nvim.sock'
  vim.list_extend(cmd, { M.nvim, '-n', '-i', 'NONE', '-u', o.init or (here .. '/init.lua') })
  vim.list_extend(cmd, { '--listen', self.address })
  vim.list_extend(cmd, o.args or {})
  if o.file then
    cmd[#cmd + 1] = o.file
  end
  -- Quoted once for the shell of tmux, which would be the user's. remain-on-exit keeps the last screen
  -- readable.
  local line = table.concat(vim.tbl_map(vim.fn.shellescape, cmd), ' ')
  line = ('%s; echo $? >%s'):format(line, vim.fn.shellescape(self.home .. '/status'))
  run({
    'tmux', '-L', self.socket, '-u', '-f', '/dev/null',
    'set-option', '-g', 'default-shell', '/bin/sh', ';',
    'set-option', '-g', 'remain-on-exit', 'on', ';',
    'set-option', '-g', 'escape-time', '0', ';',
    'set-option', '-g', 'default-terminal', 'screen-256color', ';',
    'new-session', '-d', '-x', tostring(self.cols), '-y', tostring(self.rows), line,
  })
  self:wait('the editor starts', 20000, function()
    if self:dead() then
      error('the editor left at once:\n' .. table.concat(self:lines(), '\n'), 0)
    end
    local ok, channel = pcall(vim.fn.sockconnect, 'pipe', self.address, { rpc = true })
    if ok and channel > 0 then
      self.channel = channel
      return self:lua('return vim.v.vim_did_enter') == 1
    end
  end)
  return self
end

--- Ends the editor, whatever state it is in, and forgets its folder.
function Screen:stop()
  if self.channel then
    pcall(vim.fn.chanclose, self.channel)
  end
  pcall(self.tmux, self, 'kill-server')
  vim.fn.delete(self.home, 'rf')
end

--- Keys by tmux's names: 'Escape', 'Enter', 'M-l', 'C-]'.
---@param ... string
function Screen:keys(...)
  self:tmux('send-keys', ...)
end

--- Text as it is, all at once.
---@param text string
function Screen:paste(text)
  self:tmux('send-keys', '-l', text)
end

--- An Ex command, without the colon.
---@param command string
function Screen:ex(command)
  self:paste(':' .. command)
  self:keys('Enter')
end

--- Until the model is there.
function Screen:wait_loaded()
  self:wait('the model is loaded', 30000, function()
    return self:lua("return require('gemma.engine').is_loaded()")
  end)
end

--- Text as a typist does it: one key at a time, with a pause behind each.
---@param text string
---@param pause integer? milliseconds between keys, 15
function Screen:type(text, pause)
  for char in text:gmatch('[%z\1-\127\194-\244][\128-\191]*') do
    self:tmux('send-keys', '-l', char)
    vim.wait(pause or 15)
  end
end

--- Runs Lua in the editor. A prompt that waits for a key would keep the answer back for ever:
--- that is an error, since nobody asked for one.
---@param code string
---@param ... any
---@return any
function Screen:lua(code, ...)
  local deadline = vim.uv.hrtime() + 3e9
  while vim.rpcrequest(self.channel, 'nvim_get_mode').blocking do
    if vim.uv.hrtime() > deadline then
      error('the editor waits for a key\n' .. M.frame(self:lines()), 0)
    end
    vim.wait(8)
  end
  return vim.rpcrequest(self.channel, 'nvim_exec_lua', code, { ... })
end

---@return string[] lines of the screen, without trailing blanks
function Screen:lines()
  local text = self:tmux('capture-pane', '-p')
  return vim.split(text:gsub('\n$', ''), '\n', { plain = true })
end

--- The screen with its colours: rows of cells in a string of escape sequences.
---@return string[]
function Screen:raw()
  return vim.split(self:tmux('capture-pane', '-p', '-e'), '\n', { plain = true })
end

--- The stretches of one colour in a row of the screen.
---@param row integer 1-based
---@return { text: string, fg: string }[] fg as in the escape sequence ("38;2;79;82;88") or ""
function Screen:spans(row)
  local out, fg = {}, ''
  -- A colour that goes on is not repeated on the next row, so all rows before count.
  for r, line in ipairs(self:raw()) do
    local at = 1
    while at <= #line do
      local from, to, codes = line:find('\27%[([%d;:]*)m', at)
      local text = line:sub(at, (from or #line + 1) - 1):gsub('\27%[[^m]*[A-Za-ln-z]', '')
      text = text:gsub('[\14\15]', '')
      if r == row and text ~= '' then
        out[#out + 1] = { text = text, fg = fg }
      end
      if not from then
        break
      end
      codes = codes:gsub(':', ';')
      if codes == '' or codes:match('^0') or codes:match('^39') then
        fg = ''
      end
      fg = codes:match('(38;2;%d+;%d+;%d+)') or codes:match('(38;5;%d+)') or fg
      at = to + 1
    end
  end
  return out
end

--- What of a row of the screen is drawn in a highlight group's foreground.
---@param row integer 1-based
---@param group string
---@return string
function Screen:drawn_as(row, group)
  local fg = self:lua(
    'return vim.api.nvim_get_hl(0, { name = ..., link = false }).fg or -1',
    group
  )
  if fg < 0 then
    error(group .. ' has no colour of its own', 0)
  end
  local want = ('38;2;%d;%d;%d'):format(math.floor(fg / 65536), math.floor(fg / 256) % 256, fg % 256)
  local text = {}
  for _, span in ipairs(self:spans(row)) do
    if span.fg == want then
      text[#text + 1] = span.text
    end
  end
  return table.concat(text)
end

--- The first row of the screen that contains a text.
---@param text string
---@return integer?
function Screen:find(text)
  for row, line in ipairs(self:lines()) do
    if line:find(text, 1, true) then
      return row
    end
  end
end

--- Polls until check() is true; shows the screen when it never is.
---@param what string a sentence
---@param ms integer
---@param check fun(): any
---@return any what check returned
function Screen:wait(what, ms, check)
  local deadline = vim.uv.hrtime() + ms * 1e6
  while true do
    local value = check()
    if value then
      return value
    end
    if vim.uv.hrtime() > deadline then
      local ok, lines = pcall(self.lines, self)
      error(('not within %d ms: %s\n%s'):format(ms, what, M.frame(ok and lines or {})), 0)
    end
    vim.wait(8)
  end
end

--- The ghost text that is shown.
---@return string?
function Screen:ghost()
  local text = self:lua("return require('gemma.ghost').text()")
  return text ~= vim.NIL and text or nil
end

--- The ghost text when nothing more will come.
---@param ms integer
---@return string
function Screen:settled_ghost(ms)
  return self:wait('the suggestion is complete', ms, function()
    local state = self:lua("return require('gemma').status().state")
    local text = self:ghost()
    return text and state == 'ready' and text or nil
  end)
end

--- Types starts of a line until one gets a suggestion: a model may have nothing to say to one.
---@param starts string[]
---@param ms integer to wait for each
---@param pause integer? milliseconds between keys
---@param good? fun(): boolean is this suggestion one that the caller can use?
---@return string typed
function Screen:provoke(starts, ms, pause, good)
  for _, start in ipairs(starts) do
    self:type(start, pause)
    local came = pcall(self.wait, self, 'grey text for ' .. start, ms, function()
      return self:ghost()
    end)
    if came and (not good or good()) then
      return start
    end
    self:keys('C-u')
  end
  error('no start of a line got a suggestion\n' .. M.frame(self:lines()), 0)
end

--- Exit status of the editor when it has ended. From a file, because tmux 3.3 now and then misses
--- that the process of a pane has ended, and then never learns its status.
---@return integer?
function Screen:status()
  local file = io.open(self.home .. '/status')
  local text = file and file:read('*a') or ''
  if file then
    file:close()
  end
  return tonumber(text:match('^(%d+)\n$'))
end

---@return boolean
function Screen:dead()
  return self:status() ~= nil
end

--- A screen with a border around it.
---@param lines string[]
---@param title string?
---@return string
function M.frame(lines, title)
  local width = 78
  for _, line in ipairs(lines) do
    width = math.max(width, vim.fn.strdisplaywidth(line))
  end
  local out = { '+-- ' .. (title or 'screen') .. ' ' .. ('-'):rep(width - 3 - #(title or 'screen')) .. '+' }
  for _, line in ipairs(lines) do
    out[#out + 1] = '| ' .. line .. (' '):rep(width - vim.fn.strdisplaywidth(line)) .. ' |'
  end
  out[#out + 1] = '+' .. ('-'):rep(width + 2) .. '+'
  return table.concat(out, '\n')
end

return M
