--- apply.lua: code of an answer goes elsewhere: into a register, or as a change into the buffer that
--- was asked about.

local edit = require('gemma.edit')
local fence = require('gemma.chat.fence')
local hunks = require('gemma.edit.hunks')
local notify = require('gemma.notify')
local transcript = require('gemma.chat.transcript')

local M = {}

local api = vim.api

local SEARCHED_LINES = 50000 -- of a file, when code looks for its place

--- The code of the block at the cursor, or else of the last one; nil when there is none.
---@param lines string[]
---@return string[]?
local function code_at_cursor(lines)
  local block = fence.block_at(lines, api.nvim_win_get_cursor(0)[1])
  return block and block.code
end

--- Yanks the code block under the cursor, or the last one, or what the model said last, without the
--- questions and the lines of pictures that stand in the window too.
---@param conversation gemma.chat.Conversation
function M.yank(conversation)
  local lines = conversation.view.buffer:lines()
  local code = code_at_cursor(lines)
  local last = conversation.turns[#conversation.turns]
  if not code and conversation:running() then
    return notify.info('there is no code yet, and the answer is still being written.')
  elseif not code and last and last.role == 'model' then
    lines = vim.split(vim.trim(transcript.printable(last.text)), '\n', { plain = true })
  end
  vim.fn.setreg(vim.v.register, code or lines, 'l')
  notify.info(('yanked %s.'):format(code and 'the code' or 'the answer'))
end

--- The lines that some code stands for: those that are like it, or else those that were asked about.
---@param source gemma.chat.Source
---@param code string[]
---@return integer? first 1-based; nil when nobody can tell
---@return integer? last
local function lines_for(source, code)
  local file = {}
  if api.nvim_buf_line_count(source.buf) <= SEARCHED_LINES then
    file = api.nvim_buf_get_lines(source.buf, 0, -1, false)
  end
  local first, last = hunks.locate(file, code)
  if not first and not source.around then
    first, last = source:lines()
  end
  return first, last
end

--- Shows the code block under the cursor, or the last one, as a change of the lines asked about.
---@param conversation gemma.chat.Conversation
function M.apply(conversation)
  local view, source = conversation.view, conversation.source
  local code = code_at_cursor(view.buffer:lines())
  if not code then
    return notify.info('there is no code in this answer.')
  elseif not api.nvim_buf_is_loaded(source.buf) then
    return notify.warn('the buffer that was asked about is gone. gy yanks the code.')
  end
  local first, last = lines_for(source, code)
  if not first then
    return notify.info('cannot tell where this code belongs. gy yanks it.')
  end
  local old = api.nvim_buf_get_lines(source.buf, first - 1, last --[[@as integer]], false)
  local win = source:window()
  local shown = edit.preview({
    win = win,
    buf = source.buf,
    first = first,
    last = last --[[@as integer]],
    new = edit.instead_of(old, code),
  })
  if shown and win then
    if view:is_float() then
      conversation:close() -- it stands where the change is shown; :Gemma answers brings it back
    end
    api.nvim_set_current_win(win)
    api.nvim_win_set_cursor(win, { math.min(first, api.nvim_buf_line_count(source.buf)), 0 })
  elseif shown then
    local name = vim.fn.fnamemodify(api.nvim_buf_get_name(source.buf), ':~:.')
    notify.info(('the change is shown in %s.'):format(name ~= '' and name or 'the other buffer'))
  end
end

return M
