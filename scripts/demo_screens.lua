--- demo_screens.lua: `make demo` without a terminal: the same editor under tmux, driven by keys,
--- its screens printed. Ends with status 1 and a reason when something did not appear.

local top = vim.env.GEMMA_TOP
package.path = top .. '/tests/e2e/?.lua;' .. package.path
local screen = require('screen')

-- A large model on a slow disk takes its time; the small one takes none of it.
local PATIENCE = 300000
local QUESTION = ':Gemma image What is this?'

--- To stdout; print() of `nvim -l` writes to stderr.
---@param text string
local function say(text)
  io.stdout:write(text, '\n')
  io.stdout:flush()
end

---@param s Screen
---@param title string
local function show(s, title)
  say('\n' .. screen.frame(s:lines(), title))
end

---@param s Screen
local function load(s)
  local start = vim.uv.hrtime()
  s:wait('the model is loaded', PATIENCE, function()
    local status = s:lua([[
      local st = require('gemma').status()
      return { state = st.state, reason = st.reason }]])
    if status.reason and status.state ~= 'loading' and status.state ~= 'ready' then
      error('the model could not be loaded: ' .. status.reason, 0)
    end
    return s:lua("return require('gemma.engine').is_loaded()")
  end)
  say(('demo: loaded in %.1f s'):format((vim.uv.hrtime() - start) / 1e9))
  show(s, 'before')
end

---@param s Screen
---@return string
local function suggest(s)
  s:lua([[
    vim.fn.search('table.sort', 'w')
    vim.cmd.normal({ 'zt', bang = true })
    vim.fn.search('^return M', 'w')]])
  s:keys('O', 'Escape', 'O')
  s:type('function M.values(map)', 40)
  s:keys('Enter')
  s:provoke({ 'l', 'local n = ', 'for i = ', 'if #list == ', 'return ' }, 20000, 40)
  return s:settled_ghost(PATIENCE)
end

---@param s Screen
local function complete(s)
  local text = suggest(s)
  show(s, 'grey text while typing')
  local row = s:lua('return vim.fn.screenrow()')
  local colour = s:lua([[
    return vim.api.nvim_get_hl(0, { name = 'GemmaGhost', link = false }).fg]])
  -- The number of the line has the same colour.
  local drawn = s:drawn_as(row, 'GemmaGhost'):gsub('^%s*%d+ ', '')
  say(('demo: in that row %q has the colour of ghost text, #%06x'):format(drawn, colour))
  local before = s:lua('return vim.fn.wordcount().bytes')
  s:keys('M-l')
  s:wait('the suggestion is accepted', 5000, function()
    return s:lua('return vim.fn.wordcount().bytes') >= before + #text
  end)
  s:keys('Escape')
  s:wait('Normal mode', 5000, function()
    return s:lua('return vim.api.nvim_get_mode().mode') == 'n'
  end)
  show(s, 'accepted with <M-l>')
  s:keys('u')
  s:wait('undo', 5000, function()
    return s:lua('return vim.fn.wordcount().bytes') == before
  end)
  say('demo: one undo took exactly the accepted text away')
end

---@param s Screen
local function explain(s)
  s:lua("vim.fn.search('function M.keys', 'w') vim.cmd.normal({ 'zt', bang = true })")
  s:keys('V7j')
  s:paste(':')
  s:paste('GemmaExplain')
  s:keys('Enter')
  s:wait('the answer ends', PATIENCE, function()
    return s:find('ask on')
  end)
  show(s, ':GemmaExplain')
end

--- A question about the picture that a page links to.
---@param s Screen
---@param page string
local function picture(s, page)
  s:lua("require('gemma.chat').close() vim.cmd.edit({ ..., bang = true }) vim.fn.search('logo](')", page)
  if s:lua("return require('gemma.engine').media_reason()") ~= vim.NIL then
    return say('demo: this model has no mmproj file beside it, so no pictures')
  end
  s:paste(QUESTION)
  s:keys('Enter')
  s:wait('the answer ends', PATIENCE, function()
    return s:find('circle.png') and s:find('ask on')
  end)
  show(s, QUESTION)
end

local home = vim.fn.tempname()
vim.fn.mkdir(home, 'p')
assert(vim.uv.fs_copyfile(top .. '/tests/e2e/sample.lua', home .. '/sample.lua'))
local files = vim.system({ screen.nvim, '--clean', '-l', top .. '/scripts/demo_files.lua', home }):wait()
assert(files.code == 0, files.stderr)
if vim.fn.executable('tmux') == 0 then
  say('demo: tmux is missing')
  os.exit(1)
end
local s
local ok, err = pcall(function()
  s = screen.start({
    file = home .. '/sample.lua',
    init = top .. '/scripts/demo_init.lua',
    cols = 100,
    rows = 32,
  })
  load(s)
  s:keys('g', '?') -- the guide has been read
  complete(s)
  explain(s)
  picture(s, home .. '/notes.md')
  local start = vim.uv.hrtime()
  s:paste(':wqa')
  s:keys('Enter')
  s:wait('the editor leaves', 5000, function()
    return s:dead()
  end)
  local took = (vim.uv.hrtime() - start) / 1e6
  say(('\ndemo: left with status %d in %.0f ms'):format(s:status(), took))
end)
if s then
  s:stop()
end
if not ok then
  say('demo: ' .. tostring(err))
end
os.exit(ok and 0 or 1)
