--- draw.lua: draws a change that is not made into the text, and sees to it that it can be seen.
---
--- Keeps nothing: clear() takes away all that was drawn in a buffer. preview.lua says what and when.

local hunks = require('gemma.edit.hunks')
local util = require('gemma.util')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.edit')

---@class gemma.draw.Window
---@field cells integer for text in each row
---@field wraps boolean

--- The window that what is drawn is cut for.
---@param buf integer
---@return gemma.draw.Window
local function window(buf)
  local win = util.window_of(buf)
  if not win then
    return { cells = vim.o.columns, wraps = false }
  end
  return { cells = util.text_width(win), wraps = vim.wo[win].wrap }
end

--- The rows of a virtual line: its text, what is new in it, and the colour up to the edge of the window.
--- Tabs are those of the current buffer.
---@param line string
---@param part integer[]? bytes that differ
---@param w gemma.draw.Window
---@return table[] rows of chunks
local function virtual(line, part, w)
  local chunks = {}
  local function add(text, group)
    if text ~= '' then
      chunks[#chunks + 1] = { text, group }
    end
  end
  if part and not line:find('\t', 1, true) then
    add(line:sub(1, part[1]), 'GemmaDiffAdd')
    add(line:sub(part[1] + 1, part[2]), 'GemmaDiffText')
    add(line:sub(part[2] + 1), 'GemmaDiffAdd')
  else
    add(util.untab(line, 0), 'GemmaDiffAdd')
  end
  local rows = w.wraps and util.wrap(chunks, w.cells) or { chunks }
  for _, row in ipairs(rows) do
    local width = 0
    for _, chunk in ipairs(row) do
      width = width + vim.fn.strdisplaywidth(chunk[1])
    end
    row[#row + 1] = { (' '):rep(math.max(0, w.cells - width)), 'GemmaDiffAdd' }
  end
  return rows
end

--- Virtual lines above the first line of a buffer are out of sight until a window is scrolled so.
---@param buf integer
---@param n integer
local function make_room_above(buf, n)
  for _, win in ipairs(vim.fn.win_findbuf(buf)) do
    api.nvim_win_call(win, function()
      local view = vim.fn.winsaveview()
      if view.topline == 1 then
        local most = math.max(0, api.nvim_win_get_height(win) - 2)
        vim.fn.winrestview({ topline = 1, topfill = math.min(n, most) })
      end
    end)
  end
end

--- Draws a hunk: its old lines are coloured, its new ones are virtual and stand below them.
---@param buf integer
---@param hunk gemma.Hunk
---@param row integer 0-based, of its first old line
---@return integer rows of virtual lines
function M.hunk(buf, hunk, row)
  local pairwise = #hunk.old == #hunk.new
  for i, line in ipairs(hunk.old) do
    local part = pairwise and hunks.changed(line, hunk.new[i])
    api.nvim_buf_set_extmark(buf, ns, row + i - 1, 0, {
      end_row = row + i,
      hl_group = 'GemmaDiffDelete',
      hl_eol = true,
      priority = 200,
      strict = false,
    })
    if part and part.old[2] > part.old[1] then
      api.nvim_buf_set_extmark(buf, ns, row + i - 1, part.old[1], {
        end_col = part.old[2],
        hl_group = 'GemmaDiffText',
        priority = 201,
      })
    end
  end
  if #hunk.new == 0 then
    return 0
  end
  local rows, w = {}, window(buf)
  api.nvim_buf_call(buf, function()
    for i, line in ipairs(hunk.new) do
      local part = pairwise and hunks.changed(hunk.old[i], line)
      vim.list_extend(rows, virtual(line, part and part.new, w))
    end
  end)
  local below = row + #hunk.old - 1
  api.nvim_buf_set_extmark(buf, ns, math.max(below, 0), 0, {
    virt_lines = rows,
    virt_lines_above = below < 0,
    virt_lines_overflow = util.SCROLLS and 'scroll',
    priority = 200,
  })
  if below < 0 then
    make_room_above(buf, #rows)
  end
  return #rows
end

--- Says something behind a line.
---@param buf integer
---@param row integer 0-based
---@param text string
function M.label(buf, row, text)
  api.nvim_buf_set_extmark(buf, ns, row, 0, {
    virt_text = { { ' ' .. text .. ' ', 'GemmaBusy' } },
    virt_text_pos = 'eol',
    hl_mode = 'combine',
    priority = 202,
  })
end

---@param buf integer
function M.clear(buf)
  if api.nvim_buf_is_valid(buf) then
    api.nvim_buf_clear_namespace(buf, ns, 0, -1)
  end
end

--- Scrolls the window so that a hunk is in it: what is to be judged has to be seen. Neovim does not
--- scroll for virtual lines, and <C-e>, which would, rejects.
---@param win integer? nil: nowhere to be seen
---@param row integer 0-based, the line where the hunk begins
---@param n integer lines from there that have to be seen
---@param below integer rows of virtual lines below them
function M.make_room(win, row, n, below)
  if not win then
    return
  end
  api.nvim_win_call(win, function()
    local at = vim.fn.screenpos(win, row + 1, 1).row - vim.fn.win_screenpos(win)[1] + 1
    local height = api.nvim_win_text_height(win, { start_row = row, end_row = row + n - 1 })
    local rows = height.all - height.fill + below -- what is filled in stands above the first line
    local missing = at + rows - 1 - api.nvim_win_get_height(win)
    if at > 0 and missing > 0 then
      vim.fn.winrestview({ topline = math.min(vim.fn.winsaveview().topline + missing, row + 1) })
    end
  end)
end

--- Opens the folds in which lines are: a change inside of a closed one could be neither seen nor judged.
---@param buf integer
---@param row integer 0-based
---@param n integer lines
function M.open_folds(buf, row, n)
  local first, last = row + 1, row + n
  for _, win in ipairs(vim.fn.win_findbuf(buf)) do
    api.nvim_win_call(win, function()
      for line = first, last do
        if vim.fn.foldclosed(line) ~= -1 then -- where there is none it would be an error
          vim.cmd(('%d,%dfoldopen!'):format(line, last))
          break
        end
      end
    end)
  end
end

return M
