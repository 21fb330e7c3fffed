--- subject.lua: what a question or an edit is about: some lines, what is around them, and how that
--- is put to the model.
---
--- Everything that is asked about code begins with the same words: the system text, the file, what
--- is above, the lines, what is below; the task comes last. So a second question about the same
--- lines, be it an edit after an explanation, finds all but its task in the cache.

local util = require('gemma.util')

local M = {}

local api = vim.api

local held = api.nvim_create_namespace('gemma.subject')

local AROUND_BYTES = 8192 -- above and below together
local PARSED_BYTES = 128 * 1024 -- of a buffer; a parser takes seconds for a megabyte, and Neovim waits

M.SYSTEM = [[
You work inside a programmer's editor. The user shows you a part of a file and ends with a task.
Be exact and brief; name things as the code names them. Answer in Markdown and quote code only
where it helps. When the task is to rewrite <selection>, answer with the complete new text of
<selection> in one fenced code block and nothing else: keep its indentation and style, copy lines
that stay exactly, add no remarks.]]

--- The tree of a buffer: made anew for a buffer of ordinary size; of a large one only the tree that the
--- highlighter has anyway, which may be some keys old.
---@param buf integer
---@return TSTree?
local function tree_of(buf)
  local ok, parser = pcall(vim.treesitter.get_parser, buf)
  if not ok or not parser then
    return nil
  elseif api.nvim_buf_get_offset(buf, api.nvim_buf_line_count(buf)) <= PARSED_BYTES then
    return parser:parse()[1]
  end
  return vim.treesitter.highlighter.active[buf] and parser:trees()[1] or nil
end

-- Words in the names of nodes that are a use of a function or a piece of one, such as function_call,
-- method_invocation, function_declarator and function_type. They may well span lines.
local PIECES = {
  'call',
  'invocation',
  'index',
  'declarator',
  'signature',
  'type',
  'parameter',
  'argument',
}

--- Whether nodes of this type are functions, in whatever grammar.
---@param type string
---@return boolean
local function is_function(type)
  if not (type:find('function') or type:find('method')) then
    return false
  end
  for _, word in ipairs(PIECES) do
    if type:find(word, 1, true) then
      return false
    end
  end
  return true
end

--- Lines of the function around a line, by treesitter.
---@param buf integer
---@param row integer 0-based
---@return integer? first 1-based
---@return integer? last
local function function_lines(buf, row)
  local tree = tree_of(buf)
  if not tree then
    return nil
  end
  local line = api.nvim_buf_get_lines(buf, row, row + 1, false)[1] or ''
  local col = #line:match('^%s*')
  local node = tree:root():named_descendant_for_range(row, col, row, col)
  while node do
    local parent = node:parent()
    -- Heads and bodies have names like functions, but stand right inside of one.
    if is_function(node:type()) and not (parent and is_function(parent:type())) then
      local first, _, last, last_col = node:range()
      if last > first and first <= row and row <= last then
        return first + 1, last_col == 0 and last or last + 1
      end
    end
    node = parent
  end
end

--- Without treesitter: the paragraph around the line.
---@param buf integer
---@param row integer 0-based
---@return integer first
---@return integer last
local function paragraph(buf, row)
  local n = api.nvim_buf_line_count(buf)
  local function blank(r)
    return not api.nvim_buf_get_lines(buf, r, r + 1, false)[1]:find('%S')
  end
  local first, last = row, row
  while first > 0 and not blank(first - 1) and row - first < 100 do
    first = first - 1
  end
  while last < n - 1 and not blank(last + 1) and last - row < 100 do
    last = last + 1
  end
  return first + 1, last + 1
end

--- What is meant when no range is given.
---@param buf integer
---@param row integer 0-based
---@return integer first 1-based
---@return integer last
function M.here(buf, row)
  -- A diagnostic may be of lines that are gone.
  row = math.max(0, math.min(row, api.nvim_buf_line_count(buf) - 1))
  local first, last = function_lines(buf, row)
  if first then
    return first, last --[[@as integer]]
  end
  return paragraph(buf, row)
end

--- Follows lines while the user is asked for something: text above them may come and go meanwhile.
---@param buf integer
---@param first integer 1-based
---@param last integer
---@return fun(): integer?, integer? take to be called once: the lines now; nil when the buffer is gone
function M.hold(buf, first, last)
  local marks = {}
  for i, line in ipairs({ first, last }) do
    marks[i] = api.nvim_buf_set_extmark(buf, held, line - 1, 0, {})
  end
  return function()
    if not api.nvim_buf_is_loaded(buf) then
      return nil
    end
    local rows = {}
    for i, id in ipairs(marks) do
      rows[i] = api.nvim_buf_get_extmark_by_id(buf, held, id, {})[1]
      api.nvim_buf_del_extmark(buf, held, id)
    end
    if rows[1] and rows[2] then -- an unloaded buffer that is read again has none
      -- A mark behind the last line is left when that was removed.
      local max = api.nvim_buf_line_count(buf)
      return math.min(rows[1] + 1, max), math.min(math.max(rows[1], rows[2]) + 1, max)
    end
  end
end

--- Whole lines around a line, no more bytes than given; all of the buffer when that is enough.
---@param buf integer
---@param row integer 0-based
---@param limit integer bytes
---@return integer first 1-based
---@return integer last
function M.window(buf, row, limit)
  local n = api.nvim_buf_line_count(buf)
  local function size(a, b)
    return api.nvim_buf_get_offset(buf, b) - api.nvim_buf_get_offset(buf, a)
  end
  if size(0, n) <= limit then
    return 1, n
  end
  local first, last = row, row + 1
  local grown = true
  while grown do
    grown = false
    if last < n and size(first, last + 1) <= limit then
      last, grown = last + 1, true
    end
    if first > 0 and size(first - 1, last) <= limit then
      first, grown = first - 1, true
    end
  end
  return first + 1, last
end

--- Whole lines, or nil when they have more bytes than allowed. Asks for sizes before text.
---@param buf integer
---@param first integer 1-based
---@param last integer
---@param limit integer bytes
---@return string?
local function lines(buf, first, last, limit)
  if first > last then
    return ''
  end
  local size = api.nvim_buf_get_offset(buf, last) - api.nvim_buf_get_offset(buf, first - 1)
  if size > limit then
    return nil
  end
  return table.concat(api.nvim_buf_get_lines(buf, first - 1, last, false), '\n')
end

--- Of the lines around the selection those that fit, the nearest first.
---@param buf integer
---@param first integer 1-based
---@param last integer
---@param limit integer bytes
---@param near 'first'|'last' which end is beside the selection
---@return string
local function beside(buf, first, last, limit, near)
  local function start(line)
    return api.nvim_buf_get_offset(buf, line - 1)
  end
  while first <= last and start(last + 1) - start(first) > limit do
    if near == 'last' then
      first = first + 1
    else
      last = last - 1
    end
  end
  return lines(buf, first, last, limit) or ''
end

---@class (exact) gemma.Subject
---@field buf integer
---@field first integer 1-based
---@field last integer
---@field path string
---@field language string
---@field above string
---@field code string
---@field below string

--- Reads the subject, or says in one line why it cannot.
---@param buf integer
---@param first integer 1-based
---@param last integer
---@param answer integer tokens that must be left for the answer
---@return gemma.Subject?
---@return string? why
function M.read(buf, first, last, answer)
  local excluded = require('gemma.exclude').reason(buf)
  if excluded then
    return nil, excluded
  end
  local conf = require('gemma.config').get()
  local limit =
    math.max(1024, (conf.n_ctx - answer) * require('gemma.context').BYTES_PER_TOKEN - 2048)
  local code = lines(buf, first, last, limit)
  if not code then
    local fmt = 'the selection is too long (over %s). Select less or raise n_ctx.'
    return nil, fmt:format(util.bytes(limit))
  end
  local around = conf.explain.context_lines
  local n = api.nvim_buf_line_count(buf)
  local rest = math.floor(math.min(limit - #code, AROUND_BYTES) / 2)
  local ft = vim.bo[buf].filetype
  return {
    buf = buf,
    first = first,
    last = last,
    path = require('gemma.context.text').name(api.nvim_buf_get_name(buf)),
    language = ft == '' and 'text' or ft,
    above = beside(buf, math.max(1, first - around), first - 1, rest, 'last'),
    code = code,
    below = beside(buf, last + 1, math.min(n, last + around), rest, 'first'),
  }
end

--- The user's turn. Pure.
---@param s gemma.Subject|{ path: string, language: string, above: string, code: string, below: string }
---@param task string
---@return string
function M.prompt(s, task)
  local out = { ('File: %s\nLanguage: %s\n'):format(s.path, s.language) }
  local function block(name, text)
    if text ~= '' then
      out[#out + 1] = ('\n<%s>\n%s\n</%s>\n'):format(name, text, name)
    end
  end
  block('above', s.above)
  block('selection', s.code)
  block('below', s.below)
  out[#out + 1] = '\n' .. task
  return table.concat(out)
end

--- "lua/a.lua:3-5", for titles and saved conversations.
---@param s gemma.Subject
---@return string
function M.place(s)
  local range = s.first == s.last and tostring(s.first) or ('%d-%d'):format(s.first, s.last)
  return ('%s:%s'):format(s.path, range)
end

return M
