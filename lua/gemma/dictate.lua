--- dictate.lua: :Gemma dictate: what is said is typed where the command was given.
---
--- The place is a mark in the text, so it does not matter where the cursor goes meanwhile. What the
--- model writes is shown there and goes into the buffer as a whole, as one change of its own.

local notify = require('gemma.notify')
local transcript = require('gemma.chat.transcript')
local util = require('gemma.util')

local M = {}

local api = vim.api
local ns = api.nvim_create_namespace('gemma.dictate')

local SESSION = require('gemma.sessions').PLUGINS -- the chat keeps its cache
local MAX_TOKENS = 512 -- 30 seconds of fast speech are about 150
local PREVIEW = 60 -- characters

M.SYSTEM = [[
You take dictation. Write down what is said, word for word, in the language in which it is said: with
punctuation and capitals, numbers as digits, everything on one line. Write nothing else: no remark, no
quotation marks around it, no answer to what is said. When nothing is said, write nothing.]]

M.PROMPT = 'Write down what is said in the recording.'

---@class gemma.Dictation
---@field buf integer
---@field mark integer
---@field handle gemma.Handle?
---@field text string

local current ---@type gemma.Dictation?

---@param d gemma.Dictation
---@return integer? row
---@return integer? col
local function place(d)
  if not api.nvim_buf_is_valid(d.buf) then
    return nil
  end
  local pos = api.nvim_buf_get_extmark_by_id(d.buf, ns, d.mark, {})
  return pos[1], pos[2]
end

--- Draws at the place, without a change of the text.
---@param d gemma.Dictation
---@param text string
---@param group string
local function show(d, text, group)
  local row, col = place(d)
  if row then
    api.nvim_buf_set_extmark(d.buf, ns, row, col --[[@as integer]], {
      id = d.mark,
      right_gravity = false,
      virt_text = { { text, group } },
      virt_text_pos = 'inline',
    })
  end
end

---@param d gemma.Dictation
local function forget(d)
  if current == d then
    current = nil
  end
  if api.nvim_buf_is_valid(d.buf) then
    api.nvim_buf_del_extmark(d.buf, ns, d.mark)
  end
end

--- One line of plain text out of what the model wrote.
---@param s string
---@return string
function M.clean(s)
  return vim.trim((transcript.printable(s):gsub('%s+', ' ')))
end

--- The text with the blanks that it needs between its neighbours. Pure.
---@param text string
---@param before string left of the place
---@param after string right of it
---@return string
function M.join(text, before, after)
  -- East Asian scripts, which begin here, have no blanks between words.
  local function spaced(char)
    return char ~= '' and vim.fn.char2nr(char) < 0x2E80
  end
  before = util.no_nul(before)
  local last = vim.fn.strcharpart(before, vim.fn.strchars(before) - 1)
  local first = vim.fn.strcharpart(text, 0, 1)
  if
    spaced(last)
    and not last:match('[%s%(%[{<"\'`/\\@#$_~-]')
    and spaced(first)
    and not first:match('[.,;:!?%)%]}]')
  then
    text = ' ' .. text
  end
  if after:match('^%w') then
    text = text .. ' '
  end
  return text
end

--- Closes the undo step that is open, also in Insert mode.
---@param buf integer
local function undo_break(buf)
  api.nvim_buf_call(buf, function()
    vim.cmd('let &l:undolevels = &l:undolevels')
  end)
end

---@param d gemma.Dictation
---@param text string
local function insert(d, text)
  local row, col = place(d)
  if not row or not vim.bo[d.buf].modifiable then
    util.yank(text, 'c')
    local why = row and "'modifiable' is off now"
      or api.nvim_buf_is_loaded(d.buf) and 'the buffer was read anew'
      or 'the buffer is gone'
    return notify.warn(('%s; p puts what was said.'):format(why))
  end
  local line = api.nvim_buf_get_lines(d.buf, row, row + 1, false)[1] or ''
  text = M.join(text, line:sub(1, col), line:sub(col + 1))
  local win = api.nvim_get_current_win()
  local at_place = api.nvim_win_get_buf(win) == d.buf
    and vim.deep_equal(api.nvim_win_get_cursor(win), { row + 1, col })
  undo_break(d.buf)
  api.nvim_buf_set_text(d.buf, row, col --[[@as integer]], row, col --[[@as integer]], { text })
  undo_break(d.buf)
  if at_place and api.nvim_get_mode().mode:match('^[iR]') then
    api.nvim_win_set_cursor(win, { row + 1, col + #text })
  end
end

---@param d gemma.Dictation
---@param a gemma.Media
local function transcribe(d, a)
  show(d, '...', 'GemmaGhost')
  local draw, flush, close = util.throttle(50, function()
    local text = M.clean(d.text)
    if current == d and text ~= '' then
      show(d, vim.fn.strcharpart(text, math.max(0, vim.fn.strchars(text) - PREVIEW)), 'GemmaGhost')
    end
  end)
  d.handle = require('gemma.ask').ask({
    system = M.SYSTEM,
    parts = a.parts,
    prompt = M.PROMPT,
    session = SESSION,
    max_tokens = MAX_TOKENS,
    temperature = 0, -- what was said is not a matter of chance
    on_token = function(piece)
      d.text = d.text .. piece
      draw()
    end,
    on_done = function(text, info)
      flush()
      close()
      a.release()
      if not text then
        forget(d)
        if info ~= 'cancelled' then
          notify.warn(info --[[@as string]])
        end
        return
      end
      text = M.clean(text)
      if text == '' then
        notify.info('nothing was understood.')
      else
        local ok, why = util.insert_or_yank(text, 'c', insert, d, text)
        if not ok then -- such as inside an <expr> mapping that waits for a key
          why = why or 'the text cannot be changed now'
          notify.warn(('%s; p puts what was said.'):format(why))
        end
      end
      forget(d)
    end,
  })
end

--- Where text goes when it is typed now: in Normal mode before the character under the cursor, at
--- the end of a line behind it.
---@param buf integer
---@return integer row 0-based
---@return integer col
local function here(buf)
  local row, col = unpack(api.nvim_win_get_cursor(0))
  if not api.nvim_get_mode().mode:match('^[iR]') then
    local line = api.nvim_buf_get_lines(buf, row - 1, row, false)[1] or ''
    local char = vim.fn.matchstr(util.no_nul(line), '\\%' .. (col + 1) .. 'c.')
    if col + #char >= #line then
      col = #line
    end
  end
  return row - 1, col
end

--- Starts, or ends what was started.
function M.toggle()
  local record = require('gemma.record')
  if current then
    if current.handle then
      return notify.info('still writing down what was said; :Gemma stop gives it up.')
    end
    record.stop()
    return
  end
  local buf = api.nvim_get_current_buf()
  if not vim.bo[buf].modifiable then
    return notify.warn("'modifiable' is off in this buffer. Dictate into another.")
  end
  local row, col = here(buf)
  ---@type gemma.Dictation
  local d = { buf = buf, mark = 0, text = '' }
  d.mark = api.nvim_buf_set_extmark(buf, ns, row, col, { right_gravity = false })
  current = d
  local started = record.start({
    kind = 'voice',
    session = SESSION,
    before = function(sound)
      return {
        { kind = 'system' },
        { kind = 'text', data = M.SYSTEM },
        { kind = 'user' },
        { kind = 'sound', sound = sound },
      }
    end,
    on_tick = function(seconds)
      show(d, ('[rec %s]'):format(util.duration(math.floor(seconds))), 'GemmaRec')
    end,
    on_done = function(a)
      transcribe(d, a)
    end,
    on_fail = function()
      forget(d)
    end,
  })
  if not started then
    forget(d)
  elseif current == d then
    show(d, '[rec 0:00]', 'GemmaRec')
  end
end

---@return boolean
function M.active()
  return current ~= nil
end

return M
