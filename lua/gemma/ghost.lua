--- ghost.lua: shows text that is not in the buffer, and puts it there on request.
---
--- One extmark per buffer, always updated in place, so that nothing flickers. Everything that
--- present() sets up stands in one `current` record, and dismiss() undoes exactly that. Does not
--- know where the text comes from or when it is out of date.

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.ghost')
local MARK = 1 -- the extmark's id: one per buffer

---@class gemma.ghost.Current
---@field buf integer
---@field row integer 0-based
---@field col integer bytes
---@field text string
---@field swallow integer bytes right of the cursor that an accept of all replaces
---@field on_accept fun(piece: string, kind: gemma.ghost.Kind)?
---@field augroup integer

---@alias gemma.ghost.Kind 'all'|'word'|'line'

local current ---@type gemma.ghost.Current?

--- Tabs drawn as wide as the buffer would draw them; virtual text has no tab stops of its own.
---@param line string
---@param width integer display column at which the line begins
---@return string
local function untab(line, width)
  if not line:find('\t', 1, true) then
    return line
  end
  local out = {}
  for piece, tab in line:gmatch('([^\t]*)(\t?)') do
    out[#out + 1] = piece
    width = width + vim.fn.strdisplaywidth(piece, width)
    if tab ~= '' then
      local cells = vim.fn.strdisplaywidth('\t', width)
      out[#out + 1] = (' '):rep(cells)
      width = width + cells
    end
  end
  return table.concat(out)
end

---@param row integer
---@param col integer
---@return integer cells left of the cursor
local function cursor_width(row, col)
  local from = math.max(0, col - 2000) -- of a huge line only the end; a tab may then be off
  return vim.fn.strdisplaywidth(api.nvim_buf_get_text(0, row, from, row, col, {})[1])
end

---@param c gemma.ghost.Current
local function paint(c)
  local lines = vim.split(c.text, '\n', { plain = true })
  local first = lines[1]
  if first:find('\t', 1, true) then
    first = untab(first, cursor_width(c.row, c.col))
  end
  local virt_lines
  for i = 2, #lines do
    virt_lines = virt_lines or {}
    virt_lines[i - 1] = { { untab(lines[i], 0), 'GemmaGhost' } }
  end
  api.nvim_buf_set_extmark(c.buf, ns, c.row, c.col, {
    id = MARK,
    virt_text = first ~= '' and { { first, 'GemmaGhost' } } or nil,
    virt_text_pos = 'inline',
    virt_lines = virt_lines,
    hl_mode = 'combine',
    undo_restore = false,
  })
end

--- Takes down what present() put up. Harmless when nothing is shown.
---@param why string? for the event
function M.dismiss(why)
  local c = current
  if not c then
    return
  end
  current = nil
  pcall(api.nvim_del_augroup_by_id, c.augroup)
  if api.nvim_buf_is_valid(c.buf) then
    api.nvim_buf_del_extmark(c.buf, ns, MARK)
  end
  require('gemma.notify').event('GemmaGhostClear', { buf = c.buf, why = why })
end

--- Whatever ends Insert mode in this window ends the ghost text. ModeChanged and not
--- InsertLeave: <C-c> leaves without the latter.
---@return integer augroup
local function watch()
  local group = api.nvim_create_augroup('gemma.ghost', {})
  api.nvim_create_autocmd('ModeChanged', {
    group = group,
    pattern = 'i*:*',
    callback = function()
      if not vim.v.event.new_mode:match('^i[cx]?$') then
        M.dismiss('mode')
      end
    end,
  })
  api.nvim_create_autocmd({ 'BufLeave', 'WinLeave', 'CmdwinEnter' }, {
    group = group,
    callback = function()
      M.dismiss('leave')
    end,
  })
  return group
end

--- Shows text at a position of the current buffer, or changes what is shown.
---@param o { row: integer, col: integer, text: string, swallow: integer?, on_accept: function? }
function M.present(o)
  local buf = api.nvim_get_current_buf()
  local c = current
  if c and c.buf ~= buf then
    M.dismiss('leave')
    c = nil
  end
  local fresh = not c
  if not c then
    require('gemma.highlight').ensure()
    c = { buf = buf, augroup = watch() }
    current = c --[[@as gemma.ghost.Current]]
  elseif c.row == o.row and c.col == o.col and c.text == o.text then
    c.swallow, c.on_accept = o.swallow or 0, o.on_accept
    return
  end
  c.row, c.col, c.text = o.row, o.col, o.text
  c.swallow, c.on_accept = o.swallow or 0, o.on_accept
  paint(c)
  if fresh then
    require('gemma.notify').event('GemmaGhostShow', { buf = buf, chars = vim.fn.strchars(o.text) })
  end
end

---@return boolean
function M.visible()
  return current ~= nil
end

---@return string?
function M.text()
  return current and current.text
end

--- Blanks and one run of keyword characters or of other characters, as 'iskeyword' has it.
---@param text string
---@return string
function M.word(text)
  local piece = vim.fn.matchstr(text, [[^\_s*\%(\k\+\|\%(\k\@!\S\)\+\)]])
  return piece ~= '' and piece or text
end

---@param kind gemma.ghost.Kind
---@return string
local function piece_of(kind)
  local text = current and current.text or ''
  if kind == 'word' then
    return M.word(text)
  elseif kind == 'line' then
    return require('gemma.filter').first_line(text)
  end
  return text
end

--- Puts a piece of the text into the buffer, exactly as it is, with the cursor behind it. The
--- caller has broken the undo sequence before and breaks it after, so that `u` takes back
--- exactly this.
---@param kind gemma.ghost.Kind
---@return boolean
function M.insert(kind)
  local c = current
  if not c or not vim.bo[c.buf].modifiable then
    return false
  end
  local cursor = api.nvim_win_get_cursor(0)
  if api.nvim_get_current_buf() ~= c.buf or cursor[1] - 1 ~= c.row or cursor[2] ~= c.col then
    M.dismiss('stale')
    return false
  end
  local piece = piece_of(kind)
  -- Closers that the text replaces go with its last piece.
  local swallow = piece == c.text and c.swallow or 0
  local lines = vim.split(piece, '\n', { plain = true })
  api.nvim_buf_set_text(c.buf, c.row, c.col, c.row, c.col + swallow, lines)
  local row = c.row + #lines - 1
  local col = #lines == 1 and c.col + #piece or #lines[#lines]
  api.nvim_win_set_cursor(0, { row + 1, col })
  if c.on_accept then
    c.on_accept(piece, kind)
  else
    M.dismiss('accepted')
  end
  return true
end

return M
