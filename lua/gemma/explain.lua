--- explain.lua: which lines :GemmaExplain is about, and the prompt for them.

local notify = require('gemma.notify')
local util = require('gemma.util')

local M = {}

local api = vim.api

local BYTES_PER_TOKEN = 3

M.SYSTEM = [[
You explain code to a programmer, inside their editor. Say first, in one or two sentences, what the
code is for. Then say how it works, in the order in which it runs, and point out what is surprising,
fragile or wrong. Be exact and brief; name things as the code names them. Markdown; quote code only
where it helps. When there is a question, answer the question.]]

--- Lines of the function around a line, by treesitter.
---@param buf integer
---@param row integer 0-based
---@return integer? first 1-based
---@return integer? last
local function function_lines(buf, row)
  local ok, parser = pcall(vim.treesitter.get_parser, buf)
  if not ok or not parser then
    return nil
  end
  local line = api.nvim_buf_get_lines(buf, row, row + 1, false)[1] or ''
  local col = #line:match('^%s*')
  local root = parser:parse()[1]:root()
  local node = root:named_descendant_for_range(row, col, row, col)
  while node do
    local type = node:type()
    if type:find('function') or type:find('method') then
      -- A call such as function_call is not a definition; those span blocks of lines.
      local first, _, last, last_col = node:range()
      if not type:find('call') and last > first then
        return first + 1, last_col == 0 and last or last + 1
      end
    end
    node = node:parent()
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

--- What is explained when no range is given.
---@param buf integer
---@param row integer 0-based
---@return integer first 1-based
---@return integer last
function M.here(buf, row)
  local first, last = function_lines(buf, row)
  if first then
    return first, last --[[@as integer]]
  end
  return paragraph(buf, row)
end

---@class gemma.explain.Prompt
---@field path string
---@field language string
---@field above string
---@field code string
---@field below string
---@field question string?

--- The user's turn.
---@param o gemma.explain.Prompt
---@return string
function M.prompt(o)
  local out = { ('File: %s\nLanguage: %s\n'):format(o.path, o.language) }
  local function block(name, text)
    if text ~= '' then
      out[#out + 1] = ('\n<%s>\n%s\n</%s>\n'):format(name, text, name)
    end
  end
  block('above', o.above)
  block('selection', o.code)
  block('below', o.below)
  out[#out + 1] = '\n' .. (o.question or 'Explain the code in <selection>.')
  return table.concat(out)
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

---@param buf integer
---@param first integer 1-based
---@param last integer
---@param question string?
function M.explain(buf, first, last, question)
  local name = api.nvim_buf_get_name(buf)
  if require('gemma.completion').is_excluded(name) then
    return notify.warn(('%s is excluded (exclude list).'):format(vim.fs.basename(name)))
  end
  local conf = require('gemma.config').get()
  local max = conf.explain.max_tokens
  local limit = math.max(1024, (conf.n_ctx - max) * BYTES_PER_TOKEN - 2048)
  local code = lines(buf, first, last, limit)
  if not code then
    local fmt = 'the selection is too long (over %s). Select less or raise n_ctx.'
    return notify.warn(fmt:format(util.bytes(limit)))
  elseif not code:find('%S') then
    return notify.info('there is nothing to explain here.')
  end
  local around = conf.explain.context_lines
  local n = api.nvim_buf_line_count(buf)
  local rest = math.floor(math.min(limit - #code, 8192) / 2)
  local above = lines(buf, math.max(1, first - around), first - 1, rest) or ''
  local below = lines(buf, last + 1, math.min(n, last + around), rest) or ''
  local title = first == last and ('line %d'):format(first) or ('lines %d-%d'):format(first, last)
  local ft = vim.bo[buf].filetype
  require('gemma.answer').open({
    key = table.concat({ buf, first, last, question or '' }, '\0'),
    title = 'Gemma: ' .. title,
    system = M.SYSTEM,
    source = buf,
    first = first,
    last = last,
    max_tokens = max,
    prompt = M.prompt({
      path = name == '' and '(no name)' or vim.fn.fnamemodify(name, ':~:.'),
      language = ft == '' and 'text' or ft,
      above = above,
      code = code,
      below = below,
      question = question,
    }),
  })
end

---@param args table of nvim_create_user_command
function M.command(args)
  require('gemma.config').reload()
  local buf = api.nvim_get_current_buf()
  local first, last = args.line1, args.line2
  if args.range == 0 then
    first, last = M.here(buf, api.nvim_win_get_cursor(0)[1] - 1)
  end
  local question = args.args:find('%S') and args.args or nil
  M.explain(buf, first, last, question)
end

return M
