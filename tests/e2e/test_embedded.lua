--- test_embedded.lua: what somebody sees who has no model of their own: the small one that comes with
--- the plugin. It is judged by what it means; whole sentences are left to it.

package.path = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h') .. '/?.lua;' .. package.path
local case = require('case')
local draw = require('draw')
local screen = require('screen')

local WAIT = 20000 -- ms; a busy machine may be slow, a failing test is the only one that waits

---@param file string
---@param options table? more of them
---@return Screen
local function editor(file, options)
  options = vim.tbl_extend('force', { shared = 'own' }, options or {})
  local s = case.editor({ file = file, model = false, options = options })
  s:wait_loaded()
  return s
end

--- The answer to a command, in lower case, when it is complete.
---@param s Screen
---@param command string
---@return string
local function answer(s, command)
  s:lua([[
    _G.said = nil
    vim.api.nvim_create_autocmd('User', { pattern = 'GemmaAnswerDone', once = true, callback = function(ev)
      _G.said = table.concat(vim.api.nvim_buf_get_lines(ev.data.buf, 0, -1, false), '\n')
    end })]])
  s:ex(command)
  local text = s:wait('the answer to ' .. command, WAIT, function()
    local said = s:lua('return said')
    return said ~= vim.NIL and said
  end)
  return text:lower()
end

--- Which of these words an answer has.
---@param text string
---@param words string[]
---@return string[]
local function among(text, words)
  return vim.tbl_filter(function(word)
    return text:find('%f[%w]' .. word .. '%f[%W]') ~= nil
  end, words)
end

local COLOURS = { 'red', 'green', 'blue', 'yellow', 'orange', 'purple', 'pink', 'brown', 'black', 'cyan' }
local SHAPES = { 'circle', 'square', 'triangle', 'rectangle', 'star', 'ring', 'cross', 'diamond' }
local NUMBERS = { 'one', 'two', 'three', 'four', 'five' }

case.run({
  {
    'a red circle is called red and a circle, a blue square blue and a square',
    function()
      local s = editor(case.sample())
      local dir = vim.fn.tempname()
      vim.fn.mkdir(dir)
      draw.circle(dir .. '/a.png', { 220, 30, 30 })
      draw.square(dir .. '/b.png', { 35, 70, 215 })
      for name, is in pairs({ a = { 'red', 'circle' }, b = { 'blue', 'square' } }) do
        local said = answer(s, ('Gemma image %s/%s.png'):format(dir, name))
        case.equal(among(said, COLOURS), { is[1] }, said)
        case.equal(among(said, SHAPES), { is[2] }, said)
      end
    end,
  },
  {
    'low and high tones are told apart, and beeps are counted',
    function()
      local s = editor(case.sample())
      local dir = vim.fn.tempname()
      vim.fn.mkdir(dir)
      for name, hertz in pairs({ low = 150, high = 2800 }) do
        local path = ('%s/%s.wav'):format(dir, name)
        draw.wav(path, 0.8, function(t)
          return 0.4 * math.sin(2 * math.pi * hertz * t)
        end)
        local said = answer(s, 'Gemma image ' .. path .. ' What do you hear?')
        -- The line of the file has the name too.
        said = said:gsub('^[^\n]*', '')
        case.equal(among(said, { 'low', 'high', 'tone', 'noise', 'silence' }), { name, 'tone' }, said)
      end
      draw.beeps(dir .. '/beeps.wav', 3, 440)
      local said = answer(s, 'Gemma image ' .. dir .. '/beeps.wav How many beeps are there?')
      case.equal(among(said, NUMBERS), { 'three' }, said)
    end,
  },
  {
    ':GemmaExplain says of a function that it sorts keys, and of one that adds up that it makes a sum',
    function()
      local s = editor(case.sample())
      s:ex('/function M.keys')
      local said = answer(s, 'GemmaExplain')
      case.ok(said:find('%f[%w]keys') and said:find('%f[%w]sorted'), said)
      s = editor(case.sample())
      s:ex('/function M.sum')
      said = answer(s, 'GemmaExplain')
      case.ok(said:find('%f[%w]sum') or said:find('%f[%w]add'), said)
    end,
  },
  {
    'what anybody would write next is suggested, and accepted it runs',
    function()
      local dir = vim.fn.tempname()
      vim.fn.mkdir(dir)
      local lines = vim.fn.readfile(screen.top .. '/tests/e2e/sample.lua')
      lines = vim.list_slice(lines, 1, 12)
      vim.list_extend(lines, {
        '--- The number of keys of a table.', 'function M.count(map)', '  local count = 0',
        '  for _ in pairs(map) do', '    ',
      })
      vim.fn.writefile(lines, dir .. '/list.lua')
      local s = editor(dir .. '/list.lua')
      s:ex('cd ' .. dir) -- so that the model is told the same name every time
      s:keys('G', 'A')
      -- A suggestion ends with the block that the cursor is in: first that of the loop, then the function.
      for _, last in ipairs({ 'end', 'return count' }) do
        s:keys('M-\\')
        s:wait('a suggestion with ' .. last, WAIT, function()
          local text = s:lua("return require('gemma.ghost').text()")
          return text ~= vim.NIL and text:find(last) and not s:lua("return require('gemma.engine').busy()")
        end)
        s:keys('M-l')
        s:wait('it is accepted', WAIT, function()
          local new = s:lua('return vim.api.nvim_buf_get_lines(0, ..., -1, false)', #lines)
          return table.concat(new, '\n'):find(last)
        end)
        s:keys('Enter')
      end
      s:keys('Escape')
      local text = table.concat(s:lua('return vim.api.nvim_buf_get_lines(0, 0, -1, false)'), '\n')
      local indented = text:find('\n  end\n  return count\n', 1, true)
      case.ok(indented, 'as the file is indented, not as its options say: ' .. text)
      text = vim.trim(text)
      if not text:find('\nend$') then
        text = text .. '\nend'
      end
      local module = assert(loadstring(text .. '\nreturn M'))()
      case.equal(module.count({ a = 1, b = 2, c = 3 }), 3, text)
    end,
  },
})
