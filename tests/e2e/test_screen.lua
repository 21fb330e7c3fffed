--- test_screen.lua: first light, as someone in front of the terminal sees it.
---
--- The model has random weights, so nothing is asserted about what it writes, only that what is
--- on the screen, in the buffer and in the undo history agree.

package.path = vim.fn.fnamemodify(debug.getinfo(1, 'S').source:sub(2), ':p:h') .. '/?.lua;' .. package.path
local case = require('case')
local screen = require('screen')

local WAIT = 20000 -- ms; a busy machine may be slow, a failing test is the only one that waits

---@param s Screen
---@return string[]
local function buffer(s)
  return s:lua('return vim.api.nvim_buf_get_lines(0, 0, -1, false)')
end

--- Gets a suggestion that can be typed through: it begins with three or more plain characters.
---@param s Screen
---@return string typed
---@return string shown
local function provoke(s)
  s:wait_loaded()
  local shown
  local typed = case.provoke(s, function()
    shown = s:settled_ghost(WAIT)
    return shown:match('^[%w%p ][%w%p ][%w%p ]') ~= nil and shown:match('%S') ~= nil
  end)
  return typed, shown
end

--- The row of the screen with the cursor.
---@param s Screen
---@return integer
local function cursor_row(s)
  return s:lua('return vim.fn.screenrow()')
end

---@param text string
---@return string
local function first_line(text)
  return (text:match('^[^\n]*'))
end

case.run({
  {
    'grey text appears at the cursor while typing, and is not in the buffer',
    function()
      local s = case.editor({ file = case.sample() })
      local typed, shown = provoke(s)
      local row = cursor_row(s)
      local line = first_line(shown)
      s:wait('the first line of the suggestion is drawn in its colour', 3000, function()
        return s:drawn_as(row, 'GemmaGhost') == line:gsub('%s+$', '')
          or s:drawn_as(row, 'GemmaGhost') == line
      end)
      case.ok(s:lines()[row]:find(typed .. line:gsub('%s+$', ''), 1, true), 'it stands right behind what was typed')
      case.equal(buffer(s)[3], typed, 'the line in the buffer')
    end,
  },
  {
    'typing through it keeps it: not gone for one moment, and the line looks the same',
    function()
      local s = case.editor({ file = case.sample() })
      local typed, shown = provoke(s)
      local row = cursor_row(s)
      local whole = s:lines()[row]
      s:lua([[
        _G.cleared = 0
        vim.api.nvim_create_autocmd('User', {
          pattern = 'GemmaGhostClear',
          callback = function() _G.cleared = _G.cleared + 1 end,
        })
      ]])
      local through = shown:sub(1, 2)
      for n = 1, #through do
        s:paste(through:sub(n, n))
        s:wait('the key arrives', 3000, function()
          return buffer(s)[3] == typed .. through:sub(1, n)
        end)
        case.equal(s:ghost(), shown:sub(n + 1), 'the rest of the suggestion after ' .. n .. ' keys')
      end
      s:wait('the line of the screen is the same as before', 3000, function()
        return s:lines()[row] == whole
      end)
      case.equal(s:lua('return _G.cleared'), 0, 'times it was taken down')
    end,
  },
  {
    'accept puts exactly the shown text into the buffer, undo takes exactly it away',
    function()
      local s = case.editor({ file = case.sample() })
      local typed, shown = provoke(s)
      local before = buffer(s)
      local want = vim.deepcopy(before)
      local pieces = vim.split(typed .. shown, '\n', { plain = true })
      table.remove(want, 3)
      for n, piece in ipairs(pieces) do
        table.insert(want, 2 + n, piece)
      end
      s:keys('M-l')
      s:wait('the text is accepted', 3000, function()
        return not vim.deep_equal(buffer(s), before)
      end)
      case.equal(buffer(s), want, 'the buffer after accepting')
      s:keys('Escape')
      s:keys('u')
      s:wait('undo', 3000, function()
        return not vim.deep_equal(buffer(s), want)
      end)
      case.equal(buffer(s), before, 'the buffer after one undo')
    end,
  },
  {
    'dismiss takes it off the screen and changes nothing',
    function()
      local s = case.editor({ file = case.sample() })
      provoke(s)
      local row = cursor_row(s)
      local before = buffer(s)
      s:keys('C-]')
      s:wait('the grey text is gone', 3000, function()
        return s:drawn_as(row, 'GemmaGhost') == ''
      end)
      case.equal(buffer(s), before, 'the buffer')
    end,
  },
  {
    'a key that does not fit takes it down in the same tick',
    function()
      local s = case.editor({ file = case.sample() })
      local _, shown = provoke(s)
      local other = shown:sub(1, 1) == 'Q' and 'Z' or 'Q'
      local left = s:lua(
        [[
          local key = ...
          local text = require('gemma.ghost').text()
          _G.seen = nil
          vim.api.nvim_create_autocmd('TextChangedI', {
            once = true,
            callback = function() _G.seen = require('gemma.ghost').text() or '' end,
          })
          return text
        ]],
        other
      )
      case.equal(left, shown, 'still there before the key')
      s:paste(other)
      s:wait('the key arrives', 3000, function()
        return s:lua('return _G.seen') ~= vim.NIL
      end)
      case.ok(s:lua('return _G.seen'):sub(1, #shown) ~= shown, 'the old suggestion is not shown behind the wrong key')
    end,
  },
  {
    ':GemmaExplain streams into a float and leaves focus and buffer alone',
    function()
      local s = case.editor({ file = case.sample(), options = { explain = { max_tokens = 400 } } })
      s:wait_loaded()
      local before, win = buffer(s), s:lua('return vim.api.nvim_get_current_win()')
      s:lua([[
        _G.sizes = {}
        vim.api.nvim_create_autocmd('User', {
          pattern = 'GemmaAnswerStart',
          callback = function(ev)
            _G.answer = ev.data.buf
            vim.api.nvim_buf_attach(_G.answer, false, {
              on_lines = function(_, buf)
                local text = table.concat(vim.api.nvim_buf_get_lines(buf, 0, -1, false), '\n')
                table.insert(_G.sizes, #text)
              end,
            })
          end,
        })
      ]])
      s:keys('4G')
      s:keys('V5j')
      s:paste(':')
      s:paste("GemmaExplain")
      s:keys('Enter')
      s:wait('an answer of some length', WAIT, function()
        local sizes = s:lua('return _G.sizes')
        return #sizes >= 2 and sizes[#sizes] > sizes[1]
      end)
      s:wait('the footer says that one can go on', WAIT, function()
        return s:find('ask on')
      end)
      -- Streaming means that text arrived in several steps, each longer than the last.
      local sizes = s:lua('return _G.sizes')
      for n = 2, #sizes do
        case.ok(sizes[n] >= sizes[n - 1], 'the answer only grows')
      end
      local wins = s:lua([[
        return vim.tbl_map(function(w)
          return { float = vim.api.nvim_win_get_config(w).relative ~= '',
                   answer = vim.api.nvim_win_get_buf(w) == _G.answer }
        end, vim.api.nvim_list_wins())]])
      local floats = vim.tbl_filter(function(w)
        return w.float and w.answer
      end, wins)
      case.equal(#floats, 1, 'floats with the answer')
      case.equal(s:lua('return vim.api.nvim_get_current_win()'), win, 'the focus')
      case.equal(buffer(s), before, 'the buffer')
      -- And it is on the screen: what stands in the float is a piece of the answer. A line may be
      -- wrapped, and its beginning scrolled away, so any row will do.
      local text = s:lua('return table.concat(vim.api.nvim_buf_get_lines(_G.answer, 0, -1, false), "\\n")')
      s:wait('a row of the float is a piece of the answer', 3000, function()
        for _, line in ipairs(s:lines()) do
          local inside = vim.trim(line:match('│(.*)│') or ''):gsub('^<<<', '')
          if #inside > 2 and text:find(vim.trim(inside), 1, true) then
            return true
          end
        end
      end)
    end,
  },
  {
    ':wq while the model writes leaves, with the file written',
    function()
      local file = case.sample()
      local s = case.editor({
        file = file,
        -- The largest of the small models, and more to write than it can in the time.
        model = screen.top .. '/tests/golden/sets/deep/model-F16.gguf',
        options = { explain = { max_tokens = 8000 } },
      })
      s:wait_loaded()
      s:lua("vim.api.nvim_buf_set_lines(0, 0, 1, false, { '-- changed' })")
      -- A random model may end its answer by itself, so there is always another question.
      s:lua([[
        local function ask()
          require('gemma').ask({ prompt = 'Go on.', max_tokens = 8000, on_done = ask })
        end
        vim.cmd('%GemmaExplain')
        ask()
      ]])
      s:wait('the model is writing', WAIT, function()
        return s:lua("return require('gemma').status().state") == 'generating'
      end)
      s:ex('wq')
      -- How long it takes is compared in test_budget.lua.
      s:wait('the editor leaves', 5000, function()
        return s:dead()
      end)
      case.equal(s:status(), 0, 'the exit status')
      case.equal(vim.fn.readfile(file)[1], '-- changed', 'the first line of the file')
    end,
  },
})
