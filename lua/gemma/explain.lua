--- explain.lua: :GemmaExplain and :Gemma ask, questions about lines of a buffer.

local fences = require('gemma.chat.fence')
local notify = require('gemma.notify')
local subject = require('gemma.subject')

local M = {}

local api = vim.api

M.EXPLAIN = [[
Explain the code in <selection>. Say first, in one or two sentences, what it is for. Then say how it
works, in the order in which it runs, and point out what is surprising, fragile or wrong.]]

---@class gemma.explain.Opts
---@field buf integer
---@field first integer 1-based
---@field last integer
---@field task string what the model is to do
---@field shown string? what is said of it in a saved conversation; the task
---@field title string?
---@field alone boolean? the task is all that the model gets; it has the lines in it
---@field around boolean? the lines were not chosen, they are the buffer or a part of it

--- Asks about lines, in the answer window.
---@param o gemma.explain.Opts
function M.ask(o)
  local max = require('gemma.config').get().explain.max_tokens
  local s, why = subject.read(o.buf, o.first, o.last, max)
  if not s then
    return notify.warn(why --[[@as string]])
  end
  local blank = not s.code:find('%S')
  if blank and not o.shown then
    return notify.info('there is nothing to explain here.')
  end
  local one = o.first == o.last
  local range = one and ('line %d'):format(o.first) or ('lines %d-%d'):format(o.first, o.last)
  local shown = { subject.place(s), '' }
  vim.list_extend(shown, vim.split(o.shown or 'Explain.', '\n', { plain = true }))
  if not blank then
    local code = vim.split(s.code, '\n', { plain = true })
    local fence = fences.for_lines(code)
    vim.list_extend(shown, { '', fence .. s.language })
    vim.list_extend(shown, code)
    shown[#shown + 1] = fence
  end
  require('gemma.chat').open({
    key = table.concat({ o.buf, o.first, o.last, o.task, s.code }, '\0'),
    title = 'Gemma: ' .. (o.title or range),
    system = require('gemma.context.notes').with(subject.SYSTEM, o.buf),
    source = o.buf,
    first = not blank and o.first or nil,
    last = o.last,
    around = o.around,
    max_tokens = max,
    prompt = (blank or o.alone) and o.task or subject.prompt(s, o.task),
    shown = shown,
  })
end

---@param buf integer
---@param first integer 1-based
---@param last integer
---@param question string?
function M.explain(buf, first, last, question)
  M.ask({
    buf = buf,
    first = first,
    last = last,
    task = question or M.EXPLAIN,
    shown = question,
  })
end

---@param args table of nvim_create_user_command
function M.command(args)
  require('gemma.config').reload()
  local buf = api.nvim_get_current_buf()
  local first, last = args.line1, args.line2
  if args.range == 0 then
    first, last = subject.here(buf, api.nvim_win_get_cursor(0)[1] - 1)
  end
  local question = args.args:find('%S') and args.args or nil
  M.explain(buf, first, last, question)
end

--- How much of a buffer is read when all of it is meant.
---@return integer bytes
function M.whole_buffer_bytes()
  local half = math.floor(require('gemma.config').get().n_ctx / 2)
  local context = require('gemma.context')
  return math.min(context.budget().tokens, half) * context.BYTES_PER_TOKEN
end

--- :Gemma ask. Without a range it is about the buffer, or as much of it around the cursor as a
--- completion would read.
---@param given gemma.command.Given
function M.ask_command(given)
  local buf = api.nvim_get_current_buf()
  local row = api.nvim_win_get_cursor(0)[1]
  local around = given.range == 0
  local function ask(question, first, last)
    if around then
      first, last = subject.window(buf, first - 1, M.whole_buffer_bytes())
    end
    M.ask({
      buf = buf,
      first = first,
      last = last,
      around = around,
      task = question,
      shown = question,
    })
  end
  local first, last = around and row or given.line1, around and row or given.line2
  if given.text:find('%S') then
    return ask(given.text, first, last)
  end
  require('gemma.question').about('Ask: ', { buf = buf, first = first, last = last }, ask)
end

return M
