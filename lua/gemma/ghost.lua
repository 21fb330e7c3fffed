--- ghost.lua: shows text that is not in the buffer, and puts it there on request.
---
--- One extmark per buffer, always updated in place, so that nothing flickers. Everything that
--- present() sets up stands in one `current` record, and dismiss() undoes exactly that. Does not
--- know where the text comes from or when it is out of date.

local M = {}

local util = require('gemma.util')

local api = vim.api
local ns = api.nvim_create_namespace('gemma.ghost')
local MARK = 1 -- the extmark's id: one per buffer

M.WAITING = 2 -- the id of waiting.lua's

---@class gemma.ghost.Current
---@field buf integer
---@field row integer 0-based
---@field col integer bytes
---@field text string
---@field closers integer[] where in the text those stand that replace the bytes right of the cursor
---@field right string what stands right of the cursor
---@field more string? which of several it is: '2/3'
---@field on_accept fun(piece: string, kind: gemma.ghost.Kind)?
---@field kind string? how it came about, for the events
---@field numbers (fun(): table)? more for the events
---@field augroup integer

---@alias gemma.ghost.Kind 'all'|'word'|'line'

local current ---@type gemma.ghost.Current?

---@param row integer
---@param col integer
---@return integer cells left of the cursor
local function cursor_width(row, col)
  local from = math.max(0, col - 2000) -- of a huge line only the end; a tab may then be off
  return vim.fn.strdisplaywidth(util.no_nul(api.nvim_buf_get_text(0, row, from, row, col, {})[1]))
end

--- With several lines, what stands right of the cursor will end up behind the last one. Where it is
--- short enough it is drawn there, and the first line is laid over it.
---@param c gemma.ghost.Current
---@param first string
---@return string? first as wide as what it covers; nil when it cannot be done
local function cover(c, first)
  if c.right == '' then
    return nil
  end
  local from = cursor_width(c.row, c.col)
  local hidden = vim.fn.strdisplaywidth(util.no_nul(c.right), from)
  local shown = vim.fn.strdisplaywidth(first, from)
  local room = util.text_width(api.nvim_get_current_win()) - from
  if math.max(hidden, shown) > room then
    return nil
  end
  return first .. (' '):rep(hidden - shown)
end

--- Neovim does not scroll for virtual lines: at the bottom of a window they would not be seen. So
--- the text goes up by as much as is missing, and stays there when the suggestion goes.
---@param c gemma.ghost.Current
---@param n integer virtual lines
---@param first string
local function make_room(c, n, first)
  local win = api.nvim_get_current_win()
  local info = vim.fn.getwininfo(win)[1]
  local here = vim.fn.winline()
  if vim.wo[win].wrap then
    local cells = cursor_width(c.row, c.col) + vim.fn.strdisplaywidth(first)
    local width = util.text_width(win)
    here = here + math.floor(cells / width) - math.floor(cursor_width(c.row, c.col) / width)
  end
  local missing, top = here + n - info.height, info.topline
  while missing > 0 and top <= c.row do
    local last = math.max(top, vim.fn.foldclosedend(top))
    local height = api.nvim_win_text_height(win, { start_row = top - 1, end_row = last - 1 })
    missing, top = missing - height.all, last + 1
  end
  if top > info.topline then
    vim.fn.winrestview({ topline = top })
  end
end

local SCOPED = (api.nvim__win_add_ns and not api.nvim__ns_set) or nil

local drawn_in ---@type integer? the one window in which the mark is drawn

--- A mark belongs to a buffer and would be drawn in each of its windows. Neovim can tell them apart,
--- in two ways that are not promised to stay; without them the text is seen twice, and no more.
---@param win integer
local function only_in(win)
  if win == drawn_in then
    return
  elseif api.nvim__ns_set then
    pcall(api.nvim__ns_set, ns, { wins = { win } })
  elseif api.nvim__win_add_ns then
    if drawn_in and api.nvim_win_is_valid(drawn_in) then
      pcall(api.nvim__win_del_ns, drawn_in, ns)
    end
    pcall(api.nvim__win_add_ns, win, ns)
  end
  drawn_in = win
end

--- Draws a mark of ours in the current window, where the one with this id is taken away.
---@param id integer
---@param buf integer of the current window
---@param row integer 0-based
---@param col integer bytes
---@param opts table of nvim_buf_set_extmark
function M.draw(id, buf, row, col, opts)
  only_in(api.nvim_get_current_win())
  opts.id, opts.scoped, opts.undo_restore = id, SCOPED, false
  api.nvim_buf_set_extmark(buf, ns, row, col, opts)
end

---@param id integer
---@param buf integer
function M.erase(id, buf)
  if api.nvim_buf_is_valid(buf) then
    api.nvim_buf_del_extmark(buf, ns, id)
  end
end

---@param c gemma.ghost.Current
local function paint(c)
  local lines = vim.split(c.text, '\n', { plain = true })
  local first = lines[1]
  if first:find('\t', 1, true) then
    first = util.untab(first, cursor_width(c.row, c.col))
  end
  local virt_lines, over
  if #lines > 1 then
    over = cover(c, first)
    virt_lines = {}
    for i = 2, #lines do
      virt_lines[i - 1] = { { util.untab(lines[i], 0), 'GemmaGhost' } }
    end
    if over then
      first = over
      table.insert(virt_lines[#virt_lines], { c.right:sub(#c.closers + 1) })
    end
  end
  local chunks = first ~= '' and { { first, 'GemmaGhost' } } or nil
  if c.more and (virt_lines or c.right == '') then
    local last = virt_lines and virt_lines[#virt_lines] or chunks --[[@as table]]
    last[#last + 1] = { (' (%s)'):format(c.more), 'GemmaGhostMore' }
  end
  if virt_lines and vim.wo.wrap then
    local rows, width = {}, util.text_width(api.nvim_get_current_win())
    for _, line in ipairs(virt_lines) do
      vim.list_extend(rows, util.wrap(line, width))
    end
    virt_lines = rows
  end
  M.draw(MARK, c.buf, c.row, c.col, {
    virt_text = chunks,
    virt_text_pos = over and 'overlay' or 'inline',
    virt_lines = virt_lines,
    virt_lines_overflow = util.SCROLLS and 'scroll',
    hl_mode = 'combine',
  })
  if virt_lines then
    make_room(c, #virt_lines, first)
  end
end

---@param name string
---@param c gemma.ghost.Current
---@param data table
local function event(name, c, data)
  data.buf, data.kind, data.chars = c.buf, c.kind, vim.fn.strchars(c.text)
  data = vim.tbl_extend('keep', data, c.numbers and c.numbers() or {})
  require('gemma.notify').event(name, data)
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
  M.erase(MARK, c.buf)
  event('GemmaGhostClear', c, { why = why })
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

---@class gemma.ghost.Text
---@field row integer
---@field col integer
---@field text string
---@field right string? right of the cursor
---@field more string? which of several it is, shown behind it where nothing stands
---@field closers integer[]? what filter.fit_after() gave
---@field on_accept fun(piece: string, kind: gemma.ghost.Kind)?
---@field kind string?
---@field numbers (fun(): table)?

--- Shows text at a position of the current buffer, or changes what is shown.
---@param o gemma.ghost.Text
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
  end
  local right, closers = o.right or '', o.closers or {}
  local same = c.row == o.row and c.col == o.col and c.text == o.text
  same = same and c.right == right and vim.deep_equal(c.closers, closers) and c.more == o.more
  c.row, c.col, c.text, c.right, c.closers, c.more = o.row, o.col, o.text, right, closers, o.more
  c.on_accept, c.kind, c.numbers = o.on_accept, o.kind, o.numbers
  if same then
    return
  end
  paint(c)
  if fresh then
    event('GemmaGhostShow', c, {})
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
  local piece = vim.fn.matchstr(text, [[^\_s*\%(\k\+\|\%(\k\@!\n\@!\S\)\+\)]])
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

--- Changes the buffer and lets Neovim note the text as typed, so that `.`, a count and the `.`
--- register have it. Only a paste notes text without working on it (indenting, wrapping,
--- abbreviations), so the change is made in place of what a paste would do.
---@param c gemma.ghost.Current
---@param piece string
---@param swallow integer
local function put(c, piece, swallow)
  local done = false
  local function change()
    if not done then
      done = true
      local lines = vim.split(piece, '\n', { plain = true })
      api.nvim_buf_set_text(c.buf, c.row, c.col, c.row, c.col + swallow, lines)
      local col = #lines == 1 and c.col + #piece or #lines[#lines]
      api.nvim_win_set_cursor(0, { c.row + #lines, col })
    end
    return true
  end
  local paste = vim.paste
  vim.paste = change
  pcall(api.nvim_paste, piece, false, -1)
  vim.paste = paste
  change()
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
  put(c, piece, require('gemma.filter').swallowed(c.closers, #piece))
  if c.on_accept then
    c.on_accept(piece, kind)
  else
    M.dismiss('accepted')
  end
  return true
end

return M
